"""Who asks the farm for episodes, and takes their groups: over the API, by the client alone, however often it dies."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from envfarm.client import Budgets, Client, LeaseRequest, PolicySpec, RolloutRequest, TaskSelector
from envfarm.core.errors import EnvfarmError
from tests.chaos.cluster.agents import AGENTS
from tests.chaos.cluster.field import TASKS, Field

GROUP = 4
PATIENCE_S = 600.0


class Trainer:
    """Submits by key, and acknowledges in a thread of its own."""

    def __init__(self, field: Field) -> None:
        self._field = field
        self._over = threading.Event()
        self._asked = 0
        self.episodes = 0
        """Asked for so far."""
        field.asks = self.asks

    def asks(self, agent: str, groups: int, task: str) -> int:
        """So many groups of an agent's episodes, on one task or on all in turn; how many episodes."""
        for _ in range(groups):
            self._asked += 1
            name = task or f"made-up/adds-{self._asked % TASKS}"
            policy = PolicySpec.model_validate(AGENTS[agent].policy.model_dump())
            request = RolloutRequest(
                tasks=TaskSelector(names=(name,)),
                group_size=GROUP,
                policy=policy,
                budgets=Budgets(seconds=120, action_s=60),
                sandbox="kubernetes",
            )
            rollout = self._until_answered(request, f"storm-{self._asked}")
            self._field.agents[rollout] = agent
        self.episodes += groups * GROUP
        return groups * GROUP

    def _until_answered(self, request: RolloutRequest, key: str) -> str:
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                with Client(self._field.url, self._field.token) as farm:
                    return farm.submit(request, key=key).id
            except EnvfarmError:
                if time.monotonic() > end:
                    raise
                self._over.wait(1.0)

    @contextmanager
    def taking(self) -> Iterator[None]:
        """Takes finished groups until the block ends."""
        thread = threading.Thread(target=self._take, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._over.set()
            thread.join()

    def _take(self) -> None:
        while not self._over.is_set():
            try:
                with Client(self._field.url, self._field.token) as farm:
                    while not self._over.is_set():
                        leased = farm.lease(LeaseRequest(limit=8, wait_s=2.0, lease_s=30.0))
                        farm.acknowledge([group.lease for group in leased])
            except EnvfarmError:
                self._over.wait(0.5)
