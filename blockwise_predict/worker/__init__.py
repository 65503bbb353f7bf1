"""A worker process: one device, and the steps from a block's input to its committed output."""
