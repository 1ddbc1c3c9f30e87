"""From packages and their file lists to the tree of a base system."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from envfarm.images.base_system import BaseSystem, entries, offered, under_way
from envfarm.images.dpkg import Dpkg, closure
from envfarm.images.tarball import Entry

STATUS = """\
Package: dpkg
Status: install ok installed
Essential: yes
Architecture: amd64
Version: 1

Package: mawk
Status: install ok installed
Architecture: amd64
Version: {version}

Package: less
Status: install ok installed
Architecture: amd64
Version: 1
"""
FILES = {
    "usr/bin/mawk": 0o4755,
    "usr/bin/less": 0o755,
    "usr/bin/nobodys": 0o755,
    "usr/lib/x/mod.py": 0o644,
    "usr/lib/x/__pycache__/mod.cpython-311.pyc": 0o644,
    "usr/lib/x/__pycache__/other.cpython-311.pyc": 0o644,
    "usr/share/doc/mawk/copyright": 0o644,
    "usr/lib/private": 0o600,
    "etc/services": 0o644,
    "etc/secret.conf": 0o644,
    "opt/thing": 0o755,
}
LISTED = (
    "/.", "/bin/mawk", "/usr", "/usr/bin", "/usr/lib/x/mod.py", "/usr/lib/x/empty", "/usr/lib/x/link", "/usr/lib/private",
    "/usr/share/doc/mawk/copyright", "/usr/share/man/gone.1", "/etc/services", "/etc/secret.conf", "/opt/thing", "/usr/bin/left-out",
)  # fmt: skip
POSTINST = "update-alternatives --install /usr/bin/awk awk /usr/bin/mawk 5\n"


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A made-up machine with merged /usr."""
    for path, mode in FILES.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(path)
        (tmp_path / path).chmod(mode)
    (tmp_path / "bin").symlink_to("usr/bin")
    (tmp_path / "usr/lib/x/empty").mkdir()
    (tmp_path / "usr/lib/x/link").symlink_to("/usr/lib/elsewhere")
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "mawk.list").write_text("\n".join(LISTED))
    (info / "mawk.postinst").write_text(POSTINST)
    (info / "less.list").write_text("/usr/bin/less\n")
    (tmp_path / "var/lib/dpkg/status").write_text(STATUS.format(version=1))
    return tmp_path


def base(dpkg: Dpkg, *roots: str) -> BaseSystem:
    return BaseSystem(tuple(closure(dpkg.packages, roots)), ())


def tree(system: Path) -> Mapping[str, Entry]:
    dpkg = Dpkg(system)
    found = [entry for entry, _ in entries(dpkg, base(dpkg, "mawk"), system)]
    assert len(found) == len({entry.path for entry in found})
    return {entry.path: entry for entry in found}


def test_a_tree_holds_its_packages_files_and_nobody_elses(system: Path) -> None:
    assert sorted(path for path, entry in tree(system).items() if not entry.is_dir) == [
        "bin", "etc/services", "usr/bin/mawk", "usr/lib/x/__pycache__/mod.cpython-311.pyc", "usr/lib/x/link", "usr/lib/x/mod.py",
    ]  # fmt: skip


def test_links_and_empty_directories_stay(system: Path) -> None:
    found = tree(system)
    assert found["bin"].link == "usr/bin"
    assert found["usr/lib/x/link"].link == "/usr/lib/elsewhere"
    assert found["usr/lib/x/empty"].is_dir


def test_a_file_that_another_package_diverted_lies_where_it_belongs(system: Path) -> None:
    (system / "usr/bin/mawk").rename(system / "usr/bin/mawk.real")
    (system / "usr/bin/mawk").write_text("another package's")
    (system / "var/lib/dpkg/diversions").write_text("/bin/mawk\n/bin/mawk.real\nless\n")
    assert tree(system)["usr/bin/mawk"].content == b"usr/bin/mawk"


def test_a_newer_release_of_a_package_is_another_base_over_the_same_ground(system: Path) -> None:
    old = base(Dpkg(system), "mawk")
    (system / "var/lib/dpkg/status").write_text(STATUS.format(version=2))
    new, more = base(Dpkg(system), "mawk"), base(Dpkg(system), "mawk", "less")
    assert (new.digest != old.digest, new.ground == old.ground) == (True, True)
    assert (more.digest != new.digest, more.ground != new.ground) == (True, True)


def test_what_packages_offer_is_read_from_their_scripts(system: Path) -> None:
    dpkg = Dpkg(system)
    assert [a.target for a in offered(dpkg, base(dpkg, "mawk", "less"))] == ["/usr/bin/mawk"]


def test_a_base_is_not_made_of_packages_that_are_under_way(system: Path) -> None:
    status = system / "var/lib/dpkg/status"
    more = {"libx1": "", "unrelated": "", "essential": "Essential: yes\n"}
    half = "".join(f"\nPackage: {name}\nStatus: install ok half-configured\nArchitecture: all\n{field}" for name, field in more.items())
    needs = "\nPackage: program\nStatus: install ok installed\nArchitecture: all\nDepends: libx1 (>= 2)\n"
    status.write_text(status.read_text() + half + needs)
    dpkg = Dpkg(system)
    assert under_way(dpkg, base(dpkg, "program").packages) == ["libx1", "essential"]
    assert under_way(dpkg, base(dpkg, "mawk").packages) == ["essential"]
