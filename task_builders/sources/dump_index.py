"""What a choice of questions needs of a dump, gathered on disk in one pass over each file. Called by `stackexchange_dump`.

A question and its answers may be millions of rows apart, and an answer may even come first. So one pass writes the chosen questions, the
answers of chosen questions, and the few answers whose question has not come by yet, to a SQLite file; bitmaps of ids say which is
which. Memory does not grow with the dump, and a second build with the same choice finds the file and reads no dump.
"""

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple, Self

from envfarm.core import digest
from envfarm.core.errors import SourceError
from task_builders.sources import dump_files
from task_builders.sources.clone import Progress
from task_builders.sources.dump_files import DumpFile
from task_builders.sources.id_marks import IdMarks, number_of
from task_builders.sources.xml_rows import Fault, RowParser

SCHEMA_VERSION = 1
EXCERPT = 60
"""Characters of a value that is told."""
BATCH = 2000
PASSED_OVER, CHOSEN = 1, 2
"""Marks of the questions that came by."""
QUESTION, ANSWER = "1", "2"
OTHER_KINDS = frozenset("345678")
"""Orphaned wikis, tag wikis, moderators' nominations, …: no posts that anyone asks for."""
BODY_EVENTS = {"2": "first", "5": "edit", "8": "edit"}
"""Of `PostHistoryTypeId`: the first body, an edit of it, a rollback of it."""
_SCHEMA = """
CREATE TABLE questions (id INTEGER PRIMARY KEY, row TEXT);
CREATE TABLE answers (id INTEGER PRIMARY KEY, parent INTEGER, row TEXT);
CREATE TABLE users (id INTEGER PRIMARY KEY, name TEXT);
CREATE TABLE history (post INTEGER, event TEXT, user TEXT, name TEXT, at TEXT);
CREATE TABLE faults (file TEXT, place TEXT, why TEXT, excerpt TEXT, fatal INTEGER);
CREATE TABLE counts (what TEXT PRIMARY KEY, n INTEGER);
"""
_INDEXES = "CREATE INDEX of_question ON answers (parent); CREATE INDEX of_post ON history (post);"


class Choice(NamedTuple):
    """Which questions are wanted. Only those with an accepted answer ever are."""

    tags: tuple[str, ...] = ()
    """Any of these; any at all where there are none."""
    min_score: int | None = None
    since: str = ""
    """An ISO date."""


class Thread(NamedTuple):
    """A chosen question's row, and its answers' rows."""

    question: dict[str, str]
    answers: list[dict[str, str]]


class DumpIndex:
    """A finished index, open for reading; a context manager."""

    def __init__(self, file: Path) -> None:
        # Batches of records are read in whichever thread is free, one after the other.
        self._db = sqlite3.connect(file, check_same_thread=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._db.close()

    @property
    def counts(self) -> dict[str, int]:
        """Rows, questions and so on."""
        return dict(self._db.execute("SELECT what, n FROM counts"))

    def faults(self) -> Iterator[tuple[str, Fault]]:
        """What could not be read, with the table's name, in the order of the files."""
        for table, place, why, excerpt, fatal in self._db.execute("SELECT file, place, why, excerpt, fatal FROM faults ORDER BY rowid"):
            yield table, Fault(place, why, excerpt, bool(fatal))

    def threads(self) -> Iterator[Thread]:
        """The chosen questions by id, each with all of its answers that the dump has."""
        for number, row in self._db.execute("SELECT id, row FROM questions ORDER BY id"):
            answers = self._db.execute("SELECT row FROM answers WHERE parent = ? ORDER BY id", (number,))
            yield Thread(json.loads(row), [json.loads(answer) for (answer,) in answers])

    def user(self, number: int | None) -> str:
        """A user's name; empty where the dump does not tell it, or there is none."""
        found = self._db.execute("SELECT name FROM users WHERE id = ?", (number,)).fetchone()
        return str(found[0]) if found else ""

    def history(self, post: int) -> list[tuple[str, str, str, str]]:
        """Who wrote and edited a post: event (`first` or `edit`), user's id, name, date; the oldest first."""
        return list(self._db.execute("SELECT event, user, name, at FROM history WHERE post = ? ORDER BY at", (post,)))


def open_index(posts: DumpFile, others: dict[str, DumpFile], choice: Choice, directory: Path, told: Progress) -> DumpIndex:
    """The index of a choice, made where it is not there yet.

    Args:
        posts: the dump's posts.
        others: `Users` and `PostHistory`, where present.
        choice: which questions.
        directory: where indexes are kept.
        told: is told how far it is.

    Raises:
        SourceError: a file cannot be opened, or there is no row in it.
    """
    directory.mkdir(parents=True, exist_ok=True)
    whole = directory / f"{_key(posts, others, choice)}.sqlite"
    if not whole.exists():
        part = whole.with_suffix(".part")
        part.unlink(missing_ok=True)
        try:
            with closing(sqlite3.connect(part, isolation_level=None, check_same_thread=False)) as db:
                _Build(db, choice, told).run(posts, others)
            part.replace(whole)
        except sqlite3.Error as e:
            raise SourceError(f"the index of `{posts.path}` cannot be written: {e}", hint=f"is there room in {directory}?") from e
        finally:
            part.unlink(missing_ok=True)
    return DumpIndex(whole)


class _Build:
    """Writes one index."""

    def __init__(self, db: sqlite3.Connection, choice: Choice, told: Progress) -> None:
        self._db = db
        self._choice = choice
        self._told = told
        self._questions, self._kept, self._owners = IdMarks(), IdMarks(), IdMarks()
        self._waiting: dict[str, list[tuple[Any, ...]]] = {}
        self._rows = 0
        self._counts = dict.fromkeys(("questions", "chosen", "without an accepted answer"), 0)
        self._tags = re.compile("[<|](?:" + "|".join(map(re.escape, choice.tags)) + ")[>|]").search if choice.tags else None
        self._table = ""

    def run(self, posts: DumpFile, others: dict[str, DumpFile]) -> None:
        """Read the files in turn."""
        self._db.executescript(f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -16384; {_SCHEMA}")
        self._db.execute("BEGIN")
        self._read("Posts", posts, self._post)
        for table, on_row in (("PostHistory", self._event), ("Users", self._user)):
            if table in others:
                self._read(table, others[table], on_row)
        self._db.executemany("INSERT INTO counts VALUES (?, ?)", {**self._counts, "rows": self._rows}.items())
        self._db.execute("COMMIT")
        self._db.executescript(_INDEXES)
        c = self._counts
        self._told(f"{posts.path.name}: {self._rows} rows, {c['questions']} questions, {c['chosen']} of them chosen")

    def _read(self, table: str, file: DumpFile, on_row: Any) -> None:
        self._table = table
        self._told(f"reading {file.path.name}")
        parser = RowParser(on_row, self._fault)
        trouble = dump_files.push(file, parser.feed)
        if trouble:
            self._fault(Fault(f"byte {parser.position}", trouble, "", is_cut_off=True))
        else:
            parser.close()
        for statement in list(self._waiting):
            self._flush(statement)

    def _post(self, name: str, attributes: dict[str, str]) -> None:
        self._rows += 1
        kind = attributes.get("PostTypeId")
        try:
            if kind == ANSWER:
                parent = _id(attributes["ParentId"])
                # Ids grow with time, so that the question nearly always came by before; where it did not, the answer is kept for it.
                if self._questions.of(parent) != PASSED_OVER:
                    self._answer(_id(attributes["Id"]), parent, attributes)
            elif kind == QUESTION:
                self._question(_id(attributes["Id"]), attributes)
            elif name != "row":
                self._rows -= 1
            elif kind not in OTHER_KINDS:
                self._lacks(attributes, "a row without a known PostTypeId" if kind else "a row without PostTypeId")
        except KeyError as e:
            self._lacks(attributes, f"a row without {e.args[0]}")
        except ValueError:
            self._lacks(attributes, "a row whose ids are no numbers")

    def _answer(self, number: int, parent: int, attributes: dict[str, str]) -> None:
        if not attributes["Body"]:
            self._lacks(attributes, "a row without Body")
            return
        self._keep(number, attributes)
        self._put("INSERT OR IGNORE INTO answers VALUES (?, ?, ?)", (number, parent, json.dumps(attributes)))

    def _question(self, number: int, attributes: dict[str, str]) -> None:
        self._counts["questions"] += 1
        if self._questions.of(number):
            self._lacks(attributes, "a row that repeats an Id")
        elif self._wanted(attributes):
            if not attributes["Body"]:
                self._lacks(attributes, "a row without Body")
                return
            self._counts["chosen"] += 1
            self._questions.put(number, CHOSEN)
            self._keep(number, attributes)
            self._put("INSERT INTO questions VALUES (?, ?)", (number, json.dumps(attributes)))
        else:
            self._questions.put(number, PASSED_OVER)

    def _wanted(self, attributes: dict[str, str]) -> bool:
        get, choice = attributes.get, self._choice
        if self._tags is not None and not self._tags(get("Tags", "")):
            return False
        if choice.min_score is not None and int(get("Score") or "0") < choice.min_score:
            return False
        if choice.since and get("CreationDate", "") < choice.since:
            return False
        if not get("AcceptedAnswerId"):
            self._counts["without an accepted answer"] += 1
            return False
        return True

    def _keep(self, number: int, attributes: dict[str, str]) -> None:
        self._kept.put(number, 1)
        if (owner := number_of(attributes.get("OwnerUserId", ""))) is not None:
            self._owners.put(owner, 1)

    def _event(self, name: str, attributes: dict[str, str]) -> None:
        event = BODY_EVENTS.get(attributes.get("PostHistoryTypeId", ""))
        post, user = number_of(attributes.get("PostId", "")), attributes.get("UserId", "")
        if name != "row" or event is None or post is None or not self._kept.of(post):
            return
        if (owner := number_of(user)) is not None:
            self._owners.put(owner, 1)
        values = (post, event, user, attributes.get("UserDisplayName", ""), attributes.get("CreationDate", ""))
        self._put("INSERT INTO history VALUES (?, ?, ?, ?, ?)", values)

    def _user(self, name: str, attributes: dict[str, str]) -> None:
        number = number_of(attributes.get("Id", ""))
        if name == "row" and number is not None and self._owners.of(number):
            self._put("INSERT OR IGNORE INTO users VALUES (?, ?)", (number, attributes.get("DisplayName", "")))

    def _lacks(self, attributes: dict[str, str], why: str) -> None:
        self._fault(Fault(f"row {self._rows}", why, str({k: v[:EXCERPT] for k, v in attributes.items()})[:400]))

    def _fault(self, fault: Fault) -> None:
        row = (self._table, fault.where, fault.why, fault.excerpt, int(fault.is_cut_off))
        self._put("INSERT INTO faults VALUES (?, ?, ?, ?, ?)", row)

    def _put(self, statement: str, values: tuple[Any, ...]) -> None:
        rows = self._waiting.setdefault(statement, [])
        rows.append(values)
        if len(rows) >= BATCH:
            self._flush(statement)

    def _flush(self, statement: str) -> None:
        rows: Iterable[tuple[Any, ...]] = self._waiting.pop(statement, ())
        self._db.executemany(statement, rows)


def _id(text: str) -> int:
    if (number := number_of(text)) is None:
        raise ValueError(text[:EXCERPT])
    return number


def _key(posts: DumpFile, others: dict[str, DumpFile], choice: Choice) -> str:
    """Equal for the same files, as far as their size and time tell, and the same choice."""
    files = [posts, *others.values()]
    states = [(str(f.path.absolute()), f.member, f.path.stat().st_size, f.path.stat().st_mtime_ns) for f in files]
    return digest.of_json([SCHEMA_VERSION, states, list(choice)]).removeprefix("sha256:")[:24]
