"""Answers' programs in real boxes: those that do what is wanted, and those that misbehave."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.image import Environment, ImageRef
from envfarm.core.protocols import Box
from envfarm.core.sandbox import SandboxSpec
from envfarm.sandboxes.local import LocalProvider
from envfarm.testing.blobs import MemoryBlobs
from task_builders.questions import trial
from task_builders.questions.understanding import Understood, understand
from tests.unit.questions.asked import ASKED, pre, question


@pytest.fixture
async def box(tmp_path: Path, boxd: Path) -> AsyncIterator[Box]:
    provider = LocalProvider(tmp_path / "home", boxd, MemoryBlobs())
    image = ImageRef(kind="host", digest=digest.of_bytes(b"host"))
    spec = SandboxSpec(environment=Environment(image=image, work_dir=trial.ROOM), memory_mib=256, disk_mib=64, pids=64)
    opened = await provider.create(spec)
    yield opened
    await opened.close()
    await provider.aclose()


def understood(*answers: str) -> Understood:
    found = understand(question(ASKED, *answers))
    assert isinstance(found, Understood), found
    return found


async def test_two_answers_that_agree_decide_the_variants(box: Box) -> None:
    found = await trial.run(box, understood(pre("sort x.txt"), pre("awk '{print}' < x.txt | sort\n")))
    assert found.reproduced
    assert found.enough
    assert "one line" in found.decided
    assert found.undecided == ()
    assert found.verdict == trial.GOOD


async def test_answers_that_disagree_are_evidence(box: Box) -> None:
    found = await trial.run(box, understood(pre("sort x.txt"), pre("sort -u x.txt")))
    assert "repeated" in found.undecided
    assert "repeated" not in found.decided
    assert {r.answer for r in found.runs if r.case == "repeated"} == {10, 11}


async def test_of_one_answer_alone_only_what_is_foretold_counts(box: Box) -> None:
    found = await trial.run(box, understood(pre("sort x.txt"), pre("sort -r x.txt")))
    assert found.reproduced
    assert found.others == ()
    assert {each.by for each in found.decided.values()} <= {trial.FORETOLD, trial.SAME_LINES}
    assert "large" in found.undecided


async def test_an_output_that_is_not_wanted_is_told(box: Box) -> None:
    found = await trial.run(box, understood(pre("sort -r x.txt"), pre("sort x.txt")))
    assert (found.reproduced, found.verdict) == (False, trial.PRINTS_OTHERS)


async def test_white_space_at_ends_alone_makes_no_difference(box: Box) -> None:
    assert (await trial.run(box, understood(pre("sort x.txt | sed 's/$/  /'; echo")))).reproduced
    assert not (await trial.run(box, understood(pre("sort x.txt | sed 's/^/ /'")))).reproduced


@pytest.mark.parametrize(
    ("program", "failed"),
    [
        ("sort x.txt; exit 3", "status 3"),
        ("yes | sort x.txt -; cat x.txt", "too much|does not end|status"),
        ("f() { f | f & }; f; sort x.txt; sort missing", "status"),
        ("python3 -c 'while 1: pass' x.txt; sort x.txt", "does not end"),
    ],
)
async def test_programs_that_misbehave_are_outcomes(box: Box, program: str, failed: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial, "TIMEOUT_S", 2.0)
    outcome = understood(pre("sort x.txt"))
    solution = outcome.solutions[0]
    changed = type(solution)(solution.answer, type(solution.program)("shell", program), solution.names)
    found = await trial.run(box, type(outcome)(**{f: getattr(outcome, f) for f in outcome.__slots__} | {"solutions": (changed,)}))
    assert not found.reproduced
    assert any(word in found.runs[0].failed for word in failed.split("|"))
