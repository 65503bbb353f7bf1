"""The plan of a run: how it is made, and what it will cost."""
