"""What was asked for: options and their values, shipped files, and safe reading of text files."""
