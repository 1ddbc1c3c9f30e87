"""Episodes per minute with the gold policy, beside the real Harbor's oracle agent on the same tasks, exported for it.

Both keep their images from a run that is not counted. Harbor's time is that between its own job's start and end.
"""

import asyncio
import importlib.metadata
import json
import secrets
import subprocess
import tempfile
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from envfarm.core.episode import EpisodeSpec, PolicySpec
from envfarm.core.errors import EnvfarmError
from envfarm.core.ids import RunId, episode_id
from envfarm.core.outcome import Scored
from envfarm.core.task import Task
from envfarm.stores.catalogue_lookup import TaskFilter
from task_builders.formats import harbor
from tests.bench.machine import Bench
from tests.bench.measure import Row
from tests.bench.peers import Missing

TASKS = 6
ROUNDS = 2
TARGETS = {"docker": ">= 3 x Harbor", "local": ">= 5 x Harbor"}


async def rows(bench: Bench) -> list[Row]:
    """The section."""
    found = await bench.farm.catalogue.rows(TaskFilter(state="valid"))
    tasks = [await bench.farm.catalogue.get(row.digest) for row in found[:TASKS]]
    if not tasks:
        return [Row("episodes", "1/min", beside="the catalogue holds no valid task: `make build-tasks SOURCES=…` mints some")]
    rates: dict[str, list[float]] = {name: [] for name in TARGETS}
    why: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="envfarm-bench-") as folder:
        peer = await _Harbor.prepared(bench, tasks, Path(folder))
        for number in range((1 if bench.quick else ROUNDS) + 1):
            for name in TARGETS:
                if name not in why:
                    rate = await _ours(bench, tasks, name)
                    if isinstance(rate, str):
                        why[name] = rate
                    elif number:
                        rates[name].append(rate)
            await peer.run(counted=bool(number))
    what = f"episodes, {len(tasks)} tasks, {bench.farm.settings.parallel} at once"
    return [
        Row(f"{what}, {name}", "1/min", rates[name], why.get(name) or peer.name, peer.rates, more_is_better=True, target=target)
        for name, target in TARGETS.items()
    ]


async def _ours(bench: Bench, tasks: Sequence[Task], sandbox: str) -> float | str:
    """Episodes per minute of one run; or why there is none."""
    farm, run = bench.farm, RunId(f"bench-{secrets.token_hex(4)}")
    specs = [
        EpisodeSpec(
            episode_id=episode_id(run, task.digest, 0),
            run_id=run,
            task=task.digest,
            member=0,
            policy=PolicySpec(name="gold"),
            sandbox=sandbox,
        )
        for task in tasks
    ]
    try:
        for task in tasks:
            await farm.environment(task, sandbox)
        pool = farm.pool(sandbox, boxes=farm.settings.parallel, progress=lambda _: None)
        began = time.perf_counter()
        await pool.run(run, specs)
        minutes = (time.perf_counter() - began) / 60
    except EnvfarmError as e:
        return f"none here: {e}"
    outcomes = await farm.episodes.outcomes([spec.episode_id for spec in specs])
    good = sum(isinstance(outcome, Scored) and outcome.reward == 1 for outcome in outcomes.values())
    if good < len(tasks):
        return f"only {good} of {len(tasks)} gold episodes scored 1: `envfarm episode show {specs[0].episode_id}`, run {run}"
    return len(tasks) / minutes


class _Harbor:
    """The peer; with `name` saying why where it is missing."""

    def __init__(self, command: Sequence[str], folder: Path, parallel: int) -> None:
        self._command = command
        self._folder = folder
        self._parallel = str(parallel)
        self.name = ""
        self.rates: list[float] = []

    @classmethod
    async def prepared(cls, bench: Bench, tasks: Sequence[Task], folder: Path) -> "_Harbor":
        """With the tasks exported."""
        made = cls(bench.harbor, folder, bench.farm.settings.parallel)
        options = harbor.Options(uv_version=importlib.metadata.version("uv"), open_network=True)
        try:
            made.name = f"Harbor {made._version()} oracle, network open"
            for number, task in enumerate(tasks):
                checkout = await bench.farm.blobs.get(task.checkout) if task.checkout else None
                harbor.export(task, folder / "tasks" / f"task-{number}", options, checkout=checkout)
        except (Missing, EnvfarmError) as e:
            made._give_up(str(e))
        return made

    def _version(self) -> str:
        if not self._command:
            raise Missing("Harbor: give its command with --harbor, such as HARBOR='uvx harbor'")
        try:
            done = subprocess.run([*self._command, "--version"], capture_output=True, text=True, check=False, cwd=self._folder)
        except OSError as e:
            raise Missing(f"Harbor: {e}") from e
        if done.returncode:
            raise Missing(f"Harbor: {done.stderr.strip()[-300:]}")
        return done.stdout.strip()

    async def run(self, *, counted: bool) -> None:
        """One job over all tasks; its rate is kept where it counts."""
        if not self._command:
            return
        try:
            rate = await asyncio.to_thread(self._job)
        except Missing as e:
            self._give_up(str(e))
            return
        if counted:
            self.rates.append(rate)

    def _job(self) -> float:
        jobs = self._folder / f"jobs-{secrets.token_hex(4)}"
        options = ["--agent", "oracle", "-n", self._parallel, "-o", jobs.name, "-q", "-y"]
        done = subprocess.run(
            [*self._command, "run", "-p", "tasks", *options], capture_output=True, text=True, check=False, cwd=self._folder
        )
        reports = list(jobs.glob("*/result.json"))
        if done.returncode or not reports:
            raise Missing(f"Harbor: {(done.stderr or done.stdout).strip()[-300:]}")
        said = json.loads(reports[0].read_text())
        trials, errors = said["n_total_trials"], said["stats"]["n_errored_trials"]
        rewards = [evaluation["reward_stats"] for evaluation in said["stats"]["evals"].values()]
        good = sum(len(names.get("reward", {}).get("1.0", ())) for names in rewards)
        if errors or good < trials:
            raise Missing(f"{self.name}: only {good} of {trials} trials scored 1, {errors} failed; see {jobs}")
        taken = datetime.fromisoformat(said["finished_at"]) - datetime.fromisoformat(said["started_at"])
        return float(trials / (taken.total_seconds() / 60))

    def _give_up(self, why: str) -> None:
        self._command, self.name, self.rates = (), why, []
