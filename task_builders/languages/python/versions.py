"""Which interpreter a commit needs, which available one is closest, and as of which date its dependencies are resolved. Pure."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from packaging.specifiers import InvalidSpecifier, SpecifierSet

# First final releases of CPython, from PEP 494, 537, 569, 596, 619, 664, 693, 719, 745 and 790.
RELEASED = {
    (3, 3): "2012-09-29", (3, 4): "2014-03-16", (3, 5): "2015-09-13", (3, 6): "2016-12-23", (3, 7): "2018-06-27", (3, 8): "2019-10-14",
    (3, 9): "2020-10-05",
    (3, 10): "2021-10-04", (3, 11): "2022-10-24", (3, 12): "2023-10-02", (3, 13): "2024-10-07", (3, 14): "2025-10-07",
    (3, 15): "2026-10-01",
}  # fmt: skip
SETTLED = timedelta(days=180)
"""How long after its release an interpreter is supported by the packages that tests need."""

Minor = tuple[int, int]


@dataclass(frozen=True)
class Choice:
    """An interpreter, and the date as of which packages are taken."""

    version: str
    """As the toolchain names it (`3.11.7`, `3.11`)."""
    minor: Minor
    resolved_at: datetime
    why: str


def minor_of(version: str) -> Minor | None:
    """`3.11.7`, `3.11`, `py311` → (3, 11); None if it is not CPython 3."""
    text = version.strip().lower().removeprefix("cpython").removeprefix("python").removeprefix("py").lstrip("-=@~^ ")
    text = text.removesuffix("-dev").removesuffix(".x").removesuffix("t")
    if text.isdigit() and len(text) >= 2 and text[0] == "3":  # noqa: PLR2004 - `311`
        return 3, int(text[1:])
    parts = text.split(".")
    if len(parts) < 2 or parts[0] != "3" or not parts[1].isdigit():  # noqa: PLR2004 - a major and a minor number
        return None
    return 3, int(parts[1])


def released_at(minor: Minor) -> datetime:
    """When an interpreter was first released; far in the future if this table does not contain it."""
    day = RELEASED.get(minor)
    return datetime.fromisoformat(day).replace(tzinfo=UTC) if day else datetime(2100, 1, 1, tzinfo=UTC)


def allowed(minor: Minor, requires_python: str) -> bool:
    """Whether `requires-python` admits the newest patch release of an interpreter."""
    try:
        return SpecifierSet(requires_python).contains(f"{minor[0]}.{minor[1]}.99") if requires_python else True
    except InvalidSpecifier:
        return True


def choices(
    named: Iterable[str], requires_python: str, date: datetime, available: Sequence[str], *, pinned: str = ""
) -> tuple[Choice, ...]:
    """The interpreters to try, best first.

    `named` are the versions that the project mentions (CI, classifiers, tox), `pinned` the one that it declares for development. The best
    is the pinned one, then the newest mentioned one that was established at the commit's date; then those nearest to it.
    """
    at_hand = {minor: version for version in sorted(available, key=_patch) if (minor := minor_of(version))}
    wanted = _wanted(named, requires_python, date, minor_of(pinned) if pinned else None)
    fitting = [m for m in at_hand if allowed(m, requires_python)] or list(at_hand)
    known = {m for n in named if (m := minor_of(n))}

    def distance(minor: Minor) -> tuple[int, int]:
        gap = minor[1] - wanted[1]
        too_new = released_at(minor) > date and minor not in known
        # A nearby interpreter from before the commit is better than one that the project could not know.
        return abs(gap) + (20 if too_new and gap > 0 and released_at(wanted) <= date and minor != wanted else 0), -gap

    ranked = sorted(fitting, key=distance)
    return tuple(_choice(m, at_hand[m], wanted, date) for m in ranked)


def month_of(date: datetime) -> datetime:
    """The first day of its month: commits of one month are resolved as of one date, and share a layer.

    The authors tested with packages of the time before the commit; a release in the days after it may already break its tests.
    """
    return datetime(date.year, date.month, 1, tzinfo=UTC)


def month_after(date: datetime) -> datetime:
    """The first day of the next month: for a commit that needs what was released days before it."""
    return datetime(date.year + date.month // 12, date.month % 12 + 1, 1, tzinfo=UTC)


def _wanted(named: Iterable[str], requires_python: str, date: datetime, pinned: Minor | None) -> Minor:
    if pinned and pinned in RELEASED and allowed(pinned, requires_python):
        return pinned
    settled = [m for m in RELEASED if released_at(m) + SETTLED <= date and allowed(m, requires_python)]
    minors = {m for n in named if (m := minor_of(n))}
    if usable := [m for m in minors if m in settled]:
        return max(usable)
    if usable := [m for m in minors if released_at(m) <= date and allowed(m, requires_python)]:
        return max(usable)
    if settled:
        return max(settled)
    return min((m for m in RELEASED if allowed(m, requires_python)), default=(3, 8))


def _choice(minor: Minor, version: str, wanted: Minor, date: datetime) -> Choice:
    moved = max(date, released_at(minor) + SETTLED) if released_at(minor) > date else date
    why = f"Python {wanted[0]}.{wanted[1]} fits the commit's date and the project's own statements"
    if minor != wanted:
        why += f"; {minor[0]}.{minor[1]} is the nearest available"
    if moved != date:
        why += f"; packages as of {moved:%Y-%m}, when they supported it"
    return Choice(version, minor, month_of(moved), why)


def _patch(version: str) -> tuple[int, ...]:
    return tuple(int(p) for p in version.split(".") if p.isdigit())
