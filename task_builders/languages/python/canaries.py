"""Makes canaries from a Python project's own tests: copies under random names, some of which must fail. Pure.

There are two steps. `draft` proposes alterations; their copies are tried with the fix and on the unfixed code. `settled` makes canaries of
those that behave. For a FAIL_TO_PASS test the best alterations leave its outcome on unfixed code unchanged and are in places that the
agent's tests do not show: if they run where the originals cannot be seen, only right code can tell the copies apart. A test without such
alterations gets the next best, which still reverse its outcome with the fix.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Literal, NamedTuple

from envfarm.core.plan import Canary
from task_builders.languages.canary_set import CanarySet, both_ways
from task_builders.languages.python import unaltered_copies
from task_builders.languages.python.assertions import Alteration, alterations, syntax_shown
from task_builders.languages.python.copies import (
    TOKEN,
    Case,
    Copy,
    Expected,
    by_module,
    cases,
    destination_of,
    drawn_words,
    expected_in,
    module,
    new_name,
    sharing,
    unexplained,
)
from task_builders.languages.python.literals import Literals, words_of
from task_builders.languages.python.named_tests import TestFunction
from task_builders.languages.python.source_edits import Edit, Source
from task_builders.languages.python.syntax import tree_of

MODULES_MAX = 4
TESTS_PER_MODULE_MAX = 12
KNOWN_IDS_MAX = 8
"""Maximum number of cases of a PASS_TO_PASS test that an altered copy uses; for FAIL_TO_PASS tests all are used."""
ALTERATIONS_MAX, ALTERATIONS_OF_FEW = 10, 32
ALTERED_LINES_MAX = 400
CASES_PER_ALTERATION = 4
SOUND_MAX = 4
SHOWN_MAX = 2
"""Maximum number of tried alterations that the agent's tests reveal."""
ARRANGEMENTS, ARRANGEMENTS_OF_FEW, FEW = 4, 8, 3
"""A module with few FAIL_TO_PASS tests shows each with several values at once, and in more arrangements."""
VALUES_MAX, CASES_MAX = 8, 64
"""Values of one place that an arrangement shows, the test's own among them; cases of a test in one arrangement."""
BAD = ("failed", "error")
BREAKS = "skipped"
"""The status of a copy that ended on unfixed code by anything but a failed assertion: see `Copy.breaks`."""
Kind = Literal["inverted", "renamed"]
Answers = Mapping[str, str]
"""The status of each copy in a run, by its id with the placeholder, in the run's order."""


@dataclass
class _Test:
    """A test function or method with the cases that pass with the fix."""

    function: Expected
    wanted: frozenset[str]
    """Those of its ids that are in FAIL_TO_PASS."""
    proposed: list[Alteration] = field(default_factory=list)
    sound: list["_Sound"] = field(default_factory=list)

    @property
    def node(self) -> TestFunction:
        return self.function.node

    @property
    def cases(self) -> Mapping[str, Case]:
        return self.function.cases


@dataclass(frozen=True)
class _Version:
    """How a copy differs: another value, a negated assertion, both, or neither."""

    alteration: Alteration | None = None
    other: bool = False
    turned: bool = False

    @property
    def edits(self) -> tuple[Edit, ...]:
        chosen = self.alteration
        if chosen is None:
            return ()
        turn = (chosen.turn,) if self.turned and chosen.turn is not None else ()
        return (*turn, *((chosen.other,) if self.other else ()))


class _Kinded(NamedTuple):
    """One case of a copy."""

    origin: str
    """Empty if the test is not among the expected ones."""
    case: Case
    kind: Kind


@dataclass(frozen=True)
class _Sound:
    """An alteration that behaved when tried: for each version, its cases' ids and their expected results."""

    alteration: Alteration
    turnable: bool
    secret: bool
    """Whether only right code can tell its copies apart."""
    kinds: Mapping[tuple[bool, bool], tuple["_Kinded", ...]]
    """By (other, turned)."""

    @property
    def place(self) -> tuple[object, ...]:
        """What alterations have in common that give one place of a test other values."""
        return self.alteration.other.start, self.alteration.other.end, self.alteration.turn, self.turnable


@dataclass
class _Module:
    number: int
    path: str
    word: str
    """Part of the name of its copies' file."""
    source: Source
    chosen: list[_Test]
    chance: Random

    @property
    def has_few(self) -> bool:
        """Whether few of its tests are in FAIL_TO_PASS."""
        return sum(bool(test.wanted) for test in self.chosen) <= FEW

    @property
    def destination(self) -> str:
        """A file of its own: templates with the same destination are alternatives, and a draw must not leave this module out."""
        return destination_of(self.path, self.word)


@dataclass
class Draft:
    """Proposed canaries of one task."""

    modules: list[_Module]
    wanted: frozenset[str]
    notes: list[str]
    unaltered: Callable[[Collection[str]], CanarySet]
    """Copies, changed only in names, of every expected test except those whose ids are given."""

    @property
    def at_fix(self) -> CanarySet:
        """What to try with the solution in place."""
        return self._trial(lenient=False)

    @property
    def at_base(self) -> CanarySet:
        """What to try without it: with stand-ins for what the fix would add, and also with each altered statement alone."""
        return self._trial(lenient=True)

    def _trial(self, *, lenient: bool) -> CanarySet:
        canaries, templates = [], {}
        for one in self.modules:
            copies = [
                (t.node, [Copy(name, v.edits, alone, lenient) for name, v, alone in _trial_copies(t) if lenient or alone is None])
                for t in one.chosen
            ]
            if any(t.proposed for t in one.chosen):
                name = f"trial-{one.number}.py"
                text = module(one.source, [(n, c) for n, c in copies if len(c) > 1], lenient=lenient)
                templates[name] = unexplained(one.source, text)
                canaries.append(Canary("renamed", name, one.destination, f"{one.destination}::trial"))
        return CanarySet(tuple(canaries), templates)

    def plainer(self, at_fix: Answers) -> bool:
        """Give up alterations of parameters in modules without any result with the fix: one of them may have kept the module from loading.

        Returns whether there were any; then the modules must be tried again.
        """
        changed = False
        for one in self.modules:
            if any(test.startswith(one.destination + "::") for test in at_fix):
                continue
            for test in one.chosen:
                kept = [a for a in test.proposed if not a.in_parameters]
                changed |= len(kept) < len(test.proposed)
                test.proposed = kept
        return changed

    def settled(self, at_fix: Answers, at_base: Answers) -> CanarySet:
        """The canaries, given the results of the two trials."""
        canaries: list[Canary] = []
        templates: dict[str, bytes] = {}
        for one in self.modules:
            for test in one.chosen:
                if test.wanted:
                    test.sound = _sound_alterations(one, test, at_fix, at_base)
                else:
                    test.sound = [_untried(test, a) for a in test.proposed]
            for k, (text, members) in enumerate(_arrangements(one)):
                name = f"{one.number}-{k}.py"
                templates[name] = text
                canaries += [replace(c, template=name) for c in members]
        proposed = sum(len(t.proposed) for m in self.modules for t in m.chosen if t.wanted)
        sound = sum(len(t.sound) for m in self.modules for t in m.chosen if t.wanted)
        altered = [t for m in self.modules for t in m.chosen if t.wanted and t.sound]
        next_best = sum(not any(s.secret for s in t.sound) for t in altered)
        note = f"{sound} of {proposed} alterations of FAIL_TO_PASS tests can be used; {len(altered)} tests have one"
        if next_best:
            note += f", but {next_best} of these only such as unfixed code or the agent's tests reveal"
        # An unaltered copy beside an altered one of the same test would reveal which value is the test's own.
        shown = both_ways(canaries, self.wanted)
        altered_ids = {one.origin for one in canaries if one.template in shown}
        rest = self.unaltered({i for m in self.modules for t in m.chosen if altered_ids & t.cases.keys() for i in t.cases})
        return CanarySet((*canaries, *rest.canaries), templates | rest.templates, (*self.notes, *rest.notes, note))


def draft(
    files: Mapping[str, bytes],
    fail_to_pass: Collection[str],
    pass_to_pass: Collection[str],
    *,
    failing: Collection[str] = (),
    base: Mapping[str, str],
    seed: str,
) -> Draft:
    """Propose canaries of the tests in `files` (path in the work dir → text with the fix) whose ids are given.

    `failing` are tests that do not pass with the fix. A copy of a function would run these cases of it as well, and some leave the process
    in a state in which every test after them fails; so functions with such a case are left out, unless no FAIL_TO_PASS test were left.
    `base` is the tree that the agent sees: what it reveals of the tests is not secret. The same input and seed give the same proposals. A
    module that cannot be parsed is left out, with a note.
    """
    notes: list[str] = []
    texts = {path: text.encode() for path, text in base.items()} | dict(files)
    spoilt = sharing(texts, failing, [*fail_to_pass, *pass_to_pass])
    wanted = frozenset(test for test in fail_to_pass if test not in spoilt) or frozenset(fail_to_pass)
    others = [test for test in pass_to_pass if test not in spoilt]
    passing = by_module([*(test for test in fail_to_pass if test in wanted), *others])
    names = [m for m in passing if m in files and m.endswith(".py")]
    names.sort(key=lambda m: (-sum(test in wanted for test in passing[m]), m))
    known = _known(base)
    words = words_of(text for path, text in base.items() if path.endswith(".py"))
    file_words = drawn_words(Random(f"{seed}\0files"))  # noqa: S311 - reproducible; what is drawn is sealed
    modules = []
    for n, name in enumerate(names[:MODULES_MAX]):
        chance = Random(f"{seed}\0{name}")  # noqa: S311 - reproducible; what is drawn is sealed
        try:
            source = Source(files[name])
        except (SyntaxError, ValueError) as e:
            notes.append(f"{name} cannot be parsed by this Python: {e}")
            continue
        if TOKEN.encode() in source.data:
            notes.append(f"{name} contains the text {TOKEN}")
            continue
        tests = _tests(source, passing[name], wanted)
        chosen = sorted(tests, key=lambda t: (not t.wanted, chance.random()))[:TESTS_PER_MODULE_MAX]
        literals = Literals(source, words)
        limit = ALTERATIONS_OF_FEW if sum(bool(test.wanted) for test in chosen) <= FEW else ALTERATIONS_MAX
        for test in chosen:
            found = alterations(source, test.node, literals, chance, known if test.wanted else ())
            if test.wanted:
                lines = (test.node.end_lineno or test.node.lineno) - test.node.lineno + 1
                most = min(limit - len(test.cases) // CASES_PER_ALTERATION, ALTERED_LINES_MAX // lines)
                shown = [a for a in found if not a.secret][:SHOWN_MAX]
                test.proposed = [*[a for a in found if a.secret][: max(2, most)], *shown]
            else:
                test.proposed = [a for a in found if a.rank == 0 and not a.in_parameters][:1]
        modules.append(_Module(n, name, next(file_words), source, chosen, chance))

    def unaltered(covered: Collection[str]) -> CanarySet:
        left = by_module(test for tests in passing.values() for test in tests if test not in covered)
        return unaltered_copies.of(texts, left, wanted, file_words, Random(f"{seed}\0unaltered"))  # noqa: S311 - as above

    return Draft(modules, wanted, notes, unaltered)


def _known(base: Mapping[str, str]) -> set[str]:
    """What the tests in the agent's tree reveal."""
    found: set[str] = set()
    for path, text in base.items():
        if path.endswith(".py") and "test" in path:
            try:
                found |= syntax_shown(tree_of(text))
            except (SyntaxError, ValueError):
                continue
    return found


def _tests(source: Source, ids: Sequence[str], wanted: frozenset[str]) -> list[_Test]:
    return [_Test(one, wanted & one.cases.keys()) for one in expected_in(source, ids)]


def _trial_copies(test: _Test) -> Iterable[tuple[str, _Version, int | None]]:
    """The copies of a trial: name, version, and the statement that is run alone (or None)."""
    yield _trial_name(test), _Version(), None
    for n in sorted({a.statement for a in test.proposed}):
        yield _trial_name(test, f"s{n}"), _Version(), n
    for k, one in enumerate(test.proposed):
        yield _trial_name(test, f"o{k}"), _Version(one, other=True), None
        yield _trial_name(test, f"a{k}"), _Version(one, other=True), one.statement
        if one.turn is not None:
            yield _trial_name(test, f"t{k}"), _Version(one, turned=True), None
            yield _trial_name(test, f"b{k}"), _Version(one, other=True, turned=True), None


def _trial_name(test: _Test, which: str = "") -> str:
    return new_name(test.function.name, f"{test.node.lineno}_{which or 'x'}")


def _sound_alterations(one: _Module, test: _Test, at_fix: Answers, at_base: Answers) -> list[_Sound]:
    """Alterations that reverse the outcome with the fix and change nothing on unfixed code; if there are none, those that do the former."""
    places = {case.classes for case in test.cases.values()}

    def said(answers: Answers, which: str = "") -> list[tuple[Case, str]]:
        return cases(answers, one.destination, places, _trial_name(test, which))

    plain = said(at_fix)
    origins = [origin if (origin := case.id(one.path, test.function.name)) in test.cases else "" for case, _ in plain]
    if not any(origins) or any(origin and status != "passed" for origin, (_, status) in zip(origins, plain, strict=True)):
        return []
    found: list[tuple[bool, _Sound]] = []
    for k, alteration in enumerate(test.proposed):
        turned = [("t", False, True), ("b", True, True)] if alteration.turn is not None else []
        runs = {(False, False): plain} | {
            (other, turn): said(at_fix, f"{letter}{k}") for letter, other, turn in (("o", True, False), *turned)
        }
        kinds = {way: _kinds(origins, answers) for way, answers in runs.items()}
        other = kinds[True, False]
        if other is None or not any(kind == "inverted" and origin in test.wanted for origin, _, kind in other):
            continue
        asked = [n for n, (origin, _, kind) in enumerate(_all(origins, runs[True, False])) if origin and kind == "inverted"]
        alike = _alike(said(at_base), said(at_base, f"o{k}"), origins)
        hidden = [said(at_base, f"s{alteration.statement}"), said(at_base, f"a{k}")]
        secret = (
            alteration.secret
            and alike
            and all(n < len(one_run) and one_run[n][1] in ("passed", "error") for one_run in hidden for n in asked)
        )
        turnable = (
            bool(turned)
            and _all_of_kind(kinds.get((False, True)), "inverted")
            and _all_of_kind(kinds.get((True, True)), "renamed")
            and (not secret or _alike(said(at_base, f"t{k}"), said(at_base, f"b{k}"), origins))
        )
        usable = {way: of_way for way, of_way in kinds.items() if of_way is not None}
        found.append((alike, _Sound(alteration, turnable, secret, usable)))
    best = [one for _, one in found if one.secret] or [one for alike, one in found if alike] or [one for _, one in found]
    return best if one.has_few else best[:SOUND_MAX]


def _all(origins: Sequence[str], answers: Sequence[tuple[Case, str]]) -> list[_Kinded]:
    return [_Kinded(o, case, "renamed" if said == "passed" else "inverted") for o, (case, said) in zip(origins, answers, strict=True)]


def _kinds(origins: Sequence[str], answers: Sequence[tuple[Case, str]]) -> tuple[_Kinded, ...] | None:
    """The kind of each case of a copy by its status with the fix; None if the cases differ or one neither passed nor failed."""
    clear = ("passed", *BAD)
    if len(origins) != len(answers) or any(o and said not in clear for o, (_, said) in zip(origins, answers, strict=True)):
        return None
    return tuple(one for one in _all(origins, answers) if one.origin)


def _all_of_kind(kinds: tuple[_Kinded, ...] | None, kind: Kind) -> bool:
    return bool(kinds) and all(one.kind == kind for one in kinds or ())


def _alike(a: Sequence[tuple[Case, str]], b: Sequence[tuple[Case, str]], origins: Sequence[str]) -> bool:
    """Whether two copies have the same outcome for every case, or neither can run. One that breaks is not one that fails."""
    same = len(a) == len(b) and all((x[1] in BAD, x[1] == BREAKS) == (y[1] in BAD, y[1] == BREAKS) for x, y in zip(a, b, strict=True))
    return same and len(a) in (0, len(origins))


def _untried(test: _Test, alteration: Alteration) -> _Sound:
    """An alteration of a test whose original is in the agent's tree. Nothing depends on it, so it is not tried."""
    holds, fails = _every_case(test, "renamed"), _every_case(test, "inverted")
    kinds = {(False, False): holds, (True, False): fails, (False, True): fails, (True, True): holds}
    return _Sound(alteration, alteration.turn is not None, False, kinds)


def _arrangements(one: _Module) -> list[tuple[bytes, list[Canary]]]:
    """Copies of a module with its tests altered or not. Of many FAIL_TO_PASS tests each has one copy, renamed or inverted; the arrangements
    come in pairs that show each both ways. Of few each has copies of both kinds.
    """
    if not one.chosen:
        return []
    chance = one.chance
    able = [n for n, t in enumerate(one.chosen) if t.sound]
    secret = [n for n in able if one.chosen[n].wanted]
    few = len(secret) <= FEW
    made = []
    for pair in range((ARRANGEMENTS_OF_FEW if few else ARRANGEMENTS) // 2):
        side = {n: chance.random() < 0.5 for n in able}  # noqa: PLR2004 - an even chance
        while not few and len({side[n] for n in secret}) == 1:
            side |= {n: chance.random() < 0.5 for n in secret}  # noqa: PLR2004
        for flip in (False, True):
            shown = []
            for n, test in enumerate(one.chosen):
                if few and n in secret:
                    shown.append(_with_values(test, 2 * pair + flip, chance))
                else:
                    shown.append([_of_kind(test, "inverted" if n in able and side[n] != flip else "renamed", chance)])
            made.append(_arrangement(one, shown))
    return made


_Shown = tuple[_Sound | None, bool, bool]
"""A copy: the alteration that behaved, whether it has the other value, whether its assertion is negated."""


def _of_kind(test: _Test, kind: Kind, chance: Random) -> _Shown:
    if not test.sound:
        return None, False, False
    found = chance.choice(test.sound)
    turned = found.turnable and chance.random() < 0.5  # noqa: PLR2004 - an even chance
    return found, (kind == "inverted") != turned, turned


def _with_values(test: _Test, arrangement: int, chance: Random) -> list[_Shown]:
    """Copies that show one place of a test with its own value and with others, of which one is right; all negated or none, so that the
    form tells nothing.
    """
    places: dict[tuple[object, ...], list[_Sound]] = {}
    for found in test.sound:
        places.setdefault(found.place, []).append(found)
    most = max(1, min(VALUES_MAX, CASES_MAX // len(test.cases)) - 1)
    largest = min(most, max(map(len, places.values())))
    chosen = [others for others in places.values() if 2 * len(others) >= largest]
    others = chosen[arrangement % len(chosen)]
    begin = arrangement // len(chosen) * most
    picked = [others[(begin + n) % len(others)] for n in range(min(most, len(others)))]
    turned = picked[0].turnable and chance.random() < 0.5  # noqa: PLR2004 - an even chance
    shown: list[_Shown] = [(picked[0], False, turned), *((found, True, turned) for found in picked)]
    return chance.sample(shown, len(shown))


def _arrangement(one: _Module, shown: Sequence[Sequence[_Shown]]) -> tuple[bytes, list[Canary]]:
    canaries: list[Canary] = []
    copies: list[tuple[TestFunction, list[Copy]]] = []
    words = drawn_words(one.chance)
    for test, of_test in zip(one.chosen, shown, strict=True):
        written: list[Copy] = []
        for found, other, turned in of_test:
            name = new_name(test.function.name, next(words))
            version = _Version(found.alteration, other, turned) if found else _Version()
            written.append(Copy(name, version.edits))
            kinds_of_copy = found.kinds[other, turned] if found else _every_case(test, "renamed")
            secret, copy = found is not None and found.secret, test.function.copy_of(name)
            canaries += [
                Canary(k, "", one.destination, case.id(one.destination, name), origin, secret, copy=copy)
                for origin, case, k in _some(kinds_of_copy, test.wanted)
            ]
        copies.append((test.node, written))
    return module(one.source, copies), canaries


def _every_case(test: _Test, kind: Kind) -> tuple[_Kinded, ...]:
    return tuple(_Kinded(origin, case, kind) for origin, case in test.cases.items())


def _some(kinds: Sequence[_Kinded], wanted: Collection[str]) -> list[_Kinded]:
    """All FAIL_TO_PASS cases and a limited number of others, those that must fail first."""
    known = sorted((one for one in kinds if one.origin not in wanted), key=lambda one: one.kind == "renamed")
    return [*(one for one in kinds if one.origin in wanted), *known[:KNOWN_IDS_MAX]]
