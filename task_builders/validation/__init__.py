"""The gates that a task passes before it is one."""
