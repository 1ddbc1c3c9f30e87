"""Finding tasks in the index: lists with filters, and the one task that a person means. Used by the catalogue alone."""

import difflib
import re
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Literal

import sqlalchemy as sa

from envfarm.core.errors import UsageError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import TaskDigest
from envfarm.stores.catalogue_schema import DATASET_TASKS, REPORTS, TASKS

TaskState = Literal["unchecked", "valid", "suspect", "quarantined"]
ALGORITHM = "sha256:"
"""Before each digest."""
MIN_DIGEST_PREFIX = 4
MAX_SUGGESTIONS = 5
MAX_ABBREVIATED = 100
"""Of many texts: each is a search of its own."""
IN_A_SHELL = "`envfarm tasks list --state any` shows them"
OVER_HTTP = "GET /v1/tasks, or `envfarm tasks list` on the farm's machine, shows the valid ones"
"""Where whoever named a task that there is not can look."""


class TaskRow(Frozen):
    """What the index knows of a task."""

    digest: TaskDigest
    name: str
    kind: str
    language: str
    licence: str
    repository: str
    source_digest: str
    source_url: str
    created_at: datetime
    added_at: datetime
    state: TaskState
    why: str
    """A person's reason for the quarantine."""
    archive_bytes: int
    title: str = ""
    """Empty for a task that an earlier version added, until the index is made anew."""
    providers: tuple[str, ...] = ()
    """Those whose boxes the task passed every gate in."""


class TaskFilter(Frozen):
    """Which tasks are wanted; an empty field asks for nothing."""

    kind: str = ""
    language: str = ""
    licence: str = ""
    repository: str = ""
    """The whole name, or the end of it after the slash."""
    state: str = ""
    provider: str = ""
    """Tasks that are valid in this provider's boxes."""
    text: str = ""
    """A part of the name."""
    dataset: tuple[str, str] | None = None
    """Name and version."""
    split: str = ""


def rows(connection: sa.Connection, wanted: TaskFilter) -> list[TaskRow]:
    """Tasks that pass the filter, by name."""
    query = sa.select(TASKS).order_by(TASKS.c.name, TASKS.c.digest)
    for field in ("kind", "language", "licence", "state"):
        if value := getattr(wanted, field):
            query = query.where(TASKS.c[field] == value)
    if wanted.repository:
        ends = TASKS.c.repository.endswith("/" + wanted.repository, autoescape=True)
        query = query.where(sa.or_(TASKS.c.repository == wanted.repository, ends))
    if wanted.text:
        query = query.where(TASKS.c.name.contains(wanted.text, autoescape=True))
    if wanted.provider:
        passed = sa.select(REPORTS.c.task).where(REPORTS.c.provider == wanted.provider, REPORTS.c.passed)
        query = query.where(TASKS.c.digest.in_(passed))
    if wanted.dataset:
        name, version = wanted.dataset
        members = sa.select(DATASET_TASKS.c.task).where(DATASET_TASKS.c.name == name, DATASET_TASKS.c.version == version)
        query = query.where(TASKS.c.digest.in_(members.where(DATASET_TASKS.c.split == wanted.split) if wanted.split else members))
    return _with_providers(connection, query)


def find(connection: sa.Connection, text: str, *, hint: str) -> TaskRow:
    """The one task that `text` names: by whole name, then by a unique beginning of a name or digest, then by a unique end of a name.

    Raises `UsageError`, with this hint if there is none.
    """
    if not text.strip():
        raise UsageError("a task's name or digest is needed", hint=hint)
    exact = _with_providers(connection, sa.select(TASKS).where(sa.or_(TASKS.c.name == text, TASKS.c.digest == text)))
    found = exact or _with_providers(connection, sa.select(TASKS).where(_begins_with(text)).order_by(TASKS.c.name))
    ends = [] if found else _with_providers(connection, sa.select(TASKS).where(TASKS.c.name.endswith(text, autoescape=True)))
    found, end = found or ends, "end" if ends else "beginning"
    if len(found) == 1:
        return found[0]
    if exact:
        some = listed([f"{row.digest[7:19]} ({row.state}, since {row.added_at:%Y-%m-%d %H:%M})" for row in found])
        raise UsageError(f"{text!r} names {len(found)} tasks: {some}", hint="give the beginning of the digest of the one that is meant")
    if found:
        some = listed([f"{row.name} ({row.digest[7:19]})" for row in found])
        raise UsageError(f"{text!r} is the {end} of {len(found)} tasks: {some}", hint="give more of the name or of the digest")
    near = _nearest(text, list(connection.scalars(sa.select(TASKS.c.name))))
    meant = f": did you mean {listed(near)}?" if near else ""
    raise UsageError(f"no task {text!r}{meant}", hint=hint)


def find_all(connection: sa.Connection, texts: Collection[str]) -> dict[str, TaskRow]:
    """The one task that each of these texts, 10,000 at most, names: see `find`. At most `MAX_ABBREVIATED` of them are no whole ones."""
    whole: dict[str, list[TaskRow]] = {}
    digests = [text for text in texts if text.startswith(ALGORITHM)]
    names = [text for text in texts if not text.startswith(ALGORITHM)]
    for row in _with_providers(connection, sa.select(TASKS).where(sa.or_(TASKS.c.name.in_(names), TASKS.c.digest.in_(digests)))):
        whole.setdefault(row.name, []).append(row)
        whole.setdefault(row.digest, []).append(row)
    found = {text: whole[text][0] for text in texts if len(whole.get(text, ())) == 1}
    others = [text for text in dict.fromkeys(texts) if text not in found]
    if len(others) > MAX_ABBREVIATED:
        raise UsageError(
            f"{len(others)} of the names are no task's whole name or digest, {others[0]!r} first",
            hint=f"{MAX_ABBREVIATED} may be abbreviated; GET /v1/tasks shows the whole ones",
        )
    return found | {text: find(connection, text, hint=OVER_HTTP) for text in others}


def check_playable(named: Sequence[TaskRow]) -> None:
    """Whoever names a task to play it, or to make a dataset of it, is told that a person put it away. Raises `UsageError`."""
    for row in named:
        if row.state == "quarantined":
            hint = f"`envfarm tasks quarantine {row.name} --lift`, on the farm's machine, ends it"
            raise UsageError(f"{row.name} is quarantined: {row.why}", hint=hint)


def _begins_with(text: str) -> sa.ColumnElement[bool]:
    tests = [TASKS.c.name.startswith(text, autoescape=True), TASKS.c.name.contains("/" + text, autoescape=True)]
    digits = text.removeprefix(ALGORITHM).lower()
    if len(digits) >= MIN_DIGEST_PREFIX and re.fullmatch("[0-9a-f]+", digits):
        tests.append(TASKS.c.digest.startswith(ALGORITHM + digits))
    return sa.or_(*tests)


def _nearest(text: str, names: Sequence[str]) -> list[str]:
    by_end = {name.rpartition("/")[2]: name for name in names}
    # Few people type the digest at a name's end, which makes short names look unlike what was typed.
    by_end |= {end.rpartition("-")[0]: name for end, name in by_end.items() if "-" in end}
    near = difflib.get_close_matches(text, names, MAX_SUGGESTIONS)
    near += [by_end[end] for end in difflib.get_close_matches(text.rpartition("/")[2], by_end, MAX_SUGGESTIONS)]
    return list(dict.fromkeys(near))[:MAX_SUGGESTIONS]


def listed(names: Sequence[str]) -> str:
    """The first of some names, and how many more there are."""
    more = f" and {len(names) - MAX_SUGGESTIONS} more" if len(names) > MAX_SUGGESTIONS else ""
    return ", ".join(names[:MAX_SUGGESTIONS]) + more


def _with_providers(connection: sa.Connection, query: sa.Select[tuple[object, ...]]) -> list[TaskRow]:
    found = [dict(row) for row in connection.execute(query).mappings()]
    passed: dict[str, list[str]] = {}
    reports = sa.select(REPORTS.c.task, REPORTS.c.provider).where(REPORTS.c.passed).order_by(REPORTS.c.provider)
    for task, provider in connection.execute(reports.where(REPORTS.c.task.in_(query.with_only_columns(TASKS.c.digest).order_by(None)))):
        passed.setdefault(task, []).append(provider)
    return [_row(row, passed.get(row["digest"], [])) for row in found]


def _row(row: dict[str, object], providers: list[str]) -> TaskRow:
    # SQLite forgets time zones; all that is stored is UTC.
    times = {k: v.replace(tzinfo=UTC) for k, v in row.items() if isinstance(v, datetime) and v.tzinfo is None}
    return TaskRow.model_validate({**row, **times, "providers": tuple(providers)})
