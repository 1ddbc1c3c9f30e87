"""Owners' locks and boxes' labels."""

from pathlib import Path

from envfarm.core.ids import BoxId, EpisodeId, RunId
from envfarm.sandboxes.local_ownership import Labels, Ownership, is_process

LABELS = Labels(owner="farm", run_id=RunId("r"), episode_id=EpisodeId("e"), deadline=None)


def box_of(ownership: Ownership, labels: Labels | None = LABELS) -> BoxId:
    box = ownership.next_box()
    ownership.place(box).mkdir()
    if labels is not None:
        ownership.write(box, labels)
    return box


def test_a_live_owners_boxes_are_not_left_over(tmp_path: Path) -> None:
    one, two = Ownership(tmp_path / "boxes"), Ownership(tmp_path / "boxes")
    one.hold()
    two.hold()
    mine, half_made = box_of(one), box_of(one, None)
    assert two.left_over() == []
    (found,) = two.list_owned("farm")
    assert (found.box_id, found.alive_owner, found.run_id) == (mine, True, "r")
    assert two.list_owned("another") == []
    one.release()
    assert set(two.left_over()) == {mine, half_made}
    assert [known.alive_owner for known in two.list_owned("farm")] == [False]
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


def test_labels_that_are_torn_are_no_labels(tmp_path: Path) -> None:
    ownership = Ownership(tmp_path)
    ownership.hold()
    box = box_of(ownership)
    (ownership.place(box) / "box.json").write_text('{"owner": "fa')
    assert ownership.read(box) is None
    assert ownership.list_owned("farm") == []
    ownership.release()
    assert ownership.left_over() == [box]


def test_a_pid_alone_names_no_process() -> None:
    assert not is_process(1, 1)
    assert not is_process(0, 0)
    assert not is_process(2**22 + 5, 5)
