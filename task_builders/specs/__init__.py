"""Candidates and environments to tasks."""
