import subprocess
import sys
from pathlib import Path

from envfarm.controller.owners import Owners


def test_an_owner_lives_as_long_as_it_holds(tmp_path: Path) -> None:
    owners = Owners(tmp_path / "owners")
    with owners.hold() as name:
        assert owners.alive(name)
        with owners.hold() as other:
            assert other != name
    assert not owners.alive(name)
    assert list((tmp_path / "owners").iterdir()) == []


def test_names_that_were_never_owners_are_dead(tmp_path: Path) -> None:
    owners = Owners(tmp_path)
    assert not owners.alive("123-abc")
    assert not owners.alive("../123-abc")


def test_a_killed_process_is_dead_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time, pathlib; from envfarm.controller.owners import Owners\n"
        "with Owners(pathlib.Path(sys.argv[1])).hold() as name:\n    print(name, flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    name = process.stdout.readline().strip()
    owners = Owners(tmp_path)
    assert owners.alive(name)
    process.kill()
    process.wait()
    process.stdout.close()
    assert not owners.alive(name)


def test_files_of_the_dead_are_removed_and_those_of_the_living_stay(tmp_path: Path) -> None:
    owners = Owners(tmp_path)
    with owners.hold() as name:
        (tmp_path / "1-dead.lock").touch()
        assert owners.collect() == 1
        assert [path.name for path in tmp_path.iterdir()] == [f"{name}.lock"]
        assert owners.alive(name)
