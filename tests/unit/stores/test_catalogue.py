"""The catalogue keeps tasks, finds them, and survives damage, full disks and other writers."""

import asyncio
import multiprocessing
import resource
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.candidate import Gate
from envfarm.core.errors import StoreError, UsageError
from envfarm.core.ids import TaskDigest
from envfarm.core.image import Environment, ImageRef
from envfarm.core.task import Task
from envfarm.core.validation import REQUIRED_GATES, GateResult, ValidationReport
from envfarm.stores.catalogue import Origin, TaskCatalogue
from envfarm.stores.catalogue_archive import pack, unpack
from envfarm.stores.catalogue_lookup import MAX_ABBREVIATED, TaskFilter
from envfarm.stores.catalogue_sidecars import write_changed
from envfarm.stores.sql import store_errors
from envfarm.testing import factories

WHEN = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)
ENVIRONMENT = Environment(image=ImageRef(kind="host", digest=digest.of_bytes(b"host")))


def make_task(name: str = "acme/rockets-abcdefgh", language: str = "python") -> Task:
    return factories.make_task(
        name=name,
        language=language,
        instruction="Launch the rocket when the countdown is over.",
        created_at=WHEN,
        recipe=factories.make_recipe(language=language),
        solution={"solve.sh": b"#!/bin/sh\n", "patch.diff": b"\xff\x00 not text"},
        tests={"files/tests/test_a.py": "def test_b(): assert 'ü'\n".encode()},
    )


def make_report(task: Task, *, passed: bool = True, provider: str = "local", left_out: Gate | None = None) -> ValidationReport:
    return ValidationReport(
        task=task.digest,
        environment=ENVIRONMENT,
        provider=provider,
        created_at=WHEN,
        gates=tuple(g for g in factories.passed_gates(GateResult(gate=Gate.GOLD, passed=passed)) if g.gate is not left_out),
    )


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[TaskCatalogue]:
    made = TaskCatalogue(tmp_path / "catalogue", now=lambda: WHEN)
    yield made
    made.close()


def test_archive_gives_back_the_same_task_and_is_deterministic() -> None:
    task = make_task()
    assert pack(task) == pack(make_task())
    back = unpack(pack(task), expected=task.digest, where="x")
    assert back == task
    assert back.digest == task.digest


async def test_a_task_is_kept_once(catalogue: TaskCatalogue) -> None:
    first = await catalogue.add(make_task())
    second = await catalogue.add(make_task())
    assert first == second
    assert len(await catalogue.rows()) == 1
    assert await catalogue.get(first) == make_task()


async def test_row_says_where_the_task_came_from(catalogue: TaskCatalogue) -> None:
    await catalogue.add(make_task(), origin=Origin(repository="acme/rockets", source_digest=digest.of_bytes(b"record")))
    (row,) = await catalogue.rows()
    assert (row.repository, row.licence, row.created_at, row.state) == ("acme/rockets", "MIT", WHEN, "unchecked")
    assert await catalogue.of_source(digest.of_bytes(b"record")) == make_task().digest
    assert await catalogue.of_source(digest.of_bytes(b"other")) is None


async def test_unknown_task_is_an_error_that_helps(catalogue: TaskCatalogue) -> None:
    with pytest.raises(StoreError, match="no task sha256:00") as caught:
        await catalogue.get(TaskDigest("sha256:" + "0" * 64))
    assert "tasks list" in caught.value.hint


@pytest.mark.parametrize("damage", [b"", b"not zstd", pack(make_task("acme/other-aaaaaaaa"))])
async def test_damaged_archive_names_the_file_and_is_mended_by_adding_again(catalogue: TaskCatalogue, damage: bytes) -> None:
    known = await catalogue.add(make_task())
    path = catalogue.archive_path(known)
    path.write_bytes(damage)
    with pytest.raises(StoreError, match=str(path)) as caught:
        await catalogue.get(known)
    assert "damaged" in caught.value.hint
    await catalogue.add(make_task())
    assert await catalogue.get(known) == make_task()


async def test_every_cut_of_an_archive_is_an_error_and_never_a_crash(catalogue: TaskCatalogue) -> None:
    data = pack(make_task())
    for length in range(0, len(data), 17):
        with pytest.raises(StoreError):
            unpack(data[:length], expected=make_task().digest, where="file")


async def test_finds_by_name_end_of_name_and_digest(catalogue: TaskCatalogue) -> None:
    known = await catalogue.add(make_task())
    await catalogue.add(make_task("acme/sails-zzzzzzzz"))
    for text in ("acme/rockets-abcdefgh", "acme/roc", "rockets", "abcdefgh", "-abcdefgh", known, known[7:15]):
        assert (await catalogue.find(text)).digest == known


async def test_many_are_found_together_and_few_of_them_by_abbreviations(catalogue: TaskCatalogue) -> None:
    known = await catalogue.add(make_task())
    sails = await catalogue.add(make_task("acme/sails-zzzzzzzz"))
    await catalogue.add_report(make_report(make_task()))
    texts = ("acme/rockets-abcdefgh", "rockets", sails, known)
    found = await catalogue.find_all(texts)
    assert found == {text: await catalogue.find(text) for text in texts}
    assert [found[text].providers for text in texts] == [("local",), ("local",), (), ("local",)]
    await catalogue.add(make_task().model_copy(update={"instruction": "Another task of the same name."}))
    with pytest.raises(UsageError, match="names 2 tasks"):
        await catalogue.find_all(texts)
    lengths = range(MAX_ABBREVIATED // 2)
    abbreviated = [sails[: len(sails) - n] for n in lengths] + [f"acme/sails{'-zzzzzzzz'[: n % 8]}" for n in lengths]
    assert {row.digest for row in (await catalogue.find_all(abbreviated)).values()} == {sails}
    with pytest.raises(UsageError, match="101 of the names are no task's whole name or digest, 'n0' first"):
        await catalogue.find_all([f"n{n}" for n in range(MAX_ABBREVIATED + 1)])
    most = {"acme/sails-zzzzzzzz", *(f"sha256:{n:064}" for n in range(9_999 - MAX_ABBREVIATED))}
    with pytest.raises(UsageError, match="9899 of the names"):
        await catalogue.find_all(most)


async def test_finding_nothing_or_too_much_says_what_may_be_meant(catalogue: TaskCatalogue) -> None:
    await catalogue.add(make_task())
    await catalogue.add(make_task("acme/sails-zzzzzzzz"))
    with pytest.raises(UsageError, match=r"no task 'rokets-abcdefgh': did you mean acme/rockets-abcdefgh\?"):
        await catalogue.find("rokets-abcdefgh")
    with pytest.raises(UsageError, match="beginning of 2 tasks"):
        await catalogue.find("acme/")
    await catalogue.add(make_task("acme/sails-efgh"))
    with pytest.raises(UsageError, match=r"'efgh' is the end of 2 tasks: acme/rockets-abcdefgh \(.*, acme/sails-efgh \("):
        await catalogue.find("efgh")
    other = await catalogue.add(make_task().model_copy(update={"instruction": "Another task of the same name."}))
    with pytest.raises(UsageError, match=rf"'acme/rockets-abcdefgh' names 2 tasks: .*{other[7:19]} \(unchecked, since ") as caught:
        await catalogue.find("acme/rockets-abcdefgh")
    assert "digest" in caught.value.hint
    assert (await catalogue.find(other[7:19])).digest == other
    with pytest.raises(UsageError, match="name or digest is needed"):
        await catalogue.find(" ")
    with pytest.raises(UsageError, match="no task '%'") as caught:
        await catalogue.find("%")
    assert caught.value.hint == "`envfarm tasks list --state any` shows them"
    with pytest.raises(UsageError, match="no task '%'") as caught:
        await catalogue.find_all(["%"])
    assert "GET /v1/tasks" in caught.value.hint


async def test_filters(catalogue: TaskCatalogue) -> None:
    await catalogue.add(make_task(), origin=Origin(repository="acme/rockets"))
    await catalogue.add(make_task("acme/sails-zzzzzzzz", language="go"), origin=Origin(repository="acme/sails"))
    await catalogue.add_report(make_report(make_task()))

    async def names(wanted: TaskFilter) -> list[str]:
        return [row.name.split("-")[0] for row in await catalogue.rows(wanted)]

    assert await names(TaskFilter(language="go")) == ["acme/sails"]
    assert await names(TaskFilter(repository="rockets")) == ["acme/rockets"]
    assert await names(TaskFilter(state="valid", provider="local")) == ["acme/rockets"]
    assert await names(TaskFilter(provider="docker")) == []
    assert await names(TaskFilter(text="sail")) == ["acme/sails"]


async def test_reports_are_kept_per_provider_and_set_the_state(catalogue: TaskCatalogue) -> None:
    task = make_task()
    known = await catalogue.add(task)
    await catalogue.add_report(make_report(task))
    await catalogue.add_report(make_report(task, provider="docker"))
    assert [r.provider for r in await catalogue.reports(known)] == ["docker", "local"]
    assert (await catalogue.find(known)).state == "valid"
    assert (await catalogue.find(known)).providers == ("docker", "local")
    assert await catalogue.environment(known, "local") == ENVIRONMENT
    await catalogue.add_report(make_report(task, passed=False))
    assert (await catalogue.find(known)).state == "suspect"


async def test_a_report_without_one_of_the_required_gates_leaves_the_task_unchecked(catalogue: TaskCatalogue) -> None:
    known = await catalogue.add(make_task())
    for gate in REQUIRED_GATES:
        await catalogue.add_report(make_report(make_task(), left_out=gate))
        row = await catalogue.find(known)
        assert (row.state, row.providers) == ("unchecked", ()), gate
        await catalogue.quarantine(known, "doubts")
        assert await catalogue.lift_quarantine(known)
        assert (await catalogue.find(known)).state == "unchecked"
    await catalogue.add_report(make_report(make_task(), passed=False, left_out=Gate.ATTACKS))
    assert (await catalogue.find(known)).state == "suspect"


async def test_a_report_that_left_out_gates_replaces_none_that_went_through_them(catalogue: TaskCatalogue) -> None:
    known = await catalogue.add(make_task())
    complete = make_report(make_task())
    assert await catalogue.add_report(complete)
    assert not await catalogue.add_report(make_report(make_task(), left_out=Gate.ATTACKS))
    assert await catalogue.reports(known) == [complete]
    assert (await catalogue.find(known)).state == "valid"
    failed = make_report(make_task(), passed=False, left_out=Gate.ATTACKS)
    assert await catalogue.add_report(failed)
    assert ((await catalogue.find(known)).state, await catalogue.reports(known)) == ("suspect", [failed])
    # It went through as much as the failed one did.
    assert await catalogue.add_report(make_report(make_task(), left_out=Gate.ATTACKS))
    assert (await catalogue.find(known)).state == "unchecked"


async def test_a_failed_gate_stands_until_a_report_went_through_as_many(catalogue: TaskCatalogue) -> None:
    known = await catalogue.add(make_task())
    await catalogue.add_report(make_report(make_task(), passed=False))
    assert not await catalogue.add_report(make_report(make_task(), left_out=Gate.GOLD))
    assert (await catalogue.find(known)).state == "suspect"
    assert await catalogue.add_report(make_report(make_task()))
    assert (await catalogue.find(known)).state == "valid"


async def test_the_state_follows_from_the_reports_of_all_providers(catalogue: TaskCatalogue) -> None:
    known = await catalogue.add(make_task())
    await catalogue.add_report(make_report(make_task()))
    await catalogue.add_report(make_report(make_task(), provider="docker", left_out=Gate.ATTACKS))
    row = await catalogue.find(known)
    assert (row.state, row.providers) == ("valid", ("local",))
    await catalogue.add_report(make_report(make_task(), provider="docker", passed=False))
    await catalogue.add_report(make_report(make_task()))
    row = await catalogue.find(known)
    assert (row.state, row.providers) == ("suspect", ("local",))
    await catalogue.quarantine(known, "doubts")
    assert await catalogue.lift_quarantine(known)
    assert (await catalogue.find(known)).state == "suspect"


async def test_a_damaged_report_is_replaced(catalogue: TaskCatalogue) -> None:
    known = await catalogue.add(make_task())
    await catalogue.add_report(make_report(make_task(), passed=False))
    with closing(sqlite3.connect(catalogue.index)) as connection, connection:
        connection.execute("UPDATE reports SET body = x'00'")
    await catalogue.quarantine(known, "doubts")
    assert await catalogue.add_report(make_report(make_task(), left_out=Gate.GOLD))
    assert len(await catalogue.reports(known)) == 1


async def test_quarantine_outlives_a_good_report(catalogue: TaskCatalogue) -> None:
    known = await catalogue.add(make_task())
    assert not await catalogue.lift_quarantine(known)
    await catalogue.quarantine(known, "its tests ask for a colour")
    await catalogue.add_report(make_report(make_task()))
    row = await catalogue.find(known)
    assert (row.state, row.why) == ("quarantined", "its tests ask for a colour")
    assert await catalogue.lift_quarantine(known)
    row = await catalogue.find(known)
    assert (row.state, row.why) == ("valid", "")


@pytest.mark.parametrize(("passed", "state"), [(None, "unchecked"), (False, "suspect")])
async def test_a_lifted_task_is_what_its_reports_say(catalogue: TaskCatalogue, passed: bool | None, state: str) -> None:  # noqa: FBT001 - a case
    known = await catalogue.add(make_task())
    if passed is not None:
        await catalogue.add_report(make_report(make_task(), passed=passed))
    await catalogue.quarantine(known, "doubts")
    assert await catalogue.lift_quarantine(known)
    assert (await catalogue.find(known)).state == state


class Unsearched(tuple[TaskDigest, ...]):
    """A split that nobody looks through for each task of another."""

    __slots__ = ()

    def __contains__(self, _: object) -> bool:
        raise AssertionError("looked through for one task")


async def test_a_large_datasets_splits_are_not_compared_task_by_task(catalogue: TaskCatalogue) -> None:
    one, two = await catalogue.add(make_task()), await catalogue.add(make_task("acme/sails-zzzzzzzz"))
    made = await catalogue.datasets.create("large", "1.0", {"train": Unsearched([one]), "test": Unsearched([two])})
    assert made.splits == {"train": (one,), "test": (two,)}


async def test_datasets_never_change(catalogue: TaskCatalogue) -> None:
    one, two = await catalogue.add(make_task()), await catalogue.add(make_task("acme/sails-zzzzzzzz"))
    made = await catalogue.datasets.create("rockets", "1.0", {"train": [one], "test": [two]})
    assert made == await catalogue.datasets.create("rockets", "1.0", {"test": [two], "train": [one]})
    assert [r.digest for r in await catalogue.rows(TaskFilter(dataset=("rockets", "1.0"), split="test"))] == [two]
    with pytest.raises(UsageError, match="never change"):
        await catalogue.datasets.create("rockets", "1.0", {"train": [one]})
    with pytest.raises(UsageError, match="more than one split"):
        await catalogue.datasets.create("rockets", "2.0", {"train": [one], "test": [one]})
    with pytest.raises(UsageError, match="not in the catalogue"):
        await catalogue.datasets.create("rockets", "2.0", {"train": [TaskDigest("sha256:" + "1" * 64)]})
    with pytest.raises(UsageError, match=r"no dataset rockets@3\.0") as caught:
        await catalogue.datasets.get("rockets", "3.0")
    assert "rockets@1.0" in caught.value.hint


def without_index(catalogue: TaskCatalogue) -> TaskCatalogue:
    """The same directory, after its index was moved away."""
    catalogue.close()
    for path in catalogue.directory.glob("index.sqlite*"):
        path.unlink()
    return TaskCatalogue(catalogue.directory)


async def test_index_is_made_anew_from_the_archives(catalogue: TaskCatalogue) -> None:
    known = await catalogue.add(make_task())
    bad = await catalogue.add(make_task("acme/sails-zzzzzzzz"))
    catalogue.archive_path(bad).write_bytes(b"gone")
    again = without_index(catalogue)
    done = await again.reindex()
    assert (done.tasks, done.bare, len(done.damaged)) == (1, 0, 1)
    assert (await again.find("rockets")).digest == known
    again.close()


async def fill(catalogue: TaskCatalogue) -> list[TaskDigest]:
    """Tasks of every state, and a dataset."""
    tasks = [make_task(f"acme/{name}-aaaaaaaa") for name in ("valid", "suspect", "quarantined", "unchecked")]
    for task in tasks:
        origin = Origin(repository="acme/whole", source_digest=digest.of_bytes(task.name.encode()))
        await catalogue.add(task, origin=origin)
    await catalogue.add_report(make_report(tasks[0]))
    await catalogue.add_report(make_report(tasks[0], provider="docker", left_out=Gate.ATTACKS), environment=False)
    await catalogue.add_report(make_report(tasks[1], passed=False))
    await catalogue.add_report(make_report(tasks[2]))
    await catalogue.quarantine(tasks[2].digest, "its tests ask for a colour")
    await catalogue.add_environment(tasks[3].digest, "kubernetes", ENVIRONMENT)
    await catalogue.datasets.create("rockets", "1.0", {"train": [tasks[0].digest], "test": [tasks[1].digest], "none": []})
    return [task.digest for task in tasks]


async def told(catalogue: TaskCatalogue, tasks: list[TaskDigest]) -> list[object]:
    """Everything that a catalogue says of tasks and datasets."""
    rows, reports = await catalogue.rows(), [await catalogue.reports(task) for task in tasks]
    environments = [await catalogue.environment(task, name) for task in tasks for name in ("local", "docker", "kubernetes")]
    return [rows, reports, environments, await catalogue.datasets.get("rockets", "1.0")]


async def test_index_that_is_made_anew_says_what_the_old_one_said(catalogue: TaskCatalogue) -> None:
    tasks = await fill(catalogue)
    before = await told(catalogue, tasks)
    again = without_index(catalogue)
    done = await again.reindex()
    assert (done.tasks, done.bare, done.datasets, done.damaged) == (4, 0, 1, ())
    assert await told(again, tasks) == before
    assert await again.of_source(digest.of_bytes(b"acme/suspect-aaaaaaaa")) == tasks[1]
    # What it was made of is still known: the same one again is no error.
    await again.datasets.create("rockets", "1.0", {"train": [tasks[0]], "test": [tasks[1]], "none": []})
    again.close()


async def test_what_a_readable_index_knows_of_tasks_without_sidecars_is_written_first(catalogue: TaskCatalogue) -> None:
    tasks = await fill(catalogue)
    before = await told(catalogue, tasks)
    files = [*map(catalogue.sidecar_path, tasks), *catalogue.directory.glob("datasets/*.json")]
    assert len(files) == 5
    for path in files:  # as an earlier version left them
        path.unlink()
    assert (await catalogue.reindex()).tasks == 0
    again = without_index(catalogue)
    assert (await again.reindex()).damaged == ()
    assert await told(again, tasks) == before
    again.close()


async def test_tasks_without_sidecars_are_counted(catalogue: TaskCatalogue) -> None:
    known = await catalogue.add(make_task())
    catalogue.sidecar_path(known).unlink()
    again = without_index(catalogue)
    done = await again.reindex()
    assert (done.tasks, done.bare, done.damaged) == (1, 1, ())
    again.close()


@pytest.mark.parametrize("damage", [b"", b"\xff", b'{"task": "', "of another"])
async def test_a_damaged_sidecar_is_told_and_loses_no_task(catalogue: TaskCatalogue, damage: bytes | str) -> None:
    tasks = await fill(catalogue)
    path = catalogue.sidecar_path(tasks[2])
    path.write_bytes(damage if isinstance(damage, bytes) else catalogue.sidecar_path(tasks[0]).read_bytes())
    again = without_index(catalogue)
    with pytest.raises(StoreError, match=str(path)):
        await again.add(make_task("acme/quarantined-aaaaaaaa"))
    done = await again.reindex()
    assert (done.tasks, done.bare, done.datasets) == (4, 0, 1)
    assert [str(path) in str(error) for error in done.damaged] == [True]
    assert {row.digest: row.state for row in await again.rows()} == dict(
        zip(tasks, ("valid", "suspect", "unchecked", "unchecked"), strict=True)
    )
    again.close()


async def test_a_task_that_is_added_before_reindex_is_what_its_sidecar_says(catalogue: TaskCatalogue) -> None:
    await fill(catalogue)
    again = without_index(catalogue)
    task = make_task("acme/quarantined-aaaaaaaa")
    await again.add_validated(task, make_report(task, provider="docker"))
    row = await again.find(task.digest)
    assert (row.state, row.why, row.providers) == ("quarantined", "its tests ask for a colour", ("docker", "local"))
    again.close()


async def test_a_dataset_that_cannot_come_back_is_told(catalogue: TaskCatalogue) -> None:
    tasks = await fill(catalogue)
    catalogue.archive_path(tasks[0]).unlink()
    (catalogue.directory / "datasets" / "other.json").write_bytes(b"{}")
    again = without_index(catalogue)
    done = await again.reindex()
    assert (done.tasks, done.datasets) == (3, 0)
    assert sorted("rockets@1.0" in str(error) for error in done.damaged) == [False, True]
    again.close()


def test_index_that_is_no_database_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "index.sqlite").write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(StoreError, match=r"index\.sqlite") as caught:
        TaskCatalogue(tmp_path)
    assert "reindex" in caught.value.hint


def test_index_of_a_newer_program_is_left_alone(tmp_path: Path) -> None:
    TaskCatalogue(tmp_path).close()
    connection = sqlite3.connect(tmp_path / "index.sqlite")
    with connection:
        connection.execute("INSERT INTO schema_version VALUES (999)")
    connection.close()
    with pytest.raises(StoreError, match="version 999") as caught:
        TaskCatalogue(tmp_path)
    assert "update" in caught.value.hint


def test_index_from_before_the_first_release_says_what_to_do(tmp_path: Path) -> None:
    TaskCatalogue(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as old:
        old.executescript("UPDATE schema_version SET version = 1")
    with pytest.raises(StoreError, match="version 1, from before the first release") as caught:
        TaskCatalogue(tmp_path)
    assert "reindex" in caught.value.hint


async def test_tasks_of_an_earlier_version_get_their_titles_by_reindex(tmp_path: Path) -> None:
    before = TaskCatalogue(tmp_path)
    digest_of_it = await before.add(make_task())
    assert [row.title for row in await before.rows()] == ["Launch the rocket when the countdown is over."]
    before.close()
    with closing(sqlite3.connect(tmp_path / "index.sqlite")) as old:
        old.executescript("ALTER TABLE tasks DROP COLUMN title; UPDATE schema_version SET version = 2")
    catalogue = TaskCatalogue(tmp_path)
    assert [(row.digest, row.title) for row in await catalogue.rows()] == [(digest_of_it, "")]
    assert [(await catalogue.reindex()).titles for _ in range(2)] == [1, 0]
    assert [row.title for row in await catalogue.rows()] == ["Launch the rocket when the countdown is over."]
    catalogue.close()


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_write_that_fails_half_way_leaves_nothing(tmp_path: Path) -> None:
    with files_of_at_most(4096), pytest.raises(StoreError, match="File too large"):
        write_changed(tmp_path / "a" / "file", bytes(8192))
    assert list((tmp_path / "a").iterdir()) == []


def test_an_index_that_cannot_be_written_is_told_before_another_writer_would_be_done(tmp_path: Path) -> None:
    with files_of_at_most(0), pytest.raises(StoreError) as caught:
        TaskCatalogue(tmp_path)
    assert "the disk is full" in caught.value.hint


def test_full_disk_is_told_as_such(tmp_path: Path) -> None:
    with pytest.raises(StoreError) as caught, store_errors(tmp_path), Path("/dev/full").open("wb", buffering=0) as full:
        full.write(b"x")
    assert "the disk is full" in caught.value.hint


def _add_many(directory: Path, number: int) -> None:
    async def work() -> None:
        catalogue = TaskCatalogue(directory)
        for i in range(10):
            await catalogue.add(make_task(f"acme/shared-{i}"))
            await catalogue.add(make_task(f"acme/own{number}-{i}"))
        catalogue.close()

    asyncio.run(work())


@pytest.mark.timeout(60)  # processes start, and import
async def test_several_processes_write_at_once(catalogue: TaskCatalogue) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add_many, args=(catalogue.directory, n)) for n in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        await asyncio.to_thread(worker.join, 60)
    assert [w.exitcode for w in workers] == [0, 0]
    assert len(await catalogue.rows()) == 30
    assert list(catalogue.directory.glob("archives/*/.new-*")) == []
