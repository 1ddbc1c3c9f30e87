"""Exports a trajectory in the Agent Trajectory Interchange Format, version 1.8, which Harbor and its viewers read.

Pure. Token ids and logprobs are included if the engine gave them. What ATIF has no field for (the outcome, the change) goes into `extra`.
"""

from collections.abc import Sequence
from typing import Any

from envfarm import __version__
from envfarm.core.action import Malformed
from envfarm.core.model_call import Conversation, ModelCall
from envfarm.core.trajectory import Step, Trajectory

ATIF_VERSION = "ATIF-v1.8"


def export(trajectory: Trajectory, *, tool_definitions: Sequence[dict[str, Any]] = ()) -> dict[str, Any]:
    """The trajectory as ATIF JSON. `tool_definitions` are OpenAI function schemas, if the policy was given any."""
    header, steps, end = trajectory.header, trajectory.steps, trajectory.end
    model = next((s.call.model for s in steps if s.call and s.call.model), None)
    first: dict[str, Any] = {"step_id": 1, "source": "user", "message": header.instruction}
    extra: dict[str, Any] = {"task": header.episode.task, "environment": header.environment_digest, "box": header.box}
    if end is not None:
        told = end.model_dump(mode="json")
        extra.update({key: told[key] for key in ("ended", "outcome", "change", "seconds")})
    conversation = Conversation()
    agent = {
        "name": f"envfarm-{header.episode.policy.name}",
        "version": __version__,
        "model_name": model,
        "tool_definitions": list(tool_definitions) or None,
    }
    return {
        "schema_version": ATIF_VERSION,
        "session_id": header.episode.run_id,
        "trajectory_id": f"{header.episode.episode_id}.{header.attempt}",
        "agent": _present(agent),
        "steps": [first, *(_step(step, conversation.whole(step.call) if step.call else None) for step in steps)],
        "final_metrics": _totals(steps),
        "extra": extra,
    }


def _step(step: Step, call: ModelCall | None) -> dict[str, Any]:
    call_id = f"call_{step.index}"
    result: dict[str, Any] = {"content": step.observation.text}
    row: dict[str, Any] = {
        "step_id": step.index + 2,  # ids begin at 1, which is the instruction
        "timestamp": step.started_at.isoformat(),
        "source": "agent",
        "message": call.text if call else "",
        "llm_call_count": 1 if call else 0,
        "observation": {"results": [result]},
        "extra": {
            **step.observation.model_dump(exclude={"text"}),
            **_present({"duration_s": step.duration_s, "think_s": step.think_s, "cores": step.cores}),
        },
    }
    if isinstance(step.action, Malformed):
        row["extra"] |= {"malformed": step.action.raw, "problem": step.action.problem}
    else:
        arguments = step.action.model_dump(mode="json", exclude={"tool"}, exclude_none=True)
        row["tool_calls"] = [{"tool_call_id": call_id, "function_name": step.action.tool, "arguments": arguments}]
        result["source_call_id"] = call_id
    if call is not None:
        row |= _present({"model_name": call.model or None, "reasoning_content": call.reasoning or None, "metrics": _metrics(call)})
    return row


def _metrics(call: ModelCall) -> dict[str, Any] | None:
    metrics = _present(
        {
            "prompt_tokens": call.prompt_tokens,
            "completion_tokens": call.completion_tokens,
            "prompt_token_ids": list(call.prompt_ids) if call.prompt_ids is not None else None,
            "completion_token_ids": list(call.completion_ids) if call.completion_ids is not None else None,
            "logprobs": list(call.logprobs) if call.logprobs is not None else None,
        }
    )
    extra = _present({"weight_version": call.weight_version, "engine": call.engine, "finish_reason": call.finish_reason})
    return ({**metrics, "extra": extra} if extra else metrics) or None


def _totals(steps: Sequence[Step]) -> dict[str, Any]:
    calls = [s.call for s in steps if s.call]
    totals: dict[str, Any] = {"total_steps": len(steps) + 1}
    for key, values in (
        ("total_prompt_tokens", [c.prompt_tokens for c in calls]),
        ("total_completion_tokens", [c.completion_tokens for c in calls]),
    ):
        known = [v for v in values if v is not None]
        if known and len(known) == len(values):  # an incomplete sum would look like the total
            totals[key] = sum(known)
    return totals


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in values.items() if v is not None}
