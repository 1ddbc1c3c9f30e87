"""What `--help` says in one line of each command is a whole one."""

import click
import pytest

from envfarm.cli.main import envfarm


def groups(command: click.Command, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(command, click.Group):
        return []
    context = click.Context(command)
    found = {name: command.get_command(context, name) for name in command.list_commands(context)}
    return [path, *(each for name, inner in found.items() if inner is not None for each in groups(inner, (*path, name)))]


@pytest.mark.parametrize("path", groups(envfarm), ids=" ".join)
def test_no_short_help_is_cut_off_at_80_columns(path: tuple[str, ...]) -> None:
    command: click.Command | None = envfarm
    for name in path:
        assert isinstance(command, click.Group)
        command = command.get_command(click.Context(command), name)
    assert isinstance(command, click.Group)
    listed = command.get_help(click.Context(command, info_name="x", max_content_width=80, terminal_width=80)).partition("Commands:")[2]
    assert listed
    assert [line for line in listed.splitlines() if line.endswith("...")] == []
