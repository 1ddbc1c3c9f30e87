"""The procedure of a grading: what is put into a fresh box and run there, and what verdict the reports give. Pure.

`prepare` runs before the box's part and `judge` after it, in the farm and in Harbor's verifier alike. Neither touches a box, a clock or a
source of randomness: the caller provides the token.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from random import Random
from zlib import crc32

from envfarm.core.change import Change, ChangedFile
from envfarm.core.outcome import Finding, Integrity, Mismatch, Scored, TestReport, TestStatus
from envfarm.core.plan import Canary, Case, PlanError, TestCommand, TestPlan
from envfarm.grading import outputs, reports, words
from envfarm.grading.filtering import id_files, kept_part
from envfarm.grading.guesses import blind_rounds
from envfarm.grading.integrity import ALL, BLANKED, IN_TIME, SETTLED, Defence, canaries_answered, exit_agrees
from envfarm.grading.reports.statuses import ReportError, worst

REPORT = "{report}"
CANARIES = "{canaries}"
TOKEN = "{token}"  # noqa: S105 - a placeholder's name
LOG_TAIL = 4000
MISMATCH_CHARACTERS = 2000
NAMED_MAX = 3
BLIND = "blind"


@dataclass(frozen=True)
class PreparedCommand:
    """A command with all placeholders filled in."""

    argv: tuple[str, ...]
    env: dict[str, str]
    timeout_s: float
    report_path: str
    """Absolute; its folder exists for this grading only."""
    source: TestCommand

    def variables(self, environment: Mapping[str, str]) -> dict[str, str]:
        """What it sets in an environment with these variables: a blank is only for what neither plan nor environment sets."""
        return {name: value for name, value in self.env.items() if value or name in self.source.env or name not in environment}


@dataclass(frozen=True)
class Phase:
    """Files to put in place, then commands to run in order."""

    name: str
    sealed: Change
    """Paths relative to `/`, as in every `Change`."""
    commands: tuple[PreparedCommand, ...]
    canaries: tuple[Canary, ...] = ()
    """With the drawn name filled in."""
    case: Case | None = None
    """The case whose inputs are put in place, if the plan has cases."""
    expected: bytes = b""
    """The case's expected output. It is never put into the box."""


@dataclass(frozen=True)
class Preparation:
    """What a grading does in its box."""

    plan: TestPlan
    kept: Change
    dropped: tuple[str, ...]
    phases: tuple[Phase, ...]
    """The blind phase first, if there is one; the last phase runs the tests."""
    scratch: str
    """Absolute path of the folder for reports, to be created empty and writable for the tests' user."""
    defences: frozenset[Defence] = ALL


@dataclass(frozen=True)
class Said:
    """What a command's report says."""

    statuses: dict[str, TestStatus] = field(default_factory=dict)
    problem: str = ""
    """Why the report cannot be read."""
    mismatch: Mismatch | None = None
    """Of a case that fails."""


@dataclass(frozen=True)
class CommandOutcome:
    """The result of a prepared command, as seen from outside the box."""

    exit_code: int | None
    """None if a signal ended the command or if it was not run."""
    report: bytes | None
    """None if there is no readable file, or if it was read."""
    said: Said | None = None
    """What the report says, once it was read (`read`)."""
    timed_out: bool = False
    duration_s: float = 0.0
    log_tail: str = ""
    note: str = ""
    """Why it did not end by itself: a limit was hit, or the box broke."""
    spent: str = ""
    """Where its time went, if it timed out and figures from outside the box tell."""


@dataclass
class _PhaseReports:
    """The parsed reports of one phase."""

    statuses: dict[str, TestStatus] = field(default_factory=dict)
    per_command: list[dict[str, TestStatus]] = field(default_factory=list)
    mismatch: Mismatch | None = None
    findings: list[Finding] = field(default_factory=list)


def prepare(plan: TestPlan, tests: Mapping[str, bytes], change: Change, *, token: str, defences: Collection[Defence] = ALL) -> Preparation:
    """Fill in the plan for one grading.

    `tests` are the task's sealed files (`files/…`, `canaries/…`); `token` is a fresh secret of at least 64 bits as text. Raises
    `PlanError` if the plan names a file that is not among them, or has canaries that no command runs.
    """
    kept, dropped = kept_part(plan, change, defences)
    phases, scratch = _drawn(plan, tests, token, frozenset(defences))
    return Preparation(plan, kept, dropped, phases, scratch, frozenset(defences))


def drawn_anew(preparation: Preparation, tests: Mapping[str, bytes], *, token: str, asked: Collection[str]) -> Preparation:
    """The same grading with everything drawn again, for a further blind round. The change is not filtered again.

    The blind phase draws templates in `asked` (used before) only if no others are left.
    """
    phases, scratch = _drawn(preparation.plan, tests, token, preparation.defences, frozenset(asked))
    return replace(preparation, phases=phases, scratch=scratch)


def _drawn(
    plan: TestPlan, tests: Mapping[str, bytes], token: str, defences: frozenset[Defence], asked: frozenset[str] = frozenset()
) -> tuple[tuple[Phase, ...], str]:
    """The phases of a grading, and the folder of their reports."""
    scratch = f"/tmp/{words.generator(token, 'scratch').getrandbits(64):016x}"  # noqa: S108 - inside the box
    if Defence.SECRET_REPORT not in defences:
        scratch = "/tmp/reports"  # noqa: S108 - inside the box
    if plan.cases:
        return _case_phases(plan, tests, scratch, defences), scratch
    phases = []
    with_canaries = bool(plan.canaries) and Defence.CANARIES in defences
    if with_canaries and not any(CANARIES in command.argv for command in plan.commands):
        raise PlanError("plan.json: there are canaries, but no command has the argument {canaries}")
    if with_canaries and Defence.BLIND_CANARIES in defences:
        phases.append(_phase(plan, tests, token, scratch, _Shape(BLIND, True, True, defences, asked)))
    phases.append(_phase(plan, tests, token, scratch, _Shape("tests", False, with_canaries, defences)))
    return tuple(phases), scratch


def _case_phases(plan: TestPlan, tests: Mapping[str, bytes], scratch: str, defences: frozenset[Defence]) -> tuple[Phase, ...]:
    """One phase per case: its inputs are absent before its turn, and a file that an earlier case left at its output's path is deleted."""
    asked = [case for case in plan.cases if case.visible or Defence.HELD_OUT in defences]
    phases = []
    for n, case in enumerate(asked):
        named = {path: f"cases/{case.folder}/input/{path}" for path in case.inputs}
        expected = f"cases/{case.folder}/expected"
        if missing := [path for path in (*named.values(), expected) if path not in tests]:
            raise PlanError(f"plan.json: cases names {missing[0]}, which is not under tests/")
        files = tuple(ChangedFile(_from_root(plan, path), 0o644, content=tests[source]) for path, source in named.items())
        stale = (_from_root(plan, case.output),) if case.output and case.output not in case.inputs else ()
        sealed = Change(files, stale) if Defence.RESTORE_TESTS in defences else Change()
        command = _filled(plan.commands[0], plan.commands[0].argv, f"{scratch}/case-{n}.output", (), defences)
        phases.append(Phase(case.id, sealed, (command,), case=case, expected=tests[expected]))
    return tuple(phases)


@dataclass(frozen=True)
class _Shape:
    name: str
    blind: bool
    canaries: bool
    defences: frozenset[Defence]
    asked: frozenset[str] = frozenset()


def _phase(plan: TestPlan, tests: Mapping[str, bytes], token: str, scratch: str, shape: _Shape) -> Phase:
    chance = words.generator(token, shape.name)
    canaries, files = _draw_canaries(plan, tests, chance, shape) if shape.canaries else ((), ())
    sealed = Change()
    if Defence.RESTORE_TESTS in shape.defences:
        hidden = {c.origin.split("::", 1)[0] for c in canaries} | set(id_files(plan)) if shape.blind else set()
        sealed = sealed_change(plan, tests, hidden)
    sealed = Change(sealed.files + files, sealed.deleted)
    commands, left = [], list(dict.fromkeys(_in_work_dir(plan, f.path) for f in files))
    for n, command in enumerate(plan.commands):
        if shape.blind and CANARIES not in command.argv:
            continue
        argv = _without_tests(plan, command.argv) if shape.blind else command.argv
        path = f"{scratch}/{shape.name}-{n}.report"
        commands.append(_filled(command, argv, path, left, shape.defences))
        if CANARIES in command.argv:
            left = []
        if shape.blind:
            break
    return Phase(shape.name, sealed, tuple(commands), canaries)


def sealed_change(plan: TestPlan, tests: Mapping[str, bytes], hidden: Collection[str] = ()) -> Change:
    """The sealed test files, without the hidden ones, as a change of the work dir. Raises `PlanError` for a missing file."""
    files = []
    for path in plan.test_files:
        if path in hidden:
            continue
        if f"files/{path}" not in tests:
            raise PlanError(f"plan.json: test_files names {path}, which is not under tests/files/")
        data = tests[f"files/{path}"]
        if path in plan.linked_files:
            files.append(ChangedFile(_from_root(plan, path), 0o777, link=data.decode(errors="surrogateescape")))
        else:
            files.append(ChangedFile(_from_root(plan, path), 0o755 if path in plan.executable_files else 0o644, content=data))
    return Change(tuple(files), tuple(_from_root(plan, p) for p in plan.removed_files))


def _draw_canaries(
    plan: TestPlan, tests: Mapping[str, bytes], chance: Random, shape: _Shape
) -> tuple[tuple[Canary, ...], tuple[ChangedFile, ...]]:
    """One template for each destination, under a drawn name; of unaltered copies, one group for each blind round.

    Which modules form a group is fixed, since a test may pass beside some modules only: minting has seen every group as it is run here.
    A module's group follows from its name alone, so that the groups stay the same if one is left out.
    """
    alternatives: dict[str, list[str]] = {}
    for canary in plan.canaries:
        known = alternatives.setdefault(canary.destination, [])
        if canary.template not in known:
            known.append(canary.template)
    unaltered = sorted({c.destination for c in plan.canaries if c.unaltered})
    left_out = set(unaltered)
    if shape.blind:
        groups: dict[int, list[str]] = {}
        for destination in unaltered:
            groups.setdefault(crc32(destination.encode()) % blind_rounds(plan), []).append(destination)
        left_out -= set(
            chance.choice([g for g in groups.values() if not any(shape.asked.intersection(alternatives[d]) for d in g)] or [[]])
        )
    drawn: list[Canary] = []
    files: list[ChangedFile] = []
    taken: list[str] = []
    for destination in sorted(alternatives.keys() - left_out):
        left = [name for name in alternatives[destination] if name not in shape.asked]
        template = chance.choice(sorted(left or alternatives[destination]))
        word = words.draw(plan, chance, taken=taken)
        taken.append(word)
        if f"canaries/{template}" not in tests:
            raise PlanError(f"plan.json: canaries names {template}, which is not under tests/canaries/")
        text = tests[f"canaries/{template}"].replace(TOKEN.encode(), word.encode())
        path = destination.replace(TOKEN, word)
        files.append(ChangedFile(_from_root(plan, path), 0o644, content=text))
        of_template = (c for c in plan.canaries if (c.destination, c.template) == (destination, template))
        drawn += [replace(c, id=c.id.replace(TOKEN, word), destination=path) for c in of_template]
    return tuple(drawn), tuple(files)


def named_tests(plan: TestPlan, argv: Sequence[str]) -> dict[int, str]:
    """The arguments that name test files, folders of them, or tests: position in the command → path in the work dir."""
    files = id_files(plan) + plan.test_files
    folder = plan.work_dir.rstrip("/") + "/"

    def names_tests(path: str) -> bool:
        return not path.startswith("-") and any(file == path or file.startswith(path + "/") for file in files)

    paths = {n: argv[n].split("::", 1)[0].removeprefix(folder).rstrip("/") for n in range(1, len(argv))}
    return {n: path for n, path in paths.items() if names_tests(path)}


def _without_tests(plan: TestPlan, argv: Sequence[str]) -> tuple[str, ...]:
    named = named_tests(plan, argv)
    return tuple(argument for n, argument in enumerate(argv) if n not in named)


def _filled(
    command: TestCommand, argv: Sequence[str], report: str, canaries: Sequence[str], defences: Collection[Defence]
) -> PreparedCommand:
    if Defence.OWN_SETTINGS not in defences:
        argv = _without(argv, SETTLED)
    filled: list[str] = []
    for argument in argv:
        filled += canaries if argument == CANARIES else [argument.replace(REPORT, report)]
    env = dict.fromkeys(BLANKED, "") if Defence.CLEAN_ENV in defences else {}
    env.update({name: value.replace(REPORT, report) for name, value in command.env.items()})
    return PreparedCommand(tuple(filled), env, command.timeout_s, report, command)


def _without(argv: Sequence[str], runs: Collection[tuple[str, ...]]) -> list[str]:
    """The arguments without these sequences of one or more arguments."""
    left = list(argv)
    for n in range(len(left) - 1, -1, -1):
        for run in runs:
            if tuple(left[n : n + len(run)]) == run:
                del left[n : n + len(run)]
    return left


def _from_root(plan: TestPlan, path: str) -> str:
    return f"{plan.work_dir.strip('/')}/{path}".lstrip("/")


def _in_work_dir(plan: TestPlan, path: str) -> str:
    return path[len(plan.work_dir.strip("/")) :].lstrip("/")


def judge(preparation: Preparation, results: Sequence[CommandOutcome], findings: Sequence[Finding] = ()) -> Scored:
    """The verdict: reward 1 only if every expected test passes and every integrity check holds.

    `results` follow the commands of the phases in order; missing results at the end are commands that were not run, which is a finding.
    `findings` are checks that the caller made outside the box.
    """
    plan, defences = preparation.plan, preparation.defences
    read = _read_phases(preparation, results)
    real = {test: status for one in read for test, status in one.statuses.items()} if plan.cases else read[-1].statuses
    f2p = _verdicts(plan.fail_to_pass, real, defences)
    p2p = _verdicts(plan.pass_to_pass, real, defences)
    passed = bool(f2p) and all(f2p.values()) and all(p2p.values())
    checks = [*findings, *(finding for phase in read for finding in phase.findings)]
    checks += _check_exits(preparation, results, read, all_passed=passed)
    if plan.cases and Defence.HELD_OUT not in defences:
        f2p = {test: real.get(test) == "passed" for test in f2p if test in {p.name for p in preparation.phases}}
        passed = bool(f2p) and all(f2p.values())
    for phase, one in zip(preparation.phases, read):
        if phase.canaries:
            checks.append(canaries_answered(phase.canaries, one.statuses, real, f"({phase.name})"))
    integrity = Integrity(plan.mode, tuple(checks), preparation.dropped)
    reward = 1.0 if passed and integrity.ok else 0.0
    f2p_share = _share(_by_output(preparation, f2p) if plan.cases else f2p.values())
    components = {"f2p": f2p_share if integrity.ok else 0.0, "p2p": _share(p2p.values()) if integrity.ok else 0.0}
    disguised = {c.id for phase in preparation.phases for c in phase.canaries}
    report = TestReport(
        statuses={test: status for test, status in real.items() if test not in disguised},
        fail_to_pass=f2p,
        pass_to_pass=p2p,
        missing=tuple(t for t in plan.fail_to_pass + plan.pass_to_pass if t not in real),
        exit_codes=tuple(r.exit_code for r in results),
        duration_s=sum(r.duration_s for r in results),
        log_tail=results[-1].log_tail[-LOG_TAIL:] if results else "",
        mismatch=_visible_mismatch(preparation, read),
    )
    why = _why(report, integrity, results)
    return Scored(reward, {**components, "integrity": float(integrity.ok)}, report, integrity, why)


def _visible_mismatch(preparation: Preparation, read: Sequence[_PhaseReports]) -> Mismatch | None:
    """Of the first visible case that fails. One that ran after a held-out case may print what it left behind."""
    visible = takewhile(lambda pair: pair[0].case is not None and pair[0].case.visible, zip(preparation.phases, read))
    return next((one.mismatch for _, one in visible if one.mismatch is not None), None)


def rules_out_reward(preparation: Preparation, phase: Phase, results: Sequence[CommandOutcome]) -> Finding | None:
    """A finding of a blind phase that rules out a reward, whatever the tests show; None if it rules out nothing.

    If a canary's answer is wrong, either its original passes, and the reports are not trusted; or it does not pass, and the reward is 0.
    """
    if not phase.canaries or Defence.ALL_IDS not in preparation.defences:
        return None
    plan = preparation.plan
    read = _read_phases(replace(preparation, phases=(phase,)), results)
    finding = canaries_answered(
        [c for c in phase.canaries if c.origin in {*plan.fail_to_pass, *plan.pass_to_pass}],
        read[0].statuses,
        dict.fromkeys(plan.fail_to_pass + plan.pass_to_pass, "passed"),
        f"({phase.name})",
    )
    return None if finding.ok else finding


def blind_part(preparation: Preparation) -> Preparation | None:
    """The same grading's blind phase alone, for a further round in a fresh box; None if there is none."""
    phases = tuple(phase for phase in preparation.phases[:-1] if phase.canaries)
    return replace(preparation, phases=phases) if phases else None


def judge_blind(
    blind: Preparation, results: Sequence[CommandOutcome], real: Mapping[str, TestStatus], findings: Sequence[Finding] = ()
) -> tuple[Finding, ...]:
    """The failed checks of a further blind round. `real` are the statuses of the tests themselves; `findings` are as in `judge`."""
    read = _read_phases(blind, results)
    checks = [*findings, *(finding for phase in read for finding in phase.findings)]
    checks += _check_exits(blind, results, read, all_passed=True)
    checks += [canaries_answered(p.canaries, one.statuses, real, f"({p.name})") for p, one in zip(blind.phases, read)]
    return tuple(check for check in checks if not check.ok)


def after_blind_rounds(scored: Scored, doubts: Sequence[Finding], rounds: int) -> Scored:
    """The verdict after further blind rounds: unchanged, or 0 if they raised doubts."""
    told = doubts or (Finding("canaries in further blind rounds", ok=True, detail=f"{rounds} more, each in a fresh box"),)
    integrity = replace(scored.integrity, findings=(*scored.integrity.findings, *told))
    if not doubts:
        return replace(scored, integrity=integrity)
    components = {**dict.fromkeys(scored.components, 0.0)}
    why = f"The grading is not trusted: the check '{doubts[0].check}' failed ({doubts[0].detail})."
    return replace(scored, reward=0.0, components=components, integrity=integrity, why=why)


def templates_asked(preparation: Preparation) -> set[str]:
    """The templates that the blind phase drew."""
    return {canary.template for phase in preparation.phases if phase.name == BLIND for canary in phase.canaries}


def with_placeholders(preparation: Preparation, results: Sequence[CommandOutcome]) -> dict[str, TestStatus]:
    """The statuses of every test in the canaries' files, with the placeholder in place of the drawn name."""
    planned = {canary.template: canary.destination for canary in preparation.plan.canaries}
    found: dict[str, TestStatus] = {}
    for phase, statuses in read_phases(preparation, results):
        for canary in phase.canaries:
            head, _, tail = planned[canary.template].partition(TOKEN)
            word = canary.destination[len(head) : len(canary.destination) - len(tail)]
            found |= {t.replace(word, TOKEN): said for t, said in statuses.items() if t.partition("::")[0] == canary.destination}
    return found


def read_phases(preparation: Preparation, results: Sequence[CommandOutcome]) -> list[tuple[Phase, dict[str, TestStatus]]]:
    """Each phase's statuses, canaries included; an unreadable report gives none."""
    return [(phase, one.statuses) for phase, one in zip(preparation.phases, _read_phases(preparation, results))]


def read(preparation: Preparation, phase: Phase, command: PreparedCommand, outcome: CommandOutcome) -> CommandOutcome:
    """The outcome with what its report says in place of the report, so that each report is parsed once and its bytes are freed.

    `judge` and the like parse reports that were not read. A hostile report takes a second or two.
    """
    return replace(outcome, report=None, said=_said(preparation, phase, command, outcome))


def _said(preparation: Preparation, phase: Phase, command: PreparedCommand, outcome: CommandOutcome) -> Said:
    if phase.case is not None:
        status = _case_status(phase, phase.case, outcome)
        mismatch = Mismatch(phase.case.id, _cut(phase.expected), _cut(outcome.report or b""), outcome.exit_code)
        return Said({phase.case.id: status}, mismatch=mismatch if status == "failed" and phase.case.visible else None)
    try:
        return Said(reports.read(kind(command, preparation), outcome.report) if outcome.report is not None else {})
    except ReportError as e:
        return Said(problem=str(e))


def _read_phases(preparation: Preparation, results: Sequence[CommandOutcome]) -> list[_PhaseReports]:
    left, phases = iter(results), []
    for phase in preparation.phases:
        one = _PhaseReports()
        for command in phase.commands:
            outcome = next(left, None)
            said = Said() if outcome is None else outcome.said or _said(preparation, phase, command, outcome)
            if said.problem:
                one.findings.append(Finding("report can be read", ok=False, detail=said.problem))
            one.per_command.append(said.statuses)
            one.mismatch = one.mismatch or said.mismatch
            for test, status in said.statuses.items():
                one.statuses[test] = worst(one.statuses.get(test, "passed"), status)
        phases.append(one)
    return phases


def _case_status(phase: Phase, case: Case, result: CommandOutcome) -> TestStatus:
    """A case passes if the program exits with status 0 and its output is the expected one."""
    good = result.exit_code == 0 and result.report is not None and outputs.same(phase.expected, result.report, case.relation)
    return "passed" if good else "failed"


def _cut(output: bytes) -> str:
    text = output[: 4 * MISMATCH_CHARACTERS + 1].decode("utf-8", "replace")
    return text if len(text) <= MISMATCH_CHARACTERS else f"{text[:MISMATCH_CHARACTERS]}…"


def kind(command: PreparedCommand, preparation: Preparation) -> str:
    """The report kind, which selects the reader."""
    return command.source.report if Defence.OUTSIDE_PARSER in preparation.defences else "pytest_log"


def _check_exits(
    preparation: Preparation, results: Sequence[CommandOutcome], read: Sequence[_PhaseReports], *, all_passed: bool
) -> list[Finding]:
    checks: list[Finding] = []
    commands = [(phase, c, s) for phase, one in zip(preparation.phases, read) for c, s in zip(phase.commands, one.per_command)]
    for (phase, command, statuses), result in zip(commands, results):
        if phase.case is not None:
            continue  # its exit status is judged with its output; a case that was not run counts as failed
        if result.timed_out:
            spent = f": {result.spent}" if result.spent else ""
            checks.append(Finding(IN_TIME, ok=False, detail=f"killed after {result.duration_s:.0f} s{spent}"))
        elif Defence.EXIT_AGREES in preparation.defences:
            checks.append(exit_agrees(command.source, result.exit_code, statuses, all_passed=all_passed))
        if result.note:
            checks.append(Finding("command keeps to the box's limits", ok=False, detail=result.note))
    if len(results) < len(commands) and not preparation.plan.cases:
        checks.append(Finding("every command is run", ok=False, detail=f"{len(results)} of {len(commands)}"))
    return checks


def _verdicts(ids: Sequence[str], real: Mapping[str, TestStatus], defences: Collection[Defence]) -> dict[str, bool]:
    asked = ids if Defence.ALL_IDS in defences else [test for test in ids if test in real]
    verdicts = {test: real.get(test) == "passed" for test in asked}
    return verdicts or ({"": True} if Defence.ALL_IDS not in defences else {})


def _by_output(preparation: Preparation, verdicts: Mapping[str, bool]) -> list[bool]:
    """For each output that is expected, whether all cases that expect it pass. The visible output is left out if there are others, so that
    printing it is worth nothing.
    """
    shown: set[Hashable] = set()
    found: dict[Hashable, bool] = {}
    for phase in preparation.phases:
        if phase.case is not None and phase.case.id in verdicts:
            form = outputs.normal(phase.expected, phase.case.relation)
            found[form] = found.get(form, True) and verdicts[phase.case.id]
            shown |= {form} if phase.case.visible else set()
    return [passes for form, passes in found.items() if form not in shown] or list(found.values())


def _share(verdicts: Collection[bool]) -> float:
    return sum(verdicts) / len(verdicts) if verdicts else 1.0


def _why(report: TestReport, integrity: Integrity, results: Sequence[CommandOutcome]) -> str:
    broken = next((f for f in integrity.findings if not f.ok), None)
    failing = [t for t, ok in {**report.fail_to_pass, **report.pass_to_pass}.items() if not ok]
    if broken is not None and (not failing or not report.statuses or any(r.timed_out or r.note for r in results)):
        return f"The grading is not trusted: the check '{broken.check}' failed ({broken.detail})."
    total = len(report.fail_to_pass) + len(report.pass_to_pass)
    if not failing and total:
        return f"All {total} expected tests pass." if total > 1 else "The one expected test passes."
    if not failing:
        return "The plan expects no test."
    named = ", ".join(f"{t} ({report.statuses.get(t, 'missing')})" for t in failing[:NAMED_MAX])
    more = f" and {len(failing) - NAMED_MAX} more" if len(failing) > NAMED_MAX else ""
    return f"{len(failing)} of {total} expected tests do not pass: {named}{more}."
