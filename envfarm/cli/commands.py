"""Command groups that import a command only when it is called, so that `envfarm doctor` does not need what `envfarm build` needs."""

from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import click


class LazyGroup(click.Group):
    """Has commands from `own` (name → `module:attribute`) and from the entry points of `group`."""

    def __init__(self, *args: Any, own: dict[str, str] | None = None, group: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._own = own or {}
        self._group = group

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, without importing anything."""
        return sorted({*super().list_commands(ctx), *self._own, *(p.name for p in self._points())})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command. If its dependencies are missing, only that command fails."""
        if found := super().get_command(ctx, cmd_name):
            return found
        if cmd_name in self._own:
            module, _, attribute = self._own[cmd_name].partition(":")
            return self._command(getattr(import_module(module), attribute))
        for point in self._points():
            if point.name == cmd_name:
                try:
                    return self._command(point.load())
                except ImportError as e:
                    raise click.ClickException(f"`{cmd_name}` cannot be loaded: {e}. Install it with: pip install 'envfarm[mint]'") from e
        return None

    def _points(self) -> tuple[EntryPoint, ...]:
        return tuple(entry_points(group=self._group)) if self._group else ()

    @staticmethod
    def _command(found: object) -> click.Command:
        assert isinstance(found, click.Command)  # noqa: S101 - an entry point of this group is a command by its contract
        return found
