"""The climb: rungs, repairs, memory and the ledger, with fakes for the rooms."""

# ruff: noqa: ARG002 - fakes keep the signatures of the contracts

import asyncio
import tarfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest

from envfarm.core import digest, plan
from envfarm.core.change import Change
from envfarm.core.errors import BoxBroken, BoxLost, BuildOutage, ImageError
from envfarm.core.ids import BoxId
from envfarm.core.image import BlobRef, BuildFacts, Built, Environment, ImageRef
from envfarm.core.outcome import TestStatus
from envfarm.core.recipe import InstallStep, Recipe, Toolchain
from envfarm.core.sandbox import BoxStats, Contention, ExecRequest, ExecResult, MemoryKills, QuiesceReport, SandboxSpec
from envfarm.testing.archives import entry, tar_of
from envfarm.testing.memory_tree import MemoryTree
from task_builders.attempt_ledger import AttemptLedger
from task_builders.environment_attempts import Budget, NoSetUp, SetUp
from task_builders.environment_memory import EnvironmentMemory, Remembered
from task_builders.environments import Workshop, set_up
from task_builders.languages.profile import Failure, Repair
from task_builders.languages.project import Project
from task_builders.report import tries_of

DATE = datetime(2024, 1, 1, tzinfo=UTC)
CHECKOUT = BlobRef(digest=digest.of_bytes(b"checkout"), size_bytes=8)
PROJECT = Project("made/up", MemoryTree({}))
LAYER_BYTES = 3 << 20


def recipe(name: str, *, lock: str = "", version: str = "1") -> Recipe:
    return Recipe(
        language="toy",
        toolchain=Toolchain(name="toy", version=version),
        dependencies=(InstallStep(run=name),),
        files={"/lock": lock} if lock else {},
        resolved_at=DATE,
    )


@dataclass
class FakeBox:
    report: bytes | None
    closed: list[bool]
    seen: list[ExecRequest] = field(default_factory=list)
    box_id: BoxId = field(default=BoxId("fake"))

    async def exec(self, request: ExecRequest) -> ExecResult:
        self.seen.append(request)
        return ExecResult(exit_code=0, stdout=b"output of the suite")

    async def get(self, paths: Sequence[str], *, max_bytes: int = 0) -> bytes:
        assert paths[0] in self.seen[-1].argv
        if self.report is None:
            raise FileNotFoundError(paths[0])
        return tar_of((paths[0], self.report))

    async def close(self) -> None:
        self.closed.append(True)

    async def put(self, archive: bytes, *, dest: str = "/", owner: str = "agent") -> None: ...
    async def mark(self, roots: Sequence[str], *, exclude: Sequence[str] = ()) -> None: ...
    async def restore(self, change: Change) -> None: ...
    async def diff(self, *, max_bytes: int = 0) -> Change:
        return Change()

    async def quiesce(self) -> QuiesceReport:
        return QuiesceReport(killed=0, remaining=())

    async def resume(self) -> None: ...
    async def stats(self) -> BoxStats:
        return BoxStats()


@dataclass
class FakeRooms:
    """Builder, provider and clock: `suites` says, by a recipe's first step, what its suite reports; None is a failing build."""

    suites: Mapping[str, bytes | None]
    built: list[str] = field(default_factory=list)
    closed: list[bool] = field(default_factory=list)
    seconds: float = 0.0
    name: str = "fake"
    at_hand: Sequence[str] = ()

    async def build(self, recipe: Recipe, *, checkout: BlobRef | None) -> Built:
        step = recipe.dependencies[0].run
        self.built.append(step)
        if self.suites[step] is None:
            raise ImageError(f"{step} cannot be built")
        image = ImageRef(kind="layers", digest=recipe.layer_digest, reference=step)
        facts = BuildFacts(layer_reused=step in self.at_hand, layer_s=1.0, layer_bytes=LAYER_BYTES)
        return Built(Environment(image=image, checkout=checkout), facts)

    async def create(self, spec: SandboxSpec) -> FakeBox:
        return FakeBox(self.suites[spec.environment.image.reference], self.closed)

    async def destroy(self, box: BoxId) -> None: ...

    async def collect_left_overs(self) -> int:
        return 0

    async def aclose(self) -> None: ...

    def now(self) -> datetime:
        return DATE

    def monotonic(self) -> float:
        self.seconds += 1
        return self.seconds


@dataclass
class ToyProfile:
    rungs: Sequence[Recipe]
    repairs: Mapping[str, Recipe] = field(default_factory=dict)
    lock_fails: bool = False
    failures: list[Failure] = field(default_factory=list)
    name: str = "toy"
    influencing: tuple[str, ...] = ()
    influencing_outside: tuple[str, ...] = ()

    def is_test(self, path: str) -> bool:
        return False

    def is_source(self, path: str) -> bool:
        return True

    def ladder(self, project: Project, date: datetime, toolchains: Sequence[Toolchain]) -> Sequence[Recipe]:
        return self.rungs

    def adopt(self, remembered: Recipe, wanted: Recipe) -> Recipe | None:
        return remembered

    async def lock(self, recipe: Recipe) -> Recipe:
        if self.lock_fails:
            raise ImageError("nothing satisfies")
        return recipe

    def repair(self, project: Project, recipe: Recipe, failure: Failure) -> Repair | None:
        self.failures.append(failure)
        better = self.repairs.get(recipe.dependencies[0].run)
        return Repair(better, "a rule") if better else None

    def commands(self, project: Project, recipe: Recipe, test_files: Sequence[str]) -> tuple[plan.TestCommand, ...]:
        return (plan.TestCommand(("run", "{report}"), "toy", 10.0, {}),)


def read(data: bytes) -> Mapping[str, TestStatus]:
    known: dict[str, TestStatus] = {"p": "passed", "f": "failed", "s": "skipped", "L": "error"}
    return {f"file{i}" if c == "L" else f"file::t{i}": known[c] for i, c in enumerate(data.decode())}


async def climb(rooms: FakeRooms, profile: ToyProfile, memory: Path, *, budget: Budget | None = None) -> SetUp | NoSetUp:
    workshop = Workshop(
        rooms, rooms, EnvironmentMemory(memory), rooms, (), read, budget or Budget(), AttemptLedger(memory / "ledger").append
    )
    return await set_up(PROJECT, date=DATE, checkout=CHECKOUT, profile=profile, workshop=workshop)


async def test_the_first_rung_that_works_is_taken_and_remembered(tmp_path: Path) -> None:
    rooms = FakeRooms({"bad": None, "good": b"p" * 99 + b"f" + b"s" * 5})
    found = await climb(rooms, ToyProfile([recipe("bad"), recipe("good"), recipe("never")]), tmp_path)
    assert isinstance(found, SetUp)
    assert (found.passed, found.failed) == (99, 1)
    assert [a.result for a in found.attempts] == ["build", "works"]
    assert "bad cannot be built" in found.attempts[0].reason
    assert tuple(AttemptLedger(tmp_path / "ledger").read()) == found.attempts
    assert rooms.closed == [True]
    assert [m.recipe for m in EnvironmentMemory(tmp_path).recall("made/up")] == [found.recipe]


async def test_the_ledger_has_what_each_try_made(tmp_path: Path) -> None:
    rooms = FakeRooms({"none": None, "weak": b"pf", "good": b"p"}, at_hand=["good"])
    found = await climb(rooms, ToyProfile([recipe("none"), recipe("weak"), recipe("good")]), tmp_path)
    assert isinstance(found, SetUp)
    tries = list(AttemptLedger(tmp_path / "ledger").read())
    assert [(a.layer_bytes, a.layer_reused) for a in tries] == [(0, False), (LAYER_BYTES, False), (LAYER_BYTES, True)]
    assert [f.layer_reused for f in found.facts] == [False, True]
    assert [(row.rung, row.layer_mib) for row in tries_of(tries)] == [("rung 1", 0.0), ("rung 2", 3.0), ("rung 3", 0.0)]


async def test_what_worked_before_is_tried_first(tmp_path: Path) -> None:
    EnvironmentMemory(tmp_path).remember("made/up", Remembered(recipe=recipe("known"), share=1.0))
    rooms = FakeRooms({"known": b"p", "other": b"p"})
    found = await climb(rooms, ToyProfile([recipe("other")]), tmp_path)
    assert isinstance(found, SetUp)
    assert rooms.built == ["known"]
    assert found.attempts[0].why == "worked for another commit"


async def test_a_repair_is_tried_before_the_next_rung(tmp_path: Path) -> None:
    rooms = FakeRooms({"weak": b"pf", "mended": b"pp", "next": b"pp"})
    profile = ToyProfile([recipe("weak"), recipe("next")], {"weak": recipe("mended")})
    found = await climb(rooms, profile, tmp_path)
    assert isinstance(found, SetUp)
    assert rooms.built == ["weak", "mended"]
    assert [(a.rung, a.why) for a in found.attempts] == [("rung 1", "rung 1"), ("rung 1", "a rule")]
    assert "output of the suite" in profile.failures[0].log


async def test_a_suite_with_failures_gets_one_more_look_and_the_better_is_taken(tmp_path: Path) -> None:
    good, better = b"p" * 9 + b"f", b"p" * 19 + b"f"
    found = await climb(FakeRooms({"a": good, "b": better, "c": b"p"}), ToyProfile([recipe("a"), recipe("b"), recipe("c")]), tmp_path)
    assert isinstance(found, SetUp)
    assert (found.passed, len(found.attempts)) == (19, 2)
    worse = await climb(FakeRooms({"a": good, "b": None}), ToyProfile([recipe("a"), recipe("b")]), tmp_path / "other")
    assert isinstance(worse, SetUp)
    assert (worse.passed, len(worse.attempts)) == (9, 2)


async def test_a_lost_file_is_repaired_however_many_tests_pass(tmp_path: Path) -> None:
    rooms = FakeRooms({"a": b"p" * 999 + b"L", "mended": b"p" * 9})
    found = await climb(rooms, ToyProfile([recipe("a")], {"a": recipe("mended")}), tmp_path)
    assert isinstance(found, SetUp)
    assert found.recipe == recipe("mended")


async def test_failures_that_another_commit_had_too_are_taken_as_they_are(tmp_path: Path) -> None:
    EnvironmentMemory(tmp_path).remember("made/up", Remembered(recipe=recipe("known"), share=0.9))
    found = await climb(FakeRooms({"known": b"p" * 9 + b"f"}), ToyProfile([recipe("other")]), tmp_path)
    assert isinstance(found, SetUp)
    assert len(found.attempts) == 1


async def test_repairs_are_bounded_and_none_is_tried_twice(tmp_path: Path) -> None:
    rooms = FakeRooms({"a": b"f", "b": b"f"})
    found = await climb(rooms, ToyProfile([recipe("a"), recipe("b")], {"a": recipe("b"), "b": recipe("a")}), tmp_path)
    assert isinstance(found, NoSetUp)
    assert rooms.built == ["a", "b"]
    assert found.reason == "no test runs in any environment"


async def test_the_same_failures_with_two_interpreters_end_the_search(tmp_path: Path) -> None:
    rooms = FakeRooms({"a": b"fL", "b": b"fL", "c": b"fL", "d": b"p"})
    ladder = [recipe("a"), recipe("b"), recipe("c", version="2"), recipe("d", version="3")]
    found = await climb(rooms, ToyProfile(ladder), tmp_path)
    assert isinstance(found, NoSetUp)
    assert rooms.built == ["a", "b", "c"]


async def test_no_tests_at_all_are_no_success(tmp_path: Path) -> None:
    for report in (b"", b"sss"):
        found = await climb(FakeRooms({"a": report}), ToyProfile([recipe("a")]), tmp_path)
        assert isinstance(found, NoSetUp)


async def test_a_lost_report_is_told(tmp_path: Path) -> None:
    class Silent(FakeRooms):
        async def create(self, spec: SandboxSpec) -> FakeBox:
            return FakeBox(None, self.closed)

    rooms = Silent({"a": b"p"})
    found = await climb(rooms, ToyProfile([recipe("a")]), tmp_path)
    assert isinstance(found, NoSetUp)
    assert "no report" in found.detail
    assert rooms.closed == [True]


async def test_a_report_that_is_no_plain_file_is_not_read(tmp_path: Path) -> None:
    class Linking(FakeBox):
        async def get(self, paths: Sequence[str], *, max_bytes: int = 0) -> bytes:
            return tar_of(entry(paths[0], kind=tarfile.SYMTYPE, link="/etc/passwd"), ("other", b"p"))

    class Rooms(FakeRooms):
        async def create(self, spec: SandboxSpec) -> FakeBox:
            return Linking(b"", self.closed)

    found = await climb(Rooms({"a": b"p"}), ToyProfile([recipe("a")]), tmp_path)
    assert isinstance(found, NoSetUp)
    assert "no report that can be read: it is not a regular file" in found.detail


async def test_a_lock_that_cannot_be_made_is_its_own_stage(tmp_path: Path) -> None:
    found = await climb(FakeRooms({}), ToyProfile([recipe("a")], lock_fails=True), tmp_path)
    assert isinstance(found, NoSetUp)
    assert [a.result for a in found.attempts] == ["lock"]
    assert found.reason == "no set of packages satisfies the requirements"


async def test_an_outage_of_the_index_is_no_reason_to_give_up(tmp_path: Path) -> None:
    class Dead(FakeRooms):
        async def build(self, recipe: Recipe, *, checkout: BlobRef | None) -> Built:
            raise BuildOutage("the index does not answer")

    with pytest.raises(BuildOutage):
        await climb(Dead({"a": b"p"}), ToyProfile([recipe("a"), recipe("b")]), tmp_path)
    assert list(AttemptLedger(tmp_path / "ledger").read()) == []


async def test_a_suite_that_breaks_its_box_is_that_tries_failure(tmp_path: Path) -> None:
    class Breaking(FakeBox):
        async def exec(self, request: ExecRequest) -> ExecResult:
            raise BoxBroken("boxd does not answer")

    class Rooms(FakeRooms):
        async def create(self, spec: SandboxSpec) -> FakeBox:
            breaks = spec.environment.image.reference == "bad"
            return Breaking(b"", self.closed) if breaks else await super().create(spec)

    rooms = Rooms({"bad": b"p", "good": b"p"})
    found = await climb(rooms, ToyProfile([recipe("bad"), recipe("good")]), tmp_path)
    assert isinstance(found, SetUp)
    assert [a.result for a in found.attempts] == ["tests", "works"]
    assert "boxd does not answer" in found.attempts[0].reason
    assert rooms.closed == [True, True]


async def test_a_machine_that_starves_a_suite_says_nothing_of_the_recipe(tmp_path: Path) -> None:
    class Starved(FakeBox):
        async def exec(self, request: ExecRequest) -> ExecResult:
            seen = Contention(elapsed_s=10.0, waited_s=9.5, box_cpu_s=0.5, idle_s=0.0)
            return ExecResult(exit_code=None, signal=9, timed_out=True, contention=seen)

    class Rooms(FakeRooms):
        async def create(self, spec: SandboxSpec) -> FakeBox:
            return Starved(b"", self.closed)

    rooms = Rooms({"good": b"p"})
    with pytest.raises(BoxLost, match="starved"):
        await climb(rooms, ToyProfile([recipe("good")]), tmp_path)
    assert rooms.closed == [True]


async def test_a_machine_without_memory_says_nothing_of_the_recipe(tmp_path: Path) -> None:
    class Killed(FakeBox):
        def memory_kills(self) -> MemoryKills:
            return MemoryKills(killed=len(self.seen), limit_bytes=1 << 30)

        async def exec(self, request: ExecRequest) -> ExecResult:
            self.seen.append(request)
            return ExecResult(exit_code=None, signal=9)

    class Rooms(FakeRooms):
        async def create(self, spec: SandboxSpec) -> FakeBox:
            return Killed(b"", self.closed)

    rooms = Rooms({"good": b"p"})
    with pytest.raises(BoxLost, match="ran out of memory"):
        await climb(rooms, ToyProfile([recipe("good")]), tmp_path)
    assert rooms.closed == [True]


async def test_a_rung_that_takes_too_long_makes_room_for_the_next(tmp_path: Path) -> None:
    class Slow(FakeRooms):
        async def build(self, recipe: Recipe, *, checkout: BlobRef | None) -> Built:
            if recipe.dependencies[0].run == "slow":
                await asyncio.Event().wait()
            return await super().build(recipe, checkout=checkout)

    found = await climb(
        Slow({"slow": b"p", "quick": b"p"}), ToyProfile([recipe("slow"), recipe("quick")]), tmp_path, budget=Budget(rung_s=0.05)
    )
    assert isinstance(found, SetUp)
    assert [a.result for a in found.attempts] == ["build", "works"]


async def test_time_that_builds_took_is_no_verdict(tmp_path: Path) -> None:
    class Stuck(FakeRooms):
        async def build(self, recipe: Recipe, *, checkout: BlobRef | None) -> Built:
            await asyncio.Event().wait()
            raise AssertionError

    with pytest.raises(ImageError, match="unjudged: no environment was found in time"):
        await climb(Stuck({}), ToyProfile([recipe("a")]), tmp_path, budget=Budget(total_s=0.05))
    with pytest.raises(ImageError, match=r"unjudged: .*this rung's time was over"):
        await climb(Stuck({}), ToyProfile([recipe("a")]), tmp_path, budget=Budget(rung_s=0.05))


@pytest.mark.parametrize("contention", [None, Contention(elapsed_s=10.0, waited_s=0.1, box_cpu_s=9.0, idle_s=1.0)])
async def test_a_suite_that_takes_all_the_time_itself_is_judged(tmp_path: Path, contention: Contention | None) -> None:
    class Hanging(FakeBox):
        async def exec(self, request: ExecRequest) -> ExecResult:
            assert request.timeout_s == 1.0, "its box ends it, before the rung's time is over"
            return ExecResult(exit_code=None, signal=9, timed_out=True, contention=contention)

    class Rooms(FakeRooms):
        async def create(self, spec: SandboxSpec) -> FakeBox:
            return Hanging(b"", self.closed)

    found = await climb(Rooms({"a": b"p"}), ToyProfile([recipe("a")]), tmp_path, budget=Budget(rung_s=2.0, total_s=2.0))
    assert isinstance(found, NoSetUp)
    assert [(a.result, a.reason) for a in found.attempts] == [("tests", "this rung's time was over")]


def test_the_memory_keeps_few_and_survives_rubbish(tmp_path: Path) -> None:
    memory = EnvironmentMemory(tmp_path)
    for i in range(9):
        memory.remember("made/up", Remembered(recipe=recipe(f"r{i}"), share=1.0))
    memory.remember("made/up", Remembered(recipe=recipe("r7"), share=1.0))
    assert [r.recipe.dependencies[0].run for r in memory.recall("made/up")][:2] == ["r7", "r8"]
    assert len(memory.recall("made/up")) == 6
    assert memory.recall("../else/where") == ()
    next(tmp_path.glob("*.json")).write_text("{")
    assert memory.recall("made/up") == ()
