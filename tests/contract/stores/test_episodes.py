import asyncio
import math
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import Engine, inspect, text, update
from sqlalchemy.exc import IntegrityError

from envfarm.core.episode import Budgets
from envfarm.core.errors import StoreError, UsageError
from envfarm.core.ids import EpisodeId, RunId
from envfarm.core.outcome import Censored, Invalid
from envfarm.stores.episode_schema import EPISODES, METADATA, SCHEMA
from envfarm.stores.episodes import SqlEpisodes
from envfarm.stores.leases import HostLease, SqlLeases
from envfarm.stores.migrations import VERSION, migrate
from envfarm.stores.sql import open_sqlite
from envfarm.testing.factories import HeldClock, make_scored, make_spec
from envfarm.testing.faults import FailAt

RUN = RunId("run-1")
SPECS = [make_spec(n) for n in range(4)]
IDS = [s.episode_id for s in SPECS]


@pytest.fixture
async def store(engine: Engine) -> AsyncIterator[SqlEpisodes]:
    store = SqlEpisodes(engine, HeldClock())
    await store.open()
    await store.add_specs(SPECS)
    yield store
    await store.close()


async def test_an_outcome_is_stored_exactly_once(store: SqlEpisodes) -> None:
    assert await store.commit(IDS[0], make_scored(1.0))
    assert not await store.commit(IDS[0], make_scored(0.0))
    assert await store.outcomes(IDS) == {IDS[0]: make_scored(1.0)}


async def test_of_many_committers_at_once_one_wins(store: SqlEpisodes) -> None:
    won = await asyncio.gather(*(store.commit(IDS[0], make_scored(n / 10)) for n in range(10)))
    assert won.count(True) == 1
    assert await store.outcomes(IDS) == {IDS[0]: make_scored(won.index(True) / 10)}


@pytest.mark.parametrize(
    "outcome",
    [make_scored(0.5), Invalid("sandbox", retryable=True, detail="gone"), Censored("turns", None), Censored("tokens", make_scored(1.0))],
)
async def test_every_kind_of_outcome_survives(store: SqlEpisodes, outcome: object) -> None:
    await store.commit(IDS[0], outcome)  # type: ignore[arg-type]  # each is one
    assert (await store.outcomes([IDS[0]]))[IDS[0]] == outcome


async def test_a_reward_that_is_no_number_is_refused(store: SqlEpisodes) -> None:
    for reward in (math.nan, math.inf):
        with pytest.raises(StoreError):
            await store.commit(IDS[0], make_scored(reward))
    assert await store.outcomes(IDS) == {}


async def test_an_unknown_episode_cannot_be_committed(store: SqlEpisodes) -> None:
    with pytest.raises(StoreError, match="not known"):
        await store.commit(EpisodeId("other"), make_scored())


async def test_episodes_are_claimed_once_each_and_in_order(store: SqlEpisodes) -> None:
    claims = await asyncio.gather(*(store.claim(RUN, f"owner-{n}") for n in range(6)))
    got = [c.spec.episode_id for c in claims if c]
    assert sorted(got) == sorted(IDS)
    assert await store.claim(RUN, "late") is None
    assert (await store.counts(RUN)) == {"running": 4}


async def test_adding_again_changes_nothing_but_another_spec_is_refused(store: SqlEpisodes) -> None:
    await store.commit(IDS[0], make_scored())
    await store.add_specs([*SPECS, make_spec(9)])
    assert await store.counts(RUN) == {"pending": 4, "done": 1}
    with pytest.raises(UsageError, match="another spec"):
        await store.add_specs([make_spec(1, budgets=Budgets(turns=3))])


async def test_a_dead_owners_episodes_are_taken_over_and_the_late_one_is_fenced(store: SqlEpisodes) -> None:
    first = await store.claim(RUN, "dead")
    assert first is not None
    assert await store.owners(RUN) == ("dead",)
    assert await store.take_over(RUN, "dead") == 1
    *_, second = [await store.claim(RUN, "alive") for _ in IDS]
    assert second is not None
    assert second.spec == first.spec
    assert second.epoch > first.epoch
    assert not await store.commit(first.spec.episode_id, make_scored(0.0), epoch=first.epoch)
    assert not await store.note_attempt(first.spec.episode_id, first.epoch, detail="x", attempts=1)
    assert not await store.put_back(first.spec.episode_id, first.epoch, detail="x", attempts=1)
    assert await store.commit(second.spec.episode_id, make_scored(1.0), epoch=second.epoch)
    assert (await store.outcomes(IDS))[first.spec.episode_id] == make_scored(1.0)


async def test_attempts_are_remembered_across_claims(store: SqlEpisodes) -> None:
    claim = await store.claim(RUN, "one")
    assert claim is not None
    assert await store.note_attempt(claim.spec.episode_id, claim.epoch, detail="down", attempts=1)
    assert await store.put_back(claim.spec.episode_id, claim.epoch, detail="interrupted", attempts=1)
    *_, again = [await store.claim(RUN, "two") for _ in IDS]
    assert again is not None
    assert (again.spec, again.attempts) == (claim.spec, 1)


async def test_an_owners_death_is_a_failed_attempt_and_what_failed_comes_last(store: SqlEpisodes) -> None:
    assert await store.claim(RUN, "dead")
    assert await store.take_over(RUN, "dead") == 1
    claims = [await store.claim(RUN, "alive") for _ in IDS]
    assert [(c.spec.episode_id, c.attempts) for c in claims if c] == [(IDS[1], 0), (IDS[2], 0), (IDS[3], 0), (IDS[0], 1)]
    assert await store.let_go(RUN, "alive") == 4
    assert [r.attempts for r in await store.episodes(RUN)] == [1, 0, 0, 0], "who lets go has not died"


async def test_an_invalid_episode_is_played_again_where_a_person_asks_and_no_other_is(store: SqlEpisodes) -> None:
    await store.commit(IDS[0], make_scored(0.0))
    claim = await store.claim(RUN, "one")
    assert claim is not None
    assert await store.note_attempt(IDS[1], claim.epoch, detail="down", attempts=2)
    await store.commit(IDS[1], Invalid("policy", retryable=True, detail="down"), epoch=claim.epoch)
    await store.commit(IDS[2], Invalid("policy", retryable=True, detail="down"))
    assert await store.forget_invalid(IDS[:2]) == 1
    assert await store.outcomes(IDS[:2]) == {IDS[0]: make_scored(0.0)}
    assert [r.state for r in await store.episodes(RUN)] == ["done", "pending", "poisoned", "pending"]
    again = await store.claim(RUN, "two")
    assert again is not None
    assert (again.spec.episode_id, again.attempts) == (IDS[1], 0)
    assert again.epoch > claim.epoch
    assert await store.commit(IDS[1], make_scored(1.0), epoch=again.epoch)


async def test_an_invalid_outcome_poisons_and_says_why(store: SqlEpisodes) -> None:
    await store.commit(IDS[2], Invalid("image", retryable=True, detail="no image"))
    rows = await store.episodes(RUN)
    assert [r.state for r in rows] == ["pending", "pending", "poisoned", "pending"]
    assert rows[2].detail == "no image"


async def test_runs_are_listed_with_their_states_and_mean_reward(store: SqlEpisodes) -> None:
    await store.start_run(RunId("empty"), note="nothing yet")
    await store.commit(IDS[0], make_scored(1.0))
    await store.commit(IDS[1], make_scored(0.5))
    await store.commit(IDS[2], Censored("turns", make_scored(0.0)))
    rows = {r.run_id: r for r in await store.runs()}
    assert rows[RUN].states == {"done": 3, "pending": 1}
    assert rows[RUN].mean_reward == 0.75
    assert (rows[RunId("empty")].mean_reward, rows[RunId("empty")].note) == (None, "nothing yet")


async def test_many_ids_are_asked_for_in_parts(store: SqlEpisodes) -> None:
    await store.add_specs([make_spec(n, run="big") for n in range(1200)])
    ids = [make_spec(n, run="big").episode_id for n in range(1200)]
    await store.commit(ids[-1], make_scored())
    assert list(await store.outcomes(ids)) == [ids[-1]]


async def test_what_one_process_stored_the_next_one_finds(opened: Callable[[], Engine]) -> None:
    for _ in range(2):
        store = SqlEpisodes(opened(), HeldClock())
        await store.open()
        await store.add_specs(SPECS)
        await store.commit(IDS[0], make_scored())
        await store.close()
    other = SqlEpisodes(opened(), HeldClock())
    assert list(await other.outcomes(IDS)) == [IDS[0]]
    await other.close()


async def test_two_processes_may_make_the_database_at_once(opened: Callable[[], Engine]) -> None:
    stores = [SqlEpisodes(opened(), HeldClock()) for _ in range(4)]
    await asyncio.gather(*(s.open() for s in stores))
    await stores[0].add_specs(SPECS)
    for store in stores:
        assert await store.counts(RUN) == {"pending": 4}
        await store.close()


async def test_a_newer_database_is_refused(opened: Callable[[], Engine]) -> None:
    store = SqlEpisodes(opened(), HeldClock())
    await store.open()
    await store.close()
    with opened().begin() as c:
        c.execute(text("INSERT INTO schema_version VALUES (99)"))
    newer = SqlEpisodes(opened(), HeldClock())
    with pytest.raises(StoreError, match="a newer envfarm made it"):
        await newer.open()
    await newer.close()


async def test_a_file_that_is_no_database_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "farm.db").write_bytes(b"not a database at all" * 100)
    store = SqlEpisodes(open_sqlite(tmp_path / "farm.db"), HeldClock())
    with pytest.raises(StoreError):
        await store.open()
    await store.close()


async def test_a_damaged_outcome_is_told_and_not_guessed(store: SqlEpisodes, engine: Engine) -> None:
    await store.commit(IDS[0], make_scored())
    with engine.begin() as c:
        c.exec_driver_sql("""UPDATE outcomes SET outcome = replace(outcome, '"reward":1.0', '"reward":null')""")
    with pytest.raises(StoreError, match="is damaged"):
        await store.outcomes(IDS)


async def test_a_fault_before_the_commit_leaves_the_episode_open(engine: Engine) -> None:
    faults = FailAt("outcome commit", StoreError("gone"))
    store = SqlEpisodes(engine, HeldClock(), faults=faults)
    await store.open()
    await store.add_specs(SPECS)
    with pytest.raises(StoreError, match="gone"):
        await store.commit(IDS[0], make_scored())
    assert await store.counts(RUN) == {"pending": 4}
    await store.close()


@pytest.mark.parametrize("version", [1, 7])
async def test_a_database_from_before_the_first_release_is_refused_and_it_is_said_what_to_do(engine: Engine, version: int) -> None:
    with engine.begin() as c:
        c.execute(text("CREATE TABLE schema_version (version INTEGER NOT NULL)"))
        c.execute(text("INSERT INTO schema_version VALUES (:version)"), {"version": version})
    store = SqlEpisodes(engine, HeldClock())
    with pytest.raises(StoreError, match=f"it has version {version}, from before the first release") as refused:
        await store.open()
    assert "move the file away" in refused.value.hint
    assert inspect(engine).get_table_names() == ["schema_version"]


async def test_a_step_is_taken_once_by_a_database_that_lacks_it_and_by_no_new_one(store: SqlEpisodes, opened: Callable[[], Engine]) -> None:
    step = text("ALTER TABLE runs ADD COLUMN colour TEXT NOT NULL DEFAULT 'blue'")
    longer = replace(SCHEMA, steps=(*SCHEMA.steps, lambda c: c.execute(step)))
    for _ in range(2):
        with opened().begin() as c:
            migrate(c, longer)
    assert (await store.runs())[0].run_id == RUN
    with opened().begin() as c:
        assert c.scalars(text("SELECT colour FROM runs")).all() == ["blue"]
        SCHEMA.tables.drop_all(c)
        VERSION.drop(c)
        migrate(c, longer)
        assert "colour" not in {column["name"] for column in inspect(c).get_columns("runs")}, "the tables of a new one are as they are now"


async def test_a_database_of_version_8_gets_the_columns_that_came_since(store: SqlEpisodes, engine: Engine) -> None:
    late = {"leases": "offer", "groups": "acknowledged"}
    with engine.begin() as c:
        for table, column in late.items():
            c.execute(text(f"ALTER TABLE {table} DROP COLUMN {column}"))
        c.execute(text("DROP INDEX episodes_done"))
        c.execute(text("DROP TABLE tallies"))
        c.execute(update(VERSION).values(version=8))
    await store.open()
    now = inspect(engine)
    for table, column in late.items():
        (found,) = (one for one in now.get_columns(table) if one["name"] == column)
        assert found["nullable"] == METADATA.tables[table].c[column].nullable
    tallies = {column["name"]: column["nullable"] for column in now.get_columns("tallies")}
    assert tallies == {column.name: column.nullable for column in METADATA.tables["tallies"].c}
    assert now.get_pk_constraint("tallies")["constrained_columns"] == ["host"]
    (index,) = (one for one in now.get_indexes("episodes") if one["name"] == "episodes_done")
    assert index["column_names"] == ["tenant", "task"]
    assert await SqlLeases(engine).take("h", lease_s=60.0, offer="room") == HostLease(host="h", epoch=1)


@pytest.mark.parametrize("values", [{"state": "lost"}, {"run_id": "of no run"}, {"group_id": "of no group"}])
async def test_the_database_itself_refuses_a_state_that_there_is_not_and_a_row_of_nothing(
    store: SqlEpisodes, engine: Engine, values: dict[str, str]
) -> None:
    with pytest.raises(IntegrityError), engine.begin() as c:
        c.execute(update(EPISODES).values(**values))
    assert await store.counts(RUN) == {"pending": 4}
