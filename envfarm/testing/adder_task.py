"""A complete task whose box needs only /bin/sh: a script that subtracts instead of adding, its sealed tests, its solution.

For tests of whole episodes and of the whole program, without a network. For a task with a test runner see `small_task`.
"""

from typing import Any

from envfarm.core.plan import TestCommand, TestPlan
from envfarm.core.task import Limits, Task
from envfarm.testing.archives import entry, tar_of
from envfarm.testing.factories import make_task

BROKEN = b"#!/bin/sh\necho $(($1 - $2))\n"
# A test runner in a few lines of shell; NAME is the test of the condition HOLDS.
CHECK = """
case_of() { printf '<testcase file="tests/check.sh" classname="tests.check.sh" name="%s">%s</testcase>' "$1" "$2"; }
adds='<failure/>'; other='<failure/>'; status=1
[ "$(sh add.sh 1 2)" = 3 ] && adds= && status=0
HOLDS && other=
[ -z "$1" ] && { echo "adds: ${adds:-ok}"; exit $status; }
{ printf '<testsuite>'; case_of adds "$adds"; case_of NAME "$other"; printf '</testsuite>'; } >"$1"
exit $status
"""


def make(other: str = "runs", holds: str = "sh add.sh 0 0 >/dev/null", **fields: Any) -> Task:
    """The task. Its test `adds` must begin to pass; the other one, a condition in shell, must keep passing."""
    plan = TestPlan(
        work_dir="/testbed",
        commands=(TestCommand(argv=("sh", "tests/check.sh", "{report}"), report="junit", timeout_s=30.0, env={}),),
        fail_to_pass=("tests/check.sh::adds",),
        pass_to_pass=(f"tests/check.sh::{other}",),
        test_files=("tests/check.sh",),
    )
    return make_task(
        instruction="Make add.sh add.",
        plan=plan,
        tests={"files/tests/check.sh": CHECK.replace("NAME", other).replace("HOLDS", holds).encode()},
        limits=Limits(memory_mib=256, disk_mib=64, pids=128),
        solution={"solve.sh": b"set -e\nsed -i 's/ - / + /' add.sh\n"},
        **fields,
    )


def checkout_archive() -> bytes:
    """The contents of the work dir, as a tar rooted at `/`. One file has another mode and other line ends."""
    return tar_of(entry("testbed/add.sh", BROKEN, mode=0o755), entry("testbed/dos.txt", b"a\r\nb\r\n", mode=0o640))
