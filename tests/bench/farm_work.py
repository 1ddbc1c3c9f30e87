"""What the farm is measured with: a task, what its agents do, and what simulated boxes answer.

An agent works some times, then writes an answer, right or wrong by its seed. The sealed test looks at the answer in its own box, so that an
outcome is right only if the change was carried there. No program runs anywhere.
"""

from envfarm.core.action import Action, Bash, Finish
from envfarm.core.image import BlobRef, Environment, ImageRef
from envfarm.core.outcome import Scored
from envfarm.core.plan import TestCommand, TestPlan
from envfarm.core.rollout import MAX_GROUP
from envfarm.core.task import Limits, Task
from envfarm.testing.archives import tar_of
from envfarm.testing.boxd_simulator.script import Asked, Played
from envfarm.testing.boxd_simulator.tree import Tree
from envfarm.testing.factories import make_environment, make_task

WORK_DIR = "/testbed"
CHECKOUT = tar_of(*((f"testbed/src/module_{n}.py", b"x = 1\n" * 50) for n in range(20)))
SAID = b"".join(b"src/module_%d.py:%d: x = 1\n" % (n % 20, n) for n in range(60))
"""About two kilobytes, as commands of agents say them."""
TESTS = ("tests/check.sh::answers", "tests/check.sh::runs")
GROUP = 1000


def tasks(episodes: int) -> list[Task]:
    """As many as groups of so many episodes need."""
    plan = TestPlan(
        work_dir=WORK_DIR,
        commands=(TestCommand(argv=("check", "{report}"), report="junit", timeout_s=120.0, env={}),),
        fail_to_pass=TESTS[:1],
        pass_to_pass=TESTS[1:],
        test_files=("tests/check.sh",),
    )
    limits = Limits(cpus=0.1, memory_mib=64, disk_mib=64, agent_s=7200.0, verifier_s=600.0)
    sealed = {"files/tests/check.sh": b"sealed\n"}
    return [make_task(name=f"farm/t{n}", plan=plan, tests=sealed, limits=limits) for n in range(-(-episodes // GROUP))]


def environment(checkout: BlobRef, image: ImageRef | None = None) -> Environment:
    """The tasks' boxes."""
    return make_environment(work_dir=WORK_DIR, checkout=checkout, **({"image": image} if image else {}))


def actions(seed: int, count: int) -> tuple[Action, ...]:
    """What the agent of this seed does."""
    work = [Bash(command=f"work {seed} {n}") for n in range(count - 1)]
    return (*work, Bash(command=f"echo {'right' if is_right(seed) else 'wrong'} >answer"), Finish())


def is_right(seed: int) -> bool:
    """Whether it gets the reward."""
    return seed % 3 != 0


def as_it_should(seed: int, outcome: object) -> bool:
    """Whether an outcome is what the agent of this seed deserves."""
    return isinstance(outcome, Scored) and outcome.reward == float(is_right(seed))


def script(asked: Asked, tree: Tree) -> Played | None:
    """The simulator's side."""
    if asked.line.startswith("work "):
        return Played(stdout=SAID)
    if asked.argv[:1] == ("check",):
        answers = (tree.read(f"{WORK_DIR}/answer") or b"").strip() == b"right"
        case = '<testcase file="tests/check.sh" classname="tests.check.sh" name="%s">%s</testcase>'
        report = case % ("answers", "" if answers else "<failure/>") + case % ("runs", "")
        tree.write(asked.argv[1], f"<testsuite>{report}</testsuite>".encode())
        return Played(0 if answers else 1, b"checked\n")
    return None


assert GROUP <= MAX_GROUP
