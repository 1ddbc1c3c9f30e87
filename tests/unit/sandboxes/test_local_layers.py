"""Unpacking checkouts: nothing leaves the tree, and a tree is there whole or not at all."""

import stat
import tarfile
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.errors import ImageError
from envfarm.sandboxes.local_layers import LayerTrees, extract
from envfarm.testing.archives import MADE_AT, Entry, entry, tar_of


def test_contents_modes_times_and_links_are_kept(tmp_path: Path) -> None:
    extract(
        tar_of(
            entry("./a/run", mode=0o4755, content=b"#!"),
            entry("a/link", kind=tarfile.SYMTYPE, link="/etc/passwd"),
            entry("a/hard", kind=tarfile.LNKTYPE, link="a/run"),
            entry("closed", kind=tarfile.DIRTYPE, mode=0o500),
            entry("closed/in", content=b"x"),
        ),
        tmp_path,
    )
    run = (tmp_path / "a/run").stat()
    assert (stat.S_IMODE(run.st_mode), run.st_mtime, run.st_nlink) == (0o755, MADE_AT, 2)
    assert str((tmp_path / "a/link").readlink()) == "/etc/passwd"
    assert (tmp_path / "closed/in").read_bytes() == b"x"
    assert stat.S_IMODE((tmp_path / "closed").stat().st_mode) == 0o700


OUT = entry("out", kind=tarfile.SYMTYPE, link="..")


@pytest.mark.parametrize(
    "entries",
    [
        [entry("../x")],
        [entry("/x")],
        [entry("a/../../x")],
        [OUT, entry("out/x")],
        [OUT, entry("out", kind=tarfile.DIRTYPE)],
        [OUT, entry("out/deep", kind=tarfile.DIRTYPE)],
        [OUT, entry("hard", kind=tarfile.LNKTYPE, link="out/secret")],
        [entry("hard", kind=tarfile.LNKTYPE, link="../secret")],
        [OUT, entry("hard", kind=tarfile.LNKTYPE, link="out")],
        [entry("device", kind=tarfile.CHRTYPE)],
        [entry("pipe", kind=tarfile.FIFOTYPE)],
    ],
)
def test_nothing_leaves_the_tree(tmp_path: Path, entries: list[Entry]) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    (tmp_path / "secret").write_text("secret")
    with pytest.raises((ValueError, OSError)):
        extract(tar_of(*entries), tree)
    assert {path.name for path in tmp_path.iterdir()} == {"tree", "secret"}
    assert (tmp_path / "secret").stat().st_nlink == 1


def test_a_tree_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    layers = LayerTrees(tmp_path / "layers")
    good, bad = tar_of(entry("testbed/a", content=b"x")), tar_of(entry("testbed/a"), entry("../x"))
    assert layers.find(digest.of_bytes(good)) is None
    tree = layers.unpack(digest.of_bytes(good), good)
    assert (tree.tops, tree.root, (tree.path / "testbed/a").read_bytes()) == (frozenset({"testbed"}), False, b"x")
    assert layers.unpack(digest.of_bytes(good), good) == tree == layers.find(digest.of_bytes(good))
    with pytest.raises(ImageError):
        layers.unpack(digest.of_bytes(bad), bad)
    assert layers.find(digest.of_bytes(bad)) is None
    assert len(list((tmp_path / "layers").iterdir())) == 1


@pytest.mark.parametrize("note", [b"", b'{"kind": "chec', b"\0" * 24, b"[]", None], ids=["empty", "torn", "zeros", "no object", "lost"])
def test_a_damaged_checkout_is_unpacked_again(tmp_path: Path, note: bytes | None) -> None:
    layers = LayerTrees(tmp_path / "layers")
    archive = tar_of(entry("testbed/a", content=b"x"))
    name = digest.of_bytes(archive)
    tree = layers.unpack(name, archive)
    (tree.path / "testbed/a").write_bytes(b"")
    if note is None:
        (tree.path.parent / "meta.json").unlink()
    else:
        (tree.path.parent / "meta.json").write_bytes(note)
    assert layers.find(name) is None
    assert layers.unpack(name, archive) == tree == layers.find(name)
    assert (tree.path / "testbed/a").read_bytes() == b"x"
    assert [path.name for path in (tmp_path / "layers").iterdir()] == [name.removeprefix("sha256:")]
