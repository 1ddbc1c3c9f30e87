"""A driver of two small hosts on Ray, for tests that stop and kill it: `python -m` this, ADDRESS MAKER RELEASE.

It hears signals as `envfarm hosts` does. Says the numbers of the hosts' processes when both play and are of its release.
"""

import asyncio
import sys
from contextlib import suppress

import ray
from ray.exceptions import ActorUnavailableError

from envfarm.cli.hosts import until_stopped
from envfarm.controller.host_driver import HostDriver
from envfarm.controller.ray_pool import RayFleet, RayPlace, on_ray
from envfarm.controller.system_clock import SystemClock
from envfarm.scheduling.host_count import Scale
from envfarm.stores.rollout_queue import Load
from envfarm.testing.small_hosts import SmallHosts


async def nothing() -> Load:
    return Load(waiting=0, playing=0)


async def tell_when_both_play(fleet: RayFleet, release: str) -> None:
    while len(names := [name for name in await fleet.hosts() if name.startswith(f"host-{release}-")]) < 2:  # noqa: ASYNC110 - Ray rings no bell
        await asyncio.sleep(0.05)
    numbers = [await process_of(name) for name in names]
    sys.stdout.write(" ".join(map(str, numbers)) + "\n")
    sys.stdout.flush()


async def process_of(name: str) -> int:
    while True:
        with suppress(ActorUnavailableError):  # Ray is starting it again
            number: int = await ray.get_actor(name).process.remote()
            return number
        await asyncio.sleep(0.05)


async def drive(address: str, maker: SmallHosts, release: str) -> None:
    async with on_ray(maker, RayPlace(address=address, cpus_per_host=0.5, release=release)) as fleet:
        scale = Scale(least=2, most=2, per_host=maker.episodes)
        driver = HostDriver(fleet, scale, nothing, SystemClock(), replace_grace_s=0.0, recheck_s=0.5)
        async with asyncio.TaskGroup() as tasks:  # a fault of either ends both
            tasks.create_task(tell_when_both_play(fleet, release))
            tasks.create_task(until_stopped(driver, grace_s=0.0))


if __name__ == "__main__":
    asyncio.run(drive(sys.argv[1], SmallHosts.model_validate_json(sys.argv[2]), sys.argv[3]))
