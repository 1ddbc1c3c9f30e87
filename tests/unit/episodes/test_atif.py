import json

from envfarm.core.action import Bash, Finish, Malformed
from envfarm.core.model_call import ModelCall
from envfarm.core.observation import Observation
from envfarm.core.trajectory import End, Header, Step, Trajectory
from envfarm.episodes.atif import export
from envfarm.testing.factories import make_scored, make_spec, make_step

CALL = ModelCall(
    model="m-1",
    prompt_tokens=10,
    completion_tokens=2,
    prompt_ids=(1, 2),
    completion_ids=(3, 4),
    logprobs=(-0.5, -0.25),
    weight_version="v7",
    text="I look.",
    message={"role": "assistant", "reasoning_content": "hm"},
)


def told(*steps: Step, end: End | None = None) -> Trajectory:
    header = Header(episode=make_spec(), environment_digest="sha256:1", instruction="Make it work.", box="scripted:box-0")
    return Trajectory(header=header, steps=steps, end=end)


def test_the_instruction_is_the_users_and_steps_count_from_one() -> None:
    document = export(told(make_step(0, action=Bash(command="ls")), make_step(1)))
    assert document["schema_version"] == "ATIF-v1.8"
    assert [s["step_id"] for s in document["steps"]] == [1, 2, 3]
    assert document["steps"][0] == {"step_id": 1, "source": "user", "message": "Make it work."}
    assert document["final_metrics"]["total_steps"] == 3


def test_a_models_step_carries_its_tokens() -> None:
    step = export(told(make_step(0, action=Bash(command="ls"), call=CALL, observation=Observation(text="a.py", exit_code=0))))["steps"][1]
    assert step["metrics"] == {
        "prompt_tokens": 10,
        "completion_tokens": 2,
        "prompt_token_ids": [1, 2],
        "completion_token_ids": [3, 4],
        "logprobs": [-0.5, -0.25],
        "extra": {"weight_version": "v7"},
    }
    assert (step["message"], step["reasoning_content"], step["model_name"], step["llm_call_count"]) == ("I look.", "hm", "m-1", 1)
    (call,) = step["tool_calls"]
    assert (call["function_name"], call["arguments"]) == ("bash", {"command": "ls"})
    assert step["observation"]["results"] == [{"content": "a.py", "source_call_id": call["tool_call_id"]}]


def test_a_step_without_a_model_has_no_model_fields() -> None:
    step = export(told(make_step(0)))["steps"][1]
    assert step["llm_call_count"] == 0
    assert not {"metrics", "reasoning_content", "model_name"} & set(step)


def test_a_malformed_step_has_no_tool_call_to_refer_to() -> None:
    step = export(told(make_step(0, action=Malformed(raw="{", problem="not JSON"), call=CALL)))["steps"][1]
    assert "tool_calls" not in step
    assert "source_call_id" not in step["observation"]["results"][0]
    assert step["extra"]["malformed"] == "{"


def test_totals_with_gaps_are_left_out() -> None:
    gap = ModelCall(prompt_tokens=5)
    totals = export(told(make_step(0, call=CALL), make_step(1, call=gap)))["final_metrics"]
    assert totals == {"total_steps": 3, "total_prompt_tokens": 15}


def test_the_outcome_and_the_change_go_along_and_all_is_json() -> None:
    end = End(ended="finished", outcome=make_scored(0.5), change="diff", seconds=4.0)
    document = export(told(make_step(0, action=Finish(), call=CALL), end=end), tool_definitions=[{"type": "function"}])
    assert document["extra"]["outcome"]["reward"] == 0.5
    assert (document["extra"]["ended"], document["extra"]["change"]) == ("finished", "diff")
    assert document["agent"]["tool_definitions"] == [{"type": "function"}]
    assert json.loads(json.dumps(document, allow_nan=False)) == document
