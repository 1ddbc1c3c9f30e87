"""A task whose environment needs no network, so that a farm can be killed while it makes one: a shell script, a layer of one small file.

Its tests fail without the layer and without what the project's step left in the checkout: half an environment scores gold 0.
"""

from envfarm.core.recipe import InstallStep, Toolchain
from envfarm.core.task import Task
from envfarm.testing import adder_task
from envfarm.testing.factories import make_recipe
from envfarm.wiring import Farm

WHOLE = '[ "$(cat made.txt)" = made ] && [ "$(wc -c </opt/sums/table)" -eq 300000 ]'
"""Holds in a box with the layer and with what the project's step made."""


def make(python: str, checkout: str) -> Task:
    """The task, for a Python that this machine's boxes can have; `checkout` is the digest of its checkout."""
    dependencies = (InstallStep(run="mkdir /opt/sums && head -c 300000 /dev/zero >/opt/sums/table", why="the table of sums"),)
    recipe = make_recipe(
        toolchain=Toolchain(name="python", version=python),
        env={"PATH": "/usr/local/bin:/usr/bin:/bin"},
        dependencies=dependencies,
        project=(InstallStep(run="echo made >made.txt", why="a generated file"),),
        work_dir="/testbed",
    )
    return adder_task.make("whole", WHOLE, name="made-up/adds", recipe=recipe, checkout=checkout)


async def put(farm: Farm) -> str:
    """Keep the task in a farm's catalogue; its digest. Layers are not made: that is left to the processes that are killed."""
    found = farm.toolchains.available()
    # One below /usr needs no copying; where there is none, the newest is copied by whoever needs it first.
    python = next((i for i in reversed(found) if i.in_usr), found[-1])
    blob = await farm.blobs.put(adder_task.checkout_archive())
    return await farm.catalogue.add(make(python.version, blob.digest))
