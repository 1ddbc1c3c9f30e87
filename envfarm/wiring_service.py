"""Settings → a service: the controller, the API and the host beside it over one farm. Called by `envfarm serve` alone."""

import asyncio
import secrets
from dataclasses import dataclass
from pathlib import Path

from envfarm.api.services import ApiOptions, Services
from envfarm.controller.forks import Forks
from envfarm.controller.host import HostOptions
from envfarm.controller.host_work import HostWork
from envfarm.controller.service import PolicyVersions, RolloutService, ServiceParts
from envfarm.controller.step_episodes import StepEpisodes, StepParts
from envfarm.controller.system_clock import SystemClock
from envfarm.core.errors import StoreError, UsageError, boundary
from envfarm.core.ids import TenantId
from envfarm.core.rollout import Quota
from envfarm.gateway.doorway import Doorways
from envfarm.settings import Settings
from envfarm.stores import whole_files
from envfarm.stores.access import SCOPES, TOKEN_PREFIX, SqlAccess
from envfarm.stores.episode_lists import SqlEpisodeLists
from envfarm.stores.policy_versions import SqlPolicies
from envfarm.stores.rollout_results import SqlRolloutResults
from envfarm.stores.rollouts import SqlRollouts
from envfarm.stores.tallies import SqlTallies
from envfarm.stores.usage import SqlUsage
from envfarm.telemetry.prometheus import PrometheusObserver, page_of
from envfarm.wiring import Farm
from envfarm.wiring_hosts import host, process_parts

OPERATOR = TenantId("default")
"""The tenant of the operator's token."""
SHORTEST_TOKEN = 20


@dataclass(frozen=True)
class WiredService:
    """A service that is ready to be run: `work.run()` beside a server of `create_app(services)`."""

    services: Services
    work: HostWork
    access: SqlAccess


def wire(
    farm: Farm,
    sandbox: str,
    options: HostOptions,
    *,
    counts: PrometheusObserver,
    models: Doorways | None = None,
) -> WiredService:
    """Put a service together over an open farm, with a host beside it. Its boxes are one provider's.

    `counts` is what the farm's observer counts with.
    """
    clock, engine, faults = SystemClock(), farm.database, farm.faults
    on = process_parts(farm, sandbox, models.gateway.set_engines if models else lambda _: None)
    rollouts = SqlRollouts(engine, clock, faults=faults)
    results = SqlRolloutResults(engine, faults=faults)
    access = SqlAccess(engine, clock)
    service = RolloutService(
        ServiceParts(
            rollouts=rollouts,
            results=results,
            catalogue=farm.catalogue,
            datasets=farm.catalogue.datasets,
            bells=on.bells,
            clock=clock,
            check=on.admitted.check,
            sandbox=sandbox,
            observer=farm.observer,
        )
    )
    parts = StepParts(service, rollouts, farm.episodes, farm.trajectories, on.seats, on.bells)
    steps = StepEpisodes(parts)
    tallies = SqlTallies(engine)

    async def metrics() -> tuple[bytes, str]:
        return page_of(await tallies.whole())

    services = Services(
        rollouts=service,
        versions=PolicyVersions(SqlPolicies(engine, clock), on.bells),
        steps=steps,
        forks=Forks(parts, steps),
        listing=rollouts,
        episodes=farm.episodes,
        lists=SqlEpisodeLists(engine),
        results=results,
        usage=SqlUsage(engine),
        access=access,
        engines=on.engines,
        catalogue=farm.catalogue,
        datasets=farm.catalogue.datasets,
        blobs=farm.blobs,
        sandbox=sandbox,
        builds=farm.builds(sandbox),
        options=ApiOptions(),
        observer=farm.observer,
        metrics=metrics,
    )
    return WiredService(services, HostWork(host(on, options, counts.tally), on.bells, on.wire, on.engines), access)


async def operators_token(access: SqlAccess, settings: Settings) -> str:
    """The operator's token, with every scope: what the operator's file says, or one that is made at the first start and kept.

    Raises `UsageError` for a file that holds no token.
    """
    await access.add_tenant(OPERATOR, (await access.quotas()).get(OPERATOR, Quota()))
    if settings.token_file is None:
        token = await asyncio.to_thread(_kept_token, settings.service / "token")
    else:
        token = await asyncio.to_thread(_given_token, settings.token_file)
    await access.issue(OPERATOR, "operator", SCOPES, token=token)
    await access.widen(OPERATOR, "operator", SCOPES)
    return token


def _given_token(path: Path) -> str:
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as e:
        raise UsageError(f"the operator's token cannot be read: {e}", hint="ENVFARM_TOKEN_FILE, or --token-file") from e
    if len(token) < SHORTEST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise UsageError(f"{path} holds no token: {SHORTEST_TOKEN} or more printable characters in one line are needed")
    return token


def _kept_token(path: Path) -> str:
    with boundary(StoreError, "keeping the operator's token"):
        return whole_files.kept_first(path, f"{TOKEN_PREFIX}{secrets.token_urlsafe(32)}\n".encode()).decode().strip()
