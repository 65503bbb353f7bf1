"""What looks at a run while it goes on: its pace, metrics for Prometheus, notifications."""
