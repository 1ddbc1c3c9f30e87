import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envfarm.core.errors import StoreError
from envfarm.core.faults import FaultPoint
from envfarm.core.ids import EpisodeId
from envfarm.core.model_call import ModelCall
from envfarm.core.observation import Observation
from envfarm.core.outcome import Invalid
from envfarm.core.sampled import Sampled, SampledCall
from envfarm.core.trajectory import End, Header, Step
from envfarm.stores.blobs import FileBlobStore
from envfarm.stores.trajectories import PIECE, FileTrajectories
from envfarm.testing.factories import make_scored, make_spec, make_step

SPEC = make_spec()
ID = SPEC.episode_id


def header(attempt: int = 0, resumed: int = 0) -> Header:
    return Header(episode=SPEC, environment_digest="sha256:1", instruction="do", box="scripted:box-0", attempt=attempt, resumed=resumed)


@pytest.fixture
def store(tmp_path: Path) -> FileTrajectories:
    return FileTrajectories(tmp_path / "runs")


async def test_what_is_appended_is_read_back_the_same(store: FileTrajectories) -> None:
    call = ModelCall(completion_ids=(1, 2), logprobs=(-0.5, -9999.0), message={"role": "assistant", "content": "ä"})
    steps = [make_step(0, call=call), make_step(1)]
    end = End(ended="finished", outcome=make_scored(0.25), seconds=3.0)
    lines: list[Header | Step | End] = [header(), *steps, end]
    for line in lines:
        await store.append(ID, line)
    told = await store.read(ID)
    assert (told.header, list(told.steps), told.end) == (header(), steps, end)


async def test_a_section_that_ends_before_the_steps_that_it_goes_on_from_does_not_count(store: FileTrajectories) -> None:
    await store.append(ID, header(0, resumed=1))
    assert await store.last(ID) is None
    for line in (header(1), make_step(0), make_step(1), header(2, resumed=2), make_step(0)):
        await store.append(ID, line)
    told = await store.read(ID)
    assert (told.header.attempt, len(told.steps)) == (1, 2)
    await store.append(ID, make_step(1))
    assert (await store.read(ID)).header.attempt == 2


async def test_an_episode_that_has_not_begun_has_no_trajectory(store: FileTrajectories) -> None:
    assert await store.last(ID) is None
    with pytest.raises(StoreError, match="no trajectory"):
        await store.read(ID)


async def test_the_last_attempt_is_read_and_all_are_kept(store: FileTrajectories) -> None:
    failed = End(ended="failed", outcome=Invalid("sandbox", retryable=True, detail="gone"), seconds=1.0)
    for line in (header(), make_step(0), failed, header(1)):
        await store.append(ID, line)
    told = await store.read(ID)
    assert (told.header.attempt, told.steps, told.end) == (1, (), None)
    first, _ = await store.attempts(ID)
    assert first.end == failed


async def test_who_wakes_up_with_an_old_lease_and_begins_hides_nothing(store: FileTrajectories) -> None:
    end = End(ended="finished", outcome=make_scored(1.0), seconds=1.0)
    for line in (header().model_copy(update={"epoch": 2}), end, header().model_copy(update={"epoch": 1})):
        await store.append(ID, line)
    last = await store.read(ID)
    assert (last.header.epoch, last.end) == (2, end)
    assert len(await store.attempts(ID)) == 2


@pytest.mark.parametrize("lost", range(1, 60, 7))
async def test_a_torn_last_line_is_skipped_and_then_replaced(store: FileTrajectories, lost: int) -> None:
    for line in (header(), make_step(0), make_step(1)):
        await store.append(ID, line)
    path = store.path(ID)
    os.truncate(path, path.stat().st_size - lost)
    assert [s.index for s in (await store.read(ID)).steps] == [0]
    await FileTrajectories(path.parent).append(ID, make_step(1))  # as the next process
    assert [s.index for s in (await store.read(ID)).steps] == [0, 1]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(cut=st.integers(0, 3000))
async def test_a_file_cut_anywhere_is_a_shorter_trajectory(tmp_path: Path, cut: int) -> None:
    store = FileTrajectories(tmp_path)
    path = store.path(ID)
    path.unlink(missing_ok=True)
    for line in (header(), make_step(0), make_step(1), End(ended="finished", outcome=make_scored(), seconds=1.0)):
        await store.append(ID, line)
    os.truncate(path, min(cut, path.stat().st_size))
    told = await store.last(ID)
    assert told is None or [s.index for s in told.steps] in ([], [0], [0, 1])


async def test_a_zeroed_last_line_is_skipped(store: FileTrajectories) -> None:
    await store.append(ID, header())
    with store.path(ID).open("ab") as file:
        file.write(b"\0" * 100 + b"\n")
    assert (await store.read(ID)).steps == ()


@pytest.mark.parametrize("garbled", [b"\0" * 100_000 + b"\n", b'{"kind": "step", "ind\n', b"\n"])
async def test_a_garbled_last_line_is_gone_with_the_next_append(tmp_path: Path, garbled: bytes) -> None:
    await FileTrajectories(tmp_path).append(ID, header())
    with FileTrajectories(tmp_path).path(ID).open("ab") as file:
        file.write(garbled)
    later = FileTrajectories(tmp_path)
    for index in range(2):
        await later.append(ID, make_step(index))
    assert [s.index for s in (await later.read(ID)).steps] == [0, 1]


async def test_a_file_of_one_garbled_line_begins_anew(tmp_path: Path) -> None:
    store = FileTrajectories(tmp_path)
    store.path(ID).write_bytes(b"\0" * 10 + b"\n")
    await store.append(ID, header())
    assert (await store.read(ID)).header == header()


async def test_damage_before_the_last_line_is_told_with_its_place(store: FileTrajectories) -> None:
    for line in (header(), make_step(0), make_step(1)):
        await store.append(ID, line)
    path = store.path(ID)
    path.write_bytes(path.read_bytes().replace(b'"index":0', b'"index":"x"'))
    with pytest.raises(StoreError, match="line 2: damaged"):
        await store.read(ID)


async def test_steps_out_of_place_are_damage(store: FileTrajectories) -> None:
    for line in (header(), make_step(1)):
        await store.append(ID, line)
    with pytest.raises(StoreError, match="step 1 stands where step 0 belongs"):
        await store.read(ID)


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a\0b", "x" * 300])
def test_ids_that_are_no_file_names_are_refused(store: FileTrajectories, name: str) -> None:
    with pytest.raises(StoreError, match="episode id"):
        store.path(EpisodeId(name))


async def test_a_write_that_fails_keeps_nothing(tmp_path: Path) -> None:
    class Full:
        def reach(self, point: FaultPoint) -> None:
            if point == "journal write" and (tmp_path / f"{ID}.jsonl").exists():
                raise OSError(28, "No space left on device")

    store = FileTrajectories(tmp_path, faults=Full())
    await store.append(ID, header())
    with pytest.raises(StoreError, match="No space left"):
        await store.append(ID, make_step(0))
    assert (await store.read(ID)).steps == ()


async def test_a_directory_that_cannot_be_written_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        await FileTrajectories(tmp_path / "file").append(ID, header())


async def test_who_goes_on_with_an_attempt_that_another_took_over_is_refused(tmp_path: Path) -> None:
    sleeper, other = FileTrajectories(tmp_path), FileTrajectories(tmp_path)
    await sleeper.append(ID, header())
    await sleeper.append(ID, make_step(0))
    await other.append(ID, header())
    with pytest.raises(StoreError, match="another process goes on"):
        await sleeper.append(ID, make_step(1))
    await other.append(ID, make_step(0))
    assert len((await other.read(ID)).steps) == 1
    await sleeper.append(ID, header())  # the episode came back to it
    await sleeper.append(ID, make_step(0))
    assert [len(a.steps) for a in await other.attempts(ID)] == [1, 1, 1]


async def test_an_excerpt_reads_no_steps_but_the_last_ones_and_the_one_that_is_looked_for(store: FileTrajectories) -> None:
    assert await store.excerpt(ID) is None
    ids = ModelCall(call_id="long", prompt_ids=(123456789,) * 9)
    other = ModelCall(call_id="other", message={"call_id": 'a "ä"'})
    calls = [ids, other, ModelCall(call_id='a "ä"'), None]
    steps = [make_step(n, call=call, observation=Observation(text=f"said {n}")) for n, call in enumerate(calls)]
    lines: list[Header | Step | End] = [header(), make_step(0), header(1), *steps]
    for line in (*lines, End(ended="finished", outcome=make_scored(), seconds=1.0)):
        await store.append(ID, line)
    path = store.path(ID)
    path.write_bytes(path.read_bytes().replace(b"123456789", b"[[[[[[[[["))  # whoever reads these fails
    found = await store.excerpt(ID, call_id='a "ä"')
    assert found is not None
    assert found.called is not None
    assert (found.header.attempt, found.turns, [step.observation.text for step in found.last]) == (1, 4, ["said 2", "said 3"])
    assert found.called.observation.text == "said 2"
    unknown = await store.excerpt(ID, call_id="a")
    assert unknown is not None
    assert unknown.called is None


@pytest.mark.parametrize("ended", [False, True])
async def test_what_is_sent_of_a_record_is_what_is_read_of_it_in_pieces(store: FileTrajectories, *, ended: bool) -> None:
    assert await store.json(ID) is None
    step = make_step(1, call=ModelCall(completion_ids=(1,), logprobs=(-1e-7,)), observation=Observation(text="ä\n\0" * PIECE))
    for line in (header(), make_step(0), header(1), make_step(0), step, make_step(2)):
        await store.append(ID, line)
    if ended:
        await store.append(ID, Sampled(episode=ID, calls=()))
        await store.append(ID, End(ended="finished", outcome=make_scored(), seconds=1.0))
        path = store.path(ID)
        path.write_bytes(path.read_bytes().replace(b'"log_tail":""', b'"log_tail":"sealed"'))  # as of an older farm
    found = await store.json(ID)
    assert found is not None
    pieces = list(found)
    assert b"".join(pieces) == (await store.read(ID)).model_dump_json().encode()
    assert len(pieces) > 4
    assert max(map(len, pieces)) < 2 * PIECE


@pytest.mark.parametrize("damage", [b'{"kind":"step","index":0,\0', b'{"kind":"stop","index":0,'])
async def test_damage_is_told_to_those_who_read_a_part_too(store: FileTrajectories, damage: bytes) -> None:
    for line in (header(), make_step(0), make_step(1)):
        await store.append(ID, line)
    path = store.path(ID)
    path.write_bytes(path.read_bytes().replace(b'{"kind":"step","index":0,', damage))
    for reading in (store.excerpt(ID), store.json(ID)):
        with pytest.raises(StoreError, match="line 2: damaged"):
            await reading


async def test_what_a_record_refers_to_goes_with_the_record(tmp_path: Path) -> None:
    blobs = FileBlobStore(tmp_path / "blobs")
    store = FileTrajectories(tmp_path / "runs", blobs=blobs)
    call = SampledCall(index=0, prompt_length=1, added_ids=(1,), completion_ids=(2,), logprobs=(-0.5,), finish_reason="stop", engine="a")
    kept, other = await blobs.put(b"experts"), await blobs.put(b"a checkout")
    await store.append(ID, header())
    await store.append(ID, Sampled(episode=ID, calls=(call, call.model_copy(update={"index": 1, "experts": kept}))))
    assert await blobs.holds(kept.digest)
    await store.forget([ID])
    assert [await blobs.holds(ref.digest) for ref in (kept, other)] == [False, True]
