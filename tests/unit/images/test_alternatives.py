"""Which links packages offer for a shared name, read from their scripts."""

from pathlib import Path

import pytest

from envfarm.images.alternatives import Alternative, link_into, offered, stronger

ONE = """#!/bin/sh
set -e
update-alternatives --quiet --install /usr/bin/awk awk /usr/bin/gawk 10 \\
  --slave /usr/share/man/man1/awk.1.gz awk.1.gz /usr/share/man/man1/gawk.1.gz \\
  --slave /usr/bin/nawk nawk /usr/bin/gawk
"""
GUARDED = """if [ "$1" = "configure" ]; then
        update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5 \\
            --slave /usr/bin/nawk nawk /usr/bin/mawk
fi
update-alternatives --install /usr/bin/editor editor /bin/ed -100
for name in a b; do
  update-alternatives --install /usr/bin/$name $name /usr/bin/x-$name 20
done
"""


def test_masters_and_those_that_follow_them_are_read() -> None:
    assert offered(ONE) == [
        Alternative("/usr/bin/awk", "/usr/bin/gawk", 10),
        Alternative("/usr/share/man/man1/awk.1.gz", "/usr/share/man/man1/gawk.1.gz", 10),
        Alternative("/usr/bin/nawk", "/usr/bin/gawk", 10),
    ]


def test_what_a_script_computes_is_not_guessed() -> None:
    assert {each.link for each in offered(GUARDED)} == {"/usr/bin/awk", "/usr/bin/nawk", "/usr/bin/editor"}
    assert offered(GUARDED)[-1].priority == -100


@pytest.mark.parametrize(
    "text", ["", "update-alternatives --remove awk /usr/bin/gawk", "update-alternatives --install /usr/bin/awk", "\x00"]
)
def test_a_script_that_offers_nothing(text: str) -> None:
    assert offered(text) == []


def test_the_strongest_that_is_there_is_linked_and_what_packages_bring_stays(tmp_path: Path) -> None:
    for name in ("gawk", "mawk", "own", "other"):
        (tmp_path / "usr/bin").mkdir(parents=True, exist_ok=True)
        (tmp_path / "usr/bin" / name).write_text(name)
    more = [
        Alternative("/usr/bin/awk", "/usr/bin/absent", 99),
        Alternative("/usr/bin/own", "/usr/bin/other", 10),
        Alternative("/usr/bin/up", "/usr/bin/../../etc/passwd", 10),
    ]
    link_into(tmp_path, [*offered(GUARDED), *offered(ONE), *more])
    assert (tmp_path / "usr/bin/awk").readlink() == Path("/usr/bin/gawk")
    assert (tmp_path / "usr/bin/own").read_text() == "own"
    assert not (tmp_path / "usr/bin/editor").is_symlink()


def test_what_is_set_already_gives_way_to_the_stronger_alone() -> None:
    mawk, gawk, old = (Alternative("/usr/bin/awk", f"/usr/bin/{name}", n) for name, n in (("mawk", 5), ("gawk", 10), ("original-awk", 0)))
    other = Alternative("/usr/bin/pager", "/usr/bin/less", 77)
    assert stronger([old, gawk, other], [mawk]) == [gawk, other]
    assert stronger([old], []) == [old]
