"""The `envfarm` program: its commands, and how an error is told."""

import sys

import click

from envfarm import __version__
from envfarm.cli import console
from envfarm.cli.commands import LazyGroup
from envfarm.core.errors import EnvfarmError

OWN = {
    "doctor": "envfarm.cli.doctor:doctor",
    "episode": "envfarm.cli.episode:episode",
    "run": "envfarm.cli.run:run",
    "shell": "envfarm.cli.shell:shell",
    "tasks": "envfarm.cli.tasks:tasks",
}


@click.group(
    cls=LazyGroup,
    own=OWN,
    group="envfarm.commands",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="envfarm")
def envfarm() -> None:
    """An environment farm for agentic RL: mint verifiable tasks, run episodes on them in sandboxes, get outcomes."""


def main() -> None:
    """Run the program; errors that have a name are told in two lines and exit 1, bad usage exits 2."""
    try:
        envfarm(standalone_mode=False)
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
