"""One worker process, and what it does with a block."""
