"""`envfarm hosts`: runs hosts that play a service's episodes, as processes or on Ray. Used together with `envfarm serve`."""

import asyncio
import logging
import signal
from contextlib import AbstractAsyncContextManager
from types import ModuleType
from typing import Any

import click

from envfarm import __version__
from envfarm.cli import console
from envfarm.cli.options import address_option, episodes_option, lease_option, model_option, policy_url_option, sandbox_option
from envfarm.controller.host_driver import Fleet, HostDriver
from envfarm.core.errors import UsageError
from envfarm.scheduling.host_count import Scale
from envfarm.settings import Settings, read
from envfarm.wiring_hosts import HostPlan, addresses, driver_on, processes


@click.command(short_help="Run hosts that play a service's episodes.")
@click.option("--on", "where", type=click.Choice(["ray", "processes"]), required=True, help="Where hosts run.")
@click.option("--count", type=click.IntRange(0), default=None, help="The number of hosts; 0 ends those on Ray.  [default: 1]")
@click.option("--min", "least", type=click.IntRange(0), default=None, help="Instead of --count: the smallest number of hosts. Needs --max.")
@click.option("--max", "most", type=click.IntRange(1), default=None, help="The largest number of hosts; the load decides. Needs --min.")
@click.option(
    "--calm",
    "calm_s",
    type=click.FloatRange(0),
    default=120.0,
    show_default=True,
    help="Seconds of lower load before the number of hosts is reduced.",
)
@address_option
@click.option("--namespace", default="envfarm", show_default=True, help="Ray namespace; each farm needs its own.")
@click.option("--release", default=__version__, show_default=True, help="Release of hosts on Ray; those of another are replaced.")
@click.option(
    "--replace-grace",
    "replace_grace_s",
    type=click.FloatRange(0),
    default=600.0,
    show_default=True,
    help="Seconds that running episodes get to end when their host is replaced.",
)
@click.option("--drain-node", is_flag=True, help="Run no hosts; end those on this node of Ray. For a node that is about to go.")
@click.option("--cpus-per-host", type=click.FloatRange(0), default=1.0, show_default=True, help="CPUs that each host requests from Ray.")
@sandbox_option
@episodes_option
@model_option(more="; must exist on every host. Set engines with PUT /v1/engines.")
@policy_url_option
@lease_option
@click.option(
    "--grace",
    "grace_s",
    type=click.FloatRange(0),
    default=0.0,
    show_default=True,
    help="Seconds that running episodes get to end when hosts are stopped.",
)
def hosts(**options: Any) -> None:
    """Run hosts that play the episodes of a service (`envfarm serve --hosts none`, with the same database).

    SIGTERM and Ctrl-C stop processes; other hosts resume their episodes from the journals. Hosts on a Ray that was started separately keep
    playing, and the next `envfarm hosts` takes them over. SIGUSR1 ends hosts of either kind once their running episodes have ended.
    """
    settings = read()
    settings = settings.model_copy(update={"policy_urls": (*settings.policy_urls, *options["policy_url"])})
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    asyncio.run(_drain_node(options) if options["drain_node"] else _drive(settings, options))


async def _drive(settings: Settings, options: dict[str, Any]) -> None:
    scale = scale_of(options)
    model = options["model"].absolute() if options["model"] else None
    same = {name: options[name] for name in ("sandbox", "episodes", "lease_s")}
    addresses(settings)  # errors in it are reported here, not by each host
    plan = HostPlan(settings=settings, beside=max(scale.most, 1), model=model, **same)
    scale = scale.model_copy(update={"per_host": plan.capacity().episodes})
    claim, grace_s = _claim(options), options["replace_grace_s"]
    async with _fleet(plan, scale, options) as fleet, driver_on(fleet, plan, scale, claim, replace_grace_s=grace_s) as driver:
        many = f"{scale.least}" if scale.least == scale.most else f"{scale.least} to {scale.most}"
        then = "leaves them playing" if driver.lasting else "stops them; their episodes can be resumed"
        console.say(f"{many} hosts on {options['where']}, {scale.per_host} episodes each at once. Ctrl-C {then}")
        await until_stopped(driver, grace_s=options["grace_s"])


async def until_stopped(driver: HostDriver, *, grace_s: float) -> None:
    """Drive until a signal says otherwise (docs/hosts.md, "Stopping and upgrading"). Raises as `HostDriver.run` does."""
    loop, signals = asyncio.get_running_loop(), asyncio.Queue[signal.Signals]()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        loop.add_signal_handler(number, signals.put_nowait, number)
    driving, signalled = asyncio.create_task(driver.run()), asyncio.create_task(signals.get())
    await asyncio.wait({driving, signalled}, return_when=asyncio.FIRST_COMPLETED)
    driving.cancel()
    if driving.done() and not signalled.done():
        signalled.cancel()
        driving.result()  # it ends only by an error, which this raises
    await asyncio.gather(driving, return_exceptions=True)
    drain = await signalled is signal.SIGUSR1
    if driver.lasting and not drain:
        console.say("hosts keep playing; the next `envfarm hosts` takes them over")
        return
    wait_s = float("inf") if drain else grace_s
    while True:
        stopping = asyncio.create_task(driver.stop(grace_s=wait_s))
        again = asyncio.create_task(signals.get())
        await asyncio.wait({stopping, again}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.done():
            again.cancel()
            stopping.result()
            return
        stopping.cancel()
        if again.result() is not signal.SIGUSR1:
            wait_s = 0.0


def _fleet(plan: HostPlan, scale: Scale, options: dict[str, Any]) -> AbstractAsyncContextManager[Fleet]:
    if options["where"] == "processes":
        return processes(plan)
    ray_pool = _ray_pool()
    where = {name: options[name] for name in ("address", "namespace", "release", "cpus_per_host")}
    place = ray_pool.RayPlace(**where, own_cpus=max(round(scale.most * options["cpus_per_host"]), 1))
    fleet: AbstractAsyncContextManager[Fleet] = ray_pool.on_ray(plan, place)
    return fleet


async def _drain_node(options: dict[str, Any]) -> None:
    if options["where"] != "ray" or not options["address"]:
        raise UsageError("--drain-node is for a node of a Ray that runs", hint="use --on ray --address auto")
    ray_pool = _ray_pool()
    place = ray_pool.RayPlace(address=options["address"], namespace=options["namespace"])
    ended = await ray_pool.drain_node(place, grace_s=options["grace_s"])
    console.say(f"{ended} hosts of this node have ended")


def _ray_pool() -> ModuleType:
    try:
        from envfarm.controller import ray_pool  # noqa: PLC0415 - of the extra `ray`
    except ModuleNotFoundError as e:
        raise UsageError(f"hosts on Ray need {e.name}", hint="pip install 'envfarm[ray]'") from e
    return ray_pool


def _claim(options: dict[str, Any]) -> str:
    """Ensures that one driver is active per Ray namespace; empty for processes, since each driver has its own."""
    return f"driver of {options['namespace']} on Ray" if options["where"] == "ray" else ""


def scale_of(options: dict[str, Any]) -> Scale:
    """How many hosts the options ask for. Raises `UsageError`."""
    least, most, count = options["least"], options["most"], options["count"]
    if count is not None and (least is not None or most is not None):
        raise UsageError("--count cannot be combined with --min and --max", hint="use --count N, or --min A --max B")
    if (least is None) != (most is None):
        raise UsageError("--min and --max must be given together")
    if most is not None and least > most:
        raise UsageError(f"--min {least} is greater than --max {most}", hint="--min must not exceed --max")
    alone = 1 if count is None else count
    low, high = (alone, alone) if most is None else (least, most)
    return Scale(least=low, most=high, per_host=1, calm_s=options["calm_s"])
