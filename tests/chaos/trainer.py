"""A trainer's process in the storm: asks by key, takes whatever group is ready, and says what it had.

    python -m tests.chaos.trainer URL TOKEN-FILE NAME TASK GROUPS SIZE

Trainers of one tenant take each other's groups. Each asks for a few at a time, of `gold` and `nop` in turn, moves its policy's version on
now and then, and ends at the end of its input. It says in lines of JSON: `asked` (rollout, policy), `had` (group, version, whether it is
complete, rewards), `acknowledged` (group).
"""

import json
import sys
import threading
from pathlib import Path

from envfarm.client import Client, LeaseRequest, PolicySpec, RetryPolicy, RolloutRequest, ServerProblem, TaskSelector
from envfarm.core.ids import RunId
from envfarm.core.rollout import LeasedGroup

AHEAD = 6
"""Groups that it has asked for and that nobody acknowledged."""
PER_VERSION = 5
"""Groups that it acknowledges before it moves the version on."""
LEASE_S = 20.0
PATIENT = RetryPolicy(tries=1000, longest_wait_s=1.0)
"""Of acknowledging: a trainer that gives it up cannot say whether it was heard. The storm ends behind the last one."""


class Trainer:
    """Loses nothing by a service that dies: what it asks for has a key, and what it does not acknowledge comes again."""

    def __init__(self, farm: Client, patient: Client, name: str, task: str, groups: int, size: int) -> None:
        self._farm, self._patient, self._name, self._task, self._groups, self._size = farm, patient, name, task, groups, size
        self._own: list[RunId] = []
        self._taken = 0

    def go_on(self) -> None:
        """Ask, take, acknowledge. Raises `ServerProblem`."""
        open_ones = [rollout for rollout in self._own if self._farm.rollout(rollout).state == "active"]
        for _ in range(min(AHEAD - len(open_ones), self._groups - len(self._own))):
            self._ask()
        leased = self._farm.lease(LeaseRequest(limit=2, wait_s=1.0, lease_s=LEASE_S))
        for group in leased:
            self._take(group)

    def _ask(self) -> None:
        number = len(self._own)
        request = RolloutRequest(
            tasks=TaskSelector(names=(self._task,)),
            group_size=self._size,
            policy=PolicySpec(name=("gold", "nop")[number % 2]),
            policy_name=self._name,
        )
        rollout = self._farm.submit(request, key=f"{self._name}-{number}")
        self._own.append(rollout.id)
        say("asked", rollout=rollout.id, policy=request.policy.name)

    def _take(self, group: LeasedGroup) -> None:
        had = group.result
        rewards = [m.outcome.reward if m.outcome.kind == "scored" else None for m in had.members]
        say("had", group=had.group, rollout=had.rollout, version=had.version, complete=had.complete, rewards=rewards)
        if self._patient.acknowledge([group.lease]).acknowledged:
            say("acknowledged", group=had.group)
            self._taken += 1
            if self._taken % PER_VERSION == 0:
                self._farm.new_version(self._taken // PER_VERSION, self._name)


def say(what: str, **more: object) -> None:
    sys.stdout.write(json.dumps({"what": what, **more}) + "\n")
    sys.stdout.flush()


def main(url: str, token_file: str, name: str, task: str, groups: str, size: str) -> None:
    over = threading.Event()

    def wait_for_the_end() -> None:
        sys.stdin.read()
        over.set()

    threading.Thread(target=wait_for_the_end, daemon=True).start()
    token = Path(token_file).read_text().strip()
    with Client(url, token) as farm, Client(url, token, retry=PATIENT) as patient:
        trainer = Trainer(farm, patient, name, task, int(groups), int(size))
        while not over.is_set():
            try:
                trainer.go_on()
            except ServerProblem as e:
                if not e.retryable:
                    raise
                over.wait(0.3)


if __name__ == "__main__":
    main(*sys.argv[1:])
