"""What a run will do and cost: one document, which is printed, drawn, or written as JSON."""
