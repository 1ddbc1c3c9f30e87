"""The service over HTTP, under episodes that do nothing, each with a box of its own and a fresh one in which it is graded.

`envfarm serve` is a process of its own, with the real stores, journal, boxes and grader. The floor is what the two boxes of an episode take
without a service: started, a command run, closed. Policy `nop` plays, and the task's tests are a few lines of shell.
"""

import asyncio
import logging
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from prometheus_client.parser import text_string_to_metric_families

from envfarm.client import Client, EpisodeRequest, PolicySpec, RetryPolicy, RolloutRequest, StepRequest, TaskSelector
from envfarm.core.action import Bash
from envfarm.core.ids import EpisodeId, RunId
from envfarm.core.sandbox import Network, SandboxSpec
from envfarm.core.task import Limits
from envfarm.settings import read
from envfarm.testing import adder_task
from envfarm.testing.factories import make_recipe
from envfarm.testing.served import free_port
from envfarm.wiring import Farm
from tests.bench.machine import TRUE, Bench
from tests.bench.measure import Row

AT_ONCE = {1: 20, 10: 8, 100: 3, 1000: 1}
"""How many episodes are asked for at once, and how often."""
ENVFARM = Path(sys.executable).with_name("envfarm")
GROUP = 10
LIVE = 1000
"""Episodes that wait for their trainer, each with its box."""
KILLED = 100
"""Such episodes of a service that is killed."""
CALLERS = 16
LIMITS = Limits(cpus=0.5, memory_mib=64, disk_mib=16, pids=64)
# So small that the machine's cores admit a thousand at once: these boxes are throttled from their start on.
TINY = Limits(cpus=0.005, memory_mib=12, disk_mib=4, pids=64)
BOXES = 16
"""At once, where the floor is measured: as many as the service plays of such tasks on two CPUs."""
FLOOR = f"floor: two boxes and a command in each, {BOXES} at once"
TARGET = ">= 30 per second on 2 CPUs"
QUICK = RetryPolicy(first_wait_s=0.05, longest_wait_s=0.1, tries=600)
logging.getLogger("envfarm.client").setLevel(logging.ERROR)  # it asks until a service that was killed is there again


class Service:
    """One `envfarm serve` in a home of its own."""

    def __init__(self, home: Path, *words: str) -> None:
        self._home, self._words = home, words
        self._port, self._metrics_port = free_port(), free_port()
        self._url, self._token = f"http://127.0.0.1:{self._port}", (home / "token").read_text()
        self._process = self._start()

    @property
    def client(self) -> Client:
        """As the operator."""
        return Client(self._url, self._token, retry=QUICK)

    def used(self) -> dict[str, float]:
        """CPU seconds, MiB of memory and SQL statements so far, and bytes of its database and its trajectories."""
        page = httpx.get(f"http://127.0.0.1:{self._metrics_port}/metrics").raise_for_status().text
        proc = Path("/proc", str(self._process.pid))
        user, system = (int(ticks) for ticks in (proc / "stat").read_text().rpartition(")")[2].split()[11:13])
        return {
            "cpu_s": (user + system) / os.sysconf("SC_CLK_TCK"),
            "resident_mib": int((proc / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20,
            "statements": sum(
                sample.value
                for family in text_string_to_metric_families(page)
                for sample in family.samples
                if sample.name == "envfarm_sql_statements_total"
            ),
            "kept": sum(path.stat().st_size for path in (self._home / "runs").rglob("*") if path.is_file()),
        }

    def kill(self) -> None:
        """By SIGKILL; then start it again."""
        self._process.kill()
        self._process.wait()
        self._process = self._start()

    def end(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait()

    def _start(self) -> subprocess.Popen[bytes]:
        ports = ["--port", str(self._port), "--metrics-port", str(self._metrics_port)]
        words = [*ports, "--token-file", str(self._home / "token"), *self._words]
        env = {**read().variables, "ENVFARM_HOME": str(self._home)}
        return subprocess.Popen([ENVFARM, "serve", *words], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def rows(bench: Bench) -> list[Row]:
    """The section."""
    with _home() as home:
        tasks = await _put_tasks(home)
        floor = await _floor(home, tasks["usual"], bench.rounds(200))
        found = await asyncio.to_thread(_rates, home, floor, quick=bench.quick)
        return found + await asyncio.to_thread(_live, home, bench.rounds(LIVE)) + await asyncio.to_thread(_killed, home)


@contextmanager
def _home() -> Iterator[Path]:
    home = Path(tempfile.mkdtemp(prefix="envfarm-bench-", dir="/var/tmp"))  # other users' boxes must see the layers
    home.chmod(0o755)
    (home / "token").write_text(secrets.token_urlsafe(32))
    try:
        yield home
    finally:
        shutil.rmtree(home, ignore_errors=True)


async def _put_tasks(home: Path) -> dict[str, Any]:
    async with Farm(read().model_copy(update={"home": home})) as farm:
        blob = await farm.blobs.put(adder_task.checkout_archive())
        made = {}
        for name, limits in (("usual", LIMITS), ("tiny", TINY)):
            task = adder_task.make(name=f"made-up/{name}", recipe=make_recipe(), checkout=blob.digest)
            made[name] = task.model_copy(update={"limits": limits})
            await farm.catalogue.add(made[name])
        return made


async def _floor(home: Path, task: Any, boxes: int) -> list[float]:
    """Pairs of boxes per second, by the provider alone."""
    async with Farm(read().model_copy(update={"home": home})) as farm:
        provider, environment = farm.provider("local"), await farm.environment(task, "local")
        spec = SandboxSpec.within(task.limits, environment, network=Network.CLOSED)
        turn = asyncio.Semaphore(BOXES)

        async def once() -> None:
            async with turn:
                box = await provider.create(spec)
                await box.exec(TRUE)
                await box.close()

        await asyncio.gather(*(once() for _ in range(BOXES)))
        began = time.perf_counter()
        await asyncio.gather(*(once() for _ in range(boxes)))
        return [boxes / 2 / (time.perf_counter() - began)]


def _rates(home: Path, floor: Sequence[float], *, quick: bool) -> list[Row]:
    service, found = Service(home), []
    try:
        with service.client as farm:
            over = _play(farm, 8)  # makes the layers
            idle = [_look(farm, over) for _ in range(100)]
            for at_once, times in AT_ONCE.items():
                rates, busy = list[float](), list[float]()
                before = service.used()
                for _ in range(min(times, 2) if quick else times):
                    began = time.perf_counter()
                    with _looking(service, over, busy):
                        _play(farm, at_once)
                    rates.append(at_once / (time.perf_counter() - began))
                name, target = f"{at_once} at once", TARGET if at_once > 1 else ""
                found += [
                    Row(f"episodes, {name}", "1/s", rates, FLOOR, floor, more_is_better=True, target=target),
                    Row(f"a look at a rollout, {name}", "ms", busy, "the same, nothing played", idle),
                ]
                if at_once == max(AT_ONCE):  # in fewer, what is asked once for all episodes outweighs them
                    after = service.used()
                    each = {what: (after[what] - before[what]) / (at_once * len(rates)) for what in after}
                    found += [
                        Row("an episode: service's processor", "ms", [each["cpu_s"] * 1e3]),
                        Row("an episode: SQL statements", "", [each["statements"]]),
                        Row("an episode: kept in database and journal", "KiB", [each["kept"] / 1024]),
                    ]
    finally:
        service.end()
    return found


def _play(farm: Client, episodes: int) -> RunId:
    """Ask for so many at once, in groups, and fetch them all; one of the rollouts."""
    task = TaskSelector(names=("made-up/usual",))
    sizes = [GROUP] * (episodes // GROUP) + [episodes % GROUP] * (episodes % GROUP > 0)
    asked = [RolloutRequest(tasks=task, group_size=size, policy=PolicySpec(name="nop")) for size in sizes]
    with ThreadPoolExecutor(CALLERS) as callers:
        rollouts = [view.id for view in callers.map(farm.submit, asked)]
    scores = [m.outcome.kind for group in farm.groups(rollouts=rollouts) for m in group.members]
    if scores.count("scored") != episodes:
        raise RuntimeError(f"of {episodes} episodes {scores.count('scored')} were scored")
    return rollouts[0]


@contextmanager
def _looking(service: Service, rollout: RunId, taken: list[float]) -> Iterator[None]:
    """Look at a rollout meanwhile, twenty times a second."""
    over = threading.Event()

    def look() -> None:
        with service.client as farm:
            while not over.wait(0.05):
                taken.append(_look(farm, rollout))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield
    finally:
        over.set()
        looking.join()


def _look(farm: Client, rollout: RunId) -> float:
    began = time.perf_counter()
    farm.rollout(rollout)
    return (time.perf_counter() - began) * 1e3


def _live(home: Path, episodes: int) -> list[Row]:
    """What live episodes take of the service's memory, and an action in one of them beside an action in the only one."""
    service = Service(home, "--episodes", str(episodes))
    try:
        with service.client as farm, ThreadPoolExecutor(CALLERS) as callers:
            first = farm.create_episode(EpisodeRequest(task="made-up/usual"), wait_s=60.0).id
            alone = [_step(farm, first, str(number)) for number in range(50)]
            before = service.used()["resident_mib"]
            began = time.perf_counter()
            made = _driven(farm, callers, episodes - 1)
            starting_s = time.perf_counter() - began
            grown_mib = service.used()["resident_mib"] - before
            among = [_step(farm, first, f"again {number}") for number in range(50)]
            list(callers.map(farm.close_episode, [first, *made]))
    finally:
        service.end()
    what = f"{episodes} live episodes"
    return [
        Row(f"starting {what} that their trainers drive", "s", [starting_s]),
        Row(f"service's memory for each of {what}", "KiB", [grown_mib * 1024 / len(made)]),
        Row(f"a step over HTTP among {what}", "ms", among, "the same in the only one", alone),
    ]


def _killed(home: Path) -> list[Row]:
    """From SIGKILL on: until the API answers, and until every live episode has gone on by a step."""
    service = Service(home, "--episodes", str(KILLED))
    try:
        with service.client as farm, ThreadPoolExecutor(CALLERS) as callers:
            made = _driven(farm, callers, KILLED)
            list(callers.map(lambda one: _step(farm, one, "0"), made))
            began = time.perf_counter()
            service.kill()
            farm.me()
            answers_s = time.perf_counter() - began
            list(callers.map(lambda one: _step(farm, one, "1"), made))
            on_s = time.perf_counter() - began
            list(callers.map(farm.close_episode, made))
    finally:
        service.end()
    return [
        Row(f"kill -9 with {KILLED} live episodes: until the API answers", "s", [answers_s]),
        Row(f"kill -9 with {KILLED} live episodes: until each has gone on", "s", [on_s]),
    ]


def _driven(farm: Client, callers: ThreadPoolExecutor, episodes: int) -> list[EpisodeId]:
    request = EpisodeRequest(task="made-up/tiny")
    return [view.id for view in callers.map(lambda _: farm.create_episode(request, wait_s=60.0), range(episodes))]


def _step(farm: Client, episode: EpisodeId, name: str) -> float:
    began = time.perf_counter()
    answer = farm.step(episode, StepRequest(step_id=name, action=Bash(command="true")), wait_s=60.0)
    if answer.observation is None or answer.observation.exit_code != 0:
        raise RuntimeError(f"a step of {episode} came to {answer}")
    return (time.perf_counter() - began) * 1e3
