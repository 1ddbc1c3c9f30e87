"""Counters read from files as the kernel writes them."""

import os
from pathlib import Path

import pytest

from envfarm.core.sandbox import MemoryKills
from envfarm.sandboxes import memory_kills
from envfarm.sandboxes.memory_kills import MemoryWitness

BOX = 4242


def machine(tmp_path: Path, box: str, farm: str, files: dict[str, str]) -> MemoryWitness:
    for pid, group in ((BOX, box), (os.getpid(), farm)):
        (tmp_path / "proc" / str(pid)).mkdir(parents=True)
        (tmp_path / "proc" / str(pid) / "cgroup").write_text(group)
    (tmp_path / "proc/vmstat").write_text("nr_free_pages 12\noom_kill 7\n")
    for name, text in files.items():
        (tmp_path / "groups" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "groups" / name).write_text(text)
    return MemoryWitness(BOX, limit_bytes=64, proc=tmp_path / "proc", groups=tmp_path / "groups")


def test_version_2_tells_the_boxs_own_limit_from_the_machines(tmp_path: Path) -> None:
    events = "low 0\nhigh 0\nmax 9\noom 1\noom_kill 2\noom_group_kill 0\n"
    witness = machine(tmp_path, "0::/envfarm/b\n", "0::/farm\n", {"envfarm/b/memory.events": events})
    assert witness.read() == MemoryKills(killed=2, own_limit=1, shared=False, limit_bytes=64)
    (tmp_path / "groups/envfarm/b/memory.events").write_text("oom 1\noom_kill 3\n")
    assert witness.read().killed == 3


LEGACY = "4:memory:/envfarm/b\n0::/\n"
LEGACY_EVENTS = {"memory/envfarm/b/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"}


def test_version_1_does_too(tmp_path: Path) -> None:
    witness = machine(tmp_path, LEGACY, "4:memory:/farm\n0::/\n", {**LEGACY_EVENTS, "memory/envfarm/b/memory.failcnt": "8\n"})
    assert witness.read() == MemoryKills(killed=2, own_limit=8, shared=False, limit_bytes=64)


@pytest.mark.parametrize("limit", ["memory", "memory.memsw"])
@pytest.mark.parametrize(("most_mib", "filled"), [(100, True), (95, True), (80, False)])
def test_version_1_tells_a_full_group_where_no_failure_is_counted(tmp_path: Path, limit: str, most_mib: int, filled: object) -> None:
    place = f"memory/envfarm/b/{limit}"
    files = {f"{place}.failcnt": "0\n", f"{place}.limit_in_bytes": f"{100 << 20}\n", f"{place}.max_usage_in_bytes": f"{most_mib << 20}\n"}
    assert machine(tmp_path, LEGACY, "4:memory:/farm\n", {**LEGACY_EVENTS, **files}).read().filled is filled


def test_a_group_that_the_farm_is_in_itself_is_not_the_boxs_alone(tmp_path: Path) -> None:
    witness = machine(tmp_path, "0::/farm\n", "0::/farm\n", {"farm/memory.events": "oom 4\noom_kill 5\n"})
    assert witness.read() == MemoryKills(killed=5, own_limit=0, shared=True, limit_bytes=64)


def test_without_a_group_the_machines_counter_is_read(tmp_path: Path) -> None:
    assert machine(tmp_path, "0::/\n", "0::/\n", {}).read() == MemoryKills(killed=7, own_limit=0, shared=True, limit_bytes=64)


def test_counters_behind_many_others_are_read() -> None:
    proc = Path("/proc")
    whole = dict(line.split() for line in (proc / "vmstat").read_text().splitlines())
    assert len(memory_kills._counters("/proc/vmstat")) == len(whole)
    assert len(memory_kills._text("/proc/self/smaps")) > 4096, "one read of the kernel's gives a page"


def test_a_machine_that_tells_nothing_counts_nothing(tmp_path: Path) -> None:
    witness = MemoryWitness(BOX, limit_bytes=64, proc=tmp_path / "none", groups=tmp_path / "none")
    assert witness.read() == MemoryKills(limit_bytes=64)
