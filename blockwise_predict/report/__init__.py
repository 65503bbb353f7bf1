"""What a run looks like from outside: its status now, and the report on it."""
