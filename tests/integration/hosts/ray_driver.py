"""A driver of two small hosts on Ray, for tests that kill it: `python -m tests.integration.hosts.ray_driver ADDRESS MAKER`.

Says the numbers of the hosts' processes when both play.
"""

import asyncio
import signal
import sys

import ray

from envfarm.controller.host_driver import HostDriver
from envfarm.controller.ray_pool import RayPlace, on_ray
from envfarm.controller.system_clock import SystemClock
from envfarm.scheduling.host_count import Scale
from envfarm.stores.rollout_queue import Load
from envfarm.testing.small_hosts import SmallHosts


async def nothing() -> Load:
    return Load(waiting=0, playing=0)


async def drive(address: str, maker: SmallHosts) -> None:
    told = asyncio.Event()
    async with on_ray(maker, RayPlace(address=address, cpus_per_host=0.5)) as fleet:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
        driver = HostDriver(fleet, Scale(least=2, most=2, per_host=maker.episodes), nothing, SystemClock())
        driving = asyncio.create_task(driver.run())
        while len(names := await fleet.hosts()) < 2:  # noqa: ASYNC110 - Ray rings no bell
            await asyncio.sleep(0.05)
        numbers = [await ray.get_actor(name).process.remote() for name in names]
        sys.stdout.write(" ".join(map(str, numbers)) + "\n")
        sys.stdout.flush()
        await told.wait()
        driving.cancel()
        await asyncio.gather(driving, return_exceptions=True)
        await driver.stop(grace_s=0.0)


if __name__ == "__main__":
    asyncio.run(drive(sys.argv[1], SmallHosts.model_validate_json(sys.argv[2])))
