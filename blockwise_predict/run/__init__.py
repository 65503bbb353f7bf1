"""One run, end to end: plan, prepare, execute, extend, sum up; and predictions in memory."""
