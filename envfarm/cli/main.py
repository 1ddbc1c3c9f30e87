"""The `envfarm` program: its commands, and how an error is told."""

import sys
from importlib.metadata import entry_points

import click

from envfarm import __version__
from envfarm.cli import console, doctor, episode, run, shell, tasks
from envfarm.core.errors import EnvfarmError


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="envfarm")
def envfarm() -> None:
    """An environment farm for agentic RL: mint verifiable tasks, run episodes on them in sandboxes, get outcomes."""


def assemble() -> click.Group:
    """The group with every command. Builders bring theirs by entry point, so that the farm never imports them."""
    for command in (run.run, episode.episode, shell.shell, doctor.doctor, tasks.tasks):
        envfarm.add_command(command)
    for point in entry_points(group="envfarm.commands"):
        envfarm.add_command(point.load(), point.name)
    for point in entry_points(group="envfarm.commands.tasks"):
        tasks.tasks.add_command(point.load(), point.name)
    return envfarm


def main() -> None:
    """Run the program; errors that have a name are told in two lines and exit 1, bad usage exits 2."""
    try:
        assemble()(standalone_mode=False)
    except click.exceptions.Exit as e:
        sys.exit(e.exit_code)
    except click.ClickException as e:
        e.show()
        sys.exit(2)
    except (click.Abort, KeyboardInterrupt):
        console.say("stopped; what was done is kept, the same command goes on from there")
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except EnvfarmError as e:
        console.say(f"error: {e}")
        if e.hint:
            console.say(f"hint: {e.hint}")
        sys.exit(1)
