"""The `envfarm` program: its commands, and how an error is told."""

import asyncio
import errno
import sys
import tempfile
import traceback

import click

from envfarm import __version__
from envfarm.cli import console, stopping
from envfarm.cli.commands import LazyGroup
from envfarm.core.errors import EnvfarmError, UsageError

OWN = {
    "doctor": "envfarm.cli.doctor:doctor",
    "episode": "envfarm.cli.episode:episode",
    "hosts": "envfarm.cli.hosts:hosts",
    "run": "envfarm.cli.run:run",
    "runs": "envfarm.cli.runs:runs",
    "scaffolds": "envfarm.cli.scaffolds:scaffolds",
    "serve": "envfarm.cli.serve:serve",
    "shell": "envfarm.cli.shell:shell",
    "tasks": "envfarm.cli.tasks:tasks",
}
FAILED, WRONG_USE, NOBODY_READS = 1, 2, 141
ADVICE = {
    errno.ENOSPC: "the disk is full: free some space and run the same command again, what was done is kept",
    errno.EDQUOT: "the disk quota is used up: free some space and run the same command again, what was done is kept",
    errno.EACCES: "this user may not do that; ENVFARM_HOME must name a directory of your own",
    errno.EPERM: "this user may not do that; ENVFARM_HOME must name a directory of your own",
    errno.EROFS: "that file system is read-only; ENVFARM_HOME must name a directory that can be written",
    errno.ENOTDIR: "a file stands where a directory is needed; is ENVFARM_HOME right?",
    errno.EMFILE: "too many files are open at once: raise `ulimit -n`, or give a smaller --parallel",
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
    """Run the program. It ends with 0, 1 for a failure that is told, 2 for bad usage, 130 when stopped, 141 when nobody reads on."""
    sys.exit(_status())


def _status() -> int:
    console.write_whatever_comes()
    try:
        status = envfarm(prog_name="envfarm", standalone_mode=False)
        sys.stdout.flush()
    except (click.Abort, KeyboardInterrupt, asyncio.CancelledError):
        console.say(stopping.WORDS)
        return stopping.STOPPED
    except BrokenPipeError:
        console.let_go_of_output()
        return NOBODY_READS
    except Exception as e:  # noqa: BLE001 - the outermost boundary: a person is shown words, whatever happened
        return _told(e)
    return status if isinstance(status, int) else 0


def _told(error: Exception) -> int:
    """Tell an error in two lines: what is wrong and where, and what to do."""
    match error:
        case ExceptionGroup():
            return _told(error.exceptions[0])
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message(), err=True)
            return WRONG_USE
        case click.UsageError():
            path = error.ctx.command_path if error.ctx else "envfarm"
            _say(error.format_message(), f"`{path} --help` says what can be given")
            return WRONG_USE
        case click.ClickException():
            _say(error.format_message(), "")
        case EnvfarmError():
            _say(str(error), error.hint or _advice(error))
            return WRONG_USE if isinstance(error, UsageError) else FAILED
        case OSError() if error.strerror:
            what = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
            _say(what, _advice(error))
        case _:
            words = str(error).strip().splitlines()
            _say(f"{type(error).__name__}: {words[0] if words else 'no words'}", f"a fault of envfarm's own; {_kept_trace(error)}")
    return FAILED


def _say(what: str, hint: str) -> None:
    console.say(f"error: {what}")
    if hint:
        console.say(f"hint: {hint}")


def _advice(error: BaseException | None) -> str:
    """What to do about the failure of the system below, where one is."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in ADVICE:
            return ADVICE[error.errno]
        error = error.__cause__
    return ""


def _kept_trace(error: BaseException) -> str:
    """Where the details went: not before a person's eyes, but not lost either."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="envfarm-", suffix=".txt", delete=False) as file:
            file.writelines(traceback.format_exception(error))
    except OSError:
        return "its details could not be written to a file"
    return f"please report it with {file.name}"
