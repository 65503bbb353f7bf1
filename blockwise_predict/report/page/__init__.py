"""The page of a report: its template and style sheet, and what fills them."""
