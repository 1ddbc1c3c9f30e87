"""Python projects: how they are recognised, built and tested, by rules and without a model."""
