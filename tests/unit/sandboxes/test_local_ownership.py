"""Owners' locks and boxes' labels."""

import json
from pathlib import Path

from envfarm.core.ids import BoxId, EpisodeId, RunId
from envfarm.sandboxes.local_ownership import Labels, Ownership, is_process

LABELS = Labels(run_id=RunId("r"), episode_id=EpisodeId("e"), deadline=None)


def box_of(ownership: Ownership, labels: Labels | None = LABELS) -> BoxId:
    box = ownership.next_box()
    ownership.make(box)
    if labels is not None:
        ownership.write(box, labels)
    return box


def test_a_live_owners_boxes_are_not_left_over(tmp_path: Path) -> None:
    one, two = Ownership(tmp_path / "boxes"), Ownership(tmp_path / "boxes")
    one.hold()
    two.hold()
    mine, half_made = box_of(one), box_of(one, None)
    assert two.left_over() == []
    assert set(two.known()) == {mine, half_made}
    assert two.read(mine) == LABELS
    one.release()
    assert set(two.left_over()) == {mine, half_made}
    two.release()


def test_dead_owners_are_collected_and_live_ones_stay(tmp_path: Path) -> None:
    one, two = Ownership(tmp_path), Ownership(tmp_path)
    two.hold()
    (tmp_path / ".owner-dead").mkdir()
    (tmp_path / ".new-dead").mkdir()
    (tmp_path / ".new-dead" / "lock").touch()
    (tmp_path / ".new-died-sooner").mkdir()
    one.collect_owners()
    assert [path.name for path in tmp_path.iterdir()] == [two.directory.name]
    two.release()
    assert list(tmp_path.iterdir()) == []


def test_a_closed_boxs_directory_is_used_again_without_what_was_in_it(tmp_path: Path) -> None:
    ownership = Ownership(tmp_path)
    ownership.hold()
    first = box_of(ownership)
    (ownership.place(first) / "log").write_text("what it said")
    (ownership.place(first) / "boxd").touch()
    inode = ownership.place(first).stat().st_ino
    ownership.remove(first)
    assert list(ownership.known()) == []
    second = box_of(ownership, None)
    place = ownership.place(second)
    assert place.stat().st_ino == inode
    assert {path.name: path.read_text() for path in place.iterdir()} == {"box.json": "", "log": ""}
    assert ownership.read(second) is None
    ownership.remove(second)
    ownership.release()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_with_more_in_it_is_not_used_again(tmp_path: Path) -> None:
    ownership = Ownership(tmp_path)
    ownership.hold()
    box = box_of(ownership)
    (ownership.place(box) / "space").mkdir()
    ownership.remove(box)
    assert sorted(path.name for path in ownership.directory.iterdir()) == ["lock"]
    assert list(ownership.known()) == []
    ownership.release()


def test_the_last_whole_labels_count(tmp_path: Path) -> None:
    ownership = Ownership(tmp_path)
    box = box_of(ownership)
    ownership.write(box, LABELS.model_copy(update={"pid": 7}))
    with (ownership.place(box) / "box.json").open("a") as file:
        file.write('{"run_id": "r')
    assert ownership.read(box) == LABELS.model_copy(update={"pid": 7})


def test_labels_that_are_torn_are_no_labels(tmp_path: Path) -> None:
    ownership = Ownership(tmp_path)
    ownership.hold()
    box = box_of(ownership)
    (ownership.place(box) / "box.json").write_text('{"run_id": "r')
    assert ownership.read(box) is None
    ownership.release()
    assert ownership.left_over() == [box]


def test_what_another_release_made_can_still_be_removed(tmp_path: Path) -> None:
    ownership = Ownership(tmp_path)
    box = box_of(ownership)
    said = {"owner": "farm", "run_id": "r", "episode_id": "e", "deadline": None, "pid": 7, "started": 8, "groups": ["/g"]}
    (ownership.place(box) / "box.json").write_text(json.dumps(said))
    assert ownership.read(box) == LABELS.model_copy(update={"pid": 7, "started": 8, "groups": ("/g",)})


def test_a_pid_alone_names_no_process() -> None:
    assert not is_process(1, 1)
    assert not is_process(0, 0)
    assert not is_process(2**22 + 5, 5)
