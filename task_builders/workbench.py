"""Joins the farm's rooms and the builders' own into what minting and validating run on. Called by the commands."""

import asyncio
import os
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from envfarm.controller.system_clock import SystemClock
from envfarm.core.recipe import Toolchain
from envfarm.grading import reports
from envfarm.settings import Settings
from envfarm.wiring import Farm, uv_program
from task_builders.attempt_ledger import AttemptLedger
from task_builders.candidates.decontamination import Decontamination
from task_builders.environment_attempts import Attempt
from task_builders.environment_memory import EnvironmentMemory
from task_builders.environments import Workshop
from task_builders.intake import Intake
from task_builders.languages.python.lock import UvResolver
from task_builders.languages.python.profile import PythonProfile
from task_builders.minting import Rules, Tools
from task_builders.preparing import Preparer
from task_builders.stages import MintingStages
from task_builders.terminal.earlier import EarlierTasks


def intake(farm: Farm, decontamination: Decontamination) -> Intake:
    """What needs no sandbox."""
    settings = farm.settings
    profile = PythonProfile(UvResolver(uv_program(), variables=settings.variables, cache=settings.cache / "resolver"))
    return Intake(profile, decontamination, EarlierTasks(farm.catalogue), settings.sources / "mirrors")


async def stages(
    farm: Farm,
    sandbox: str,
    *,
    boxes: int,
    rules: Rules,
    decontamination: Decontamination | None = None,
    keep_attempt: Callable[[Attempt], None] | None = None,
) -> MintingStages:
    """The real stages over one sandbox, with so many boxes at once. What killed builds left is removed first.

    `keep_attempt` is told of every try of a recipe, in place of this home's ledger.
    """
    settings = farm.settings
    provider = await asyncio.to_thread(farm.provider, sandbox)
    await farm.collect_left_overs(sandbox)
    builder = await asyncio.to_thread(farm.builder, sandbox)
    found = await asyncio.to_thread(farm.toolchains.available)
    taken_in = intake(farm, decontamination or Decontamination())
    workshop = Workshop(
        builder=builder,
        provider=provider,
        memory=EnvironmentMemory(settings.cache / "environments" / sandbox),
        clock=SystemClock(),
        toolchains=[Toolchain(name="python", version=interpreter.version) for interpreter in found],
        read_report=partial(reports.read, "junit"),
        keep_attempt=keep_attempt or AttemptLedger(tries_path(settings)).append,
    )
    tools = Tools(
        provider=provider,
        blobs=farm.blobs,
        preparer=Preparer(workshop=workshop, profile=taken_in.profile, blobs=farm.blobs),
        boxes=asyncio.Semaphore(boxes),
        cores=machine_cores(),
        now=now,
    )
    return MintingStages(tools, taken_in, rules)


def tries_path(settings: Settings) -> Path:
    """The ledger of every try of every recipe, of all builds of this home."""
    return settings.sources / "tries.jsonl"


def machine_cores() -> tuple[int, ...]:
    """The CPUs that this process may use."""
    return tuple(sorted(os.sched_getaffinity(0)))


def now() -> datetime:
    """Wall time, UTC."""
    return datetime.now(UTC)
