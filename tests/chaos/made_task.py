"""A task whose environment needs no network, so that a farm can be killed while it makes one: a shell script, a layer of one small file.

Its tests fail without the layer and without what the project's step left in the checkout: half an environment scores gold 0.
"""

import io
import tarfile

from envfarm.core.plan import TestCommand, TestPlan
from envfarm.core.recipe import InstallStep, Recipe, Toolchain
from envfarm.core.task import Limits, Task
from envfarm.testing.factories import LONG_AGO, make_task
from envfarm.wiring import Farm

BROKEN = b"#!/bin/sh\necho $(($1 - $2))\n"
CHECK = rb"""
case_of() { printf '<testcase file="tests/check.sh" classname="tests.check.sh" name="%s">%s</testcase>' "$1" "$2"; }
adds='<failure/>'; whole='<failure/>'; status=1
[ "$(sh add.sh 1 2)" = 3 ] && adds= && status=0
[ "$(cat made.txt)" = made ] && [ "$(wc -c </opt/sums/table)" -eq 300000 ] && whole=
{ printf '<testsuite>'; case_of adds "$adds"; case_of whole "$whole"; printf '</testsuite>'; } >"$1"
exit $status
"""


def make(python: str, checkout: str) -> Task:
    """The task, for a Python that this machine's boxes can have; `checkout` is the digest of `checkout_archive`."""
    dependencies = (InstallStep(run="mkdir /opt/sums && head -c 300000 /dev/zero >/opt/sums/table", why="the table of sums"),)
    recipe = Recipe(
        language="python",
        toolchain=Toolchain(name="python", version=python),
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        dependencies=dependencies,
        project=(InstallStep(run="echo made >made.txt", why="a generated file"),),
        work_dir="/testbed",
        resolved_at=LONG_AGO,
    )
    plan = TestPlan(
        work_dir="/testbed",
        commands=(TestCommand(argv=("sh", "tests/check.sh", "{report}"), report="junit", timeout_s=30.0, env={}),),
        fail_to_pass=("tests/check.sh::adds",),
        pass_to_pass=("tests/check.sh::whole",),
        test_files=("tests/check.sh",),
    )
    return make_task(
        name="made-up/adds",
        instruction="Make add.sh add.",
        recipe=recipe,
        checkout=checkout,
        plan=plan,
        tests={"files/tests/check.sh": CHECK},
        limits=Limits(memory_mib=256, disk_mib=64, pids=128),
        solution={"solve.sh": b"set -e\nsed -i 's/ - / + /' add.sh\n"},
    )


def checkout_archive() -> bytes:
    """What the agent sees in the work dir, as a tar rooted at `/`."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        entry = tarfile.TarInfo("testbed/add.sh")
        entry.size, entry.mode = len(BROKEN), 0o755
        tar.addfile(entry, io.BytesIO(BROKEN))
    return out.getvalue()


async def put(farm: Farm) -> str:
    """Keep the task in a farm's catalogue; its digest. Layers are not made: that is left to the processes that are killed."""
    found = farm.toolchains.available()
    # One below /usr needs no copying; where there is none, the newest is copied by whoever needs it first.
    python = next((i for i in reversed(found) if i.in_usr), found[-1])
    blob = await farm.blobs.put(checkout_archive())
    return await farm.catalogue.add(make(python.version, blob.digest))
