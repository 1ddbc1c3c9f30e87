"""Agents that are programs in real local boxes: their calls come through a real door, and an engine simulator answers them."""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from envfarm.controller.system_clock import SystemClock
from envfarm.core import digest
from envfarm.core.engine import EngineSpec
from envfarm.core.episode import Budgets, EpisodeSpec, PolicySpec
from envfarm.core.ids import EpisodeId
from envfarm.core.image import Environment, ImageRef
from envfarm.core.outcome import Censored, Invalid, Outcome, Scored
from envfarm.core.program import Allowance
from envfarm.core.trajectory import Trajectory
from envfarm.episodes.grader import SandboxGrader
from envfarm.episodes.runner import Assignment, EpisodeRunner
from envfarm.gateway.doorway import Doorways
from envfarm.gateway.engines.engine_http import engine_session
from envfarm.gateway.service import Gateway
from envfarm.policies.registry import PolicyInputs, make
from envfarm.sandboxes.local import LocalProvider
from envfarm.sandboxes.local_ownership import Ownership
from envfarm.stores.trajectories import FileTrajectories
from envfarm.testing import adder_task
from envfarm.testing.blobs import MemoryBlobs
from envfarm.testing.engine_replies import Reply, lines
from envfarm.testing.engine_simulator import EngineSimulator, engine_simulator
from envfarm.testing.factories import make_spec
from envfarm.testing.small_tokenizer import small_tokenizer

TASK = adder_task.make()
# A whole agent in a few lines of bash: it does what its model says, until that is "done". It speaks HTTP by hand, so that the box needs no
# client; an answer without a 200 ends it.
AGENT = r"""
host=${OPENAI_BASE_URL#http://}; host=${host%%/*}; task=$(cat); said=
ask() {
  exec 3<>"/dev/tcp/127.0.0.1/${host##*:}" || exit 9
  printf 'POST %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s' \
    "$1" "$OPENAI_API_KEY" "${#2}" "$2" >&3
  cat <&3
}
user() { printf '{"role": "user", "content": "%s"}' "$1"; }
chat() { ask "${2:-/v1/chat/completions}" "{\"model\": \"m\", \"messages\": [$1]}"; }
while :; do
  answer=$(chat "$(user "$task $said")")
  case "$answer" in *" 200 "*) ;; *) echo "$answer" | head -n1; exit 7 ;; esac
  words=$(printf %s "$answer" | sed -n 's/.*"content":"\([^"]*\)".*/\1/p')
  [ "$words" = done ] && exit
  sh -c "$words"; said="$said; it ran"
done
"""
MEND = "sed -i 's/ - / + /' add.sh"
ELSEWHERE = r"""
for path in /other/v1/chat/completions /../other/v1/chat/completions //other/v1/chat/completions /v1/../../other/v1/models \
  /%2e%2e/other/v1/chat/completions /v1/engines /v1/rollouts /; do chat "$(user hi)" "$path" | head -n1; done
own=$OPENAI_API_KEY; OPENAI_API_KEY=$OTHER; chat "$(user hi)" | head -n1; OPENAI_API_KEY=$own; chat "$(user hi)" | head -n1
"""


@dataclass
class Farm:
    home: Path
    provider: LocalProvider
    environment: Environment
    trajectories: FileTrajectories
    models: Doorways
    gateway: Gateway
    engine: EngineSimulator

    async def played(self, script: str, earlier: Trajectory | None = None, **budgets: Any) -> tuple[Outcome, Trajectory]:
        """What comes of a program that is bash's to run."""
        options = {"command": 'exec bash -c "$AGENT"', "env": {"AGENT": script}}
        spec: EpisodeSpec = make_spec(
            policy=PolicySpec(name="program", options=options), budgets=Budgets.model_validate({"seconds": 60, **budgets})
        )
        policy = make(spec.policy, TASK, PolicyInputs(models=self.models))
        runner = EpisodeRunner(self.provider, SandboxGrader(self.provider), self.trajectories, SystemClock())
        outcome = await runner.run(Assignment(spec, TASK, self.environment, policy, earlier=earlier))
        assert list(Ownership(self.home / "boxes").known()) == []
        return outcome, await self.trajectories.read(spec.episode_id)

    def same_as_the_ledger(self, trajectory: Trajectory) -> int:
        """How many calls the trajectory holds; each as the engine knows it, id for id."""
        assert trajectory.sampled is not None
        told, known = trajectory.sampled, self.engine.ledger.sound()
        assert [told.prompt_ids(c.index) for c in told.calls] == [e.prompt_ids for e in known]
        assert [(c.completion_ids, c.logprobs) for c in told.calls] == [(e.completion_ids, e.logprobs) for e in known]
        return len(known)


@pytest.fixture
def engine() -> Iterator[EngineSimulator]:
    with engine_simulator() as running:
        yield running


@pytest.fixture
async def farm(tmp_path: Path, boxd: Path, engine: EngineSimulator) -> AsyncIterator[Farm]:
    blobs = MemoryBlobs()
    image = ImageRef(kind="host", digest=digest.of_bytes(b"host"))
    environment = Environment(image=image, checkout=await blobs.put(adder_task.checkout_archive()), work_dir="/testbed")
    provider = LocalProvider(tmp_path / "home", boxd, blobs)
    async with engine_session() as http:
        gateway = Gateway(small_tokenizer(), http, clock=SystemClock())
        gateway.set_engines([EngineSpec(name="one", kind="sglang", url=engine.url)])
        yield Farm(
            tmp_path / "home", provider, environment, FileTrajectories(tmp_path / "trajectories"), Doorways(gateway), gateway, engine
        )
    await provider.aclose()


async def test_a_program_solves_the_task_and_its_tokens_are_the_engines(farm: Farm) -> None:
    farm.engine.play(lines(MEND, "done"))
    outcome, trajectory = await farm.played(AGENT)
    assert isinstance(outcome, Scored), (outcome, trajectory.steps)
    assert outcome.reward == 1, trajectory.steps
    assert farm.same_as_the_ledger(trajectory) == 2
    assert [s.observation.exit_code for s in trajectory.steps] == [0]
    assert "add.sh" in trajectory.end.change if trajectory.end else False


async def test_a_call_that_a_program_gave_up_is_told_as_not_delivered(farm: Farm) -> None:
    farm.engine.play(lines(Reply("too late", delay_s=1.0), Reply(MEND, delay_s=2.0), "done"))
    gives_up = AGENT.partition("while")[0].replace("cat <&3", "sleep 0.3; exec 3>&-") + 'chat "$(user hi)"\n'
    outcome, trajectory = await farm.played(gives_up + AGENT.partition("\n")[2].replace("task=$(cat)", "task=x"))
    assert isinstance(outcome, Scored), (outcome, trajectory.steps)
    assert trajectory.sampled is not None
    assert [(c.text, c.delivered) for c in trajectory.sampled.calls] == [("too late", False), (MEND, True), ("done", True)]


async def test_a_program_that_does_not_solve_it_scores_zero(farm: Farm) -> None:
    farm.engine.play(lines("true", "done"))
    outcome, trajectory = await farm.played(AGENT)
    assert isinstance(outcome, Scored), outcome
    assert (outcome.reward, farm.same_as_the_ledger(trajectory)) == (0, 2)


async def test_a_program_that_asks_nothing_is_no_sample_of_the_policy(farm: Farm) -> None:
    outcome, trajectory = await farm.played("echo I solved it; " + MEND)
    assert isinstance(outcome, Invalid), outcome
    assert outcome.cause == "policy"
    assert "I solved it" in outcome.detail
    assert trajectory.sampled is not None
    again, second = await farm.played(AGENT, earlier=trajectory)
    assert "the episode started again" in second.header.started_because
    assert second.header.attempt == 1
    assert isinstance(again, Scored | Censored), again


async def test_an_engine_that_fails_last_is_the_farms_fault(farm: Farm) -> None:
    farm.engine.play(lines("true", Reply(fault="status")))
    outcome, trajectory = await farm.played(AGENT)
    assert isinstance(outcome, Invalid), outcome
    assert (outcome.cause, outcome.retryable) == ("policy", True)
    assert farm.same_as_the_ledger(trajectory) == 1


async def test_an_outage_costs_a_program_that_asks_again_none_of_its_turns(farm: Farm) -> None:
    farm.engine.play(lines(*[Reply(fault="status")] * 4, MEND, "done"))
    outcome, trajectory = await farm.played(AGENT.replace('echo "$answer" | head -n1; exit 7', "sleep 0.1; continue"), turns=2)
    assert isinstance(outcome, Scored), outcome
    assert outcome.reward == 1
    assert trajectory.sampled is not None
    assert (trajectory.sampled.failed_calls, trajectory.sampled.spent, len(trajectory.sampled.calls)) == (4, "", 2)
    assert trajectory.sampled.outage_s > 0


@pytest.mark.parametrize(("name", "budgets"), [("turns", {"turns": 3}), ("tokens", {"tokens": 40})])
async def test_a_program_is_ended_when_its_budget_is_used_up(farm: Farm, name: str, budgets: dict[str, Any]) -> None:
    farm.engine.play(lines("true"))
    outcome, trajectory = await farm.played(AGENT.replace("exit 7", "sleep 1000"), **budgets)
    assert isinstance(outcome, Censored), (outcome, trajectory.steps)
    assert outcome.budget == name
    assert outcome.partial is not None
    assert farm.same_as_the_ledger(trajectory) >= 3


async def test_a_program_whose_time_is_over_is_censored(farm: Farm) -> None:
    farm.engine.play(lines("sleep 1000"))
    outcome, trajectory = await farm.played(AGENT, seconds=2)
    assert isinstance(outcome, Censored), outcome
    assert outcome.budget == "seconds"
    assert trajectory.steps[0].observation.timed_out
    assert farm.same_as_the_ledger(trajectory) == 1


async def test_a_door_leads_to_its_own_episode_alone(farm: Farm) -> None:
    other = farm.models.open(EpisodeId("other"), Allowance(calls=5))
    farm.engine.play(lines("done"))
    hostile = AGENT[: AGENT.index("while :;")] + ELSEWHERE
    outcome, trajectory = await farm.played(hostile.replace("$OTHER", other.token))
    told = trajectory.steps[0].observation.text
    statuses = [line.split()[1] for line in told.splitlines() if line.startswith("HTTP/1.1 ")]
    assert statuses == ["404"] * 8 + ["401", "200"], told
    assert isinstance(outcome, Scored)
    assert outcome.reward == 0
    assert farm.same_as_the_ledger(trajectory) == 1
    assert (await other.close()).calls == ()
