"""A policy that plays a list of actions, whatever it observes. For tests, recorded attacks, and the gold and nop policies.

It depends on the history's length only, so an episode can be resumed under it. After the list it finishes.
"""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from envfarm.core.action import Action, Decision, Finish
from envfarm.core.errors import UsageError
from envfarm.core.trajectory import Step

_ACTIONS: TypeAdapter[tuple[Action, ...]] = TypeAdapter(tuple[Action, ...])


class Scripted:
    """Plays `actions` in order, then finishes."""

    def __init__(self, actions: Sequence[Action]) -> None:
        self._actions = tuple(actions)

    async def next_action(self, instruction: str, history: Sequence[Step]) -> Decision:  # noqa: ARG002 - part of the contract
        """The action at the end of the history."""
        at = len(history)
        return Decision(self._actions[at] if at < len(self._actions) else Finish())


def parse_actions(rows: object, *, where: str) -> tuple[Action, ...]:
    """Actions from plain data. Raises `UsageError` with the invalid row and key."""
    try:
        return _ACTIONS.validate_python(rows)
    except ValidationError as e:
        first = e.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{where}: action {place}: {first['msg']}", hint='an action is {"tool": "bash", "command": "ls"}') from e


def read_actions(path: Path) -> tuple[Action, ...]:
    """Actions from a `.json` list or a `.toml` file with `[[actions]]`. Raises `UsageError`."""
    try:
        text = path.read_text(encoding="utf-8")
        rows = tomllib.loads(text).get("actions") if path.suffix == ".toml" else json.loads(text)
    except OSError as e:
        hint = 'a JSON list of actions like {"tool": "bash", "command": "ls"}, or TOML with [[actions]]'
        raise UsageError(f"{path}: {e.strerror or e}", hint=hint) from e
    except ValueError as e:
        raise UsageError(f"{path}: {e}") from e
    return parse_actions(rows, where=str(path))
