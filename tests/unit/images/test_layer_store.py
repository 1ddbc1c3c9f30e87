"""A layer is there whole or not at all, and is made by one at a time."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from envfarm.core import digest
from envfarm.core.errors import ImageError
from envfarm.core.ids import Digest
from envfarm.images.layer_store import LayerStore, write_tree
from envfarm.images.tarball import Entry
from envfarm.layers import Layer

LAYER = digest.of_bytes(b"layer")


def test_a_published_layer_is_found_with_its_files_times_and_modes(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    assert store.find(LAYER) is None
    entries = [(Entry("opt/d", 0o700), 5), (Entry("opt/d/x", 0o750, b"#!"), 7), (Entry("opt/l", link="/nowhere"), 9)]
    assert store.publish(LAYER, entries, {"toolchain": "3.11.7"}) == 2
    tree = store.tree(LAYER)
    assert store.find(LAYER) == Layer(tree, root=False, system=False, size_bytes=2)
    assert json.loads((tree.parent / "meta.json").read_bytes()) == {"root": False, "toolchain": "3.11.7", "bytes": 2}
    assert (tree / "opt/d/x").stat().st_mode & 0o777 == 0o755
    assert ((tree / "opt/d/x").stat().st_mtime, (tree / "opt/d").stat().st_mtime) == (7, 5)
    assert os.readlink(tree / "opt/l") == "/nowhere"  # noqa: PTH115 - its text matters
    assert [p.name for p in tmp_path.iterdir()] == [LAYER.removeprefix("sha256:")]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "tree").mkdir()
    with pytest.raises(ImageError, match="behind a link"):
        write_tree(tmp_path / "tree", [(Entry("l", link=str(tmp_path / "outside")), 0), (Entry("l/x", content=b""), 0)])
    assert list((tmp_path / "outside").iterdir()) == []


def test_a_layer_that_fails_half_way_is_not_there(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    with pytest.raises(ImageError):
        store.publish(LAYER, [(Entry("a", content=b"1"), 0), (Entry("a/b", content=b"2"), 0)], {})
    assert store.find(LAYER) is None
    assert list(tmp_path.iterdir()) == []


async def test_one_makes_and_the_others_wait(tmp_path: Path) -> None:
    made = []

    async def make(name: str) -> None:
        store = LayerStore(tmp_path)
        async with store.claim(LAYER):
            if store.find(LAYER) is None:
                made.append(name)
                await asyncio.sleep(0.05)
                store.publish(LAYER, [], {})

    await asyncio.gather(*(make(str(n)) for n in range(5)))
    assert len(made) == 1


async def test_what_a_killed_process_left_is_collected_and_a_living_ones_is_not(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    (tmp_path / f".new-{LAYER.removeprefix('sha256:')}-1").mkdir()
    async with store.claim(LAYER):
        with store.scratch(LAYER) as folder:
            assert LayerStore(tmp_path).collect() == 1
            assert folder.is_dir()
    assert os.listdir(tmp_path) == []  # noqa: PTH208 - not in an async function


async def test_locks_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    store = LayerStore(tmp_path)
    (tmp_path / f".lock-{'0' * 64}").touch()
    async with store.claim(LAYER):
        assert LayerStore(tmp_path).collect() == 0
        assert [p.name for p in tmp_path.iterdir()] == [f".lock-{LAYER.removeprefix('sha256:')}"]  # noqa: ASYNC240 - it is a test


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    code = f"""
import asyncio, os
from pathlib import Path
from envfarm.images.layer_store import LayerStore
async def main():
    async with LayerStore(Path({str(tmp_path)!r})).claim({LAYER!r}):
        os.kill(os.getpid(), 9)
asyncio.run(main())
"""
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == -9
    assert [p.name.startswith(".lock-") for p in tmp_path.iterdir()] == [True]

    async def claim() -> None:
        async with asyncio.timeout(1), LayerStore(tmp_path).claim(LAYER):
            pass

    asyncio.run(claim())


def test_what_is_no_digest_names_no_layer(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="not a sha256"):
        LayerStore(tmp_path).tree(Digest("sha256:../../x"))
