"""What a pod's status means: started, unable to start, or ended, and who is to blame. Pure.

All of it is evidence from outside the box. What the box did to itself (its own limit, its first process's end) is blamed on the box, so
that no agent can buy a retry; what was done to it (deleted, preempted, its node lost) is blamed on the infrastructure.
"""

import re
from http import HTTPStatus

from envfarm.core.errors import BoxBroken, BoxLost, BuildOutage, EnvfarmError, SandboxError
from envfarm.sandboxes.kubernetes_api import Json, Refused
from envfarm.sandboxes.kubernetes_pod import CONTAINER

IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
HOPELESS = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
"""Final ones of these. A first failed pull is not final: the kubelet tries again."""
OUTAGES = re.compile(
    r"too many requests|toomanyrequests|unavailable|bad gateway|gateway time-?out|internal server error|status( code)?:? (429|5\d\d)"
    r"|connection (refused|reset)|i/o timeout|deadline exceeded|timed? ?out|no route to host|no such host|unexpected EOF",
    re.IGNORECASE,
)
"""Messages of temporary failures of a registry or of the network to it. The kubelet keeps trying, at growing intervals."""
START_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"})
NODE_REASONS = frozenset({"NodeLost", "NodeShutdown", "Terminated", "Shutdown", "NodeAffinity", "Preempting", "UnexpectedAdmissionError"})
UNKNOWN_END = "ContainerStatusUnknown"
BY_SIGKILL = 137


def address(pod: Json) -> str | None:
    """The pod's address once its main container runs, else None. Raises an error if the pod can never start."""
    failure = end(pod, gone=False, own_kernel=False)  # no code of an agent has run in it yet
    if failure is not None:
        raise SandboxError(f"the pod ended before its box was ready: {failure}", hint=failure.hint) from failure
    status = pod.get("status") or {}
    for each in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in HOPELESS and not OUTAGES.search(waiting.get("message", "")):
            raise _image_error(each, waiting)
        if waiting.get("reason") in START_REASONS:
            raise SandboxError(f"a pod's container does not start: {waiting['reason']}: {waiting.get('message', '')}")
    main = _main(status)
    running = "running" in (main.get("state") or {})
    return (status.get("podIP") or None) if running else None


def unplaced(pod: Json) -> str:
    """Why no node takes the pod so far, in the scheduler's words; empty if it is placed, or not looked at yet."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "it is not scheduled")
    return ""


def beyond_quota(refusal: Refused) -> bool:
    """Whether a pod was refused only because others use up the quota. Its reason is `Forbidden`, as for other refusals; the text tells."""
    return refusal.status == HTTPStatus.FORBIDDEN and "exceeded quota" in str(refusal)


def quota_uncounted(refusal: Refused) -> bool:
    """Whether a pod was refused while its quota is just being computed (concurrently or for the first time). This says nothing of room."""
    told = str(refusal)
    at_once = refusal.status == HTTPStatus.CONFLICT and refusal.reason == "Conflict" and "resourcequotas" in told
    return at_once or (refusal.status == HTTPStatus.FORBIDDEN and "status unknown for quota" in told)


def why_not_started(pod: Json | None, *, after_s: float) -> EnvfarmError:
    """The error for a pod that did not start in time, from its status."""
    if pod is None:
        return SandboxError(f"a pod was created, but the watch did not show it within {after_s:.0f} s", hint="check the API server's watch")
    status = pod.get("status") or {}
    for each in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in IMAGE_REASONS:
            return _image_error(each, waiting)
    if why := unplaced(pod):
        hint = "add nodes to the cluster, or request smaller boxes"
        return SandboxError(f"no node took the pod within {after_s:.0f} s: {why}", hint=hint)
    said = ", ".join(
        f"{each['name']}: {waiting.get('reason', '')} {waiting.get('message', '')}".strip()
        for each in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        if (waiting := (each.get("state") or {}).get("waiting"))
    )
    return SandboxError(f"a pod did not start within {after_s:.0f} s: {said or status.get('phase', 'its status is empty')}")


def end(pod: Json, *, gone: bool, own_kernel: bool) -> EnvfarmError | None:
    """Why a pod's box has ended or is about to end; None while it is alive. Returns a new error at each call.

    With `own_kernel`, code inside may have ended the box's first process in any way.

    The order matters: a pod that hit its own limit may be deleted later, and a pod that was evicted has an ended process, too.
    """
    where = f"pod {pod['metadata']['name']} on {(pod.get('spec') or {}).get('nodeName', 'no node')}"
    status = pod.get("status") or {}
    return (
        _taken_away(where, status)
        or _own_limit(where, status)
        or _deleted(where, pod, gone=gone)
        or _own_end(where, pod, own_kernel=own_kernel)
    )


def _taken_away(where: str, status: Json) -> BoxLost | None:
    for condition in status.get("conditions") or ():
        if condition.get("type") == "DisruptionTarget" and condition.get("status") == "True":
            return BoxLost(f"{where} was taken away: {condition.get('reason', '')}: {condition.get('message', '')}")
    if status.get("reason") in NODE_REASONS:
        return BoxLost(f"{where} was ended by its node: {status['reason']}: {status.get('message', '')}")
    return None


def _own_limit(where: str, status: Json) -> BoxBroken | None:
    if status.get("reason") == "Evicted":
        return BoxBroken(f"{where} was evicted at its own limit: {status.get('message', '')}")
    ended = (_main(status).get("state") or {}).get("terminated") or {}
    if ended.get("reason") == "OOMKilled":
        return BoxBroken(f"{where} was killed at its own limit of memory (OOMKilled, exit code {ended.get('exitCode')})")
    return None


def _deleted(where: str, pod: Json, *, gone: bool) -> BoxLost | None:
    when = pod["metadata"].get("deletionTimestamp")
    return BoxLost(f"{where} was deleted{f' at {when}' if when else ''}") if when or gone else None


def _own_end(where: str, pod: Json, *, own_kernel: bool) -> EnvfarmError | None:
    status = pod.get("status") or {}
    ended = (_main(status).get("state") or {}).get("terminated")
    if status.get("reason") == "DeadlineExceeded":
        return BoxLost(f"{where} exceeded its deadline: {status.get('message', '')}")
    if ended and ended.get("exitCode") == BY_SIGKILL and not own_kernel:
        # No process in the namespace, root included, can send this signal to its first process; an OOM kill has another reason.
        return BoxLost(f"{where}: its first process was killed from outside the box")
    if ended and ended.get("reason") != UNKNOWN_END:
        return BoxBroken(f"{where}: its first process ended: {ended.get('reason', '')}, exit code {ended.get('exitCode')}")
    if ended or status.get("phase") in {"Failed", "Succeeded"}:
        said = (ended or status).get("message", "")
        return BoxLost(f"{where} ended, and its node reports no reason: {said or status.get('reason', '') or status.get('phase', '')}")
    return None


def _main(status: Json) -> Json:
    return next((each for each in status.get("containerStatuses") or () if each.get("name") == CONTAINER), {})


def _image_error(container: Json, waiting: Json) -> BuildOutage:
    hint = "build the environment again, or give the nodes access to the registry (`image_pull_secrets`)"
    return BuildOutage(f"image {container.get('image')} cannot be pulled: {waiting['reason']}: {waiting.get('message', '')}", hint=hint)
