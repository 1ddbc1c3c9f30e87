"""One episode: the sans-IO machine, its tools, the runner that carries its instructions out, and the grader."""
