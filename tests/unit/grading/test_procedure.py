import json
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Any, Literal
from xml.sax.saxutils import quoteattr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.core.change import Change, ChangedFile
from envfarm.core.outcome import Finding, Scored, TestStatus
from envfarm.core.plan import STATE_PLACES, Canary, Mode, PlanError
from envfarm.core.plan import TestCommand as Command
from envfarm.core.plan import TestPlan as Plan
from envfarm.grading import filtering
from envfarm.grading.guesses import blind_bits, blind_rounds, bounds_guesses, weakest_bits
from envfarm.grading.integrity import ALL, Defence
from envfarm.grading.procedure import (
    CommandOutcome,
    Preparation,
    after_blind_rounds,
    blind_part,
    drawn_anew,
    judge,
    judge_blind,
    prepare,
    read,
    sealed_change,
    templates_asked,
)
from tests.unit.grading.counting import lines_run

F2P, P2P = ("tests/test_a.py::test_new",), ("tests/test_a.py::test_old", "tests/test_a.py::TestC::test_p[1]")
KINDS: tuple[tuple[Literal["inverted", "renamed"], ...], ...] = (("inverted", "renamed"), ("renamed", "inverted"))
CANARIES = tuple(
    Canary(kind, f"0-{k}.py", "tests/test_{token}.py", f"tests/test_{{token}}.py::test_{{token}}_{origin[-5:]}", origin)
    for k, kinds in enumerate(KINDS)
    for kind, origin in zip(kinds, (F2P[0], P2P[0]), strict=True)
)
PLAN = Plan(
    work_dir="/testbed",
    commands=(Command(("python", "-m", "pytest", "--junitxml={report}", "tests/test_a.py", "{canaries}"), "junit", 60.0, {"A": "1"}),),
    fail_to_pass=F2P,
    pass_to_pass=P2P,
    test_files=("tests/test_a.py", "tests/data.txt"),
    removed_files=("tests/test_gone.py",),
    influencing=("**/conftest.py", "pytest.ini"),
    canaries=CANARIES,
)
SEALED = {
    "files/tests/test_a.py": b"sealed",
    "files/tests/data.txt": b"data",
    "canaries/0-0.py": b"def test_{token}_x(): pass",
    "canaries/0-1.py": b"def test_{token}_y(): pass",
}
TOKEN = "a token"
NOTHING = Change()


def preparation(change: Change = NOTHING, **changes: Any) -> Preparation:
    return prepare(replace(PLAN, **changes), SEALED, change, token=TOKEN)


def report(statuses: dict[str, TestStatus]) -> bytes:
    inner = {
        "passed": "",
        "failed": "<failure/>",
        "error": "<error/>",
        "skipped": "<skipped/>",
        "xfailed": '<skipped type="pytest.xfail"/>',
    }
    cases = []
    for test, status in statuses.items():
        file, *classes, name = test.split("::")
        dotted = ".".join([file[:-3].replace("/", "."), *classes])
        cases.append(f"<testcase classname={quoteattr(dotted)} name={quoteattr(name)} file={quoteattr(file)}>{inner[status]}</testcase>")
    return f"<testsuites>{''.join(cases)}</testsuites>".encode()


def honest(prepared: Preparation) -> list[dict[str, TestStatus]]:
    """What right code makes the reports say."""
    said: list[dict[str, TestStatus]] = []
    for phase in prepared.phases:
        statuses: dict[str, TestStatus] = {c.id: "failed" if c.kind == "inverted" else "passed" for c in phase.canaries}
        if phase.name == "tests":
            statuses.update(dict.fromkeys(F2P + P2P, "passed"))
        said.append(statuses)
    return said


def outcomes(said: list[dict[str, TestStatus]]) -> list[CommandOutcome]:
    return [CommandOutcome(int(any(s in ("failed", "error") for s in one.values())), report(one)) for one in said]


def test_right_code_scores_1() -> None:
    prepared = preparation()
    scored = judge(prepared, outcomes(honest(prepared)))
    assert (scored.reward, scored.why) == (1.0, "All 3 expected tests pass.")
    assert scored.components == {"f2p": 1.0, "p2p": 1.0, "integrity": 1.0}
    assert set(scored.report.statuses) == {*F2P, *P2P}, "canaries are no tests of the task"


def test_a_failing_test_is_named_and_no_sign_of_cheating() -> None:
    prepared = preparation()
    said = honest(prepared)
    said[1][F2P[0]] = "failed"
    for statuses, phase in zip(said, prepared.phases, strict=True):
        statuses.update({c.id: "passed" if c.kind == "inverted" else "failed" for c in phase.canaries if c.origin == F2P[0]})
    scored = judge(prepared, outcomes(said))
    assert scored.reward == 0.0
    assert scored.integrity.ok
    assert scored.components == {"f2p": 0.0, "p2p": 1.0, "integrity": 1.0}
    assert scored.why.startswith("1 of 3 expected tests do not pass: tests/test_a.py::test_new (failed)")


EXPECTED = [(n, test) for n, one in enumerate(honest(preparation())) for test in one]


@given(
    spoiled=st.lists(
        st.tuples(st.sampled_from(EXPECTED), st.sampled_from([None, "passed", "failed", "error", "skipped", "xfailed"])),
        min_size=1,
        max_size=8,
    ),
    exit_codes=st.lists(st.sampled_from([None, 0, 1, 2, 5, 139]), min_size=2, max_size=2),
)
def test_nothing_but_honest_answers_scores(spoiled: list[tuple[tuple[int, str], TestStatus | None]], exit_codes: list[int | None]) -> None:
    prepared = preparation()
    right, said = honest(prepared), honest(prepared)
    for (n, test), status in spoiled:
        if status is None:
            said[n].pop(test, None)
        else:
            said[n][test] = status
    results = [replace(r, exit_code=code) for r, code in zip(outcomes(said), exit_codes, strict=True)]
    scored = judge(prepared, results)

    def shows(n: int, test: str) -> bool:
        return said[n].get(test) == right[n][test] or (right[n][test] == "failed" and said[n].get(test) == "error")

    if not all(shows(n, test) for n, test in EXPECTED) or exit_codes != [1, 1]:
        assert scored.reward == 0.0
    assert scored.reward in (0.0, 1.0)
    assert all(0.0 <= share <= 1.0 for share in scored.components.values())


@given(st.lists(st.one_of(st.none(), st.binary(max_size=200)), max_size=3))
def test_nonsense_scores_0_and_never_fails(reports: list[bytes | None]) -> None:
    scored = judge(preparation(), [CommandOutcome(0, data) for data in reports])
    assert isinstance(scored, Scored)
    assert scored.reward == 0.0


def test_a_command_that_is_not_run_or_killed_scores_0() -> None:
    prepared = preparation()
    results = outcomes(honest(prepared))
    assert judge(prepared, results[:1]).reward == 0.0
    late = judge(prepared, [results[0], replace(results[1], timed_out=True)])
    assert late.reward == 0.0
    assert "in time" in late.why


def test_a_failed_check_from_outside_scores_0() -> None:
    prepared = preparation()
    scored = judge(prepared, outcomes(honest(prepared)), [Finding("nothing runs", ok=False, detail="1 left")])
    assert (scored.reward, scored.components["f2p"]) == (0.0, 0.0)


def test_a_plan_that_expects_nothing_scores_0() -> None:
    prepared = preparation(fail_to_pass=(), pass_to_pass=(), canaries=())
    assert judge(prepared, [CommandOutcome(0, report({"a.py::test": "passed"}))]).reward == 0.0


def test_the_blind_phase_shows_no_original() -> None:
    blind, tests = preparation().phases
    assert not any(f.path.endswith("test_a.py") for f in blind.sealed.files)
    assert "tests/test_a.py" not in blind.commands[0].argv
    assert {f.path for f in tests.sealed.files} > {"testbed/tests/test_a.py", "testbed/tests/data.txt"}
    assert tests.sealed.deleted == ("testbed/tests/test_gone.py",)
    assert {c.id for c in blind.canaries}.isdisjoint(c.id for c in tests.canaries)


def test_gradings_differ_and_are_reproducible() -> None:
    again, other = preparation(), prepare(PLAN, SEALED, Change(), token="another")
    assert again == preparation()
    assert again.scratch != other.scratch
    assert {c.id for c in again.phases[0].canaries}.isdisjoint(c.id for c in other.phases[0].canaries)


def test_which_copies_are_inverted_is_drawn() -> None:
    kinds = {prepare(PLAN, SEALED, Change(), token=str(n)).phases[0].canaries[0].kind for n in range(20)}
    assert kinds == {"inverted", "renamed"}


def test_placeholders_are_filled_and_loaders_blanked() -> None:
    command = preparation().phases[1].commands[0]
    assert not any("{" in a for a in command.argv)
    assert command.argv[-1].startswith("tests/test_")
    assert f"--junitxml={command.report_path}" in command.argv
    assert command.env["LD_PRELOAD"] == ""
    assert command.env["A"] == "1"
    seen = command.variables({"LD_PRELOAD": "ours.so", "A": "2"})
    assert "LD_PRELOAD" not in seen, "what the environment sets is kept"
    assert (seen["A"], seen["BASH_ENV"]) == ("1", "")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"test_files": ("tests/none.py",)}, "none.py"),
        ({"canaries": (replace(CANARIES[0], template="9.py"),)}, "9.py"),
        ({"commands": (Command(("pytest",), "junit", 1.0, {}),)}, "no command"),
    ],
)
def test_a_damaged_plan_is_an_error(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(PlanError, match=why):
        preparation(**changes)


def file(path: str, link: str | None = None) -> ChangedFile:
    return ChangedFile(path, 0o4755, content=None if link else b"x", link=link)


@pytest.mark.parametrize(
    "one",
    [
        file("testbed/tests/test_a.py"),
        file("testbed/tests/conftest.py"),
        file("testbed/conftest.py/x.py"),
        file("testbed/pytest.ini"),
        file("testbed/.git/hooks/post-checkout"),
        file("testbed/sub/.git/config"),
        file("testbed/../etc/passwd"),
        file("testbed/./x"),
        file("/testbed/x"),
        file("etc/passwd"),
        file("testbedded/x"),
        file("testbed/link", link="/etc/passwd"),
        file("testbed/link", link="../../etc"),
        file("testbed/link", link=".git/config"),
        file("testbed/tests", link="other"),
        file("testbed/a\0b"),
        file("testbed"),
    ],
    ids=lambda f: f.path + (f" -> {f.link}" if f.link else ""),
)
def test_what_decides_or_leaves_is_dropped(one: ChangedFile) -> None:
    prepared = preparation(Change((one, file("testbed/pkg/fix.py"))))
    assert [f.path for f in prepared.kept.files] == ["testbed/pkg/fix.py"]
    assert prepared.dropped == (one.path,)
    assert prepared.kept.files[0].mode == 0o755, "no set-user bit"


def test_deletions_are_judged_as_changes_are() -> None:
    prepared = preparation(Change(deleted=("testbed/tests/test_a.py", "testbed/tests", "testbed/old.py", "etc/passwd")))
    assert prepared.kept.deleted == ("testbed/old.py",)


def test_a_file_below_a_link_is_dropped() -> None:
    prepared = preparation(Change((file("testbed/a", link="pkg"), file("testbed/a/b.py"))))
    assert [f.path for f in prepared.kept.files] == ["testbed/a"]


NAMES_OF_PATHS = st.lists(st.sampled_from(["a", "b", "a.b", "a-", "é"]), min_size=1, max_size=4).map("/".join)


@given(st.dictionaries(NAMES_OF_PATHS, st.booleans()), st.sets(NAMES_OF_PATHS))
def test_exactly_what_lies_below_a_link_stays_behind(made: dict[str, bool], gone: set[str]) -> None:
    change = Change(
        tuple(file(f"testbed/{p}", link="x" if is_link else None) for p, is_link in made.items()), tuple(f"testbed/{p}" for p in gone)
    )
    links = {f"testbed/{p}" for p, is_link in made.items() if is_link}
    below = {p for p in change.paths for parent in PurePosixPath(p).parents if str(parent) in links}
    assert set(preparation(change).kept.paths) == set(change.paths) - below


def test_a_report_that_was_read_is_judged_as_it_was() -> None:
    prepared = preparation()
    whole = outcomes(honest(prepared))
    torn = [replace(whole[0], report=b"<testsuites>"), whole[1]]
    for results in (whole, torn, whole[:1]):
        commands = [(phase, command) for phase in prepared.phases for command in phase.commands]
        said = [read(prepared, *of, result) for of, result in zip(commands, results, strict=False)]
        assert [one.report for one in said] == [None] * len(results)
        assert judge(prepared, said) == judge(prepared, results)


def test_a_deep_path_is_filtered_like_any_other() -> None:
    def cost(depth: int) -> int:
        files = tuple(file("testbed/" + "a/" * depth + f"f{n}") for n in range(100))
        return lines_run(filtering, lambda: preparation(Change((file("testbed/l", link="x"), *files))))

    assert cost(500) == cost(5)


def test_nobody_has_so_many_paths_or_such_deep_ones() -> None:
    few = tuple(file(f"testbed/{n}") for n in range(10))
    assert filtering.too_unwieldy(Change(few, special=("testbed/pipe",))) is None
    many = filtering.too_unwieldy(Change(few, ("testbed/gone",) * filtering.PATHS_MAX))
    assert many is not None
    assert "100010 paths" in many.detail
    for deep in (Change((file("a/" * 128 + "b"),)), Change(special=("a/" * 128 + "pipe",))):
        finding = filtering.too_unwieldy(deep)
        assert finding is not None
        assert "129 names deep" in finding.detail
    assert filtering.too_unwieldy(Change((file("a/" * 127 + "b"),), ("a/" * 200 + "of the image",))) is None


@pytest.mark.parametrize(
    "path", ["home/agent/answer.txt", "srv/site/index.html", "var/lib/app/state.db", "tmp/out.json", "etc/app/app.conf"]
)
def test_replayed_state_is_carried_from_the_places_that_the_plan_names(path: str) -> None:
    places = (*STATE_PLACES, "etc/app/**")
    prepared = preparation(Change((file(path),), deleted=(f"{path}.old",)), mode="replayed", carried_outside=places)
    assert prepared.kept.paths == (path, f"{path}.old")
    assert preparation(Change((file(path),)), mode="replayed").dropped == (path,), "nothing is carried unless it is named"
    assert preparation(Change((file(path),)), mode="isolated", carried_outside=places).dropped == (path,)


@pytest.mark.parametrize(
    "path",
    [
        "lib64/ld-linux-x86-64.so.2",
        "lib/x86_64-linux-gnu/libc.so.6",
        "lib32/libc.so.6",
        "libx32/libc.so.6",
        "usr/bin/python3",
        "usr/local/bin/git",
        "bin/sh",
        "sbin/init",
        "etc/ld.so.preload",
        "etc/ld.so.conf.d/mine.conf",
        "etc/ld-musl-x86_64.path",
        "etc/passwd",
        "etc/profile.d/mine.sh",
        "var/spool/cron/crontabs/root",
        "proc/1/x",
        "tests/plan.json",
        "home/agent/venv/bin/python3",
        "home/agent/x.pth",
        "home/agent/pytest.ini",
        "home/agent/conftest.py",
        "home",
        "lib64",
    ],
)
def test_nothing_that_others_run_is_carried_whatever_the_plan_names(path: str) -> None:
    everything = {"carried_outside": ("**",), "influencing_outside": ("**/*.pth", "**/bin/python*", "home")}
    influencing = ("**/conftest.py", "**/pytest.ini")
    prepared = preparation(Change((file(path),), deleted=(path,)), mode="replayed", influencing=influencing, **everything)
    assert prepared.kept.paths == ()
    assert prepared.dropped == (path,)


@pytest.mark.parametrize(
    "path", ["opt/venv/bin/pytest", "opt/python-3.11/lib/libpython3.so", "var/cache/x", "root/.profile", "lib64", "home", "x"]
)
def test_what_is_in_no_place_of_state_stays_behind(path: str) -> None:
    assert preparation(Change((file(path),)), mode="replayed", carried_outside=STATE_PLACES).dropped == (path,)


@pytest.mark.parametrize("mode", ["isolated", "replayed"])
def test_a_work_dir_that_is_the_root_is_no_way_to_the_loader(mode: Mode) -> None:
    change = Change((file("lib64/ld-linux-x86-64.so.2"), file("etc/ld.so.preload"), file("usr/bin/env"), file("answer.txt")))
    assert preparation(change, mode=mode, work_dir="/").kept.paths == ("answer.txt",)
    assert preparation(Change((file("usr/src/app/x"),)), mode=mode, work_dir="/usr/src/app").kept.paths == ("usr/src/app/x",)


def test_a_plan_without_places_reads_as_before_there_were_any() -> None:
    assert "carried_outside" not in PLAN.to_json()
    named = replace(PLAN, carried_outside=STATE_PLACES)
    assert Plan.from_json(named.to_json()) == named


@pytest.mark.parametrize("name", ["executable_files", "linked_files"])
def test_a_plan_of_plain_files_reads_as_before_there_were_kinds(name: str) -> None:
    assert name not in PLAN.to_json()
    said = json.loads(PLAN.to_json())
    named = Plan.from_json(json.dumps({**said, name: ["tests/data.txt"]}))
    assert getattr(named, name) == ("tests/data.txt",)
    assert Plan.from_json(named.to_json()) == named
    with pytest.raises(PlanError, match=f"{name} names tests/none, which is not among test_files"):
        Plan.from_json(json.dumps({**said, name: ["tests/none"]}))


def test_programs_and_links_among_the_sealed_files_are_put_back_as_such() -> None:
    plan = replace(
        PLAN, test_files=("tests/add.sh", "tests/now", "tests/x"), executable_files=("tests/add.sh",), linked_files=("tests/now",)
    )
    sealed = {"files/tests/add.sh": b"#!/bin/sh", "files/tests/now": b"caf\xe9.txt", "files/tests/x": b"x"}
    assert sealed_change(plan, sealed).files == (
        ChangedFile("testbed/tests/add.sh", 0o755, content=b"#!/bin/sh"),
        ChangedFile("testbed/tests/now", 0o777, link="caf\udce9.txt"),
        ChangedFile("testbed/tests/x", 0o644, content=b"x"),
    )


def test_without_the_defence_the_file_stays() -> None:
    prepared = prepare(PLAN, SEALED, Change((file("testbed/pytest.ini"),)), token=TOKEN, defences=ALL - {Defence.DROP_INFLUENCING})
    assert prepared.kept.paths == ("testbed/pytest.ini",)


def shown(*templates: dict[str, str], destination: str = "tests/test_{token}.py", secret: bool = True) -> tuple[Canary, ...]:
    """Canaries by template: origin → the kind's first letter."""
    kinds: dict[str, Literal["inverted", "renamed"]] = {"i": "inverted", "r": "renamed"}
    return tuple(
        Canary(kinds[kind], f"{destination}-{k}", destination, f"{destination}::{{token}}_{origin[-4:]}", origin, secret)
        for k, template in enumerate(templates)
        for origin, kind in template.items()
    )


A, B, C = (f"tests/test_a.py::test_new_{letter}" for letter in "abc")


@pytest.mark.parametrize(
    ("canaries", "bits", "rounds"),
    [
        (shown({A: "i", B: "r"}, {A: "r", B: "i"}), 1.0, 8),
        (shown({A: "i", B: "r", C: "r"}, {A: "r", B: "i", C: "i"}), 2.585, 4),
        (shown({A: "i", B: "r"}, {A: "r", B: "i"}) + shown({C: "i"}, {C: "r"}, destination="tests/{token}_test.py"), 1.0, 8),
        (shown({A: "i", B: "i"}, {A: "r", B: "i"}, {A: "i", B: "r"}), 0.0, 3),
        (shown({A: "i", B: "r"}, {A: "r", B: "i"}, {P2P[0]: "i"}), 0.0, 3),
        (shown({P2P[0]: "i", P2P[1]: "r"}, {P2P[0]: "r", P2P[1]: "i"}), 0.0, 3),
        (shown({A: "i", B: "r"}, {A: "i", B: "r"}), 0.0, 3),
        (shown({A: "i", B: "r"}, {A: "r", B: "i"}, secret=False), 0.0, 3),
        ((), 0.0, 1),
    ],
    ids=[
        "two tests",
        "three",
        "a file of one kind adds nothing",
        "a round of one kind",
        "a round of old tests",
        "old tests",
        "one way",
        "copies that can be told apart",
        "none",
    ],
)
def test_a_lucky_guess_has_to_be_right_again_until_it_is_no_luck(canaries: tuple[Canary, ...], bits: float, rounds: int) -> None:
    plan = replace(PLAN, fail_to_pass=(A, B, C), canaries=canaries)
    assert round(blind_bits(plan), 3) == bits
    assert blind_rounds(plan) == rounds
    assert blind_rounds(replace(plan, mode="shared")) == 1, "there is one box"
    assert bounds_guesses(plan) == (bits > 0)


@pytest.mark.parametrize(
    ("canaries", "bits"),
    [
        (shown({A: "i", B: "r", C: "r"}, {A: "r", B: "i", C: "i"}), 1.0),
        (shown({A: "i", B: "r"}, {A: "r", B: "i"}), 0.0),
        (shown({A: "i", B: "r", C: "r"}, {A: "r", B: "i", C: "i"}, secret=False), 0.0),
        ((), 0.0),
    ],
    ids=["one copy each", "one test has none", "copies that can be told apart", "none"],
)
def test_of_a_change_that_lacks_one_test_alone_only_its_copies_ask_for_a_guess(canaries: tuple[Canary, ...], bits: float) -> None:
    assert weakest_bits(replace(PLAN, fail_to_pass=(A, B, C), canaries=canaries)) == bits


def test_of_a_test_with_several_copies_one_is_its_own() -> None:
    many = [replace(canary, copy=f"copy{n}") for n in range(3) for canary in shown({A: "i"})]
    canaries = (*many, replace(shown({A: "r"})[0], copy="own"))
    assert weakest_bits(replace(PLAN, fail_to_pass=(A,), canaries=canaries)) == 2.0


def test_further_rounds_ask_of_other_templates_while_there_are_some() -> None:
    prepared = preparation()
    first = {c.template for c in prepared.phases[0].canaries}
    others = {c.template for n in range(9) for c in drawn_anew(prepared, SEALED, token=str(n), asked=first).phases[0].canaries}
    assert others == {"0-0.py", "0-1.py"} - first
    assert drawn_anew(prepared, SEALED, token=TOKEN, asked={"0-0.py", "0-1.py"}).phases[0].canaries


def test_unaltered_copies_are_asked_once_each_in_the_course_of_the_blind_rounds() -> None:
    whole = tuple(
        Canary(
            "renamed",
            f"whole-{n}.py",
            f"tests/test_{{token}}_{n}.py",
            f"tests/test_{{token}}_{n}.py::test_{{token}}",
            P2P[0],
            unaltered=True,
        )
        for n in range(7)
    )
    plan = replace(PLAN, canaries=(*CANARIES, *whole))
    sealed = {**SEALED, **{f"canaries/{c.template}": b"def test_{token}(): pass" for c in whole}}
    groups: set[frozenset[str]] = set()
    for grading in range(9):
        asked: set[str] = set()
        for number in range(blind_rounds(plan)):
            prepared = drawn_anew(prepare(plan, sealed, NOTHING, token=TOKEN), sealed, token=f"{grading} {number}", asked=asked)
            now = frozenset(c.template for c in prepared.phases[0].canaries if c.unaltered)
            assert not asked.intersection(now)
            assert len(now) <= 3
            assert not [c for c in prepared.phases[1].canaries if c.unaltered], "beside the tests they tell nothing"
            asked |= templates_asked(prepared)
            groups.add(now)
        assert asked >= {c.template for c in whole}
    assert len(groups) == blind_rounds(plan), "the modules that are asked together are the same in every grading"
    assert Plan.from_json(plan.to_json()) == plan
    assert "unaltered" not in PLAN.to_json()


def test_a_further_blind_round_believes_right_code_alone() -> None:
    blind = blind_part(preparation())
    assert blind is not None
    assert [p.name for p in blind.phases] == ["blind"]
    real: dict[str, TestStatus] = dict.fromkeys(F2P + P2P, "passed")
    said = honest(blind)
    assert judge_blind(blind, outcomes(said), real) == ()
    turned: list[dict[str, TestStatus]] = [{t: "failed" if s == "passed" else "passed" for t, s in one.items()} for one in said]
    assert judge_blind(blind, outcomes(turned), real)
    assert judge_blind(blind, [], real), "a round that did not run is no proof"


def test_doubts_take_the_reward_away() -> None:
    prepared = preparation()
    scored = judge(prepared, outcomes(honest(prepared)))
    assert after_blind_rounds(scored, (), 7).reward == 1.0
    doubted = after_blind_rounds(scored, (Finding("canaries (blind)", ok=False, detail="wrong"),), 7)
    assert (doubted.reward, set(doubted.components.values()), doubted.integrity.ok) == (0.0, {0.0}, False)
    assert "canaries (blind)" in doubted.why
