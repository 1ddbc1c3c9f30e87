"""What of a Debian package goes into a layer, and what is said where there is no Debian."""

import shutil
from pathlib import Path

import pytest

from envfarm.core.errors import BuildOutage, ImageError
from envfarm.images.system_packages import SystemPackages, layer_entries


def test_files_land_below_usr_and_etc_without_manuals_and_set_id_bits(tmp_path: Path) -> None:
    for name in ("usr/bin/tool", "lib/x86_64/liba.so.1", "usr/share/doc/tool/README", "etc/tool.conf", "var/lib/tool/x"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "usr/bin/tool").chmod(0o4755)
    (tmp_path / "lib/x86_64/liba.so").symlink_to("liba.so.1")
    found = {entry.path: entry for entry, _ in layer_entries(tmp_path)}
    assert sorted(path for path, entry in found.items() if not entry.is_dir) == [
        "etc/tool.conf",
        "usr/bin/tool",
        "usr/lib/x86_64/liba.so",
        "usr/lib/x86_64/liba.so.1",
    ]
    assert found["usr/bin/tool"].mode == 0o755
    assert found["usr/lib/x86_64/liba.so"].link == "liba.so.1"


def test_no_packages_ask_for_nothing(tmp_path: Path) -> None:
    assert SystemPackages(tmp_path / "apt", variables={}).missing(()) == ()
    assert not (tmp_path / "apt").exists()


def test_where_there_is_no_apt_it_is_said(tmp_path: Path) -> None:
    packages = SystemPackages(tmp_path, variables={})
    packages._env["PATH"] = str(tmp_path)
    with pytest.raises(ImageError, match="dpkg-query is not on this machine") as told:
        packages.missing(("libxml2-dev",))
    assert "Docker" in told.value.hint
    with pytest.raises(ImageError, match="apt-get is not on this machine"):
        packages.unpack(("libxml2-dev",), tmp_path)


@pytest.mark.skipif(shutil.which("apt-get") is None, reason="there is no apt")
def test_where_no_mirror_answers_a_missing_package_is_nobodys_fault(tmp_path: Path) -> None:
    nobody = {"HTTP_PROXY": "http://127.0.0.1:9", "HTTPS_PROXY": "http://127.0.0.1:9"}
    for _ in range(2):
        with pytest.raises(BuildOutage, match=r"127\.0\.0\.1:9"):
            SystemPackages(tmp_path / "apt", variables=nobody).unpack(("made-up-by-a-test",), tmp_path / "files")


@pytest.mark.parametrize(("script", "told"), [("kill -9 $$", "by signal 9"), ("echo E: no such package; exit 100", "status 100")])
def test_an_apt_that_was_killed_says_nothing_of_packages(tmp_path: Path, script: str, told: str) -> None:
    for name in ("apt-get", "dpkg-deb"):
        (tmp_path / name).write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / name).chmod(0o755)
    packages = SystemPackages(tmp_path / "apt", variables={})
    packages._env["PATH"] = f"{tmp_path}:{packages._env['PATH']}"
    with pytest.raises(ImageError, match=told) as raised:
        packages.unpack(("made-up",), tmp_path / "files")
    assert isinstance(raised.value, BuildOutage) is ("signal" in told)
