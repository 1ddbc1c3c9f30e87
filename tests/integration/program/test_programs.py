"""Agents that are programs, as a person has them play: `envfarm run` and `envfarm serve` with a model and engines."""

import base64
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from envfarm.client import Client, PolicySpec, RolloutRequest, TaskSelector
from envfarm.testing.engine_replies import lines
from envfarm.testing.engine_simulator import EngineSimulator, engine_simulator
from envfarm.testing.small_tokenizer import write_model
from tests.integration.program.conftest import NAME
from tests.integration.program.process import envfarm, press_ctrl_c, started
from tests.integration.program.test_serve import where
from tests.integration.test_programs_in_boxes import AGENT, MEND

COMMAND = f"echo {base64.b64encode(AGENT.encode()).decode()} | base64 -d >/tmp/agent; exec bash /tmp/agent"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@pytest.fixture
def engine() -> Iterator[EngineSimulator]:
    with engine_simulator(lines(MEND, "done")) as running:
        yield running


@pytest.fixture
def model(tmp_path: Path) -> Path:
    write_model(tmp_path)
    return tmp_path


def test_run_plays_a_program(farm_home: Path, model: Path, engine: EngineSimulator) -> None:
    asked = ("run", NAME, "--policy", f"program:command={COMMAND}", "--run", "programs")
    without = envfarm(farm_home, *asked)
    assert without.status != 0
    assert "no model is served here" in without.err
    unknown = envfarm(farm_home, *asked, "--model", model, "--engine", "name=a,kind=other,url=http://x")
    assert "`kind`" in unknown.err
    told = envfarm(farm_home, *asked, "--model", model, "--engine", f"name=a,kind=vllm,url={engine.url}")
    assert told.status == 0, told.err
    assert len(engine.ledger.sound()) == 2
    (episode,) = (line.split("\t")[0] for line in envfarm(farm_home, "episode", "list", "--run", "programs").out.splitlines()[1:])
    shown = envfarm(farm_home, "episode", "show", episode).out
    assert [word in shown for word in ("call 1: ", "sed -i", "call 2: ")] == [True] * 3
    assert f"2 calls, {sum(len(one.completion_ids) for one in engine.ledger.sound())} tokens sampled" in shown


def test_the_engine_simulator_is_a_program_of_its_own(farm_home: Path, tmp_path: Path) -> None:
    argv = [sys.executable, "-m", "envfarm.testing.engine_simulator", "--model", str(tmp_path / "model"), "--say", MEND, "--say", "done"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        options = [word for _ in range(2) for word in process.stdout.readline().split()]
        told = envfarm(farm_home, "run", NAME, "--policy", f"program:command={COMMAND}", "--run", "simulated", *options)
        assert told.status == 0, told.err
        process.terminate()
        assert process.wait(timeout=20) == 0


def test_hosts_in_other_processes_play_programs_with_the_farms_engines(farm_home: Path, model: Path, engine: EngineSimulator) -> None:
    with (
        started(farm_home, "serve", "--port", "0", "--hosts", "none") as process,
        started(farm_home, "hosts", "--on", "processes", "--model", str(model)) as hosts,
    ):
        url, token = where(process)
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as http, Client(url, token) as farm:
            spec = {"name": "a", "kind": "vllm", "url": engine.url}
            assert http.put("/v1/engines", json=[spec]).status_code == 200
            policy = PolicySpec(name="program", options={"command": COMMAND})
            asked = farm.submit(RolloutRequest(tasks=TaskSelector(names=(NAME,)), group_size=1, policy=policy))
            (group,) = farm.groups(rollouts=[asked.id])
            (member,) = group.members
            assert (member.outcome.kind, getattr(member.outcome, "reward", None)) == ("scored", 1.0), member.outcome
            assert len(engine.ledger.sound()) == 2
        press_ctrl_c(hosts)
        press_ctrl_c(process)


def test_run_plays_an_operators_own_scaffold(farm_home: Path, model: Path, engine: EngineSimulator) -> None:
    folder = farm_home / "scaffolds"
    folder.mkdir(exist_ok=True)
    (folder / "few-lines.toml").write_text(
        f"about = \"the agent of a few lines\"\ncommand = 'bash /opt/agent/run'\n[files]\nrun = '''{AGENT}'''\n"
    )
    engines = ("--model", model, "--engine", f"name=a,kind=sglang,url={engine.url}")
    told = envfarm(farm_home, "run", NAME, "--policy", "program:scaffold=few-lines", "--run", "scaffolds", *engines)
    assert told.status == 0, told.err
    assert len(engine.ledger.sound()) == 2
    listed = envfarm(farm_home, "scaffolds", "list")
    assert "the agent of a few lines" in listed.out
    assert "mini-swe-agent" in listed.out
    unknown = envfarm(farm_home, "run", NAME, "--policy", "program:scaffold=nobody", *engines)
    assert unknown.status == 2
    assert unknown.error == "error: there is no scaffold 'nobody'"
    assert "few-lines" in unknown.hint
    neither = envfarm(farm_home, "run", NAME, "--policy", "program", *engines)
    assert "`command` or `scaffold` is required" in neither.error


def test_serve_plays_a_program_with_the_engines_that_the_operator_names(farm_home: Path, model: Path, engine: EngineSimulator) -> None:
    with started(farm_home, "serve", "--port", "0", "--model", str(model)) as process:
        url, token = where(process)
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {token}"}, trust_env=False) as http, Client(url, token) as farm:
            assert http.put("/v1/engines", json=[]).json() == http.get("/v1/engines").json() == []
            spec = {"name": "a", "kind": "sglang", "url": engine.url, "api_key": "secret"}
            assert http.put("/v1/engines", json=[spec, spec]).status_code == 422
            told = http.put("/v1/engines", json=[spec])
            assert told.status_code == 200, told.text
            assert "secret" not in told.text
            assert [row["url"] for row in http.get("/v1/engines").json()] == [engine.url]
            policy = PolicySpec(name="program", options={"command": COMMAND})
            asked = farm.submit(RolloutRequest(tasks=TaskSelector(names=(NAME,)), group_size=1, policy=policy))
            (group,) = farm.groups(rollouts=[asked.id])
            assert [m.outcome.reward for m in group.members if m.outcome.kind == "scored"] == [1.0]
        press_ctrl_c(process)
