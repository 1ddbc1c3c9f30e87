"""Python projects: how they are recognized, built and tested, by rules and without a language model."""
