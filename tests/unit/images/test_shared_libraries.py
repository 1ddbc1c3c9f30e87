"""What the loader says of a program, and its cache for trees over one another."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from envfarm.images.shared_libraries import CACHE, PATH, found_in, loaded_by, write_cache

LISTING = """\
\tlinux-vdso.so.1 (0x00007ffc1f5f2000)
\tlib/python3.12/lib-dynload/_ssl.so (0x00007f1d9d000000)
\tlibssl.so.3 => /lib/x86_64-linux-gnu/libssl.so.3 (0x00007f1d9d0b6000)
\tlibodd.so.1 => /usr/local/lib/an odd place/libodd.so.1 (0x00007f1d9d0b6000)
\tlibgone.so.1 => not found
\t/lib64/ld-linux-x86-64.so.2 (0x00007f1d9d8e6000)
ERROR: ld.so: object 'x.so' from LD_PRELOAD cannot be preloaded (cannot open shared object file): ignored.
"""


def test_a_listing_is_read() -> None:
    assert found_in(LISTING) == {
        Path("/lib/x86_64-linux-gnu/libssl.so.3"),
        Path("/usr/local/lib/an odd place/libodd.so.1"),
        Path("/lib64/ld-linux-x86-64.so.2"),
    }
    assert found_in("") == set()


def test_a_program_and_its_modules_are_asked_at_once() -> None:
    if sys.platform != "linux" or shutil.which("ldconfig", path=PATH) is None:
        pytest.skip("asks the GNU C library's loader")
    prefix = Path(sys.base_prefix)
    library = prefix / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/lib-dynload"
    program = prefix / f"bin/python{sys.version_info.major}.{sys.version_info.minor}"
    modules = sorted(library.glob("_ctypes.*.so"))
    alone, both = loaded_by(program, [], within=prefix), loaded_by(program, modules, within=prefix)
    assert any(path.name.startswith("libc.so") for path in alone)
    if modules:
        assert any(path.name.startswith("libffi") for path in both - alone)


def test_a_cache_names_the_libraries_of_all_trees(tmp_path: Path) -> None:
    ldconfig = shutil.which("ldconfig", path=PATH)
    libraries = sorted(Path("/usr/lib").glob("*-linux-gnu/lib[mz].so.?"))
    if ldconfig is None or len(libraries) < 2:
        pytest.skip("needs ldconfig and two libraries")
    below, above = tmp_path / "below", tmp_path / "above"
    for tree, library in ((below, libraries[0]), (above, libraries[1])):
        (tree / "usr/lib/here").mkdir(parents=True)
        shutil.copyfile(library, tree / "usr/lib/here" / library.name)
    (below / "etc/ld.so.conf.d").mkdir(parents=True)
    (below / "etc/ld.so.conf").write_text("include /etc/ld.so.conf.d/*.conf\n")
    (below / "etc/ld.so.conf.d/here.conf").write_text("# here\n/lib/here\n")
    (below / "lib").symlink_to("usr/lib")
    for trees, seen in (([below], libraries[:1]), ([below, above], libraries)):
        write_cache(trees)
        said = subprocess.run([ldconfig, "-C", str(trees[-1] / CACHE), "-p"], capture_output=True, text=True, check=True).stdout
        assert [library.name in said for library in libraries] == [library in seen for library in libraries]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
