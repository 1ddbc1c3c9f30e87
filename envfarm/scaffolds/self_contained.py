"""Makes a scaffold independent of environments. Runs by itself in the box where a scaffold is built, with that box's Python.

`python DIR` copies the running interpreter to DIR. `seal ROOT PATCHELF PATTERN…` copies the system libraries that programs and libraries
below ROOT need to ROOT/lib, including the C library and its loader, and patches the programs to use these copies. So they run with another
C library installed, an older one, or none. No environment variable is involved, so what they start does not inherit it.
"""

import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

LEFT_OUT = (
    "site-packages",
    "dist-packages",
    "test",
    "tests",
    "idlelib",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "tkinter",
    "_tkinter*",
    "config-*",
)
ELF = b"\x7fELF"
MACHINE = slice(18, 20)
HEADER_BYTES = 20
WANTED = re.compile(r"(?:(\S+) => )?(/\S+) \(0x[0-9a-f]+\)")
LOADER = re.compile(r"/ld-linux[^/]*\.so\.\d+$")


def copy_python(target: Path) -> None:
    """Copy the running interpreter, without packages, to a new place, where it finds its library next to itself."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    program = target / "bin" / name
    program.parent.mkdir(parents=True)
    shutil.copyfile(Path(sys.executable).resolve(), program)
    program.chmod(0o755)
    (target / "bin" / "python3").symlink_to(name)
    standard = Path(sysconfig.get_path("stdlib"))
    library = target / "lib" / name
    shutil.copytree(standard, library, symlinks=False, ignore=shutil.ignore_patterns(*LEFT_OUT), ignore_dangling_symlinks=True)
    (library / "site-packages").mkdir()
    for shared in {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libpython" in line}:
        shutil.copyfile(shared, target / "lib" / Path(shared).name)  # where the program looks until it is sealed
    # The layer is read-only in boxes: what is not compiled now would be compiled at each start.
    subprocess.run([str(sys.executable), "-m", "compileall", "-q", "-j", "0", str(library)], check=False)


def seal(root: Path, patchelf: str, as_they_are: list[str]) -> None:
    """See the module. Files that match `as_they_are`, patterns below the root, are not changed."""
    left_alone = {path for pattern in as_they_are for path in root.glob(pattern)}
    own = Path(sys.executable).resolve().read_bytes()[:HEADER_BYTES][MACHINE]
    files = [path for path in root.rglob("*") if path not in left_alone and _is_elf(path, own)]
    library = root / "lib"
    library.mkdir(exist_ok=True)
    wanted = {name: path for file in files for name, path in _wanted(file) if not path.is_relative_to(root)}
    for name, path in sorted(wanted.items()):
        shutil.copyfile(path.resolve(), library / name)
        (library / name).chmod(0o755)
    for file in (*files, *library.iterdir()):
        loader = library / Path(_ask(patchelf, "--print-interpreter", file)).name
        is_program = bool(LOADER.search(str(loader))) and loader.exists()
        places = _ask(patchelf, "--print-rpath", file)
        # A library without an rpath is searched in its program's; one with an rpath is searched there only.
        if is_program or places:
            beside = [place for place in places.split(":") if place.startswith("$ORIGIN")]
            change = ["--set-interpreter", str(loader)] if is_program else []
            change += ["--force-rpath", "--set-rpath", ":".join([*beside, str(library)])]
            subprocess.run([patchelf, *change, str(file)], check=True)


def _ask(patchelf: str, question: str, file: Path) -> str:
    """Its output; empty if there is none, for example for a library's interpreter."""
    return subprocess.run([patchelf, question, str(file)], capture_output=True, text=True, check=False).stdout.strip()


def _is_elf(path: Path, machine: bytes) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    return head[:4] == ELF and head[MACHINE] == machine


def _wanted(file: Path) -> Iterator[tuple[str, Path]]:
    """Name and path of each library that the system's loader would use for a program or library."""
    said = subprocess.run(["ldd", str(file)], capture_output=True, text=True, check=False).stdout
    for name, place in WANTED.findall(said):
        yield (name or place).rpartition("/")[2], Path(place)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["python", where]:
            copy_python(Path(where))
        case ["seal", where, program, *patterns]:
            seal(Path(where), program, patterns)
        case _:
            sys.exit("python DIR | seal ROOT PATCHELF [PATTERN…]")
