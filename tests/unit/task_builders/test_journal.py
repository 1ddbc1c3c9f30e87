"""The journal: durable, with a single owner, and complete after a kill."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.candidate import Gate, Rejection
from envfarm.core.errors import StoreError, UsageError
from envfarm.core.ids import Digest, TaskDigest
from task_builders.journal import ItemFailed, ItemRejected, ItemValid, Journal, read

ONE, TWO = digest.of_bytes(b"one"), digest.of_bytes(b"two")


def valid(source: str = ONE) -> ItemValid:
    return ItemValid(source_digest=Digest(source), project="acme/rockets", url="u", task=TaskDigest("t"), task_name="n", seconds=1)


def rejected(source: str = TWO, detail: str = "") -> ItemRejected:
    rejection = Rejection(source_digest=Digest(source), name="acme/rockets", url="u", gate=Gate.STATES, reason="r", detail=detail)
    return ItemRejected(rejection=rejection, reached="set up")


def failed(source: str = ONE) -> ItemFailed:
    return ItemFailed(source_digest=Digest(source), project="acme/rockets", url="u", error="the daemon is down")


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    with Journal(tmp_path / "a" / "journal.jsonl") as journal:
        journal.append(valid(), rejected(detail="bytes that are no text: \udcff"))
    with Journal(tmp_path / "a" / "journal.jsonl") as journal:
        assert journal.finished == {ONE: valid(), TWO: rejected(detail="bytes that are no text: \udcff")}


def test_entries_of_several_threads_are_all_there(tmp_path: Path) -> None:
    sources = [digest.of_json(n) for n in range(200)]
    with Journal(tmp_path / "journal.jsonl") as journal, ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda source: journal.append(valid(source)), sources))
    assert {entry.source_digest for entry in read(tmp_path / "journal.jsonl")} == set(sources)


@pytest.mark.parametrize("cut", [1, 5, 40])
def test_torn_last_line_is_cut_off_and_the_next_entry_is_whole(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(valid())
        journal.append(rejected())
    path.write_bytes(path.read_bytes()[:-cut])
    assert [entry.source_digest for entry in read(path)] == [ONE]
    with Journal(path) as journal:
        assert set(journal.finished) == {ONE}
        journal.append(rejected())
    assert [entry.source_digest for entry in read(path)] == [ONE, TWO]


def test_damage_inside_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path) as journal:
        journal.append(valid())
    path.write_bytes(b'{"kind": "nonsense"}\n' + path.read_bytes())
    with pytest.raises(StoreError, match=r"journal\.jsonl:1") as caught:
        list(read(path))
    assert "move it away" in caught.value.hint


def test_one_build_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    with Journal(path), pytest.raises(UsageError, match="another build"), Journal(path):
        pass
    with Journal(path):
        pass


def test_failure_is_forgotten_once_made_good(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl") as journal:
        journal.append(failed())
        assert set(journal.failed) == {ONE}
        assert journal.finished == {}
        journal.append(valid())
        assert journal.failed == {}
