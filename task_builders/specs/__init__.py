"""From candidates and environments to tasks."""
