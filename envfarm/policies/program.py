"""An agent that is a program in the box: one command, of its image or of a scaffold, whose model calls go through a door of the box.

The program gets the instruction on standard input (or reads the file `/dev/stdin`), and its model's address in environment variables. It
needs no network and gets none. Nothing that it reports decides an outcome: see `episodes.machine`.
"""

import asyncio
from collections.abc import Awaitable, Mapping

from pydantic import Field

from envfarm.core.errors import Unsupported, UsageError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import ExecId
from envfarm.core.program import Allowance, Part
from envfarm.core.protocols import Box, Doors, Interrupts, Models, ModelSession
from envfarm.core.sampled import Sampled
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.core.scaffold import Scaffold

COMMAND = ExecId("program")
CLIENTS: Mapping[str, str] = {
    "OPENAI_BASE_URL": "{base_url}/v1",
    "OPENAI_API_KEY": "{token}",
    "ANTHROPIC_BASE_URL": "{base_url}",
    "ANTHROPIC_API_KEY": "{token}",
}
"""The variables that common clients read."""


class ProgramOptions(Frozen):
    """A program's options."""

    command: str = ""
    """A command line, run in the task's work dir. What it calls must be in the task's image or in the scaffold's layer."""
    scaffold: str = ""
    """The name of a scaffold, which is at /opt/agent in the box. Its own command is run if `command` is empty."""
    env: dict[str, str] = {}
    """Further variables. `{base_url}` (without `/v1`), `{token}` and `{model}` in values are replaced."""
    model: str = "policy"
    """The model's name for the program; the gateway accepts any name."""
    context_tokens: int = Field(default=32_768, gt=0)
    completion_tokens: int = Field(default=8_192, gt=0)
    """The limit of one call."""
    temperature: float = Field(default=1.0, ge=0)
    """For every call, whatever the program requests."""


class CommandProgram:
    """See `Program`."""

    def __init__(self, options: ProgramOptions, models: Models, scaffold: Scaffold | None = None) -> None:
        """`scaffold` is the one that the options name. Raises `UsageError` if there is no command."""
        command = options.command or (scaffold.command if scaffold else "")
        if not command:
            raise UsageError("policy program: `command` or `scaffold` is required", hint="`envfarm scaffolds list` lists the scaffolds")
        self._options = options
        self._models = models
        self._env = {**CLIENTS, **(scaffold.env if scaffold else {}), **options.env}
        self.command = command
        self.sampled: Sampled | None = None

    async def play(self, box: Box, part: Part) -> ExecResult:
        """See `Program.play`."""
        if not isinstance(box, Doors) or not isinstance(box, Interrupts):
            raise Unsupported("agent programs need boxes with doors, and these boxes have none")
        o = self._options
        session = self._models.open(
            part.episode,
            Allowance(
                calls=part.calls,
                tokens=part.tokens,
                context_tokens=o.context_tokens,
                completion_tokens=o.completion_tokens,
                temperature=o.temperature,
                seed=part.seed,
            ),
        )
        try:
            door = await box.open_door(session.serve, cut_off=session.cut_off)
            try:
                request = ExecRequest(
                    shell=self.command,
                    exec_id=COMMAND,
                    cwd=part.work_dir,
                    env=self._variables(f"http://127.0.0.1:{door.port}", session.token),
                    stdin=part.instruction.encode(),
                    timeout_s=part.timeout_s + part.longest_outage_s,
                )
                return await _run(box.exec(request), box, session, part)
            finally:
                await door.close()
        finally:
            self.sampled = await session.close()

    def _variables(self, base_url: str, token: str) -> dict[str, str]:
        known = {"{base_url}": base_url, "{token}": token, "{model}": self._options.model}
        told = self._env
        for word, value in known.items():
            told = {name: text.replace(word, value) for name, text in told.items()}
        return told


async def _run(command: Awaitable[ExecResult], breaks: Interrupts, session: ModelSession, part: Part) -> ExecResult:
    """The command's result. It is interrupted when its budgets are used up or its time is over; outages of its model extend the time."""
    clock = asyncio.get_running_loop()
    began_s = clock.time()

    def left_s() -> float:
        return began_s + part.timeout_s + min(session.outage_s, part.longest_outage_s) - clock.time()

    running = asyncio.ensure_future(command)
    spent = asyncio.ensure_future(session.used_up())
    try:
        while not (running.done() or spent.done()) and (wait_s := left_s()) > 0:
            await asyncio.wait({running, spent}, timeout=wait_s, return_when=asyncio.FIRST_COMPLETED)
        late = not (running.done() or spent.done())
        if not running.done():
            await breaks.interrupt(COMMAND)
        result = await running
        return result.model_copy(update={"timed_out": True}) if late else result
    finally:
        for task in (running, spent):
            task.cancel()
        await asyncio.gather(running, spent, return_exceptions=True)
