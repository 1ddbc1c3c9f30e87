"""Changes travel as tars, and hostile ones are refused."""

import json
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.core.change import Change, ChangedFile
from envfarm.core.errors import SandboxError
from envfarm.sandboxes import boxd_change
from envfarm.testing.archives import entry, tar_of

names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20).filter(lambda n: n not in {".", ".."})
paths = st.lists(names, min_size=1, max_size=4).map("/".join).filter(lambda p: p != boxd_change.INDEX)
modes = st.integers(min_value=0, max_value=0o777)
links = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=30)
files = st.one_of(
    st.builds(ChangedFile, paths, modes, st.binary(max_size=600)),
    st.builds(lambda p, link: ChangedFile(p, 0o777, link=link), paths, links),
    st.builds(ChangedFile, paths, modes),
)


@given(st.lists(files, unique_by=lambda f: f.path, max_size=8), st.lists(paths, unique=True, max_size=5))
def test_a_change_survives_the_way(changed: list[ChangedFile], deleted: list[str]) -> None:
    change = Change(tuple(sorted(changed, key=lambda f: f.path)), tuple(deleted))
    seen = boxd_change.decode(b"".join(boxd_change.encode(change)))
    assert {f.path: (f.content, f.link, f.mode) for f in seen.files} == {f.path: (f.content, f.link, f.mode) for f in change.files}
    assert seen.deleted == change.deleted


INDEX = (boxd_change.INDEX, json.dumps({"deleted": []}).encode())


@pytest.mark.parametrize(
    "archive",
    [
        b"",
        b"no tar",
        tar_of(("a", b"")),
        tar_of((boxd_change.INDEX, b"no json")),
        tar_of((boxd_change.INDEX, b'{"deleted": ["../x"]}')),
        tar_of((boxd_change.INDEX, b'{"deleted": 1}')),
        tar_of(INDEX, ("../x", b"")),
        tar_of(INDEX, ("/x", b"")),
        tar_of(INDEX, ("a/../x", b"")),
        tar_of(INDEX, entry("device", kind=tarfile.CHRTYPE)),
        tar_of(INDEX, entry("hard", kind=tarfile.LNKTYPE)),
    ],
)
def test_a_hostile_difference_is_refused(archive: bytes) -> None:
    with pytest.raises(SandboxError):
        boxd_change.decode(archive)
