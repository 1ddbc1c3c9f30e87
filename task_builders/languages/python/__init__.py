"""Python projects: environments, test commands, canaries and mutants."""
