"""Code under test that breaks its grading box, in real boxes: it scores 0, and is never an infrastructure failure that is retried."""

from pathlib import Path

import pytest

from envfarm.core.change import Change, ChangedFile
from envfarm.core.image import Environment
from envfarm.core.outcome import Scored
from envfarm.core.task import Limits
from envfarm.episodes.grader import SandboxGrader
from envfarm.grading.integrity import ALL
from envfarm.sandboxes import boxd_binary
from envfarm.sandboxes.local import LocalProvider
from envfarm.sandboxes.local_walls import ALL_UP, Walls
from envfarm.testing import small_task
from envfarm.testing.blobs import MemoryBlobs
from task_builders.validation.attacks.play import AttackSetup

AT_EXIT = "\nimport atexit, os, shutil\natexit.register(lambda: {})\n"
REPORT = "next(a for a in open('/proc/self/cmdline').read().split(chr(0)) if a.startswith('--junit')).partition('=')[2]"
BREAKS = {
    "closes the tests' folder at once": "\nimport os\nos.chmod('/testbed/tests', 0)\n",
    "closes the tests' folder": AT_EXIT.format("os.chmod('/testbed/tests', 0)"),
    "closes the work dir": AT_EXIT.format("os.chmod('/testbed', 0)"),
    "closes its report": AT_EXIT.format(f"os.chmod({REPORT}, 0)"),
    "closes the reports' folder": AT_EXIT.format(f"os.chmod(os.path.dirname({REPORT}), 0)"),
    "links the tests' folder elsewhere": AT_EXIT.format("(shutil.rmtree('/testbed/tests'), os.symlink('/etc', '/testbed/tests'))"),
    "puts a link in its report's place": AT_EXIT.format(f"(os.rename({REPORT}, '/tmp/r'), os.symlink('/tmp/r', {REPORT}))"),
    "puts a folder in its report's place": AT_EXIT.format(f"(os.unlink({REPORT}), os.mkdir({REPORT}))"),
    "puts a pipe in its report's place": AT_EXIT.format(f"(os.unlink({REPORT}), os.mkfifo({REPORT}))"),
    "makes its report monstrous": AT_EXIT.format(f"os.truncate({REPORT}, 1 << 40)"),
}


def labels(text: str) -> Change:
    return Change((ChangedFile("testbed/shelf/labels.py", 0o644, content=text.encode()),))


@pytest.mark.parametrize("code", BREAKS.values(), ids=BREAKS.keys())
async def test_code_that_breaks_its_box_scores_0(place: AttackSetup, code: str) -> None:
    outcome = await place.grader(ALL).grade(place.task, labels(small_task.FIXED + code), environment=place.environment)
    assert isinstance(outcome, Scored), outcome
    assert outcome.reward == 0.0


async def test_a_change_that_closes_folders_scores_0(place: AttackSetup) -> None:
    change = Change((*place.gold.files, ChangedFile("testbed/tests", 0)))
    outcome = await place.grader(ALL).grade(place.task, change, environment=place.environment)
    assert isinstance(outcome, Scored), outcome


ENDS_BOXD = """
def _end():
    import ctypes, os, platform, sys
    if "pytest" not in sys.modules:
        return
    libc, number = ctypes.CDLL(None), 302 if platform.machine() == "x86_64" else 261
    for limit in (9, 2):
        libc.syscall(number, 1, limit, ctypes.byref((ctypes.c_uint64 * 2)(1 << 20, 1 << 20)), None)
    for fd in (1, 2, *map(int, os.listdir("/proc/self/fd"))):
        try:
            for _ in range(3000 if os.readlink(f"/proc/self/fd/{fd}").startswith(("pipe", "socket")) else 0):
                os.write(fd, os.urandom(65536))
        except OSError:
            pass
_end()
"""


@pytest.mark.parametrize("walls", [ALL_UP, Walls(seccomp=False)], ids=["held by the filter", "where no filter holds it"])
async def test_code_that_ends_boxd_scores_0(home: Path, environment: Environment, walls: Walls) -> None:
    blobs = MemoryBlobs()
    provider = LocalProvider(home, boxd_binary.find(), blobs, walls=walls)
    full = environment.model_copy(update={"checkout": await blobs.put(small_task.checkout_archive())})
    task = small_task.make().model_copy(update={"limits": Limits(memory_mib=512, disk_mib=128, pids=128, verifier_s=60.0)})
    try:
        outcome = await SandboxGrader(provider).grade(task, labels(small_task.LABELS + ENDS_BOXD), environment=full)
    finally:
        await provider.aclose()
    assert isinstance(outcome, Scored), outcome
    assert outcome.reward == 0.0
    assert ("boxd ended with status" in outcome.why) == (walls is not ALL_UP)


PLANTED = """
import os
for name in ("stat", "true", "mkdir", "sh", "ls", "cat"):
    path = "/opt/venv/bin/" + name
    with open(path, "w") as program:
        program.write("#!/bin/false\\n")
    os.chmod(path, 0o755)
"""


async def test_grading_asks_no_program_that_the_code_could_replace(place: AttackSetup) -> None:
    """It would run when everything else was stopped, and on some boxes as root. Where it is asked, here it fails."""
    outcome = await place.grader(ALL).grade(place.task, labels(small_task.FIXED + PLANTED), environment=place.environment)
    assert isinstance(outcome, Scored), outcome
    assert outcome.reward == 1.0, outcome.why
