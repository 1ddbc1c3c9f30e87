"""A storm on a cluster: a calm first, then one fault after the other, each at its moment, until all are done; then a judgement."""

import dataclasses
import random
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import cycle, islice

from tests.chaos import left_overs
from tests.chaos.cluster import remains, truth
from tests.chaos.cluster.agents import AGENTS
from tests.chaos.cluster.faults.boxes import MARK, firewall
from tests.chaos.cluster.faults.kinds import Fault
from tests.chaos.cluster.field import Field
from tests.chaos.cluster.moments import MOMENTS, Target
from tests.chaos.cluster.trainer import GROUP, Trainer

CALM_S, END_S = 300.0, 900.0
"""For a calm's episodes, and for what is left to play after the last fault: whoever takes longer is stuck."""
LEFT_S = 180.0
"""For boxes of the dead to be removed by the living: a lease, and the collector's looks."""
LATE_S = 150.0
"""How long after a fault an attempt may end that it harmed: an action's whole time, and the time to find out."""
BETWEEN_S = 0.5
BATCH = 5
"""Groups that are asked for at once when few episodes are left."""


@dataclasses.dataclass
class Storm:
    """What was done, and what came of it."""

    field: Field
    trainer: Trainer
    random: random.Random
    tell: Callable[[str], None]
    struck: list[truth.Struck] = dataclasses.field(default_factory=list)
    missed: dict[tuple[str, str], int] = dataclasses.field(default_factory=dict)
    """Kind and phase → how often its moment did not come."""
    complaints: list[str] = dataclasses.field(default_factory=list)

    def calm(self) -> None:
        """Each agent plays a group, and nothing is harmed: without this the expectations would be hopes."""
        for agent in AGENTS:
            self.trainer.asks(agent, 1, "")
        self._until_played(CALM_S, "the calm")
        self.complaints += truth.nothing_is_lost_in_calm(truth.read(self.field.database, self.field.agents))

    def rage(self, faults: Sequence[Fault], *, count: int, episodes: int, within_s: float) -> None:
        """So many faults over so many episodes at least. Kinds and moments come in turn, in an order of the seed."""
        pairs = [(fault, phase) for fault in faults for phase in fault.phases]
        self.random.shuffle(pairs)
        turns, drawn = cycle(pairs), self._drawn_agents()
        tries, end = 0, time.monotonic() + within_s
        while len(self.struck) < count and tries < count * 3 and time.monotonic() < end and not self.complaints:
            if self.field.unfinished() < BATCH * GROUP:
                for agent in islice(drawn, BATCH):
                    self.trainer.asks(agent, 1, "")
            self._strike(*next(turns))
            tries += 1
        while self.trainer.episodes < episodes and time.monotonic() < end and not self.complaints:
            self.trainer.asks(next(drawn), 1, "")

    def judge(self) -> None:
        """All is played to its end, and what the dead left is removed, by the farm itself; then it is stopped, and nothing is left."""
        self._until_played(END_S, "the storm")
        self._until_collected()
        told = truth.read(self.field.database, self.field.agents)
        self.complaints += truth.one_outcome(told, self.trainer.episodes)
        self.complaints += truth.no_fault_is_a_reward(told)
        self.complaints += truth.no_retry_is_bought(told, self.struck, late_s=LATE_S)
        self._judge_neighbour("the storm")

    def judge_remains(self) -> None:
        """After the farm was stopped, with the neighbour still there: then it ends, and nothing is left at all."""
        names, makers = self.field.neighbour.names, {self.field.neighbour.owner}
        for part in filter(None, (self.field.driver, self.field.ray, self.field.api)):
            if (status := part.stop()) != 0:
                self.complaints.append(f"{part.name} ended with {status}")
        self._judge_neighbour("the end")
        self.complaints += remains.pods(self._pods_that_stay(names), names)
        self.complaints += remains.leases(self.field.kube.leases(), makers, self.field.killed_makers)
        self.complaints += left_overs.in_process_table(
            self.field.directory, {self.field.neighbour.pid, self.field.postgres.pid}, patience_s=20.0
        )
        self.complaints += self.field.neighbour.end()
        self.complaints += remains.pods(self._pods_that_stay(frozenset()), frozenset())
        self.complaints += left_overs.in_home(self.field.home, frozenset())
        self.complaints += remains.on_nodes(self.field.pods)
        self.complaints += remains.firewall(_rules(), MARK)

    def _strike(self, fault: Fault, phase: str) -> None:
        with ExitStack() as undoing:
            with MOMENTS[phase](self.field) as target:
                if target is None:
                    self.missed[fault.name, phase] = self.missed.get((fault.name, phase), 0) + 1
                    return
                began, hit = self.field.now(), self._hit(fault, target)
                undoing.enter_context(fault.done(self.field, target))
            time.sleep(fault.lasts_s)
        hit |= frozenset(self.field.running()) if fault.reach == "all" else frozenset()
        self.struck.append(truth.Struck(fault.name, phase, began, self.field.now(), hit))
        self.tell(f"{len(self.struck)}: {fault.name}, mid-{phase}, {len(hit)} episodes at hand")
        self._judge_neighbour(f"{fault.name} ({phase})")
        time.sleep(BETWEEN_S)

    def _hit(self, fault: Fault, target: Target) -> frozenset[str]:
        if fault.reach == "episode":
            return frozenset({target.episode})
        return frozenset(e for e, owner in self.field.running().items() if fault.reach == "all" or owner == target.owner)

    def _judge_neighbour(self, after: str) -> None:
        self.complaints += [f"after {after}: {complaint}" for complaint in self.field.neighbour.complaints()]

    def _drawn_agents(self) -> "cycle[str]":
        names = [name for name, agent in AGENTS.items() for _ in range(agent.share)]
        self.random.shuffle(names)
        return cycle(names)

    def _until_played(self, within_s: float, what: str) -> None:
        end = time.monotonic() + within_s
        while left := self.field.unfinished() + self._groups_not_taken():
            if time.monotonic() > end:
                self.complaints.append(f"{left} episodes and groups of {what} are not over after {within_s:.0f} s")
                return
            time.sleep(0.5)

    def _groups_not_taken(self) -> int:
        query = "SELECT count(*) FROM groups WHERE state != 'acknowledged' AND rollout_id = ANY(%s)"
        return int(self.field.rows(query, list(self.field.agents))[0][0])

    def _until_collected(self) -> None:
        """What dead hosts left goes while the living do: nobody helps."""
        end, living = time.monotonic() + LEFT_S, self.field.neighbour.names
        while time.monotonic() < end:
            makers = {
                pod["metadata"]["labels"].get("envfarm.dev/owner")
                for pod in self.field.kube.pods()
                if pod["metadata"]["name"] not in living
            }
            if not makers - {""}:  # what was made ahead is nobody's, and ends with its host
                return
            time.sleep(1.0)
        self.complaints.append(f"boxes of the dead are left after {LEFT_S:.0f} s")

    def _pods_that_stay(self, living: frozenset[str]) -> list[dict[str, object]]:
        end = time.monotonic() + 60.0
        while (seen := self.field.kube.pods()) and {p["metadata"]["name"] for p in seen} - living and time.monotonic() < end:
            time.sleep(0.5)
        return seen


def _rules() -> str:
    try:
        return firewall("-S")
    except (OSError, subprocess.CalledProcessError):
        return ""
