"""What will be done: the Plan, and how it is made."""
