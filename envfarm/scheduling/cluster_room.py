"""Decides how many boxes may be requested from a cluster before they have a place, from how it handled earlier ones. Pure.

Whatever places boxes (a scheduler, a quota) does not announce its capacity. A box that finds no place waits. Without a limit thousands
would wait, and each wait would count as a failure. So few boxes are requested at once while some wait, and many while none does.
"""

from pydantic import Field, model_validator

from envfarm.core.frozen import Frozen

FIRST = 8
"""For a cluster of which nothing is known."""
LEAST = 2
"""One waits, to find out when there is room; a second can pass it if the first is too large for any node."""


class Window(Frozen):
    """How many boxes may be in creation at once: one more for each that is placed, half for each that finds no place."""

    size: int = Field(gt=0)
    most: int = Field(gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> "Window":
        if self.size > self.most:
            raise ValueError(f"the window's size {self.size} exceeds its maximum {self.most}")
        return self

    @classmethod
    def opened(cls, most: int) -> "Window":
        """The window for an unknown cluster."""
        return cls(size=min(FIRST, most), most=most)

    def after(self, *, placed: bool) -> "Window":
        """The window after one more box was placed, or found no place."""
        size = min(self.size + 1, self.most) if placed else max(self.size // 2, min(LEAST, self.most))
        return self.model_copy(update={"size": size})
