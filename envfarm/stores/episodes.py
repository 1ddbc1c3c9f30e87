"""The truth about episodes, in SQL: which exist, who runs them, and exactly one outcome of each.

Used by the controllers and by what lists runs. SQLite (WAL) in a single process's farm, PostgreSQL in a cluster. Every write is one
transaction of `sql.Sql`; nothing here decides when to retry.
"""

from collections.abc import Sequence
from typing import Any, Literal

from sqlalchemy import Connection, Engine, Row, delete, func, select, update

from envfarm.core.episode import EpisodeSpec
from envfarm.core.errors import UsageError
from envfarm.core.faults import NO_FAULTS, FaultPoints
from envfarm.core.frozen import Frozen
from envfarm.core.ids import EpisodeId, RunId, TenantId
from envfarm.core.outcome import Outcome
from envfarm.core.protocols import Clock
from envfarm.core.usage import Usage
from envfarm.stores.episode_schema import EPISODES, OUTCOMES, RUNS, SCHEMA
from envfarm.stores.migrations import migrate
from envfarm.stores.outcome_rows import commit, encoded, outcomes_of
from envfarm.stores.sql import CHUNK, Sql, insert_new
from envfarm.stores.usage import AttemptId, close

State = Literal["pending", "running", "done", "poisoned", "cancelled"]
DIED = "the farm's process died while it was played"


class Claim(Frozen):
    """An episode that this owner may run, until somebody takes it over with a higher epoch."""

    spec: EpisodeSpec
    attempts: int
    """How often it came to a retryable `Invalid`, or its owner died."""
    epoch: int
    tenant: TenantId = TenantId("")
    """Empty for the runs of a command line, as is what follows."""
    deaths: int = 0
    """How often its host's lease lapsed while it was played."""
    policy_name: str = ""
    version: int = 0
    """The policy's, under which the whole group is played."""


class EpisodeRow(Frozen):
    """An episode as a list shows it."""

    spec: EpisodeSpec
    state: State
    attempts: int
    owner: str | None
    detail: str


class RunSummary(Frozen):
    """A run as a list shows it."""

    run_id: RunId
    created_at: str
    note: str
    states: dict[str, int]
    mean_reward: float | None
    """Over scored episodes alone; None without any."""


class SqlEpisodes:
    """Runs, episodes and outcomes behind one engine. `open` it, and `close` it."""

    def __init__(self, engine: Engine, clock: Clock, *, faults: FaultPoints = NO_FAULTS) -> None:
        self._sql = Sql(engine)
        self._clock = clock
        self._faults = faults

    async def open(self) -> None:
        """Bring the schema up to date. Raises `StoreError`."""
        await self._sql.write("open", lambda c: migrate(c, SCHEMA))

    async def close(self) -> None:
        """Let go of the database's files."""
        await self._sql.close()

    async def start_run(self, run: RunId, *, note: str = "") -> None:
        """Remember a run; a known one is left alone."""
        await self._sql.write("start run", lambda c: self._add_run(c, run, note))

    async def add_specs(self, specs: Sequence[EpisodeSpec]) -> None:
        """Remember episodes as pending; known ones are left alone. Raises `UsageError` when a known one was asked for differently."""
        await self._sql.write("add", lambda c: self._add(c, specs))

    async def claim(self, run: RunId, owner: str) -> Claim | None:
        """Take the next pending episode of a run, what failed before after all that did not; None when there is none."""

        def take(c: Connection) -> Claim | None:
            due = select(EPISODES.c.id).where(EPISODES.c.run_id == run, EPISODES.c.state == "pending")
            due = due.order_by(EPISODES.c.attempts, EPISODES.c.position)
            row = c.execute(
                update(EPISODES)
                .where(EPISODES.c.id == due.limit(1).with_for_update(skip_locked=True).scalar_subquery(), EPISODES.c.state == "pending")
                .values(state="running", owner=owner, epoch=EPISODES.c.epoch + 1)
                .returning(EPISODES.c.spec, EPISODES.c.attempts, EPISODES.c.epoch)
            ).one_or_none()
            return Claim(spec=EpisodeSpec.model_validate_json(row.spec), attempts=row.attempts, epoch=row.epoch) if row else None

        return await self._sql.write("claim", take)

    async def put_back(self, episode: EpisodeId, epoch: int, *, detail: str, attempts: int) -> bool:
        """Make a running episode pending again, with this count of attempts. False when it is no longer the caller's."""
        values = {"state": "pending", "owner": None, "detail": detail, "attempts": attempts}
        return await self._if_mine("put back", episode, epoch, values)

    async def note_attempt(self, episode: EpisodeId, epoch: int, *, detail: str, attempts: int) -> bool:
        """Remember a failed attempt of an episode that its owner tries again at once. False when it is no longer the caller's."""
        return await self._if_mine("note attempt", episode, epoch, {"detail": detail, "attempts": attempts})

    async def bill(self, claim: Claim, used: Usage, *, attempts: int) -> None:
        """Keep what an attempt used, after so many failed ones. To be said before its end: then it is there, whatever comes between."""
        spec = claim.spec
        attempt = AttemptId(episode_id=spec.episode_id, epoch=claim.epoch, attempt=attempts, run_id=spec.run_id, tenant=claim.tenant)
        await self._sql.write("bill", lambda c: close(c, attempt, used))

    async def owners(self, run: RunId) -> tuple[str, ...]:
        """Who holds running episodes of a run."""

        def ask(c: Connection) -> tuple[str, ...]:
            query = select(EPISODES.c.owner).where(EPISODES.c.run_id == run, EPISODES.c.state == "running").distinct()
            return tuple(row.owner for row in c.execute(query) if row.owner)

        return await self._sql.read("owners", ask)

    async def take_over(self, run: RunId, dead_owner: str) -> int:
        """Make a dead owner's episodes pending again, with a higher epoch, so that one who only slept is fenced. Returns how many.

        Each has one failed attempt more: one of them may be what killed the owner.
        """
        values = {"attempts": EPISODES.c.attempts + 1, "epoch": EPISODES.c.epoch + 1, "detail": DIED}
        return await self._release("take over", run, dead_owner, values)

    async def let_go(self, run: RunId, owner: str) -> int:
        """Make an owner's episodes pending again that it did not begin. Returns how many."""
        return await self._release("let go", run, owner, {})

    async def forget_invalid(self, episodes: Sequence[EpisodeId]) -> int:
        """Make those of these episodes pending again that are poisoned, without attempts and outcome. Returns how many.

        For a person who asks for it. Their trajectories keep what was seen. An outcome that counts is never touched.
        """

        def reset(c: Connection) -> int:
            count = 0
            for at in range(0, len(episodes), CHUNK):
                ids = EPISODES.c.id.in_(list(episodes[at : at + CHUNK]))
                values = {"state": "pending", "owner": None, "attempts": 0}
                reset = update(EPISODES).where(ids, EPISODES.c.state == "poisoned").values(**values).returning(EPISODES.c.id)
                again = [row.id for row in c.execute(reset)]
                c.execute(delete(OUTCOMES).where(OUTCOMES.c.episode_id.in_(again)))
                count += len(again)
            return count

        return await self._sql.write("forget invalid", reset)

    async def _release(self, what: str, run: RunId, owner: str, values: dict[str, Any]) -> int:
        def release(c: Connection) -> int:
            theirs = (EPISODES.c.run_id == run, EPISODES.c.state == "running", EPISODES.c.owner == owner)
            return c.execute(update(EPISODES).where(*theirs).values(state="pending", owner=None, **values)).rowcount

        return await self._sql.write(what, release)

    async def commit(self, episode: EpisodeId, outcome: Outcome, *, epoch: int | None = None) -> bool:
        """Store the outcome. False when one is there already (it stands), or when a higher epoch has the episode.

        `Invalid` poisons the episode: a person looks at it, and may have it played again (see `forget_invalid`).
        Raises `StoreError` for an unknown episode and for an outcome that does not survive being stored (a reward that is no number).
        """
        encoded(episode, outcome)
        self._faults.reach("outcome commit")
        at = self._clock.now().isoformat()
        return await self._sql.write("commit", lambda c: commit(c, episode, outcome, epoch=epoch, at=at))

    async def outcomes(self, episodes: Sequence[EpisodeId], *, whole: bool = False) -> dict[EpisodeId, Outcome]:
        """Those that are done, among these; whole ones, with the tests' log, for operators alone. Raises `StoreError` for a damaged one."""
        return await self._sql.read("outcomes", lambda c: outcomes_of(c, episodes, whole=whole))

    async def episodes(self, run: RunId) -> tuple[EpisodeRow, ...]:
        """A run's episodes in the order they were asked for."""

        def ask(c: Connection) -> tuple[EpisodeRow, ...]:
            rows = c.execute(select(EPISODES).where(EPISODES.c.run_id == run).order_by(EPISODES.c.position))
            return tuple(row_of(r) for r in rows)

        return await self._sql.read("episodes", ask)

    async def counts(self, run: RunId) -> dict[str, int]:
        """How many episodes of a run are in each state."""

        def ask(c: Connection) -> dict[str, int]:
            query = select(EPISODES.c.state, func.count()).where(EPISODES.c.run_id == run).group_by(EPISODES.c.state)
            return {row[0]: row[1] for row in c.execute(query)}

        return await self._sql.read("counts", ask)

    async def runs(self) -> tuple[RunSummary, ...]:
        """Every run, newest first."""

        def ask(c: Connection) -> tuple[RunSummary, ...]:
            states: dict[str, dict[str, int]] = {}
            for run, state, count in c.execute(
                select(EPISODES.c.run_id, EPISODES.c.state, func.count()).group_by(EPISODES.c.run_id, EPISODES.c.state)
            ):
                states.setdefault(run, {})[state] = count
            scored = select(EPISODES.c.run_id, func.avg(OUTCOMES.c.reward)).join(OUTCOMES, OUTCOMES.c.episode_id == EPISODES.c.id)
            grouped = scored.where(OUTCOMES.c.kind == "scored").group_by(EPISODES.c.run_id)
            means: dict[str, float | None] = {row[0]: row[1] for row in c.execute(grouped)}
            return tuple(
                RunSummary(
                    run_id=RunId(r.id), created_at=r.created_at, note=r.note, states=states.get(r.id, {}), mean_reward=means.get(r.id)
                )
                for r in c.execute(select(RUNS).order_by(RUNS.c.created_at.desc(), RUNS.c.id))
            )

        return await self._sql.read("runs", ask)

    def _add_run(self, c: Connection, run: RunId, note: str) -> None:
        insert_new(c, RUNS, [{"id": run, "created_at": self._clock.now().isoformat(), "note": note}])

    def _add(self, c: Connection, specs: Sequence[EpisodeSpec]) -> None:
        for run in dict.fromkeys(s.run_id for s in specs):
            self._add_run(c, run, "")
        known = {}
        for at in range(0, len(specs), CHUNK):
            ids = [s.episode_id for s in specs[at : at + CHUNK]]
            known.update({r.id: r.spec for r in c.execute(select(EPISODES.c.id, EPISODES.c.spec).where(EPISODES.c.id.in_(ids)))})
        for spec in specs:
            if spec.episode_id in known and EpisodeSpec.model_validate_json(known[spec.episode_id]) != spec:
                raise UsageError(f"episode {spec.episode_id} exists with another spec", hint="choose another run id")
        rows = []
        for run in dict.fromkeys(s.run_id for s in specs):
            start = c.execute(select(func.count()).where(EPISODES.c.run_id == run)).scalar_one()
            fresh = [s for s in specs if s.run_id == run and s.episode_id not in known]
            rows += [episode_row(spec, start + i) for i, spec in enumerate(fresh)]
        if rows:
            insert_new(c, EPISODES, rows)

    async def _if_mine(self, what: str, episode: EpisodeId, epoch: int, values: dict[str, Any]) -> bool:
        def change(c: Connection) -> bool:
            mine = (EPISODES.c.id == episode, EPISODES.c.state == "running", EPISODES.c.epoch == epoch)
            return c.execute(update(EPISODES).where(*mine).values(**values)).rowcount == 1

        return await self._sql.write(what, change)


def row_of(r: Row[Any]) -> EpisodeRow:
    """An episode's row, as a list shows it."""
    return EpisodeRow(spec=EpisodeSpec.model_validate_json(r.spec), state=r.state, attempts=r.attempts, owner=r.owner, detail=r.detail)


def episode_row(spec: EpisodeSpec, position: int) -> dict[str, Any]:
    """A new episode's row; `position` is its place in its run."""
    return {
        "id": spec.episode_id,
        "run_id": spec.run_id,
        "task": spec.task,
        "member": spec.member,
        "spec": spec.model_dump_json(),
        "state": "pending",
        "attempts": 0,
        "owner": None,
        "epoch": 0,
        "detail": "",
        "position": position,
    }
