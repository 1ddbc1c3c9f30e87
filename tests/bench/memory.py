"""What a box takes beside what runs in it: boxd's memory, idle and after a thousand actions, and the box's other processes."""

import os
from contextlib import suppress
from pathlib import Path

from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest
from envfarm.wiring import uv_program
from tests.bench import peers
from tests.bench.machine import TRUE, Bench, box_or_why
from tests.bench.measure import Row
from tests.bench.peers import Missing

ACTIONS = 1000
STATUS = ExecRequest(argv=("cat", "/proc/1/status"))
KIB = 1024
TARGET = "boxd < 10 MiB"


async def rows(bench: Bench) -> list[Row]:
    """The section."""
    peer, theirs = "", []
    try:
        rex = peers.swe_rex(bench.farm.settings.cache, uv_program())
        peer, theirs = rex.name, [_resident(status) for status in [_status(rex.server_pid)] if status]
        rex.close()
    except Missing as e:
        peer = str(e)
    table = []
    for name in ("local", "docker"):
        box = await box_or_why(bench, name)
        if isinstance(box, str):
            table.append(Row(f"boxd, {name} box", "MiB", beside=box))
            continue
        table.append(Row(f"boxd, idle, {name} box", "MiB", [await _boxd(box)], peer, theirs, target=TARGET))
        for _ in range(ACTIONS):
            await box.exec(TRUE)
        table.append(Row(f"boxd, after {ACTIONS} actions, {name} box", "MiB", [await _boxd(box)], peer, theirs, target=TARGET))
        if name == "local":
            private = [_private(status) for pid in _descendants(os.getpid()) if (status := _status(pid)) and status["Name"] in _BOX]
            table.append(Row("private memory of a local box's own processes", "MiB", [sum(private)]))
        await box.close()
    return table


_BOX = ("boxd", "bwrap")


async def _boxd(box: Box) -> float:
    return _resident(_fields((await box.exec(STATUS)).text))


def _resident(status: dict[str, str]) -> float:
    return float(status["VmRSS"].split()[0]) / KIB


def _private(status: dict[str, str]) -> float:
    return float(status["RssAnon"].split()[0]) / KIB


def _status(pid: int) -> dict[str, str]:
    try:
        return _fields(Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return {}


def _fields(text: str) -> dict[str, str]:
    return {name: value.strip() for name, _, value in (line.partition(":") for line in text.splitlines())}


def _descendants(pid: int) -> list[int]:
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with suppress(OSError):
            for child in map(int, (task / "children").read_text().split()):
                found += [child, *_descendants(child)]
    return found
