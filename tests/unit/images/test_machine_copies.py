"""Copies of a project on the machine are found by their texts, not by names that anybody uses."""

from pathlib import Path

import pytest

from envfarm.images.machine_copies import MachineCopies
from envfarm.testing.archives import tar_of

CODE = "".join(f"def function_{n}():\n    return {n}\n" for n in range(10))
OTHER = "".join(f"class Thing{n}:\n    size = {n}\n" for n in range(10))


def archive(files: dict[str, str]) -> bytes:
    return tar_of(*((f"testbed/{name}", text.encode()) for name, text in files.items()))


def put(root: Path, name: str, text: str) -> None:
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize("folder", ["", "src/", "python/lib/"])
def test_a_vendored_package_is_found_wherever_it_lies(tmp_path: Path, folder: str) -> None:
    put(tmp_path, "lib/cloud/third_party/thing/core.py", CODE + "newer = True\n")
    tree = archive({f"{folder}thing/__init__.py": "", f"{folder}thing/core.py": CODE})
    assert MachineCopies(tmp_path).of(tree, "/testbed") == (str(tmp_path / "lib/cloud/third_party/thing"),)


def test_the_same_name_with_another_text_stays(tmp_path: Path) -> None:
    put(tmp_path, "lib/tests/core.py", OTHER)
    put(tmp_path, "lib/tests/empty.py", "import os\n")
    tree = archive({"tests/__init__.py": "", "tests/core.py": CODE, "tests/empty.py": "import os\n"})
    assert MachineCopies(tmp_path).of(tree, "/testbed") == ()


def test_a_single_module_is_found_as_a_file(tmp_path: Path) -> None:
    put(tmp_path, "lib/dist-packages/single.py", CODE)
    put(tmp_path, "lib/other/setup.py", OTHER)
    tree = archive({"single.py": CODE, "setup.py": CODE})
    assert MachineCopies(tmp_path).of(tree, "/testbed") == (str(tmp_path / "lib/dist-packages/single.py"),)


def test_an_interpreters_own_library_is_never_hidden(tmp_path: Path) -> None:
    for name in ("os.py", "site.py", "types.py", "single.py"):
        put(tmp_path, f"lib/python3.12/{name}", CODE)
    put(tmp_path, "lib/python3.12/thing/core.py", CODE)
    put(tmp_path, "lib/python3.12/site-packages/thing/core.py", CODE)
    tree = archive({"single.py": CODE, "thing/__init__.py": "", "thing/core.py": CODE})
    assert MachineCopies(tmp_path).of(tree, "/testbed") == (str(tmp_path / "lib/python3.12/site-packages/thing"),)


def test_of_copies_in_one_another_the_outer_one_is_told(tmp_path: Path) -> None:
    put(tmp_path, "lib/thing/core.py", CODE)
    put(tmp_path, "lib/thing/thing/core.py", CODE)
    tree = archive({"thing/__init__.py": "", "thing/core.py": CODE})
    assert MachineCopies(tmp_path).of(tree, "/testbed") == (str(tmp_path / "lib/thing"),)
