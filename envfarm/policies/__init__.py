"""Who chooses the next action."""
