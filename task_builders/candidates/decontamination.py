"""Keeps tasks of known benchmarks out of what is minted.

A list is JSON lines. The first line identifies the format: `{"format": "envfarm-fingerprints", "version": 1}`. Each other line is an entry:

    {"set": "some-benchmark", "repository": "owner/name", "numbers": [12, 34], "commits": ["<sha>"], "patch": "sha256:…", "grams": ["…"]}

`numbers` are of the issue and the pull request, `commits` is the fix, `patch` is `dedup.patch_hash` of the solution, `grams`
are hashes of sequences of 13 words of the text. Only `set` is required. A list contains no text and no code of a benchmark, so it can be
shared. `envfarm tasks fingerprint` makes one. No list is shipped: users choose what to exclude (`envfarm build --decontaminate`).
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from pydantic import ValidationError

from envfarm.core.candidate import Candidate, Gate, Rejection
from envfarm.core.errors import UsageError
from envfarm.core.frozen import Frozen
from envfarm.core.task import Task
from envfarm.core.validation import GateResult
from task_builders.candidates.dedup import patch_hash, words
from task_builders.candidates.patch import PatchError
from task_builders.candidates.upstream import upstream_at

FORMAT = "envfarm-fingerprints"
VERSION = 1
WORDS_IN_GRAM = 13
MIN_SHARED_GRAMS = 3
MIN_SHARED_PART = 0.1
"""Required are three sequences of 13 words and a tenth of the text: a stock phrase of an issue form is no contamination, a quoted issue is.
"""


class Fingerprint(Frozen):
    """A task that must not be minted."""

    set: str
    repository: str = ""
    numbers: tuple[int, ...] = ()
    commits: tuple[str, ...] = ()
    patch: str = ""
    grams: tuple[str, ...] = ()


class Traits(NamedTuple):
    """The properties by which tasks are compared."""

    name: str
    url: str
    commit: str
    patch: str
    """`dedup.patch_hash`; empty if there is none."""
    text: str


class Match(NamedTuple):
    """An entry that is the same task, and why."""

    reason: str
    entry: Fingerprint
    detail: str = ""

    @property
    def evidence(self) -> dict[str, str]:
        """For reports."""
        return {"set": self.entry.set, "repository": self.entry.repository}


class Decontamination:
    """The entries of all lists, indexed."""

    def __init__(self, entries: Iterable[Fingerprint] = ()) -> None:
        self._sets: Counter[str] = Counter()
        self._commits: dict[str, Fingerprint] = {}
        self._numbers: dict[tuple[str, int], Fingerprint] = {}
        self._patches: dict[str, Fingerprint] = {}
        self._grams: dict[str, Fingerprint] = {}
        for entry in entries:
            self._sets[entry.set] += 1
            self._commits |= dict.fromkeys(entry.commits, entry)
            self._numbers |= dict.fromkeys(((entry.repository.casefold(), n) for n in entry.numbers), entry)
            self._grams |= dict.fromkeys(entry.grams, entry)
            if entry.patch:
                self._patches[entry.patch] = entry

    @property
    def compared(self) -> str:
        """What `check` compares with, as text for a report."""
        if not self._sets:
            return "no list of fingerprints was given: nothing was compared"
        sets = ", ".join(f"{name} ({count})" for name, count in sorted(self._sets.items()))
        return f"none of {self._sets.total()} fingerprints matches: {sets}"

    def check(self, candidate: Candidate) -> Rejection | None:
        """The rejection of a candidate that a list contains; None for any other."""
        match = self._match(_traits(candidate))
        if match is None:
            return None
        detail = f"{match.entry.set}: {match.detail}" if match.detail else match.entry.set
        return Rejection.of(candidate, Gate.DECONTAMINATION, match.reason, detail, evidence=match.evidence)

    def judge(self, task: Task) -> GateResult:
        """The gate for a task without its record: by its solution, its text, and its source's address."""
        match = self._match(_traits(task))
        if match is None:
            return GateResult(gate=Gate.DECONTAMINATION, passed=True, detail=self.compared)
        detail = f"{match.reason}: {match.entry.set}"
        return GateResult(gate=Gate.DECONTAMINATION, passed=False, detail=detail, evidence=match.evidence)

    def _match(self, traits: Traits) -> Match | None:
        number = number_of(traits.url)
        if known := self._commits.get(traits.commit) or self._patches.get(traits.patch):
            return Match("a benchmark has this change", known)
        if number is not None and (known := self._numbers.get((traits.name.casefold(), number))):
            return Match("a benchmark has this issue", known)
        # An equal base alone is no match: several fixes may start from one base.
        own = set(grams(traits.text))
        shared = [g for g in own if g in self._grams]
        if len(shared) >= MIN_SHARED_GRAMS and len(shared) >= MIN_SHARED_PART * len(own):
            return Match("a benchmark has these words", self._grams[shared[0]], f"{len(shared)} of {len(own)} word sequences")
        return None


def _traits(of: Candidate | Task) -> Traits:
    if isinstance(of, Candidate):
        return Traits(of.name, of.url, of.fix_commit, _change(of.source_patch), of.instruction)
    upstream = upstream_at(of.attribution.url)
    diff = of.solution.get("patch.diff", b"").decode(errors="surrogateescape")
    return Traits(upstream.name, of.attribution.url, next(iter(upstream.commits), ""), _change(diff), of.instruction)


def _change(diff: str) -> str:
    try:
        return patch_hash(diff) if diff else ""
    except PatchError:
        return ""


def fingerprint(name: str, of: Candidate | Task) -> Fingerprint:
    """The entry for a task of the set `name`."""
    traits = _traits(of)
    number = number_of(traits.url)
    return Fingerprint(
        set=name,
        repository=traits.name,
        numbers=() if number is None else (number,),
        commits=(traits.commit,) if traits.commit else (),
        patch=traits.patch,
        grams=grams(traits.text),
    )


def read_lists(paths: Iterable[Path]) -> Iterator[Fingerprint]:
    """The entries of all files. Raises `UsageError` if a file cannot be read or is not a list."""
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise UsageError(f"`{path}` cannot be read: {e}", hint="name a list of fingerprints, as docs/sources.md describes it") from e
        yield from from_lines(text.splitlines(), str(path))


def to_lines(entries: Iterable[Fingerprint]) -> Iterator[str]:
    """The lines of a list, its header first, without line breaks."""
    yield json.dumps({"format": FORMAT, "version": VERSION})
    for entry in entries:
        yield json.dumps(entry.model_dump(mode="json", exclude_defaults=True) | {"set": entry.set})


def from_lines(lines: Iterable[str], called: str) -> Iterator[Fingerprint]:
    """The entries of a list.

    Args:
        lines: those of the list.
        called: the list's name in error messages.

    Raises:
        UsageError: it is not such a list; names the line.
    """
    numbered = ((n, line) for n, line in enumerate(lines, 1) if line.strip())
    _, head = next(numbered, (0, "{}"))
    try:
        said = json.loads(head)
    except ValueError:
        said = {}
    if not isinstance(said, dict) or said.get("format") != FORMAT or said.get("version") != VERSION:
        wanted = json.dumps({"format": FORMAT, "version": VERSION})
        raise UsageError(f"`{called}`: not a list of fingerprints", hint=f"its first line must be {wanted}")
    for number, line in numbered:
        try:
            yield Fingerprint.model_validate_json(line)
        except ValidationError as e:
            first = e.errors()[0]
            raise UsageError(f"{called}:{number}: {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from e


def grams(text: str) -> tuple[str, ...]:
    """Hashes of a text's sequences of 13 words, each once. Empty for shorter texts."""
    said = words(text)
    runs = (" ".join(said[n : n + WORDS_IN_GRAM]) for n in range(len(said) - WORDS_IN_GRAM + 1))
    return tuple(dict.fromkeys(hashlib.blake2b(r.encode(errors="surrogatepass"), digest_size=8).hexdigest() for r in runs))


def number_of(url: str) -> int | None:
    """The issue's or pull request's number in its address."""
    found = re.search(r"(?:/(?:issues|pull|merge_requests)/|#)(\d+)(?:$|[/#?])", url)
    return int(found.group(1)) if found else None
