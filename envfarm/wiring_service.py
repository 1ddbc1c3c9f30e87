"""Settings → a service: the controller, its host and the API over one farm. Beside `wiring`, and called by `envfarm serve` alone.

What tenants may ask for is decided here, where both the settings and the policies are known: which policies, in which sandboxes, at which
addresses.
"""

import asyncio
import os
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from envfarm.api.services import ApiOptions, Services
from envfarm.controller.attempts import Role, Stage
from envfarm.controller.bells import Bells
from envfarm.controller.host import Host, HostOptions, HostParts
from envfarm.controller.owners import Owners
from envfarm.controller.seats import POLICY, Seats
from envfarm.controller.service import Service, ServiceParts, Versions
from envfarm.controller.step_episodes import StepParts, TrainersEpisodes
from envfarm.controller.system_clock import SystemClock
from envfarm.controller.tenure import FencedTrajectories, Tenure
from envfarm.core.episode import EpisodeSpec, PolicySpec
from envfarm.core.errors import Denied, UsageError
from envfarm.core.ids import TaskDigest, TenantId
from envfarm.core.rollout import Quota
from envfarm.core.task import Limits
from envfarm.scheduling.admission import Amount
from envfarm.settings import Settings
from envfarm.stores.access import SCOPES, TOKEN_PREFIX, SqlAccess
from envfarm.stores.leases import SqlLeases
from envfarm.stores.policy_versions import SqlPolicies
from envfarm.stores.rollout_queue import SqlRolloutQueue
from envfarm.stores.rollout_results import SqlRolloutResults
from envfarm.stores.rollouts import SqlRollouts
from envfarm.wiring import SANDBOXES, Farm

OPERATOR = TenantId("default")
"""The tenant of the token that `envfarm serve` prints."""
MEMORY_SHARE = 0.8
"""Of the machine's memory, for boxes."""
CORE_SHARE = 4.0
"""Episodes think longer than they act: so many boxes share a core."""
POLICIES = ("gold", "nop", "scripted", "patch", "openai_chat", POLICY)
"""What tenants may have played."""


@dataclass(frozen=True)
class WiredService:
    """A service that is ready to be run: `host.run()` beside a server of `create_app(services)`."""

    services: Services
    host: Host
    access: SqlAccess


def wire(
    farm: Farm, sandbox: str, *, capacity: Amount | None = None, metrics: Callable[[], tuple[bytes, str]] | None = None, **options: Any
) -> WiredService:
    """Put a service together over an open farm; `options` are `HostOptions`. Its boxes are one provider's."""
    clock, engine, faults, bells = SystemClock(), farm.database, farm.faults, Bells()
    seats = Seats(bells)
    rollouts = SqlRollouts(engine, clock, faults=faults)
    results = SqlRolloutResults(engine, faults=faults)
    access = SqlAccess(engine, clock)
    admitted = Admitted(farm, sandbox, seats)
    tenure = Tenure(clock)
    journal = FencedTrajectories(farm.trajectories, tenure)
    parts = HostParts(
        queue=SqlRolloutQueue(engine, clock, faults=faults),
        rollouts=rollouts,
        results=results,
        leases=SqlLeases(engine),
        access=access,
        owners=Owners(farm.settings.runs / "owners"),
        stage=Stage(journal, farm.runner(sandbox, journal), admitted.cast),
        tenure=tenure,
        bells=bells,
        limits=admitted.limits,
        ended=seats.leave,
        forget=farm.trajectories.forget,
        collect=partial(farm.collect_left_overs, sandbox),
        observer=farm.observer,
    )
    host = Host(parts, HostOptions(capacity=capacity or machine(farm.settings), **options))
    service = Service(
        ServiceParts(
            rollouts=rollouts,
            results=results,
            catalogue=farm.catalogue,
            datasets=farm.catalogue.datasets,
            bells=bells,
            clock=clock,
            check=admitted.check,
            call_off=host.call_off,
            observer=farm.observer,
        )
    )
    services = Services(
        rollouts=service,
        versions=Versions(SqlPolicies(engine, clock), bells, host.call_off),
        steps=TrainersEpisodes(StepParts(service, rollouts, farm.episodes, farm.trajectories, seats, bells)),
        choose=service.choose,
        listing=rollouts,
        episodes=farm.episodes,
        results=results,
        access=access,
        trajectories=farm.trajectories,
        catalogue=farm.catalogue,
        datasets=farm.catalogue.datasets,
        options=ApiOptions(),
        observer=farm.observer,
        metrics=metrics,
    )
    return WiredService(services, host, access)


async def operators_token(access: SqlAccess, settings: Settings) -> str:
    """The operator's token, with every scope: made at the first start and kept in a file that its user alone can read."""
    await access.add_tenant(OPERATOR, (await access.quotas()).get(OPERATOR, Quota()))
    token = await asyncio.to_thread(_kept_token, settings.service / "token")
    return await access.issue(OPERATOR, "operator", SCOPES, token=token)


class Admitted:
    """What tenants may have played, and how it is cast."""

    def __init__(self, farm: Farm, sandbox: str, seats: Seats) -> None:
        self._farm = farm
        self._sandbox = sandbox
        self._seats = seats
        self._urls = [_parsed(url) for url in farm.settings.policy_urls]

    async def check(self, policy: PolicySpec, task: TaskDigest, sandbox: str) -> None:
        """Raises `UsageError` and `Denied` before anything is kept."""
        if sandbox != self._sandbox:
            others = "" if sandbox in SANDBOXES else ", and there is no such sandbox"
            raise UsageError(f"this farm's boxes are {self._sandbox!r}, not {sandbox!r}{others}", hint=f"sandbox={self._sandbox}")
        self._check_policy(policy)
        if policy.name != POLICY:
            spec = {"episode_id": "check", "run_id": "check", "task": task, "member": 0, "policy": policy}
            self._farm.policy(EpisodeSpec.model_validate(spec), await self._farm.catalogue.get(task))

    async def cast(self, spec: EpisodeSpec) -> Role:
        """Cast an episode. Asked again here, since the operator's list may have changed meanwhile. Raises as `check` does."""
        self._check_policy(spec.policy)
        if spec.policy.name != POLICY:
            return await self._farm.cast(spec)
        task = await self._farm.catalogue.get(spec.task)
        return Role(task, await self._farm.environment(task, spec.sandbox), self._seats.take(spec.episode_id))

    async def limits(self, task: TaskDigest) -> Limits:
        """What a task's box may use."""
        return (await self._farm.catalogue.get(task)).limits

    def _check_policy(self, policy: PolicySpec) -> None:
        if policy.name not in POLICIES:
            raise UsageError(f"there is no policy {policy.name!r}", hint=f"there are {', '.join(POLICIES)}")
        if "file" in policy.options and policy.name == "scripted":
            raise Denied("files of the farm's machine are not for tenants", hint="give `actions`")
        if policy.name == POLICY and policy.options:
            raise UsageError(f"policy {POLICY} takes no options")
        if policy.name == "openai_chat":
            url = policy.options.get("base_url")
            if not isinstance(url, str) or not self._is_listed(url):
                raise Denied(
                    f"the operator has not listed the address {str(url)[:200]!r}",
                    hint="ENVFARM_POLICY_URLS, or `envfarm serve --policy-url`",
                )

    def _is_listed(self, url: str) -> bool:
        try:
            scheme, host, port, path = _parsed(url)
        except UsageError:
            return False
        return any((scheme, host, port) == known[:3] and (path + "/").startswith(known[3] + "/") for known in self._urls)


def machine(settings: Settings) -> Amount:
    """What this machine has for boxes."""
    pages, size = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    settings.home.mkdir(parents=True, exist_ok=True)
    disk = os.statvfs(settings.home)
    cores = len(os.sched_getaffinity(0)) * CORE_SHARE
    memory_mib = pages * size * MEMORY_SHARE / 2**20
    return Amount(memory_mib=memory_mib, disk_mib=disk.f_bavail * disk.f_frsize / 2**20, cores=cores, episodes=int(cores) * 4)


def _parsed(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and path. Raises `UsageError` for what is no plain http(s) address."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError) as e:
        raise UsageError(f"{url!r} is no http(s) address") from e
    odd = parts.username is not None or parts.password is not None or parts.query or parts.fragment
    path = parts.path.rstrip("/")
    if not parts.hostname or odd or "\\" in url or any(part in {".", ".."} for part in path.split("/")) or "%" in path:
        raise UsageError(f"{url!r} is no plain http(s) address")
    return parts.scheme, parts.hostname, port, path


def _kept_token(path: Path) -> str:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return path.read_text().strip()
    with os.fdopen(fd, "w") as file:
        file.write(TOKEN_PREFIX + secrets.token_urlsafe(32) + "\n")
    return path.read_text().strip()
