"""Parts of the cluster itself are stopped for a while. Others who use the cluster meet it, too: played only where that was allowed."""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from tests.chaos.cluster.faults.kinds import Fault
from tests.chaos.cluster.field import Field
from tests.chaos.cluster.moments import Target
from tests.chaos.processes import table

PAST_GRACE_S = 75.0
"""After so long without a kubelet its node is NotReady (50 s), and everybody knows it."""


def component(program: str) -> int | None:
    """The process of a part of the cluster on this machine, by its program's name; None where there is none, or more than one."""
    found = [p.pid for p in table() if Path(p.command.split(" ")[0]).name == program and p.state not in "ZX"]
    return found[0] if len(found) == 1 else None


def _stopped(program: str) -> Callable[[Field, Target], AbstractContextManager[None]]:
    @contextmanager
    def done(field: Field, target: Target) -> Iterator[None]:
        pid = component(program)
        if pid is None:
            raise RuntimeError(f"there is not one {program} on this machine")
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            os.kill(pid, signal.SIGCONT)

    return done


FAULTS = (
    Fault("etcd stopped", _stopped("etcd"), "all", lasts_s=12.0, needs="cluster", program="etcd"),
    Fault("API server stopped", _stopped("kube-apiserver"), "all", lasts_s=12.0, needs="cluster", program="kube-apiserver"),
    Fault(
        "scheduler stopped", _stopped("kube-scheduler"), "all", lasts_s=8.0, phases=("create",), needs="cluster", program="kube-scheduler"
    ),
    Fault("kubelet stopped", _stopped("kubelet"), "all", lasts_s=15.0, needs="cluster", program="kubelet"),
    Fault("node not ready", _stopped("kubelet"), "all", lasts_s=PAST_GRACE_S, phases=("action",), needs="cluster", program="kubelet"),
)
