"""`envfarm serve`: the farm as a service for trainers. On one machine it needs no configuration; with separate hosts it is the API only."""

import asyncio
import socket
from collections.abc import Coroutine
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from envfarm.api.listening import listen
from envfarm.cli import console
from envfarm.cli.options import engine_option, episodes_option, lease_option, model_option, parse_engines, policy_url_option, sandbox_option
from envfarm.cli.stopping import until_sigterm
from envfarm.core.errors import UsageError
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.settings import read
from envfarm.stores.rollout_queue import EVERYTHING
from envfarm.wiring import Farm

if TYPE_CHECKING:
    from envfarm.api.server import Server


@click.command()
@click.option(
    "--bind",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on. To expose it beyond this machine, put a TLS proxy in front.",
)
@click.option("--port", type=click.IntRange(0, 65535), default=8700, show_default=True, help="Port; 0 chooses a free one.")
@sandbox_option
@episodes_option
@policy_url_option
@model_option()
@engine_option(more=" Replaces the farm's stored engines.")
@click.option(
    "--hosts",
    type=click.Choice(["embedded", "none"]),
    default="embedded",
    show_default=True,
    help="embedded: this process runs episodes. none: `envfarm hosts` does; this process runs only those driven step by step.",
)
@click.option(
    "--token-file",
    type=click.Path(path_type=Path),
    default=None,
    help="File with the operator's token, the same for all replicas; also ENVFARM_TOKEN_FILE.  [default: a token is generated and stored]",
)
@lease_option
@click.option(
    "--keep",
    "keep_days",
    type=click.FloatRange(0),
    default=7.0,
    show_default=True,
    help="Days that a finished rollout is kept once its groups are acknowledged.",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65535),
    default=None,
    help="Also serve this process's own Prometheus metrics, without a token, at this port of the loopback interface.",
)
@click.option(
    "--log-format", type=click.Choice(("text", "json")), default="text", show_default=True, help="Format of log lines on standard error."
)
@click.option(
    "--log-level",
    type=click.Choice(("debug", "info", "warning", "error")),
    default="warning",
    show_default=True,
    help="Least severe level that is logged.",
)
def serve(**options: Any) -> None:
    """Serve episodes, rewards and trajectories over HTTP. Prints the operator's token and an example call.

    If it is stopped or killed, nothing is lost: the next `envfarm serve` continues.
    """
    with suppress(asyncio.CancelledError):  # stopped before it served
        asyncio.run(until_sigterm(serving(options)))


async def serving(options: dict[str, Any], *, faults: FaultPoints = NO_FAULTS) -> None:
    """What the command does, until it is cancelled. `faults` is for chaos tests."""
    settings = read()
    token_file = options["token_file"].absolute() if options["token_file"] else settings.token_file
    more = {"policy_urls": (*settings.policy_urls, *options["policy_url"]), "token_file": token_file}
    settings = settings.model_copy(update=more)
    try:
        from envfarm import dashboard, wiring_hosts, wiring_service, wiring_telemetry  # noqa: PLC0415 - of the extra `serve`
        from envfarm.api.app import create_app  # noqa: PLC0415 - see above
        from envfarm.api.server import Server  # noqa: PLC0415 - see above
        from envfarm.controller.host import HostOptions  # noqa: PLC0415 - see above
        from envfarm.telemetry import logs  # noqa: PLC0415 - see above
    except ModuleNotFoundError as e:
        raise UsageError(f"`envfarm serve` needs {e.name}", hint="pip install 'envfarm[serve]'") from e
    logs.configure(options["log_format"], level=options["log_level"])
    sandbox, alone = options["sandbox"], options["hosts"] == "none"
    if alone and (options["model"] or options["engine"]):
        raise UsageError(
            "--model and --engine are for agent programs, which --hosts none does not run",
            hint="use `envfarm hosts --model DIR`, and PUT /v1/engines",
        )
    with wiring_telemetry.telemetry(settings) as told:
        async with (
            wiring_hosts.doorways(settings, options["model"], parse_engines(options["engine"]), told.observer) as models,
            Farm(
                settings,
                models=wiring_hosts.Elsewhere() if alone else models,
                key_of=wiring_hosts.addresses(settings).key,
                observer=told.observer,
                faults=faults,
            ) as farm,
        ):
            share = wiring_hosts.TRAINERS if alone else EVERYTHING
            capacity = wiring_hosts.capacity(settings, sandbox, options["episodes"])
            host = HostOptions(capacity=capacity, lease_s=options["lease_s"], share=share, keep_s=options["keep_days"] * 86400.0)
            wired = wiring_service.wire(farm, sandbox, host, models=models, counts=told.prometheus)
            if models and options["engine"]:
                await wired.services.engines.replace(models.gateway.engines)
            token = await wiring_service.operators_token(wired.access, settings)
            _serve_metrics(told.prometheus, options["metrics_port"])
            with _listening(options["bind"], options["port"]) as listener:
                app = create_app(wired.services)
                dashboard.install(app)
                _print_address(listener, token, settings.token_file)
                if alone:
                    console.say("this process runs no episodes; start hosts with `envfarm hosts`")
                await _until_one_ends(wired.work.run(), Server(app, log_level="warning"), listener)


async def _until_one_ends(playing: Coroutine[Any, Any, None], server: "Server", listener: socket.socket) -> None:
    """Playing ends only by an error, which this raises. The server answers whoever waits before it ends."""
    tasks = [asyncio.create_task(playing), asyncio.create_task(server.serve(sockets=[listener]))]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            tasks[0].result()
    finally:
        server.should_exit = True
        await asyncio.wait(tasks[1:])
        tasks[0].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _serve_metrics(prometheus: Any, port: int | None) -> None:
    if port is not None:
        try:
            taken, _ = prometheus.serve("127.0.0.1", port)
        except OSError as e:
            raise UsageError(
                f"cannot serve metrics at port {port}: {e.strerror}", hint="choose another --metrics-port, or 0 for a free one"
            ) from e
        console.say(f"metrics http://127.0.0.1:{taken}/metrics")


def _listening(host: str, port: int) -> socket.socket:
    try:
        return listen(host, port)
    except OSError as e:
        raise UsageError(f"cannot listen on {host}:{port}: {e.strerror}", hint="choose another --port, or 0 for a free one") from e


def _print_address(listener: socket.socket, token: str, kept_in: Path | None) -> None:
    host, port = listener.getsockname()[:2]
    url = f"http://{f'[{host}]' if ':' in host else host}:{port}"
    console.show(f"url {url}")
    console.show(f"token {token}" if kept_in is None else f"token in {kept_in}")
    token = token if kept_in is None else "…"
    body = '{"tasks": {"limit": 1}, "group_size": 4, "policy": {"name": "gold"}}'
    headers = f"-H 'Authorization: Bearer {token}' -H 'Content-Type: application/json'"
    console.say(f"for example:\n  curl {url}/v1/rollouts {headers} -d '{body}'")
    console.say(f"dashboard: {url}/#token={token}\nAPI documentation: {url}/docs. Ctrl-C stops the service; nothing is lost")
