"""The flake ledger: tests that gave different results in one state. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence

from envfarm.core.validation import Flake, State, StateRun

ABSENT = "absent"
"""Status of a test that a run's report does not name."""


def tallies(runs: Iterable[StateRun]) -> dict[State, dict[str, Counter[str]]]:
    """Per state and test id: how often each status occurred, `absent` included."""
    by_state: dict[State, list[StateRun]] = defaultdict(list)
    for run in runs:
        by_state[run.state].append(run)
    result: dict[State, dict[str, Counter[str]]] = {}
    for state, members in by_state.items():
        ids = sorted({test for run in members for test in run.statuses})
        result[state] = {test: Counter(run.statuses.get(test, ABSENT) for run in members) for test in ids}
    return result


def ledger(runs: Sequence[StateRun]) -> tuple[Flake, ...]:
    """Every test with different results in one state, with its counts."""
    return tuple(
        Flake(id=test, state=state, counts=dict(counts))
        for state, tests in tallies(runs).items()
        for test, counts in tests.items()
        if len(counts) > 1
    )


def in_words(flake: Flake) -> str:
    """A flake as text: `flaky in "base": passed 4, failed 1`."""
    return f'flaky in "{flake.state}": ' + ", ".join(f"{status} {n}" for status, n in sorted(flake.counts.items(), key=lambda i: -i[1]))
