"""Other people's agents play episodes in real boxes: their calls come through a real door, and an engine simulator answers them."""

import fcntl
import itertools
import json
import shutil
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import docker
import pytest

from envfarm.controller.system_clock import SystemClock
from envfarm.core import digest
from envfarm.core.engine import EngineSpec
from envfarm.core.episode import Budgets, EpisodeSpec, PolicySpec
from envfarm.core.ids import Digest
from envfarm.core.image import Environment, ImageRef
from envfarm.core.outcome import Outcome, Scored
from envfarm.core.task import Limits
from envfarm.core.trajectory import Trajectory
from envfarm.episodes.grader import SandboxGrader
from envfarm.episodes.runner import Assignment, EpisodeRunner
from envfarm.gateway.doorway import Doorways
from envfarm.gateway.engines.engine_http import engine_session
from envfarm.gateway.service import Gateway
from envfarm.policies.registry import PolicyInputs, make
from envfarm.settings import read
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing import adder_task
from envfarm.testing.engine_replies import Reply, Script
from envfarm.testing.engine_simulator import EngineSimulator, engine_simulator
from envfarm.testing.factories import make_spec
from envfarm.testing.small_tokenizer import small_tokenizer
from envfarm.wiring import Farm
from tests.integration.test_programs_in_boxes import AGENT, MEND

# A grading box that saw the scaffold would fail the second test.
LIMITS = Limits(memory_mib=2048, disk_mib=512, pids=256)
TASK = adder_task.make("alone", "[ ! -e /opt/agent ]").model_copy(update={"limits": LIMITS})
IMAGE = "python:3.11-slim"
OWN = f"""
about = "the agent of a few lines"
command = 'exec bash /opt/agent/bin/agent'
[files]
"bin/agent" = '''{AGENT}'''
"""


def call(name: str, **arguments: Any) -> str:
    """A turn that calls a tool, as the simulator's template has it."""
    return "I go on.\n<tool_call>\n" + json.dumps({"name": name, "arguments": arguments}) + "\n</tool_call>"


def bash(command: str) -> str:
    return call("bash", command=command)


def edit(to: str) -> str:
    return call("edit", file_path="/testbed/add.sh", old_string=" - ", new_string=to)


READ = call("read_file", file_path="/testbed/add.sh")
SUBMIT = bash("echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT")
PLAYS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "mini-swe-agent": ((bash("cat add.sh"), bash(MEND), SUBMIT), (bash("cat add.sh"), SUBMIT)),
    "codex": ((call("exec_command", cmd=MEND), "It is done."), (call("exec_command", cmd="cat add.sh"), "It is done.")),
    "claude-code": ((call("Bash", command=MEND), "It is done."), (call("Bash", command="cat add.sh"), "It is done.")),
    "qwen-code": ((READ, edit(" + "), "It is done."), (READ, edit(" / "), "It is done.")),
}
"""By scaffold, what its model says to solve the task, and not to."""
HEAVY = {"mini-swe-agent", "qwen-code"}
"""To install; they play in containers, where there is Docker."""


def once(replies: Sequence[str]) -> Script:
    """A script of its own count; whoever asks on is told that all is done."""
    left = iter(replies)
    return lambda *_: Reply(next(left, "done"))


@dataclass
class Table:
    """Where a scaffold plays."""

    farm: Farm
    sandbox: str
    environment: Environment
    gateway: Gateway
    engine: EngineSimulator
    records: Path
    members: Iterator[int] = field(default_factory=itertools.count)

    async def played(self, scaffold: str, replies: Sequence[str]) -> tuple[Outcome, Trajectory]:
        self.engine.ledger.entries.clear()
        self.engine.play(once(replies))
        # The small tokenizer makes four tokens of one: the prompts are those of models with 32,768.
        policy = PolicySpec(name="program", options={"scaffold": scaffold, "context_tokens": 262_144})
        spec: EpisodeSpec = make_spec(next(self.members), policy=policy, budgets=Budgets(seconds=240), sandbox=self.sandbox)
        inputs = PolicyInputs(models=Doorways(self.gateway), scaffold=self.farm.attached.scaffolds.find)
        provider, records = self.farm.provider(self.sandbox), FileTrajectories(self.records)
        agents = await self.farm.attached.to(self.environment, scaffold, self.sandbox)
        job = Assignment(spec, TASK, self.environment, make(spec.policy, TASK, inputs), agents)
        outcome = await EpisodeRunner(provider, SandboxGrader(provider), records, SystemClock()).run(job)
        return outcome, await records.read(spec.episode_id)

    def same_as_the_ledger(self, trajectory: Trajectory) -> int:
        """How many calls the trajectory holds; each as the engine knows it, id for id and logprob for logprob."""
        assert trajectory.sampled is not None
        told, known = trajectory.sampled, self.engine.ledger.sound()
        assert [told.prompt_ids(c.index) for c in told.calls] == [e.prompt_ids for e in known]
        assert [(c.completion_ids, c.logprobs) for c in told.calls] == [(e.completion_ids, e.logprobs) for e in known]
        assert [c.drift for c in told.calls] == [()] * len(known)
        return len(known)


@pytest.fixture(scope="module")
def home(testrun_uid: str) -> Iterator[Path]:
    """A farm whose layers stay for this module's tests, in all workers of a run: who is the last to leave removes it.

    Not below pytest's own directory: boxes of other users must see the layers.
    """
    folder = Path("/var/tmp", f"envfarm-test-{testrun_uid[:16]}")
    folder.mkdir(mode=0o755, exist_ok=True)
    with (folder / ".in-use").open("w") as used:
        fcntl.flock(used, fcntl.LOCK_SH)
        yield folder
        with suppress(BlockingIOError):
            fcntl.flock(used, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)


@asynccontextmanager
async def table(home: Path, sandbox: str, image: ImageRef, records: Path) -> AsyncIterator[Table]:
    with engine_simulator() as engine:
        async with engine_session() as http, Farm(read().model_copy(update={"home": home})) as farm:
            gateway = Gateway(small_tokenizer(), http, clock=SystemClock())
            gateway.set_engines([EngineSpec(name="one", kind="sglang", url=engine.url)])
            checkout = await farm.blobs.put(adder_task.checkout_archive())
            environment = Environment(image=image, checkout=checkout, work_dir="/testbed")
            yield Table(farm, sandbox, environment, gateway, engine, records)


@pytest.fixture
async def local(home: Path, tmp_path: Path) -> AsyncIterator[Table]:
    async with table(home, "local", ImageRef(kind="host", digest=digest.of_bytes(b"host")), tmp_path) as laid:
        yield laid


@pytest.fixture
async def containers(docker_daemon: str, home: Path, tmp_path: Path) -> AsyncIterator[Table]:
    with closing(docker.DockerClient(base_url=docker_daemon, version="auto")) as client:
        found = client.images.list(IMAGE)
    if not found:
        pytest.skip(f"{IMAGE} is not in Docker: docker pull {IMAGE}")
    image = str(found[0].id)
    async with table(home, "docker", ImageRef(kind="oci", digest=Digest(image), reference=image), tmp_path) as laid:
        yield laid


async def check(laid: Table, scaffold: str, solve: Sequence[str], fail: Sequence[str]) -> None:
    for replies, reward in ((solve, 1), (fail, 0)):
        outcome, trajectory = await laid.played(scaffold, replies)
        assert isinstance(outcome, Scored), (outcome, trajectory.steps)
        assert outcome.reward == reward, (outcome, trajectory.steps)
        assert outcome.report.pass_to_pass == {"tests/check.sh::alone": True}, outcome
        assert laid.same_as_the_ledger(trajectory) == len(replies)


@pytest.mark.timeout(300)
async def test_an_operators_own_scaffold_of_text_alone(home: Path, local: Table) -> None:
    (home / "scaffolds").mkdir(exist_ok=True)
    (home / "scaffolds" / "few-lines.toml").write_text(OWN)
    hostile = "echo x >>/opt/agent/bin/agent; rm -rf /opt/agent; test -e /opt/agent/bin/agent || " + MEND
    await check(local, "few-lines", (MEND, "done"), (hostile, "done"))


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scaffold", [pytest.param(name, marks=[pytest.mark.size] if name in HEAVY else []) for name in PLAYS])
async def test_scaffolds_play_in_local_boxes(local: Table, scaffold: str) -> None:
    await check(local, scaffold, *PLAYS[scaffold])


@pytest.mark.docker
@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("scaffold", PLAYS)
async def test_scaffolds_play_in_containers(containers: Table, scaffold: str) -> None:
    await check(containers, scaffold, *PLAYS[scaffold])
