"""The sealed test plan of a task (`tests/plan.json`): what is run, what is expected, what must not be touched.

Standard library only, Python 3.8 on. Written by the task builders, read by grading in the farm and, inside the verifier archive, by
Harbor. Everything that the grader must know of a language travels here.
"""

from __future__ import annotations

import json
import sys
from dataclasses import MISSING, asdict, dataclass, fields
from typing import Any, Callable, Literal, TypeVar

T = TypeVar("T")
PLAN_VERSION = "1"
Mode = Literal["isolated", "replayed", "shared"]
Relation = Literal["exact", "lines", "columns", "rows", "json", "table"]
RELATIONS = ("exact", "lines", "columns", "rows", "json", "table")


STATE_PLACES = (
    *("home/**", "srv/**", "data/**", "mnt/**", "tmp/**"),
    *("var/lib/**", "var/log/**", "var/mail/**", "var/spool/**", "var/tmp/**", "var/www/**"),
)
"""Where programs keep what they are asked for, and where no program of the system lies: for the plans of terminal tasks."""


LATER_FIELDS = ("carried_outside", "cases", "executable_files", "linked_files")
"""Left out of plan.json where they say nothing: plans that do without them read as they did before there were any."""


GONE_FIELDS = ("parallel",)
"""Which older plans have, and which never meant anything."""


class PlanError(ValueError):
    """A plan that cannot be read: which field, and why."""


@dataclass(frozen=True)
class TestCommand:
    """A command that runs tests and writes a report.

    In `argv` and `env` the text `{report}` stands for a path that is drawn anew for each grading, and `{canaries}` as an argument of its
    own for the paths of the canary files. The command's exit status must agree with its report.
    """

    argv: tuple[str, ...]
    report: str
    """The report's kind: a reader in `envfarm.grading.reports` (`junit`, …)."""
    timeout_s: float
    env: dict[str, str]
    ok_exit_codes: tuple[int, ...] = (0,)
    failed_exit_codes: tuple[int, ...] = (1,)


@dataclass(frozen=True)
class Canary:
    """A real test in disguise, whose honest result is known: whoever answers for the tests instead of running them answers wrong.

    `inverted` canaries must fail, `renamed` ones must pass. `{token}` in the template, the destination and the id becomes a word drawn
    anew for each grading. Canaries with one destination and different templates are alternatives: each run draws one template, so that
    nobody can learn which of the copies are inverted.
    """

    kind: Literal["inverted", "renamed"]
    template: str
    """The file's name under the task's `tests/canaries/`."""
    destination: str
    """Where it goes, relative to the work dir."""
    id: str
    """The test id that the report must carry for it."""
    origin: str = ""
    """The id of the test that it is a copy of. Where that one fails honestly, nothing is expected of the copy; empty: always expected."""
    secret: bool = False
    """Whether it was seen that unfixed code and the agent's own tests tell nothing of its kind. Only such copies bound a guess."""
    unaltered: bool = False
    """Whether its file is a test module in which nothing but names is changed: no guess is needed there, but whoever answers for known
    names is found. Each blind round has one group of such files, so that all of them have been asked when the last one is over."""
    copy: str = ""
    """The function in the template, if tests share one, inherited or generated; else the id tells."""


@dataclass(frozen=True)
class Case:
    """An input for the program that the agent writes, and what must come of it.

    The inputs lie under the task's `tests/cases/<folder>/input/` and are put into the work dir before the plan's one command runs. What is
    expected lies beside them in `expected`, and **never enters a box**: the output is taken out, and compared outside.
    """

    id: str
    """As FAIL_TO_PASS names it."""
    folder: str
    inputs: tuple[str, ...]
    """Paths in the work dir."""
    relation: Relation = "lines"
    """How output and expectation are compared (`envfarm.grading.outputs`)."""
    output: str = ""
    """The file in the work dir that is compared; standard output where it is empty."""
    visible: bool = False
    """Whether the agent is shown input and expected output. Such a case alone says nothing: it can be answered by heart."""


@dataclass(frozen=True)
class Skipped:
    """A test that the plan leaves out, and why (flaky, slow, needs the network)."""

    id: str
    reason: str


@dataclass(frozen=True)
class TestPlan:
    """What makes a task verifiable."""

    work_dir: str
    commands: tuple[TestCommand, ...]
    fail_to_pass: tuple[str, ...]
    """Stable ids (`file::class::name[param]`) that fail before the fix and pass after it."""
    pass_to_pass: tuple[str, ...]
    test_files: tuple[str, ...]
    """Files under the task's `tests/files/`, by their path in the work dir: put back as they are at the fix before tests run."""
    mode: Mode = "isolated"
    removed_files: tuple[str, ...] = ()
    """Files that the fix's test part deletes."""
    executable_files: tuple[str, ...] = ()
    """Those of `test_files` that tests start as programs."""
    linked_files: tuple[str, ...] = ()
    """Those of `test_files` that are symbolic links. Their content under `tests/files/` is the link's target."""
    influencing: tuple[str, ...] = ()
    """Globs, relative to the work dir (`**` spans folders), of files that decide what the tests do. A change to one is dropped."""
    influencing_outside: tuple[str, ...] = ()
    """The same for absolute paths (without the leading slash), in mode `replayed`."""
    carried_outside: tuple[str, ...] = ()
    """Globs of absolute paths (without the leading slash) outside the work dir that a change is carried into, in mode `replayed`: the
    places of the state that the task asks for (`STATE_PLACES` are usual). Nothing else is carried."""
    canaries: tuple[Canary, ...] = ()
    cases: tuple[Case, ...] = ()
    """Where there are any, the plan's one command is run once for each, and nothing else is: its `{report}` takes the output."""
    skipped: tuple[Skipped, ...] = ()
    schema_version: str = PLAN_VERSION

    def to_json(self) -> str:
        """The plan as `tests/plan.json` holds it."""
        said = asdict(self)
        for name in LATER_FIELDS:
            if not said[name]:
                del said[name]
        for canary in said["canaries"]:
            for later in ("secret", "unaltered", "copy"):
                if not canary[later]:
                    del canary[later]
        return json.dumps(said, indent=1, sort_keys=True, ensure_ascii=False) + "\n"

    @staticmethod
    def from_json(text: str) -> TestPlan:
        """Read a plan; raises `PlanError` naming the field."""
        try:
            data = json.loads(text)
        except ValueError as e:
            raise PlanError(f"plan.json is not JSON: {e}") from e
        if not isinstance(data, dict):
            raise PlanError("plan.json is not an object")
        if data.get("schema_version") != PLAN_VERSION:
            raise PlanError(f"plan.json: schema_version is {data.get('schema_version')!r}, this verifier reads {PLAN_VERSION!r}")
        commands = tuple(_read(TestCommand, c, "commands") for c in _rows(data, "commands"))
        canaries = tuple(_read(Canary, c, "canaries") for c in _rows(data, "canaries"))
        skipped = tuple(_read(Skipped, c, "skipped") for c in _rows(data, "skipped"))
        cases = tuple(_read(Case, c, "cases") for c in _rows(data, "cases"))
        if cases and (len(commands) != 1 or canaries):
            raise PlanError("plan.json: a plan with cases has one command, and no canaries")
        if not all(command.argv for command in commands):
            raise PlanError("plan.json: commands.argv is empty")
        data = {name: value for name, value in data.items() if name not in GONE_FIELDS}
        plan = _read(TestPlan, {**data, "commands": commands, "canaries": canaries, "cases": cases, "skipped": skipped}, "plan")
        for key, named in (("executable_files", plan.executable_files), ("linked_files", plan.linked_files)):
            if strange := [path for path in named if path not in plan.test_files]:
                raise PlanError(f"plan.json: {key} names {strange[0]}, which is not among test_files")
        return plan


def _rows(data: dict[str, Any], key: str) -> list[Any]:
    rows = data.get(key, [])
    if not isinstance(rows, list):
        raise PlanError(f"plan.json: {key} is not a list")
    return rows


def _read(kind: type[T], data: Any, where: str) -> T:
    if not isinstance(data, dict):
        raise PlanError(f"plan.json: an entry of {where} is not an object")
    known = {f.name: f for f in fields(kind)}  # type: ignore[arg-type]  # only dataclasses of this module come here
    if unknown := sorted(set(data) - set(known)):
        raise PlanError(f"plan.json: {where} has unknown fields: {', '.join(unknown)}")
    if missing := [name for name, f in known.items() if name not in data and f.default is MISSING]:
        raise PlanError(f"plan.json: {where} lacks {', '.join(missing)}")
    for name, value in data.items():
        # Annotations are texts here (`from __future__`), and Python 3.8 could not evaluate them.
        words, fits = _SHAPES.get(str(known[name].type), _READ_BEFORE)
        if not fits(value):
            raise PlanError(f"plan.json: {where}.{name} is not {words}")
    return kind(**{k: tuple(v) if isinstance(v, list) else v for k, v in data.items()})


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_duration(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


def _is_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


_READ_BEFORE: tuple[str, Callable[[Any], bool]] = ("read", lambda value: isinstance(value, tuple))
"""Lists of objects, which `from_json` has read by then."""
_SHAPES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "str": ("a text", _is_text),
    "bool": ("true or false", lambda value: isinstance(value, bool)),
    "int": ("a whole number", _is_whole),
    "float": ("a number above 0", _is_duration),
    "tuple[str, ...]": ("a list of texts", _is_texts),
    "tuple[int, ...]": ("a list of whole numbers", lambda value: isinstance(value, list) and all(map(_is_whole, value))),
    "dict[str, str]": ("an object of texts", lambda value: isinstance(value, dict) and all(map(_is_text, value.values()))),
    "Mode": ("isolated, replayed or shared", lambda value: value in ("isolated", "replayed", "shared")),
    "Relation": ("exact, lines, columns, rows, json or table", lambda value: value in RELATIONS),
    "Literal['inverted', 'renamed']": ("inverted or renamed", lambda value: value in ("inverted", "renamed")),
}
"""How a field's value reads in JSON, by the field's annotation: in words, and the test."""
