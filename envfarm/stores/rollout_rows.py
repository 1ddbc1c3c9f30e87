"""What the stores of rollouts share: statements on rollouts, groups and events, for use inside a writing transaction.

Whoever changes anything of a rollout first takes `lock_rollout`: then nobody else changes it until the transaction ends, on SQLite
because there is one writer, on PostgreSQL by the row's lock. Several rollouts are locked in the order of their ids.
"""

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, bindparam, delete, insert, select, update

from envfarm.core.episode import EpisodeSpec
from envfarm.core.errors import Cause
from envfarm.core.ids import EpisodeId, episode_id
from envfarm.core.outcome import Invalid
from envfarm.core.storable import told
from envfarm.stores.episode_schema import EPISODES, EVENTS, GROUPS, OUTCOMES, POLICIES, ROLLOUTS
from envfarm.stores.episodes import episode_row
from envfarm.stores.outcome_rows import encoded
from envfarm.stores.sql import db_now, insert_new

UNFINISHED = ("pending", "running")
IS_UNFINISHED = EPISODES.c.state.in_(bindparam("unfinished", UNFINISHED, expanding=True, literal_execute=True))
"""As literals: a planner takes the index `episodes_unfinished` only where it sees that the condition is the index's own."""
IS_PENDING = EPISODES.c.state == bindparam("pending", "pending", literal_execute=True)
"""As a literal, for the index `episodes_pending`."""
IS_DONE = EPISODES.c.state == bindparam("done", "done", literal_execute=True)
"""As a literal, for the index `episodes_done`."""
IN_FLIGHT = ("waiting", "playing")
STATES = ("active", "done", "cancelled")
"""All of a rollout: named, so that the index `rollouts_by_state` is of use."""


class Event(NamedTuple):
    """What is to be told of a rollout."""

    kind: str
    body: dict[str, Any]


def lock_rollout(c: Connection, rollout: str) -> Row[Any] | None:
    """The rollout's row, held until the transaction ends; None where there is none."""
    return c.execute(select(ROLLOUTS).where(ROLLOUTS.c.id == rollout).with_for_update()).one_or_none()


def tell(c: Connection, rollout: str, events: Sequence[Event]) -> None:
    """Append events. Numbers have no gaps, and no reader sees a later one before an earlier one."""
    if not events:
        return
    raised = update(ROLLOUTS).where(ROLLOUTS.c.id == rollout).values(events=ROLLOUTS.c.events + len(events)).returning(ROLLOUTS.c.events)
    last = c.execute(raised).scalar_one()
    first = last - len(events) + 1
    rows = [{"number": n, "kind": event.kind, "body": told(json.dumps(event.body))} for n, event in enumerate(events, first)]
    c.execute(insert(EVENTS).values(rollout_id=rollout, at=db_now()), rows)


def lock_policy(c: Connection, tenant: str, policy: str, *, read: bool) -> Row[Any]:
    """The policy's row, made where it was never told of; nobody else changes it until the transaction ends. `read`: nor does this one."""
    query = select(POLICIES).where(POLICIES.c.tenant == tenant, POLICIES.c.name == policy).with_for_update(read=read)
    while True:
        insert_new(c, POLICIES, [{"tenant": tenant, "name": policy, "version": 0, "paused": 0}])
        if (row := c.execute(query).one_or_none()) is not None:  # else somebody has let go of it in between
            return row


def let_go_of_policy(c: Connection, tenant: str, policy: str) -> None:
    """Delete the policy's row, if it says what none says, too, and no rollout that is kept follows it."""
    followed = select(ROLLOUTS.c.id).where(ROLLOUTS.c.state.in_(STATES), ROLLOUTS.c.tenant == tenant, ROLLOUTS.c.policy == policy)
    mine = (POLICIES.c.tenant == tenant, POLICIES.c.name == policy, POLICIES.c.version == 0, POLICIES.c.paused == 0)
    c.execute(delete(POLICIES).where(*mine, ~followed.exists()))


def call_off(c: Connection, where: Sequence[Any], why: str, at: str) -> list[EpisodeId]:
    """Cancel the unfinished among these episodes, each with its outcome; those that somebody was playing. Their hosts are fenced."""
    unfinished = (*where, EPISODES.c.state.in_(UNFINISHED))
    rows = c.execute(select(EPISODES.c.id, EPISODES.c.state).where(*unfinished)).all()
    if not rows:
        return []
    gone = {"state": "cancelled", "owner": None, "epoch": EPISODES.c.epoch + 1, "detail": why}
    c.execute(update(EPISODES).where(*unfinished).values(**gone))  # the same: whoever calls off holds the rollout
    outcome = encoded(EpisodeId(rows[0].id), Invalid(Cause.CANCELLED.value, retryable=False, detail=why))
    ended = {"kind": "invalid", "reward": None, "outcome": outcome, "committed_at": at}
    c.execute(insert(OUTCOMES), [{"episode_id": row.id, **ended} for row in rows])
    return [EpisodeId(row.id) for row in rows if row.state == "running"]


def begin_again(c: Connection, group: Row[Any], why: str, at: str) -> list[EpisodeId]:
    """Have a whole group played anew, as other episodes, under whatever version is then the present one; those that were in flight."""
    kept = (EPISODES.c.spec, EPISODES.c.position, EPISODES.c.policy, EPISODES.c.player)
    members = c.execute(select(*kept).where(EPISODES.c.group_id == group.id, EPISODES.c.round == group.round)).all()
    flying = call_off(c, [EPISODES.c.group_id == group.id, EPISODES.c.round == group.round], why, at)
    turn, again = group.round + 1, []
    for row in members:
        old = EpisodeSpec.model_validate_json(row.spec)
        spec = old.model_copy(update={"episode_id": episode_id(old.run_id, old.task, old.member, turn=turn)})
        own = {"tenant": group.tenant, "group_id": group.id, "round": turn, "policy": row.policy, "player": row.player}
        again.append(episode_row(spec, row.position) | own)
    c.execute(insert(EPISODES).values(due=db_now()), again)
    c.execute(update(GROUPS).where(GROUPS.c.id == group.id).values(round=turn, version=None, state="waiting"))
    tell(c, group.rollout_id, [Event("group again", {"group": group.id, "round": turn, "why": why})])
    return flying


def finish_group(c: Connection, rollout: Row[Any], group: Row[Any]) -> bool:
    """Make the group ready, if all of its members came to an end, and the rollout done with its last one. Whether it became ready."""
    still = select(EPISODES.c.id).where(EPISODES.c.group_id == group.id, EPISODES.c.round == group.round, EPISODES.c.state.in_(UNFINISHED))
    if c.execute(still.limit(1)).one_or_none() is not None:
        return False
    # What is asked for by itself is handed over by itself: nobody leases it.
    state = "ready" if rollout.kind == "rollout" else "acknowledged"
    c.execute(update(GROUPS).where(GROUPS.c.id == group.id).values(state=state, ready=db_now()))
    events = [Event("group ready", {"group": group.id, "task": group.task, "version": group.version or 0})]
    left = select(GROUPS.c.id).where(GROUPS.c.rollout_id == rollout.id, GROUPS.c.state.in_(IN_FLIGHT))
    if c.execute(left.limit(1)).one_or_none() is None:
        c.execute(update(ROLLOUTS).where(ROLLOUTS.c.id == rollout.id).values(state="done", ended=db_now()))
        events.append(Event("done", {}))
    tell(c, rollout.id, events)
    return True


def cancel_rollout(c: Connection, rollout: Row[Any], why: str, at: str) -> list[EpisodeId]:
    """Call off what is not finished of an active rollout; episodes that were in flight. Groups that are ready stay to be had."""
    flying = call_off(c, [EPISODES.c.run_id == rollout.id], why, at)
    left = update(GROUPS).where(GROUPS.c.rollout_id == rollout.id, GROUPS.c.state.in_(IN_FLIGHT))
    c.execute(left.values(state="cancelled"))
    c.execute(update(ROLLOUTS).where(ROLLOUTS.c.id == rollout.id).values(state="cancelled", ended=db_now()))
    tell(c, rollout.id, [Event("cancelled", {"why": why})])
    return flying
