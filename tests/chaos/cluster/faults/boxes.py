"""Boxes are taken away, their daemon is killed from outside, and the way to them is cut or slow."""

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from tests.chaos.cluster import remains
from tests.chaos.cluster.faults.kinds import IN_A_BOX, Fault
from tests.chaos.cluster.field import Field
from tests.chaos.cluster.moments import Target

MARK = "envfarm-chaos"
PORT = "7070"
RUNNING = ("action", "grade")


@contextmanager
def _deleted(field: Field, target: Target) -> Iterator[None]:
    assert target.pod is not None
    field.kube.delete_pod(target.pod["metadata"]["name"])
    yield


@contextmanager
def _deleted_at_once(field: Field, target: Target) -> Iterator[None]:
    assert target.pod is not None
    field.kube.delete_pod(target.pod["metadata"]["name"], grace_s=0)
    yield


@contextmanager
def _evicted(field: Field, target: Target) -> Iterator[None]:
    assert target.pod is not None
    field.kube.evict_pod(target.pod["metadata"]["name"])
    yield


@contextmanager
def _boxd_killed(field: Field, target: Target) -> Iterator[None]:
    assert target.pod is not None
    if pid := remains.boxd_of(target.pod):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    yield


def firewall(*words: str) -> str:
    """Ask iptables. Raises `CalledProcessError`."""
    return subprocess.run(["iptables", "-w", *words], capture_output=True, text=True, check=True).stdout


@contextmanager
def _way(target: Target, *verdict: str) -> Iterator[None]:
    assert target.pod is not None
    address = target.pod["status"].get("podIP") or "240.0.0.1"
    rule = ("OUTPUT", "-p", "tcp", "-d", address, "--dport", PORT, "-m", "comment", "--comment", MARK, "-j", *verdict)
    firewall("-I", *rule)
    try:
        yield
    finally:
        firewall("-D", *rule)


@contextmanager
def _cut(field: Field, target: Target) -> Iterator[None]:
    with _way(target, "REJECT", "--reject-with", "tcp-reset"):
        yield


@contextmanager
def _silent(field: Field, target: Target) -> Iterator[None]:
    with _way(target, "DROP"):
        yield


FAULTS = (
    Fault("pod deleted", _deleted, "episode", phases=IN_A_BOX),
    Fault("pod deleted at once", _deleted_at_once, "episode", phases=IN_A_BOX),
    Fault("pod evicted", _evicted, "episode", phases=IN_A_BOX),
    Fault("boxd killed from outside", _boxd_killed, "episode", phases=RUNNING, needs="root"),
    Fault("connections cut for a moment", _cut, "episode", lasts_s=1.5, phases=RUNNING, needs="root"),
    Fault("connections cut for long", _cut, "episode", lasts_s=20.0, phases=RUNNING, needs="root"),
    Fault("packets lost for a while", _silent, "episode", lasts_s=6.0, phases=RUNNING, needs="root"),
)
