"""How many boxes may be asked of a cluster before they have a place: one pure decision, learnt from what it does with those asked for.

Whoever places boxes (a scheduler, a quota) does not say beforehand what it has room for. A box that finds no place waits; if ever more
were asked for, thousands would wait, and each wait would count as a failure. So few are asked for at a time where boxes wait, and many
where none does. Called by providers whose boxes somebody else places.
"""

from pydantic import Field, model_validator

from envfarm.core.frozen import Frozen

FIRST = 8
"""Of a cluster of which nothing is known."""
LEAST = 2
"""One that waits finds out when there is room; another goes past it where the first is too large for any node."""


class Window(Frozen):
    """So many boxes may be in the making at once: by one more for each that is made, by half for each that finds no place."""

    size: int = Field(gt=0)
    most: int = Field(gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> "Window":
        if self.size > self.most:
            raise ValueError(f"a window of {self.size}, and at most {self.most}")
        return self

    @classmethod
    def opened(cls, most: int) -> "Window":
        """Nothing is known of the cluster yet."""
        return cls(size=min(FIRST, most), most=most)

    def after(self, *, placed: bool) -> "Window":
        """What is believed when one more box was made, or has found no place."""
        size = min(self.size + 1, self.most) if placed else max(self.size // 2, min(LEAST, self.most))
        return self.model_copy(update={"size": size})
