"""`envfarm shell TASK`: an interactive shell in a task's box, persistent like an agent's."""

import asyncio
import re
import readline
import signal
import sys
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path

import click

from envfarm.cli import console
from envfarm.cli.options import sandbox_option
from envfarm.core import why
from envfarm.core.ids import ExecId
from envfarm.core.protocols import Box, Interrupts
from envfarm.core.sandbox import ExecRequest, ExecResult, SandboxSpec
from envfarm.core.task import Task
from envfarm.settings import read
from envfarm.wiring import Farm

SESSION = "person"
HISTORY_LINES = 1000
DAY_S = 24 * 3600.0
"""The limit of one command: in effect none, since the user can interrupt it."""
PWD_S = 10.0
AGAIN_S = 0.2
SHELL_ITSELF = re.compile(r"^/proc/self/fd/\d+: line \d+: ", re.MULTILINE)
"""The name by which the box's shell, which reads its commands from there, calls itself in its messages."""
PARSE = '"${BASH:-/bin/sh}" -n'
"""Reads commands without running them, by the shell that runs them."""
PARSE_S = 10.0
UNFINISHED = re.compile(
    r"^\S+: (?:line )?(?:\d+: )?(?:unexpected EOF while looking|warning: here-document at line \d+ delimited by end-of-file"
    r"|syntax error: (?:unexpected end of file|end of file unexpected|unterminated))",
    re.MULTILINE | re.IGNORECASE,
)
"""How bash, dash and BusyBox say that more lines are needed."""
JOINED = re.compile(r"(?<!\\)(?:\\\\)*\\\Z")
"""A last line that ends in a backslash, which joins it to the next one."""


@click.command()
@click.argument("task")
@sandbox_option
@click.option("--grade", is_flag=True, help="Grade the work when the shell ends.")
def shell(task: str, sandbox: str, grade: bool) -> None:  # noqa: FBT001 - click hands flags over by name
    """Open the box that an agent would get for TASK. Type bash commands; input from a pipe or a file is one script.

    Ctrl-C interrupts the running command, not the shell; `exit` or Ctrl-D ends the shell. The box is then removed.
    """
    asyncio.run(_shell(task, sandbox, grade=grade))


async def _shell(text: str, sandbox: str, *, grade: bool) -> None:
    async with Farm(read()) as farm:
        row = await farm.catalogue.find(text)
        task = await farm.catalogue.get(row.digest)
        console.say(f"creating the box of {row.name} …")
        spec = await farm.agent_box(task, sandbox)
        async with _box(farm, task, spec, sandbox) as box:
            console.say(f"\n{task.instruction.strip()}\n")
            with _history(farm.settings.home / "shell-history"), _interrupts(lambda: None):  # a Ctrl-C between two lines is ignored
                await _Lines(box, task.plan.work_dir).read_all()
            if grade:
                console.say("grading …")
                report = await box.quiesce()
                if not report.ok:
                    console.say(
                        f"these processes could not be killed, so the graded change may be incomplete: {', '.join(report.remaining)}"
                    )
                outcome = await farm.grader(sandbox).grade(task, await box.diff(), environment=spec.environment)
                for line in why.in_full(outcome):
                    console.show(line)


@asynccontextmanager
async def _box(farm: Farm, task: Task, spec: SandboxSpec, sandbox: str) -> AsyncIterator[Box]:
    box = await farm.provider(sandbox).create(spec)
    try:
        await box.mark([task.plan.work_dir])
        yield box
    finally:
        await box.close()


class _Lines:
    """Reads commands, of one line or more, and runs them one after another in one shell of the box."""

    def __init__(self, box: Box, work_dir: str) -> None:
        self._box = box
        self._where = work_dir

    async def read_all(self) -> None:
        """Run commands until `exit` or the end of the input. What does not come from a terminal is run as a whole."""
        if not sys.stdin.isatty():
            if (script := await asyncio.to_thread(sys.stdin.read)).strip():
                await self._run(script)
            return
        console.say("`exit` leaves; to run a script: envfarm shell TASK < SCRIPT")
        while True:
            try:
                command = await self._command()
            except KeyboardInterrupt:
                console.say("")  # discard what was typed, as every shell does
                continue
            except EOFError:
                console.say("exit")
                return
            if command.split()[:1] in (["exit"], ["logout"]):
                return
            if command.strip():
                await self._run(command)

    async def _command(self) -> str:
        """One command. Raises `KeyboardInterrupt`, and `EOFError` if the input ends before it; one that ends within it ends the command."""
        typed = _line(f"{console.harmless(self._where)}$ ")
        while typed.strip() and await self._is_unfinished(typed):
            try:
                typed += "\n" + _line("> ")
            except EOFError:
                console.say("")
                break
        return typed

    async def _is_unfinished(self, typed: str) -> bool:
        """Whether the box's shell would wait for another line."""
        if JOINED.search(typed):
            return True
        stdin = f"{typed}\n".encode(errors="surrogateescape")
        seen = await self._box.exec(ExecRequest(shell=PARSE, stdin=stdin, env={"LC_ALL": "C"}, timeout_s=PARSE_S))
        return UNFINISHED.search(seen.text) is not None

    async def _run(self, command: str) -> None:
        request = ExecRequest(shell=command, session=SESSION, timeout_s=DAY_S, exec_id=ExecId(uuid.uuid4().hex))
        running = asyncio.ensure_future(self._box.exec(request))
        with _interrupts(lambda: asyncio.ensure_future(self._end(request, running))):
            result = await running
        _show(result)
        where = await self._box.exec(ExecRequest(shell="pwd", session=SESSION, timeout_s=PWD_S))
        self._where = where.text.strip() or self._where

    async def _end(self, request: ExecRequest, running: asyncio.Future[ExecResult]) -> None:
        """Interrupt repeatedly until it ends, since a command may not have started yet."""
        while isinstance(self._box, Interrupts) and request.exec_id and not running.done():
            await self._box.interrupt(request.exec_id)
            await asyncio.wait({running}, timeout=AGAIN_S)


def _line(prompt: str) -> str:
    """A line that a person types. It is read in the main thread, the only one in which a signal interrupts `input`."""
    with _plain_interrupts():
        return input(prompt)


def _show(result: ExecResult) -> None:
    text = SHELL_ITSELF.sub("bash: ", result.text)
    sys.stdout.write(console.harmless(text) + ("" if not text or text.endswith("\n") else "\n"))
    sys.stdout.flush()
    notes = {"the middle of the long output was left out": result.truncated, "the command was killed": result.exit_code is None}
    notes[f"the box's limit of {result.limit_hit} was hit"] = bool(result.limit_hit)
    notes[f"exit status {result.exit_code}"] = bool(result.exit_code)
    for note in (words for words, said in notes.items() if said):
        console.say(f"[{note}]")


@contextmanager
def _plain_interrupts() -> Iterator[None]:
    """Ctrl-C raises `KeyboardInterrupt` in the code that reads input, and does not end the program."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _interrupts(do: Callable[[], object]) -> Iterator[None]:
    """Ctrl-C calls `do` instead."""
    before = signal.getsignal(signal.SIGINT)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, do)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)


@contextmanager
def _history(file: Path) -> Iterator[None]:
    """Keep the line history of earlier shells. If it cannot be read or written, the shell works without it."""
    if not sys.stdin.isatty():
        yield
        return
    with suppress(OSError):
        readline.read_history_file(file)
    readline.set_history_length(HISTORY_LINES)
    try:
        yield
    finally:
        with suppress(OSError):
            readline.write_history_file(file)
