"""Rollouts as rows: asked for once per idempotency key, looked at, cancelled, told about. Nothing of one tenant is seen by another.

Called by the service's controller. Which episode is played next is `rollout_queue`'s, what a trainer gets is `rollout_results`'.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from pydantic_core import to_json
from sqlalchemy import Column, Connection, Engine, Row, func, insert, or_, select

from envfarm.core.episode import EpisodeSpec
from envfarm.core.errors import Conflict, NotFound, Overloaded
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId, RunId, TenantId, group_id
from envfarm.core.protocols import Clock
from envfarm.core.rollout import Kind, Quota, RolloutEvent, RolloutRequest, RolloutView
from envfarm.stores.episode_schema import EPISODES, EVENTS, GROUPS, ROLLOUTS, RUNS, TENANTS
from envfarm.stores.episodes import EpisodeRow, episode_row, row_of
from envfarm.stores.rollout_rows import IS_UNFINISHED, Event, cancel_rollout, lock_rollout, tell
from envfarm.stores.sql import PAGE_CHARS, Sql, db_now, until_full

FULL_RETRY_S = 5.0
"""How long a tenant is asked to wait when a queue is full: about as long as a few episodes take."""
COUNTED_CHARS = 256
"""What an episode weighs that is counted for a page: so one page has some 100,000 of them, and takes no longer than that."""
AT_ONCE = 100
"""Rollouts that one transaction calls off: SQLite's one writer is everybody's."""
SHOWN_BYTES = 16 << 10
"""What is longer in a request, as JSON, is left out of views."""


RolloutPlace = tuple[float, RunId]
"""Where in the list of rollouts one stands: its `created`, and its id."""


class NewRollout(Frozen):
    """A rollout to be kept."""

    id: RunId
    tenant: TenantId
    kind: Kind
    key: str | None
    asked: str
    """The digest of what was asked for: the same key with another one is a conflict."""
    request: RolloutRequest
    specs: tuple[EpisodeSpec, ...]
    """All members of all groups, group by group."""


class Asked(Frozen):
    """What came of asking."""

    rollout: RunId
    new: bool


class CalledOff(Frozen):
    """What came of calling rollouts off."""

    rollouts: tuple[RunId, ...]
    """Those that were not over."""
    flying: tuple[EpisodeId, ...]
    """Their episodes that were in flight."""


class Happened(Frozen):
    """What was told of a rollout, and whether it was over before that was looked for: then no more will come."""

    over: bool
    events: tuple[RolloutEvent, ...]


class _Rows(NamedTuple):
    """What is inserted of a rollout, save the moment that it is due."""

    groups: list[dict[str, Any]]
    episodes: list[dict[str, Any]]


class SqlRollouts:
    """The rollouts of one database."""

    def __init__(self, engine: Engine, clock: Clock, *, faults: FaultPoints = NO_FAULTS) -> None:
        self._sql = Sql(engine)
        self._clock = clock
        self._faults = faults

    async def known(self, tenant: TenantId, key: str, asked: str) -> RunId | None:
        """The rollout that this key was used for; None where it is new. Raises `Conflict` when it was for something else."""
        return await self._sql.read("look a key up", lambda c: _known(c, tenant, key, asked))

    async def add(self, new: NewRollout, *, most_unfinished: int) -> Asked:
        """Keep a rollout, or find it by its key.

        Raises `Conflict` for a key that was used otherwise, `Overloaded` where the tenant's quota or the farm's queue is full.
        """
        self._faults.reach("rollout submit")
        rows = await asyncio.to_thread(_rows, new)  # before there is a transaction: SQLite's one writer is everybody's
        return await self._sql.write("add a rollout", lambda c: self._add(c, new, rows, most_unfinished))

    async def get(self, tenant: TenantId, rollout: RunId, *, whole: bool = False) -> RolloutView:
        """`whole` leaves nothing of its request out. Raises `NotFound`, also for another tenant's."""
        return await self._sql.read("rollout", lambda c: _view(c, _own(c, tenant, rollout), whole=whole))

    async def check_own(self, tenant: TenantId, rollouts: Sequence[RunId]) -> None:
        """Raises `NotFound` for one that the tenant does not have."""
        asked = list(dict.fromkeys(rollouts))
        query = select(ROLLOUTS.c.id).where(ROLLOUTS.c.id.in_(asked), ROLLOUTS.c.tenant == tenant)
        known = await self._sql.read("rollouts", lambda c: set(c.scalars(query)))
        if unknown := next((rollout for rollout in asked if rollout not in known), None):
            raise NotFound(f"no rollout {unknown!r}")

    async def kind(self, tenant: TenantId, rollout: RunId) -> Kind:
        """As what it was asked for. Raises `NotFound`, also for another tenant's."""
        found: Kind = await self._sql.read("kind", lambda c: _own(c, tenant, rollout, ROLLOUTS.c.kind).kind)
        return found

    async def mine(
        self, tenant: TenantId, *, limit: int, after: RolloutPlace | None = None, most_chars: int = PAGE_CHARS
    ) -> tuple[tuple[RolloutView, ...], RolloutPlace | None]:
        """A tenant's rollouts, newest first, behind a place; and the place of the last, None at the end.

        At most `limit`, and none after the one whose request, with those before, has `most_chars` or more as JSON. Each of their episodes,
        which are counted for the answer, weighs as much as `COUNTED_CHARS`.
        """

        def ask(c: Connection) -> tuple[tuple[RolloutView, ...], RolloutPlace | None]:
            query = select(ROLLOUTS.c.id, func.length(ROLLOUTS.c.request).label("chars")).where(ROLLOUTS.c.tenant == tenant)
            if after is not None:
                created, last = after
                query = query.where(ROLLOUTS.c.created <= created, or_(ROLLOUTS.c.created < created, ROLLOUTS.c.id > last))
            rows = c.execute(query.order_by(ROLLOUTS.c.created.desc(), ROLLOUTS.c.id).limit(limit)).all()
            seen = ((row.chars, _view(c, _own(c, tenant, row.id))) for row in rows)
            full = until_full(seen, lambda one: one[0] + COUNTED_CHARS * sum(one[1].episodes.values()), most_chars)
            found = tuple(view for _, view in full)
            more = len(rows) == limit or len(found) < len(rows)
            return found, (found[-1].created, found[-1].id) if more else None

        return await self._sql.read("rollouts", ask)

    async def cancel(self, tenant: TenantId, rollout: RunId, why: str) -> list[EpisodeId]:
        """Call it off, if it is not over; episodes that were in flight. Raises `NotFound`."""

        def work(c: Connection) -> list[EpisodeId]:
            row = lock_rollout(c, rollout)
            if row is None or row.tenant != tenant:
                raise NotFound(f"no rollout {rollout!r}")
            return cancel_rollout(c, row, why, self._at()) if row.state == "active" else []

        return await self._sql.write("cancel a rollout", work)

    async def active(self, tenant: TenantId) -> tuple[RunId, ...]:
        """The tenant's rollouts, of whatever kind, that are not over. Raises `NotFound` for a tenant that there is not."""

        def ask(c: Connection) -> tuple[RunId, ...]:
            if c.execute(select(TENANTS.c.id).where(TENANTS.c.id == tenant)).one_or_none() is None:
                raise NotFound(f"no tenant {tenant!r}")
            found = select(ROLLOUTS.c.id).where(ROLLOUTS.c.state == "active", ROLLOUTS.c.tenant == tenant)
            return tuple(map(RunId, c.scalars(found.order_by(ROLLOUTS.c.id))))

        return await self._sql.read("active rollouts", ask)

    async def cancel_each(self, rollouts: Sequence[RunId], why: str) -> CalledOff:
        """Cancel those of these, whosever, that are not over: in one transaction, so at most `AT_ONCE`."""
        return await self._sql.write("cancel rollouts", lambda c: self._call_off(c, rollouts, why))

    async def expire(self) -> CalledOff:
        """Cancel what is past its deadline, at most `AT_ONCE`."""
        late = select(ROLLOUTS.c.id).where(ROLLOUTS.c.state == "active", ROLLOUTS.c.deadline <= db_now()).limit(AT_ONCE)
        return await self._sql.write("expire rollouts", lambda c: self._call_off(c, list(c.scalars(late)), "its deadline has passed"))

    def _call_off(self, c: Connection, rollouts: Sequence[str], why: str) -> CalledOff:
        called_off, flying = list[RunId](), list[EpisodeId]()
        for rollout in sorted(rollouts):
            row = lock_rollout(c, rollout)
            if row is not None and row.state == "active":
                flying += cancel_rollout(c, row, why, self._at())
                called_off.append(RunId(rollout))
        return CalledOff(rollouts=tuple(called_off), flying=tuple(flying))

    async def events(self, tenant: TenantId, rollout: RunId, *, after: int, limit: int) -> Happened:
        """What happened after event number `after`. Raises `NotFound`."""

        def ask(c: Connection) -> Happened:
            over = _own(c, tenant, rollout, ROLLOUTS.c.state).state != "active"
            query = select(EVENTS).where(EVENTS.c.rollout_id == rollout, EVENTS.c.number > after).order_by(EVENTS.c.number).limit(limit)
            found = tuple(RolloutEvent(number=r.number, at=r.at, kind=r.kind, body=json.loads(r.body)) for r in c.execute(query))
            return Happened(over=over, events=found)

        return await self._sql.read("events", ask)

    async def episodes(
        self, tenant: TenantId, rollout: RunId, *, after: int, limit: int, group: str = ""
    ) -> tuple[tuple[int, EpisodeRow], ...]:
        """Episodes of the groups' present rounds, or of one group's, with their place, in order, from behind place `after`.

        Raises `NotFound`.
        """

        def ask(c: Connection) -> tuple[tuple[int, EpisodeRow], ...]:
            _own(c, tenant, rollout, ROLLOUTS.c.id)
            query = select(EPISODES).join(GROUPS, (GROUPS.c.id == EPISODES.c.group_id) & (GROUPS.c.round == EPISODES.c.round))
            query = query.where(EPISODES.c.run_id == rollout, EPISODES.c.position > after).order_by(EPISODES.c.position).limit(limit)
            if group:
                if c.scalar(select(GROUPS.c.id).where(GROUPS.c.id == group, GROUPS.c.rollout_id == rollout)) is None:
                    raise NotFound(f"no group {group!r} in {rollout}")
                query = query.where(EPISODES.c.group_id == group)
            return tuple((r.position, row_of(r)) for r in c.execute(query))

        return await self._sql.read("episodes", ask)

    async def episode(self, tenant: TenantId, episode: EpisodeId) -> EpisodeRow:
        """Raises `NotFound`, also for another tenant's."""

        def ask(c: Connection) -> EpisodeRow:
            found = c.execute(select(EPISODES).where(EPISODES.c.id == episode, EPISODES.c.tenant == tenant)).one_or_none()
            if found is None:
                raise NotFound(f"no episode {episode!r}")
            return row_of(found)

        return await self._sql.read("episode", ask)

    def _at(self) -> str:
        return self._clock.now().isoformat()

    def _add(self, c: Connection, new: NewRollout, rows: _Rows, most_unfinished: int) -> Asked:
        tenant = c.execute(select(TENANTS).where(TENANTS.c.id == new.tenant).with_for_update()).one_or_none()
        if tenant is None:
            raise NotFound(f"no tenant {new.tenant!r}")
        if new.key is not None and (known := _known(c, new.tenant, new.key, new.asked)) is not None:
            return Asked(rollout=known, new=False)
        _check_room(c, new, Quota.model_validate_json(tenant.quota), most_unfinished)
        c.execute(insert(RUNS).values(id=new.id, created_at=self._at(), note=f"{new.kind} of {new.tenant}"))
        asked = new.request
        row: dict[str, Any] = {
            "id": new.id,
            "tenant": new.tenant,
            "key": new.key,
            "asked": new.asked,
            "request": asked.model_dump_json(),
            "kind": new.kind,
        }
        row |= {"policy": asked.policy_name, "player": asked.policy.name, "window": asked.version_window, "state": "active", "events": 0}
        deadline = None if asked.deadline_s is None else db_now() + asked.deadline_s
        c.execute(insert(ROLLOUTS).values(**row, created=db_now(), deadline=deadline))
        c.execute(insert(GROUPS), rows.groups)
        c.execute(insert(EPISODES).values(due=db_now()), rows.episodes)
        tell(c, new.id, [Event("accepted", {"episodes": len(new.specs)})])
        return Asked(rollout=new.id, new=True)


def _rows(new: NewRollout) -> _Rows:
    sizes = Counter(spec.task for spec in new.specs)
    ids = {task: group_id(new.id, task) for task in sizes}
    whose = {"rollout_id": new.id, "tenant": new.tenant, "round": 0, "state": "waiting"}
    groups = [whose | {"id": ids[task], "task": task, "position": n, "size": size} for n, (task, size) in enumerate(sizes.items())]
    places = {task: place for place, task in enumerate(sizes)}
    members = sorted(new.specs, key=lambda spec: places[spec.task])
    own = {"tenant": new.tenant, "round": 0, "policy": new.request.policy_name, "player": new.request.policy.name}
    return _Rows(groups, [episode_row(spec, n) | own | {"group_id": ids[spec.task]} for n, spec in enumerate(members)])


def _known(c: Connection, tenant: TenantId, key: str, asked: str) -> RunId | None:
    row = c.execute(select(ROLLOUTS.c.id, ROLLOUTS.c.asked).where(ROLLOUTS.c.tenant == tenant, ROLLOUTS.c.key == key)).one_or_none()
    if row is None:
        return None
    if row.asked != asked:
        raise Conflict(f"the key {key!r} was used for another request", hint="a key names one request: draw a new one")
    return RunId(row.id)


def _own(c: Connection, tenant: TenantId, rollout: RunId, *columns: Column[Any]) -> Row[tuple[object, ...]]:
    """Its row, or these columns of it: a request may have megabytes."""
    row = c.execute(select(*(columns or ROLLOUTS.c)).where(ROLLOUTS.c.id == rollout, ROLLOUTS.c.tenant == tenant)).one_or_none()
    if row is None:
        raise NotFound(f"no rollout {rollout!r}")
    return row


def _view(c: Connection, row: Row[tuple[object, ...]], *, whole: bool = False) -> RolloutView:
    groups = c.execute(
        select(GROUPS.c.state, func.count().label("many")).where(GROUPS.c.rollout_id == row.id).group_by(GROUPS.c.state)
    ).all()
    present = select(EPISODES.c.state, func.count().label("many")).join(
        GROUPS, (GROUPS.c.id == EPISODES.c.group_id) & (GROUPS.c.round == EPISODES.c.round)
    )
    episodes = c.execute(present.where(EPISODES.c.run_id == row.id).group_by(EPISODES.c.state)).all()
    view = RolloutView(
        id=row.id,
        kind=row.kind,
        state=row.state,
        request=RolloutRequest.model_validate_json(row.request),
        created=row.created,
        groups={r.state: r.many for r in groups},
        episodes={r.state: r.many for r in episodes},
    )
    return view if whole else _shortened(view)


def _shortened(view: RolloutView) -> RolloutView:
    request, left_out = view.request, list[str]()
    if len(to_json(request.tasks.names)) > SHOWN_BYTES:
        left_out.append("tasks.names")
        request = request.model_copy(update={"tasks": request.tasks.model_copy(update={"names": ()})})
    if len(to_json(request.policy.options)) > SHOWN_BYTES:
        left_out.append("policy.options")
        request = request.model_copy(update={"policy": request.policy.model_copy(update={"options": {}})})
    return view.model_copy(update={"request": request, "left_out": tuple(left_out)})


def _check_room(c: Connection, new: NewRollout, quota: Quota, most_unfinished: int) -> None:
    unfinished = select(func.count()).select_from(EPISODES).where(IS_UNFINISHED)
    more = len(new.specs)
    _full(c.scalar(unfinished.where(EPISODES.c.tenant != "")), more, most_unfinished, "the farm's queue of episodes")
    _full(c.scalar(unfinished.where(EPISODES.c.tenant == new.tenant)), more, quota.unfinished_episodes, "the tenant's quota of episodes")
    active = select(func.count()).where(ROLLOUTS.c.state == "active", ROLLOUTS.c.tenant == new.tenant)
    _full(c.scalar(active), 1, quota.active_rollouts, "the tenant's quota of active rollouts")
    known = active.where(ROLLOUTS.c.policy == new.request.policy_name).with_only_columns(ROLLOUTS.c.id)
    if c.execute(known.limit(1)).one_or_none() is None:
        names = active.with_only_columns(func.count(ROLLOUTS.c.policy.distinct()))
        _full(c.scalar(names), 1, quota.active_policies, "the tenant's quota of policy names in active rollouts")
    waiting = select(func.count()).where(GROUPS.c.tenant == new.tenant, GROUPS.c.state == "ready")
    _full(c.scalar(waiting), 1, quota.unacknowledged_groups, "the tenant's quota of groups that were not acknowledged")


def _full(used: int | None, more: int, most: int, what: str) -> None:
    if more > most:
        raise Conflict(f"{more} are asked for at once, and {what} is {most}", hint="ask for less at once")
    if (used or 0) + more > most:
        raise Overloaded(f"{what} is full: {used} of {most} are used, {more} more were asked for", retry_after_s=FULL_RETRY_S)
