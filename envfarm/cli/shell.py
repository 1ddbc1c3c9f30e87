"""`envfarm shell TASK`: a person in a task's box, with the same persistent shell that an agent has."""

import asyncio
import contextlib
import readline
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import TypeVar

import click

from envfarm.cli import console, why
from envfarm.core.errors import BoxBroken
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest, ExecResult, SandboxSpec
from envfarm.core.task import Task
from envfarm.settings import read
from envfarm.wiring import SANDBOXES, Farm

T = TypeVar("T")
SESSION = "person"
HISTORY_LINES = 1000
HOURS_S = 24 * 3600.0
"""A person may wait for a command as long as they like."""
INTERRUPTED = 130


@click.command()
@click.argument("task")
@click.option("--sandbox", type=click.Choice(SANDBOXES), default="local", show_default=True, help="Whose box.")
@click.option("--grade", is_flag=True, help="Grade what was done when the shell ends.")
def shell(task: str, sandbox: str, grade: bool) -> None:  # noqa: FBT001 - click hands flags over by name
    """Open the box that an agent would get for TASK. Each line is a bash command.

    Ctrl-C ends the command that runs, and not the shell; `exit` or Ctrl-D ends the shell. Nothing of the box is kept.
    """
    asyncio.run(_shell(task, sandbox, grade=grade))


async def _shell(text: str, sandbox: str, *, grade: bool) -> None:
    async with Farm(read()) as farm:
        row = await farm.catalogue.find(text)
        task = await farm.catalogue.get(row.digest)
        console.say(f"making the box of {row.name} …")
        spec = await farm.agent_box(task, sandbox)
        async with _box(farm, task, spec, sandbox) as box:
            console.say(f"\n{task.instruction.strip()}\n")
            with _history(farm.settings.home / "shell-history"):
                await _Lines(box, task.plan.work_dir).read_all()
            if grade:
                console.say("grading …")
                await box.quiesce()
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
    """Reads lines and has them run, one after another, in one shell of the box."""

    def __init__(self, box: Box, work_dir: str) -> None:
        self._box = box
        self._where = work_dir

    async def read_all(self) -> None:
        """Until `exit` or the end of the input."""
        while True:
            try:
                # In this thread: a signal interrupts input() in the main thread alone, and nothing else waits meanwhile.
                with _plain_interrupts():
                    line = input(f"{console.harmless(self._where)}$ " if sys.stdin.isatty() else "")
            except KeyboardInterrupt:
                console.say("")
                continue
            except EOFError:
                if sys.stdin.isatty():
                    console.say("exit")
                return
            if line.strip() in {"exit", "logout"}:
                return
            if line.strip():
                await self._run(line)

    async def _run(self, line: str) -> None:
        request = ExecRequest(shell=line, session=SESSION, timeout_s=HOURS_S, cwd=self._where)
        try:
            result = await _unless_interrupted(self._box.exec(request))
        except BoxBroken as e:
            console.say(f"error: {e}")
            return
        if result is None:
            await self._end_session()
            console.say("interrupted: a new shell goes on in the same directory; variables of the old one are gone")
            return
        _show(result)
        where = await self._box.exec(ExecRequest(shell="pwd", session=SESSION, timeout_s=10.0))
        self._where = where.text.strip() or self._where

