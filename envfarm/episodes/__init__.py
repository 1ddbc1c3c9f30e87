"""One episode: the sans-IO machine, the agent's tools, the runner that carries out the machine's instructions, and the grader."""
