"""The `envfarm` program: its commands, and how errors are reported."""

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
    errno.ENOSPC: "the disk is full: free some space and repeat the command: finished work is kept",
    errno.EDQUOT: "the disk quota is used up: free some space and repeat the command: finished work is kept",
    errno.EACCES: "this user lacks permission; ENVFARM_HOME must name a directory that you own",
    errno.EPERM: "this user lacks permission; ENVFARM_HOME must name a directory that you own",
    errno.EROFS: "the file system is read-only; ENVFARM_HOME must name a writable directory",
    errno.ENOTDIR: "there is a file where a directory is needed; check ENVFARM_HOME",
    errno.EMFILE: "too many open files: raise `ulimit -n`, or use a smaller --parallel",
}


@click.group(
    cls=LazyGroup,
    own=OWN,
    group="envfarm.commands",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
@click.version_option(__version__, prog_name="envfarm")
def envfarm() -> None:
    """An environment farm for agentic RL: mint verifiable tasks, run episodes on them in sandboxes, and get rewards."""


def main() -> None:
    """Run the program. Exits with 0, 1 after a reported failure, 2 for wrong usage, 130 if stopped, 141 if its output is closed."""
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
    except Exception as e:  # noqa: BLE001 - the outermost boundary: every failure is reported in words
        return _told(e)
    return status if isinstance(status, int) else 0


def _told(error: Exception) -> int:
    """Report an error in two lines: what is wrong and where, and what to do. Returns the exit status."""
    match error:
        case ExceptionGroup():
            return _told(error.exceptions[0])
        case click.exceptions.NoArgsIsHelpError():
            click.echo(error.format_message(), err=True)
            return WRONG_USE
        case click.UsageError():
            path = error.ctx.command_path if error.ctx else "envfarm"
            _say(error.format_message(), f"see `{path} --help`")
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
            _say(f"{type(error).__name__}: {words[0] if words else 'no message'}", f"this is a bug in envfarm; {_kept_trace(error)}")
    return FAILED


def _say(what: str, hint: str) -> None:
    console.say(f"error: {what}")
    if hint:
        console.say(f"hint: {hint}")


def _advice(error: BaseException | None) -> str:
    """Advice for the operating system's error behind this one, if there is one."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in ADVICE:
            return ADVICE[error.errno]
        error = error.__cause__
    return ""


def _kept_trace(error: BaseException) -> str:
    """Save the traceback to a file instead of printing it. Returns advice that names the file."""
    try:
        with tempfile.NamedTemporaryFile("w", prefix="envfarm-", suffix=".txt", delete=False) as file:
            file.writelines(traceback.format_exception(error))
    except OSError:
        return "its details could not be written to a file"
    return f"please report it with {file.name}"
