"""The gates: checks that a candidate must pass to become a task."""
