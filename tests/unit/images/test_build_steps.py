"""A failed step is told with its end; a project's own checkout is the checkout and what the steps made."""

from pathlib import Path

import pytest

from envfarm.core.change import Change, ChangedFile
from envfarm.core.errors import BoxLost, BuildOutage, ImageError
from envfarm.core.image import Environment, ImageRef
from envfarm.core.recipe import InstallStep
from envfarm.core.sandbox import ExecRequest, ExecResult, MemoryKills, Network, SandboxSpec
from envfarm.images.build_steps import StepLog, files_archive, outcome, own_checkout, run_steps, shorten, step_failed
from envfarm.images.tarball import Entry, pack, unpack
from envfarm.testing.scripted_box import ScriptedBox

CHECKOUT = pack(
    [Entry("testbed", 0o755), Entry("testbed/a.py", content=b"a"), Entry("testbed/gone/x", content=b"x"), Entry("testbed/l", link="a.py")],
    mtime_s=1234,
)

SPEC = SandboxSpec(environment=Environment(image=ImageRef(kind="host", digest="sha256:0"), work_dir="/testbed"))


class StepBox(ScriptedBox):
    """A box in which every command ends as it is told to, while counters outside of it rise."""

    result = ExecResult(exit_code=1)
    rise: dict[str, int] = {}
    seen = MemoryKills(killed=3, shared=False, limit_bytes=1 << 30)

    def memory_kills(self) -> MemoryKills:
        """The counters now."""
        return self.seen

    async def exec(self, request: ExecRequest) -> ExecResult:
        """End as told."""
        self.requests.append(request)
        self.seen = self.seen.model_copy(update={name: getattr(self.seen, name) + n for name, n in self.rise.items()})
        return self.result


async def run(result: ExecResult, folder: Path, *, network: Network = Network.CLOSED, **rise: int) -> None:
    box = StepBox(SPEC)
    box.result, box.rise = result, rise
    await run_steps(box, [InstallStep(run="make")], cwd="/", env={}, timeout_s=9, log=StepLog(folder / "log"), network=network)


@pytest.mark.parametrize(
    "result", [ExecResult(exit_code=None, signal=9), ExecResult(exit_code=1, stderr=b"cc: Killed signal terminated program cc1")], ids=repr
)
async def test_a_machine_without_memory_says_nothing_of_a_step(tmp_path: Path, result: ExecResult) -> None:
    with pytest.raises(BoxLost, match="the machine ran out of memory"):
        await run(result, tmp_path, killed=1)
    with pytest.raises(ImageError, match="the box's memory limit"):
        await run(result, tmp_path, killed=1, own_limit=1)
    with pytest.raises(ImageError, match=r"`make`\) ended with s"):
        await run(result, tmp_path)


async def test_the_disk_that_a_build_shares_with_the_machine_is_the_machines(tmp_path: Path) -> None:
    with pytest.raises(BuildOutage, match=r"disk is full.*disk limit"):
        await run(ExecResult(exit_code=None, signal=9, limit_hit="disk"), tmp_path)


@pytest.mark.parametrize(("network", "is_outage"), [(Network.OPEN, True), (Network.CLOSED, False)])
async def test_only_a_step_that_has_a_network_meets_its_outage(tmp_path: Path, network: Network, *, is_outage: bool) -> None:
    said = b"warning: spurious network error (1 try remaining): [6] Could not resolve hostname"
    with pytest.raises(ImageError) as told:
        await run(ExecResult(exit_code=101, stderr=said), tmp_path, network=network)
    assert isinstance(told.value, BuildOutage) is is_outage


def test_what_the_steps_made_is_in_the_checkout() -> None:
    made = (
        ChangedFile("opt/venv/lib/p.pth", 0o644, b"/testbed\n"),
        ChangedFile("testbed/a.py", 0o755, b"changed"),
        ChangedFile("testbed/build", 0o755),
        ChangedFile("testbed/__pycache__/a.pyc", 0o644, b"cache"),
    )
    archive = own_checkout(CHECKOUT, Change(made, deleted=("testbed/gone",)), work_dir="/testbed")
    entries = {entry.path: (entry, mtime_s) for entry, mtime_s in unpack(archive)}
    assert sorted(entries) == ["opt/venv/lib/p.pth", "testbed", "testbed/a.py", "testbed/build", "testbed/l"]
    assert entries["testbed/a.py"][0] == Entry("testbed/a.py", 0o755, b"changed")
    assert {mtime_s for _, mtime_s in entries.values()} == {1234}


def test_no_change_gives_the_same_bytes() -> None:
    assert own_checkout(CHECKOUT, Change(), work_dir="/testbed") == CHECKOUT


def test_the_layer_may_not_lose_a_file() -> None:
    with pytest.raises(ImageError, match="deleted /opt/venv/bin/x") as told:
        own_checkout(CHECKOUT, Change(deleted=("opt/venv/bin/x",)), work_dir="/testbed")
    assert "uv pip uninstall" in told.value.hint


def test_the_layer_may_lose_caches_and_have_a_directory_replaced() -> None:
    change = Change((ChangedFile("opt/venv/d", 0o777, link="e"),), deleted=("opt/venv/__pycache__/m.pyc", "opt/venv/d"))
    entries = [entry.path for entry, _ in unpack(own_checkout(CHECKOUT, change, work_dir="/testbed"))]
    assert "opt/venv/d" in entries


def test_a_failed_step_shows_the_end_of_its_log(tmp_path: Path) -> None:
    error = step_failed("step 2 of 3", "status 1", "\n".join(f"line {n}" for n in range(100)), tmp_path / "log")
    assert "step 2 of 3 ended with status 1" in str(error)
    assert str(error).count("\n") == 40
    assert str(error).endswith("line 99")
    assert "line 59\n" not in str(error)
    assert str(tmp_path / "log") in error.hint


def test_how_a_step_ended() -> None:
    assert outcome(ExecResult(exit_code=3)) == "status 3"
    assert outcome(ExecResult(exit_code=None, signal=9, limit_hit="memory")) == "signal 9 (the box's memory limit)"
    assert outcome(ExecResult(exit_code=None, signal=9, timed_out=True)) == "a timeout"


def test_a_log_is_kept_until_it_is_discarded(tmp_path: Path) -> None:
    log = StepLog(tmp_path / "logs/x.log")
    log.add("make", ExecResult(exit_code=2, stderr=b"no rule\n"))
    assert "$ make\nno rule" in log.path.read_text()
    log.discard()
    log.discard()
    assert not log.path.exists()


def test_long_commands_are_shortened() -> None:
    assert shorten("a\n  b") == "a b"
    assert len(shorten("x" * 500)) == 118


def test_text_files_are_rooted() -> None:
    assert [entry for entry, _ in unpack(files_archive({"/opt/envfarm/lock.txt": "é\n"}))] == [
        Entry("opt/envfarm/lock.txt", content="é\n".encode())
    ]


@pytest.mark.parametrize("name", ["../x", "a/../../x"])
def test_an_archive_that_leaves_its_root_is_refused(name: str) -> None:
    with pytest.raises(ImageError, match="leaves the archive"):
        list(unpack(pack([Entry(name, content=b"")], mtime_s=0)))


def test_names_that_are_no_text_survive() -> None:
    odd = b"odd \xff name".decode(errors="surrogateescape")
    assert [entry.path for entry, _ in unpack(pack([Entry(odd, content=b"1"), Entry("x" * 300, content=b"")], mtime_s=0))] == [
        odd,
        "x" * 300,
    ]


def test_what_is_no_archive_is_an_image_error() -> None:
    with pytest.raises(ImageError, match="cannot be read"):
        list(unpack(b"nonsense" * 200))
