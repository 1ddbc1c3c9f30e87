"""`envfarm shell TASK`: a person in a task's box, with the same persistent shell that an agent has."""

import asyncio
import sys

import click

from envfarm.cli import console
from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest
from envfarm.settings import read
from envfarm.wiring import Farm

SESSION = "person"


@click.command()
@click.argument("task")
@click.option("--sandbox", default="local", show_default=True, help="local or docker.")
@click.option("--grade", is_flag=True, help="Grade what was done when the shell ends.")
def shell(task: str, sandbox: str, grade: bool) -> None:  # noqa: FBT001 - click hands flags over by name
    """Open the box that an agent would get for TASK. Each line is a bash command; end with `exit` or Ctrl-D."""
    asyncio.run(_shell(task, sandbox, grade=grade))


async def _shell(text: str, sandbox: str, *, grade: bool) -> None:
    async with Farm(read()) as farm:
        row = await farm.catalogue.find(text)
        task = await farm.catalogue.get(row.digest)
        spec = await farm.agent_box(task, sandbox)
        box = await farm.provider(sandbox).create(spec)
        try:
            await box.mark([task.plan.work_dir])
            console.say(task.instruction)
            await _lines(box)
            if grade:
                await box.quiesce()
                outcome = await farm.grader(sandbox).grade(task, await box.diff(), environment=spec.environment)
                console.out.print(outcome, markup=False)
        finally:
            await box.close()


async def _lines(box: Box) -> None:
    while True:
        where = (await box.exec(ExecRequest(shell="pwd", session=SESSION))).text.strip()
        try:
            line = await asyncio.to_thread(input, f"{where}$ ")
        except EOFError:
            return
        if line.strip() in ("exit", "logout"):
            return
        if line.strip():
            result = await box.exec(ExecRequest(shell=line, session=SESSION))
            sys.stdout.write(result.text)
            if result.timed_out:
                console.say("the command was ended after its time was over")
