"""Import and export of other projects' task formats."""
