"""What a source and the patch split must know of a language: which paths are tests and which are source.

A language profile has these members and is handed over as it is. Says nothing of how a project is built or run.
"""

from typing import Protocol


class PathRules(Protocol):
    """The split of a project's files. Paths are relative to the repository, with `/` between segments."""

    @property
    def name(self) -> str:
        """The language, in lower case."""
        ...

    def is_test(self, path: str) -> bool:
        """Whether the file is a test, or data or set-up that only tests use."""
        ...

    def is_source(self, path: str) -> bool:
        """Whether the file is code that a user of the project runs."""
        ...
