"""One run, end to end: executing, extending, verifying, and its result."""
