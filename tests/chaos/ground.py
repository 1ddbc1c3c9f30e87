"""Where a storm takes place: a home, temporary files, a log. Farms are started, killed and restarted here, beside neighbours."""

import asyncio
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from envfarm.sandboxes import boxd_binary
from envfarm.settings import Settings, read
from envfarm.wiring import Farm
from tests.chaos import evidence, left_overs, made_task, processes

ROOT = Path(__file__).parents[2]
PROGRAM = "from envfarm.cli.main import main; main()"
KILLED = -9
POISONED = "ended without a verdict (infrastructure failure, not a reward of 0)"
"""What a farm says that gave an episode up after too many deaths. Whether it stays so is judged at the end."""
PATIENCE_S = 10.0
"""For what the kernel ends together with a killed farm."""
FARM_S = 900.0
"""Longer than any farm here takes: one that does is stuck."""


class Neighbour:
    """A farm's process that must not be touched; see `neighbour`."""

    def __init__(self, name: str, env: dict[str, str], module: str = "tests.chaos.neighbour") -> None:
        self.name = name
        argv = (sys.executable, "-m", module)
        self._process = subprocess.Popen(argv, cwd=ROOT, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._told: dict[str, Any] = json.loads(self._answer())

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def owner(self) -> str:
        return str(self._told["owner"])

    @property
    def names(self) -> frozenset[str]:
        """What is its own in the home."""
        return frozenset([*self._told["names"], self._told["lock"]])

    def complaints(self) -> list[str]:
        """What the storm did to it."""
        if self._process.poll() is not None or self._process.stdin is None:
            return [f"{self.name} is dead"]
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        said = self._answer()
        return [] if said == "well" else [f"{self.name}: {said}"]

    def end(self) -> list[str]:
        """Have it close all that it holds."""
        self._process.communicate(timeout=60)
        return [] if self._process.returncode == 0 else [f"{self.name} ended with {self._process.returncode}"]

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


@dataclass
class Ground:
    """One storm's place and memory."""

    directory: Path
    random: random.Random
    longest_s: float
    """A farm lives at most so long before it is killed at random."""
    deaths: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)
    owners: set[str] = field(default_factory=set)
    """Owners of boxes in this home that were seen."""
    neighbours: list[Neighbour] = field(default_factory=list)

    @property
    def home(self) -> Path:
        return self.directory / "home"

    @property
    def settings(self) -> Settings:
        """Of the farms here."""
        return read().model_copy(update={"home": self.home})

    def alone(self) -> "Ground":
        """Another ground, without neighbours."""
        other = Ground(self.directory / "alone", self.random, self.longest_s)
        other.prepare()
        return other

    def env(self, home: Path) -> dict[str, str]:
        """Of a farm's process."""
        places = {"ENVFARM_HOME": str(home), "ENVFARM_PARALLEL": "2", "TMPDIR": str(self.directory / "tmp")}
        return {**read().variables, **places, "PATH": os.defpath, "HOME": str(Path.home())}

    def prepare(self) -> None:
        """Make the places, and boxd, which farms would build."""
        for name in ("home", "tmp", "other"):
            (self.directory / name).mkdir(parents=True)
        boxd_binary.find()

    def put_task(self) -> str:
        """Make the home's task (without any layer) and the witness in its database; the task's digest."""

        async def put() -> str:
            async with Farm(self.settings) as farm:
                return await made_task.put(farm)

        task = asyncio.run(put())
        evidence.put_witness(self.settings.runs / "episodes.sqlite")
        return task

    def invite(self) -> None:
        """Start a farm in another home and one in this home."""
        for name, home in (("the farm in another home", self.directory / "other"), ("the farm in the same home", self.home)):
            self.neighbours.append(Neighbour(name, self.env(home)))

    def kill_at_random(self, arguments: Sequence[str]) -> bool:
        """Run `envfarm` with these arguments and kill it; False where it ended before."""
        delay_s = self.random.uniform(0.1, self.longest_s)
        farm = self._start([sys.executable, "-c", PROGRAM, *arguments])
        try:
            farm.wait(delay_s)
        except subprocess.TimeoutExpired:
            farm.kill()
            farm.wait()
        return self._after_death(farm, f"{arguments[0]}, after {delay_s:.2f} s")

    def kill_at(self, point: str, times: int, words: Sequence[str]) -> None:
        """Have a farm die at a named point."""
        farm = self._start([sys.executable, "-m", "tests.chaos.doomed", point, str(times), *words])
        farm.wait(FARM_S)
        if not self._after_death(farm, f"{words[0]}, {point} {times}"):
            self.complaints.append(f"{words[0]}: {point} was not reached {times} times")

    def to_the_end(self, arguments: Sequence[str]) -> None:
        """Run `envfarm` with these arguments and leave it alone."""
        farm = self._start([sys.executable, "-c", PROGRAM, *arguments])
        farm.wait(FARM_S)
        if self._after_death(farm, "nobody"):
            self.complaints.append("the last farm was killed")

    @contextmanager
    def living(self, arguments: Sequence[str], ends_by: signal.Signals, how: str) -> Iterator[subprocess.Popen[bytes]]:
        """Run `envfarm` with these arguments for as long as the block, and then end it by a signal."""
        farm = self._start([sys.executable, "-c", PROGRAM, *arguments])
        try:
            yield farm
        finally:
            farm.send_signal(ends_by)
            farm.wait(FARM_S)
        if self._after_death(farm, how) != (ends_by == signal.SIGKILL):
            self.complaints.append(f"{how}: it had ended before, with {farm.returncode}")

    def _start(self, argv: list[str]) -> subprocess.Popen[bytes]:
        with (self.directory / "log").open("ab") as log:
            return subprocess.Popen(argv, cwd=ROOT, env=self.env(self.home), stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def _after_death(self, farm: subprocess.Popen[bytes], how: str) -> bool:
        if self.home.joinpath("boxes").is_dir():
            names = [path.name.removeprefix(".owner-").partition("-")[0] for path in (self.home / "boxes").iterdir()]
            self.owners |= {name for name in names if name and not name.startswith(".")}
        for neighbour in self.neighbours:
            self.complaints += [f"after {how}: {complaint}" for complaint in neighbour.complaints()]
        end = (self.directory / "log").read_text(errors="replace")[-1500:]
        if farm.returncode not in (KILLED, 0) and not (farm.returncode == 1 and POISONED in end):
            self.complaints.append(f"a farm ended with {farm.returncode}: {end}")
        if farm.returncode == KILLED:
            self.deaths.append(how)
        return farm.returncode == KILLED

    def judge_left_overs(self) -> None:
        """After the last restart: nothing of the dead is left; then the neighbours close, and nothing at all is."""
        living = frozenset().union(*(neighbour.names for neighbour in self.neighbours))
        for neighbour in self.neighbours:
            self.complaints += neighbour.complaints()
        pids = {neighbour.pid for neighbour in self.neighbours}
        self.complaints += left_overs.in_process_table(self.home, pids, patience_s=PATIENCE_S)
        self.complaints += left_overs.in_home(self.home, living)
        self.complaints += left_overs.in_temporary(self.directory / "tmp")
        self.complaints += left_overs.in_groups(self.owners, living)
        if self.neighbours and not processes.mounting(self.home):
            self.complaints.append("a live box's mounts are not seen: the check for left mounts sees nothing on this machine")
        for neighbour in self.neighbours:
            self.complaints += neighbour.end()
        self.complaints += left_overs.in_process_table(self.home, set(), patience_s=PATIENCE_S)
        self.complaints += left_overs.in_home(self.home, frozenset())
        self.complaints += left_overs.in_groups(self.owners | {n.owner for n in self.neighbours}, frozenset())
        self.neighbours.clear()
