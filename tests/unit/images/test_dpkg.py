"""What dpkg's files say: which packages are installed, which others they need, which files are theirs."""

from pathlib import Path

import pytest

from envfarm.images.dpkg import INSTALLED, UNSETTLED, Dpkg, closure, diversions, in_state

STATUS = """\
Package: dpkg
Status: install ok installed
Priority: required
Essential: yes
Architecture: amd64
Version: 1.21
Description: package system
 Depends: nothing, says its second line

Package: libc6
Status: install ok installed
Architecture: amd64
Version: 2.36
Multi-Arch: same

Package: libc6
Status: install ok installed
Priority: required
Architecture: i386
Version: 2.36

Package: tool
Status: hold ok installed
Architecture: amd64
Version: 1:2.0
Pre-Depends: libc6 (>= 2.30)
Depends: absent | speech (>= 3) | other-speech, perl:any,
 data (= 1)

Package: data
Status: install ok triggers-pending
Architecture: all
Version: 1

Package: festival
Status: install ok installed
Architecture: amd64
Version: 3
Provides: speech (= 3), sound

Package: espeak
Status: install ok installed
Architecture: amd64
Version: 3
Provides: other-speech, speech

Package: perl
Status: deinstall ok config-files
Architecture: amd64
Version: 5
"""


def names(roots: list[str], status: str = STATUS) -> list[str]:
    return [package.name for package in closure(in_state(INSTALLED, status), roots)]


def test_what_was_removed_or_is_of_another_machine_does_not_count() -> None:
    found = in_state(INSTALLED, STATUS)
    assert sorted(found) == ["data", "dpkg", "espeak", "festival", "libc6", "tool"]
    assert found["libc6"].architecture == "amd64"
    assert (found["dpkg"].basic, found["tool"].basic) == (True, False)
    assert found["dpkg"].needs == ()
    assert found["tool"].needs == (("libc6",), ("absent", "speech", "other-speech"), ("perl",), ("data",))
    assert found["festival"].provides == {"speech", "sound"}
    assert in_state(INSTALLED, "") == {}


def test_a_closure_takes_one_of_each_alternative() -> None:
    assert names(["tool", "unheard-of"]) == ["data", "espeak", "libc6", "tool"]


def test_what_is_taken_already_is_enough() -> None:
    assert names(["tool", "festival"]) == ["data", "festival", "libc6", "tool"]


def test_a_provider_that_every_system_has_comes_first() -> None:
    required = STATUS.replace("Package: festival\n", "Package: festival\nPriority: required\n")
    assert names(["tool"], required) == ["data", "festival", "libc6", "tool"]


def test_packages_in_a_circle_come_to_an_end() -> None:
    circle = STATUS.replace("Package: data\n", "Package: data\nDepends: tool\n")
    assert names(["data"], circle) == ["data", "espeak", "libc6", "tool"]


def test_stanzas_make_a_status_file_of_the_same_packages() -> None:
    found = in_state(INSTALLED, STATUS)
    assert in_state(INSTALLED, "\n".join(package.stanza for package in found.values())) == found


def test_diversions_come_in_threes() -> None:
    text = "/bin/sh\n/bin/sh.distrib\ndash\n/usr/bin/x\n/usr/bin/x.real\n:\n"
    assert diversions(text) == {"/bin/sh": ("/bin/sh.distrib", "dash"), "/usr/bin/x": ("/usr/bin/x.real", ":")}


@pytest.fixture
def system(tmp_path: Path) -> Path:
    """A made-up machine whose /bin is merged into /usr, and where another package moved a file of `tool` away."""
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (tmp_path / "usr/bin").mkdir(parents=True)
    (tmp_path / "bin").symlink_to("usr/bin")
    for path in ("usr/bin/tool", "usr/bin/tool.real", "usr/bin/two"):
        (tmp_path / path).write_text(path)
    (tmp_path / "var/lib/dpkg/status").write_text(STATUS)
    (tmp_path / "var/lib/dpkg/diversions").write_text("/bin/tool\n/bin/tool.real\nespeak\n")
    (info / "tool.list").write_text("/.\n/bin\n/bin/tool\n/usr/bin/two\n")
    (info / "espeak.list").write_text("/bin/tool\n")
    (info / "libc6:amd64.list").write_text("/lib/libc.so.6\n")
    (info / "tool.postinst").write_text("#!/bin/sh\n")
    return tmp_path


def test_files_belong_where_merged_directories_are_and_lie_where_diversions_moved_them(system: Path) -> None:
    dpkg = Dpkg(system)
    assert list(dpkg.files("tool")) == [("bin", "bin"), ("usr/bin/tool", "bin/tool.real"), ("usr/bin/two", "usr/bin/two")]
    assert list(dpkg.files("espeak")) == [("usr/bin/tool", "bin/tool")]
    assert list(dpkg.files("libc6")) == [("lib/libc.so.6", "lib/libc.so.6")]
    assert list(dpkg.files("data")) == []
    assert (dpkg.postinst("tool"), dpkg.postinst("data")) == ("#!/bin/sh\n", "")


def test_owners_are_found_by_either_name_of_a_merged_directory(system: Path) -> None:
    asked = [Path("/usr/bin/two"), Path("/bin/two"), Path("/lib/libc.so.6"), Path("/usr/bin/nobodys")]
    found = Dpkg(system).owners(asked)
    assert found[Path("/lib/libc.so.6")] == "libc6"
    assert set(found.values()) == {"tool", "libc6"}
    assert Path("/usr/bin/nobodys") not in found


def test_a_machine_without_dpkg_is_told(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Dpkg(tmp_path)


def test_a_package_under_way_is_neither_installed_nor_unknown() -> None:
    states = {"a": "install ok half-configured", "b": "deinstall ok config-files", "c": "install ok unpacked"}
    status = "\n".join(f"Package: {name}\nStatus: {state}\nArchitecture: all\n" for name, state in states.items())
    assert in_state(INSTALLED, status) == {}
    assert list(in_state(UNSETTLED, status)) == ["a", "c"]
