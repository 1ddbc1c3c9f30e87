"""A farm's process that ends itself, as by kill -9, when a named fault point is reached for the N-th time.

    python -m tests.chaos.doomed POINT N run TASK RUN EPISODES
    python -m tests.chaos.doomed POINT N build SOURCES
    python -m tests.chaos.doomed POINT N serve [OPTIONS]

Asks for exactly what `envfarm run` and `envfarm build` ask for with the same words, so that those go on where this one died; `serve` is the
program's own.
"""

import asyncio
import sys
from pathlib import Path

from envfarm.cli.options import tasks_named
from envfarm.cli.run import _specs
from envfarm.cli.serve import serve, serving
from envfarm.core.episode import Budgets
from envfarm.settings import Settings, read
from envfarm.testing.faults import DieAt
from envfarm.wiring import Farm
from task_builders import commands, sources_file, workbench
from task_builders.journal import Journal
from task_builders.minting import Rules
from task_builders.pipeline import Pipeline
from task_builders.stages import Reach, named_source

POLICIES = ("gold", "nop")
RULES = Rules(repeats=1, attacks=False)


async def run(settings: Settings, faults: DieAt, words: list[str]) -> None:
    task, name, episodes = words
    async with Farm(settings, faults=faults) as farm:
        rows = await tasks_named(farm, [task], every=False)
        budgets = Budgets().model_dump()
        specs = _specs(rows, {"name": name, "policy": POLICIES, "group": int(episodes), "sandbox": "local", "seed": None, **budgets})
        await farm.pool("local", boxes=settings.parallel, progress=lambda _: None).run(specs[0].run_id, specs)


async def build(settings: Settings, faults: DieAt, words: list[str]) -> None:
    sources = Path(words[0])
    async with Farm(settings, faults=faults) as farm:
        stages = await workbench.stages(farm, "local", boxes=settings.parallel, rules=RULES)
        reach = Reach(profile=stages.intake.profile, directory=settings.sources, github_token="", index_url="", told=lambda _: None)
        with Journal(commands.journal_path(settings, sources, "local"), faults=faults) as journal:
            pipeline = Pipeline(stages, farm.catalogue, journal, provider="local")
            await pipeline.run([named_source(source, reach) for source in sources_file.read(sources)], parallel=2)


async def service(_settings: Settings, faults: DieAt, words: list[str]) -> None:
    await serving(serve.make_context("serve", words).params, faults=faults)


if __name__ == "__main__":
    what = {"run": run, "build": build, "serve": service}[sys.argv[3]]
    asyncio.run(what(read(), DieAt(sys.argv[1], int(sys.argv[2])), sys.argv[4:]))
