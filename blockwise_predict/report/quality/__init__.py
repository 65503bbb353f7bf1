"""The quality of predicted values, from a bounded sample of a run's blocks."""
