"""Finds a task of the catalogue that a new terminal task repeats, from whatever sources it was made.

Tasks are compared by what their archives hold: the asker's part of the instruction, and the visible example. A quarantined task counts,
too: what a person put away does not come back in nearly the same words.
"""

import asyncio
import heapq
import re
from collections.abc import Collection
from contextlib import suppress
from typing import Any

from envfarm.core.errors import StoreError
from envfarm.core.frozen import Frozen
from envfarm.core.ids import Digest
from envfarm.core.task import Task
from envfarm.stores.catalogue import TaskCatalogue
from envfarm.stores.catalogue_lookup import TaskFilter, TaskRow
from task_builders.candidates.dedup import MIN_WORDS, NEARLY_THE_SAME, runs, words
from task_builders.questions.alike import SAME_EXAMPLE, example
from task_builders.questions.repositories import SCRIPT
from task_builders.terminal.giveaways import TO_WRITE

THRESHOLD = 0.8
"""The share of common word sequences above which two texts are nearly the same."""
BLOCK = re.compile(r"^```\n.*?^```$", re.MULTILINE | re.DOTALL)
LEAST = 8
"""Of each text the least hashes are looked up. Texts that share 80 % of their sequences share none of these in 3 of a million cases."""


class Earlier(Frozen):
    """The task that a new one repeats."""

    reason: str
    row: TaskRow
    alike: float
    """The share of common word sequences of both texts, 0 to 1."""

    @property
    def evidence(self) -> dict[str, Any]:
        """For the rejection of the new one."""
        return {"first": self.row.name, "task": self.row.digest, "url": self.row.source_url, "state": self.row.state, "alike": self.alike}


class EarlierTasks:
    """The terminal tasks that a catalogue has when the first is asked about."""

    def __init__(self, catalogue: TaskCatalogue) -> None:
        self._catalogue = catalogue
        self._reading = asyncio.Lock()
        self._rows: dict[str, TaskRow] | None = None
        self._by_key: dict[int | str, list[str]] = {}

    async def like(self, task: Task, besides: Collection[Digest] = ()) -> Earlier | None:
        """The first task that has nearly the same words or the same visible example; None if there is none.

        Tasks of the source records `besides` are passed over. Raises `StoreError` for an index that cannot be read.
        """
        rows = await self._read()
        keys, shown = _keys(task), _example(task)
        met = dict.fromkeys(digest for key in keys for digest in self._by_key.get(key, ()))
        for row in (rows[digest] for digest in met):
            if row.source_digest in besides:
                continue
            with suppress(StoreError):
                other = await self._catalogue.get(row.digest)
                alike = await asyncio.to_thread(_alike, task, other)
                if alike > THRESHOLD:
                    return Earlier(reason=NEARLY_THE_SAME, row=row, alike=round(alike, 2))
                if shown and shown == _example(other):
                    return Earlier(reason=SAME_EXAMPLE, row=row, alike=round(alike, 2))
        return None

    async def _read(self) -> dict[str, TaskRow]:
        """Every task is read once. A damaged one is passed over: `envfarm tasks reindex` tells of it."""
        async with self._reading:
            if self._rows is None:
                rows = await self._catalogue.rows(TaskFilter(kind="terminal"))
                for row in sorted(rows, key=lambda each: (each.added_at, each.digest)):
                    with suppress(StoreError):
                        for key in await asyncio.to_thread(_keys, await self._catalogue.get(row.digest)):
                            self._by_key.setdefault(key, []).append(row.digest)
                self._rows = {row.digest: row for row in rows}
            return self._rows


def _asked(task: Task) -> str:
    """The asker's part of the instruction; without files where these were generated: they are the same for many questions."""
    text = task.instruction.partition(TO_WRITE)[0]
    generated = any(path.endswith(f"/input/{SCRIPT}") for path in task.tests)
    return BLOCK.sub("", text) if generated else text


def _example(task: Task) -> str:
    """See `alike.example`; empty for a task without a visible case."""
    shown = next((case for case in task.plan.cases if case.visible), None)
    if shown is None:
        return ""
    folder = f"cases/{shown.folder}"
    inputs = [task.tests[f"{folder}/input/{path}"].decode(errors="replace") for path in shown.inputs]
    return example(inputs, task.tests[f"{folder}/expected"].decode(errors="replace"))


def _keys(task: Task) -> list[int | str]:
    """What two tasks that are alike have at least one of in common."""
    text, shown = _asked(task), _example(task)
    least = heapq.nsmallest(LEAST, runs(text)) if len(words(text)) >= MIN_WORDS else []
    return [*least, *([shown] if shown else [])]


def _alike(task: Task, other: Task) -> float:
    if min(len(words(_asked(each))) for each in (task, other)) < MIN_WORDS:
        return 0.0
    one, two = runs(_asked(task)), runs(_asked(other))
    return len(one & two) / len(one | two)
