"""Policies: what chooses the next action."""
