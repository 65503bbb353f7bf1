"""What was asked for: RunConfig, how values are written, and files read within bounds."""
