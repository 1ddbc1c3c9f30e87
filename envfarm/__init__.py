"""envfarm: an environment farm for agentic reinforcement learning.

Importing the package does nothing and pulls no dependency in; names live in their rooms (`envfarm.core`, …).
"""

__version__ = "0.1.0"
