"""The directory of layers: what is whole stays, what is damaged or half made is not there."""

import fcntl
import struct
from contextlib import suppress
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.errors import ImageError
from envfarm.core.faults import FaultPoint
from envfarm.layers import LayerDirectory

FIEMAP = 0xC020660B
DELAYED = 4
LAYER = digest.of_bytes(b"layer")


def publish(layers: LayerDirectory, text: str) -> None:
    with layers.fresh(LAYER) as fresh:
        (fresh / "tree").mkdir()
        (fresh / "tree" / "file").write_text(text)
        layers.publish(LAYER, fresh, {"bytes": len(text)})


def test_a_whole_layer_stays_where_living_boxes_use_it(tmp_path: Path) -> None:
    layers = LayerDirectory(tmp_path)
    publish(layers, "first")
    inode = layers.tree(LAYER).stat().st_ino
    publish(layers, "second")
    assert ((layers.tree(LAYER) / "file").read_text(), layers.tree(LAYER).stat().st_ino) == ("first", inode)


@pytest.mark.parametrize("lost", ["tree", "meta.json"])
def test_a_layer_that_lost_a_part_makes_room(tmp_path: Path, lost: str) -> None:
    layers = LayerDirectory(tmp_path)
    publish(layers, "first")
    place = layers.tree(LAYER).parent
    (place / lost).rename(place / "lost")
    assert layers.find(LAYER) is None
    publish(layers, "second")
    assert sorted(path.name for path in place.iterdir()) == ["meta.json", "tree"]
    assert (layers.tree(LAYER) / "file").read_text() == "second"
    assert list(tmp_path.iterdir()) == [place]


def test_a_layer_that_cannot_be_read_is_an_error_that_says_where_and_what_to_do(tmp_path: Path) -> None:
    layers = LayerDirectory(tmp_path)
    place = layers.tree(LAYER).parent
    (place / "meta.json").mkdir(parents=True)
    with pytest.raises(ImageError, match=r"cannot be read: .*meta\.json") as told:
        layers.find(LAYER)
    assert f"remove {place}" in told.value.hint


def test_half_layers_of_the_dead_are_collected_and_whole_ones_stay(tmp_path: Path) -> None:
    layers = LayerDirectory(tmp_path)
    publish(layers, "whole")
    (tmp_path / ".new-dead" / "tree").mkdir(parents=True)
    with layers.fresh(LAYER) as fresh:
        assert LayerDirectory(tmp_path).collect() == 1
        assert sorted(tmp_path.iterdir()) == sorted([fresh, layers.tree(LAYER).parent])


def waits_for_the_disk(path: Path) -> bool:
    """Whether what was written has no place on the disk yet (an extent of delayed allocation, as ext4 and XFS tell by FIEMAP)."""
    with path.open("rb") as file, suppress(OSError):
        told = fcntl.ioctl(file, FIEMAP, struct.pack("=QQ4L56x", 0, 2**64 - 1, 0, 0, 1, 0))
        return bool(struct.unpack_from("=L", told, 32 + 40)[0] & DELAYED)
    return False


class Looks:
    """Looks whether a layer's file is on the disk before the layer takes its place."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self.seen: list[bool] = []

    def reach(self, _point: FaultPoint) -> None:
        self.seen += [waits_for_the_disk(path) for path in self._root.glob(".new-*/tree/file")]


def test_a_layer_is_on_the_disk_before_it_takes_its_place(tmp_path: Path) -> None:
    looks = Looks(tmp_path)
    (tmp_path / "control").write_text("x" * 9000)
    if not waits_for_the_disk(tmp_path / "control"):
        pytest.skip("this file system does not tell what waits for the disk")
    publish(LayerDirectory(tmp_path, faults=looks), "x" * 9000)
    assert looks.seen == [False]
