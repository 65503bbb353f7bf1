"""A run as one task of a pipeline of daisy or volara, whose scheduler hands out the blocks."""
