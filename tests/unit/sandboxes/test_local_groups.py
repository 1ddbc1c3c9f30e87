"""Where the kernel's count of a box's use of CPUs is, by version of control groups."""

from pathlib import Path

from envfarm.core.ids import BoxId
from envfarm.sandboxes.local_groups import Groups

BOX = BoxId("0a-1")


def test_version_1_counts_in_a_hierarchy_of_its_own() -> None:
    groups = Groups({"cpu": Path("/g/cpu/envfarm"), "cpuacct": Path("/g/cpuacct/envfarm")}, version=1)
    assert groups.usage(BOX) == (Path("/g/cpuacct/envfarm/0a-1/cpuacct.usage"), "/sys/fs/cgroup/cpuacct/cpuacct.usage")


def test_version_2_counts_with_all_else() -> None:
    assert Groups({"cpu": Path("/g/envfarm")}, version=2).usage(BOX) == (Path("/g/envfarm/0a-1/cpu.stat"), "/sys/fs/cgroup/cpu.stat")


def test_what_is_counted_of_several_boxes_together_is_not_a_boxs() -> None:
    assert Groups({"memory": Path("/g/memory/envfarm"), "cpuacct": Path("/g/cpuacct/envfarm")}, version=1).usage(BOX) is None
    assert Groups({"cpu": Path("/g/cpu/envfarm")}, version=1).usage(BOX) is None


def test_controllers_of_one_hierarchy_give_a_box_one_group() -> None:
    both = Path("/g/cpu,cpuacct/envfarm")
    assert Groups({"cpu": both, "cpuacct": both}, version=1).places(BOX) == ("/g/cpu,cpuacct/envfarm/0a-1",)
