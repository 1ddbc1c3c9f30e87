"""What a pod's status means: started, unable to start, or ended, and by whose fault. Pure; called by `kubernetes`.

Whatever it says is evidence from outside of the box. What the box did to itself (its own limit, its first process's end) is the box's
fault, so that no agent buys a second try with it; what was done to it (deleted, preempted, its node lost) is the infrastructure's.
"""

import re
from http import HTTPStatus

from envfarm.core.errors import BoxBroken, BoxLost, EnvfarmError, ImageError, SandboxError
from envfarm.sandboxes.kubernetes_api import Json, Refused
from envfarm.sandboxes.kubernetes_pod import CONTAINER

IMAGE_REASONS = frozenset({"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "ImageInspectError"})
HOPELESS = frozenset({"ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"})
"""Of those: beyond a first failed pull, which is tried again by the kubelet."""
OUTAGES = re.compile(
    r"too many requests|toomanyrequests|unavailable|bad gateway|gateway time-?out|internal server error|status( code)?:? (429|5\d\d)"
    r"|connection (refused|reset)|i/o timeout|deadline exceeded|timed? ?out|no route to host|no such host|unexpected EOF",
    re.IGNORECASE,
)
"""What registries and the way to them say that will be there again. The kubelet goes on asking, ever more seldom."""
START_REASONS = frozenset({"CreateContainerConfigError", "CreateContainerError", "RunContainerError", "CrashLoopBackOff"})
NODE_REASONS = frozenset({"NodeLost", "NodeShutdown", "Terminated", "Shutdown", "NodeAffinity", "Preempting", "UnexpectedAdmissionError"})
UNKNOWN_END = "ContainerStatusUnknown"
BY_SIGKILL = 137


def address(pod: Json) -> str | None:
    """The pod's address once its main container runs; None before. Raises what keeps it from starting for good."""
    failure = end(pod, gone=False, own_kernel=False)  # nothing of an agent's has run in it
    if failure is not None:
        raise SandboxError(f"the pod ended before its box began: {failure}", hint=failure.hint) from failure
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
    """Why no node takes the pod so far, in the scheduler's words; empty where one has, or nobody has looked yet."""
    for condition in (pod.get("status") or {}).get("conditions") or ():
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            return str(condition.get("message") or condition.get("reason") or "it is not scheduled")
    return ""


def beyond_quota(refusal: Refused) -> bool:
    """Whether a pod was refused for what others hold, and not for what it is. The reason is `Forbidden` as for any other; words tell."""
    return refusal.status == HTTPStatus.FORBIDDEN and "exceeded quota" in str(refusal)


def quota_uncounted(refusal: Refused) -> bool:
    """Whether a pod was refused because its quota is being counted: by several at once, or for the first time. It says nothing of room."""
    told = str(refusal)
    at_once = refusal.status == HTTPStatus.CONFLICT and refusal.reason == "Conflict" and "resourcequotas" in told
    return at_once or (refusal.status == HTTPStatus.FORBIDDEN and "status unknown for quota" in told)


def why_not_started(pod: Json | None, *, after_s: float) -> EnvfarmError:
    """What a pod's status says of its not having started in time."""
    if pod is None:
        return SandboxError(
            f"a pod was made, and the watch has not shown it within {after_s:.0f} s", hint="does the API server's watch work?"
        )
    status = pod.get("status") or {}
    for each in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (each.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in IMAGE_REASONS:
            return _image_error(each, waiting)
    if why := unplaced(pod):
        hint = "give the cluster more nodes, or ask for smaller boxes"
        return SandboxError(f"no node takes the pod within {after_s:.0f} s: {why}", hint=hint)
    said = ", ".join(
        f"{each['name']}: {waiting.get('reason', '')} {waiting.get('message', '')}".strip()
        for each in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        if (waiting := (each.get("state") or {}).get("waiting"))
    )
    return SandboxError(f"a pod has not started within {after_s:.0f} s: {said or status.get('phase', 'nothing is said of it')}")


def end(pod: Json, *, gone: bool, own_kernel: bool) -> EnvfarmError | None:
    """Why a pod's box has ended, or is about to; None while it lives. A new error at each call.

    Behind a kernel of its own (`own_kernel`), what runs inside may have ended the box's first process in any way.

    The order counts: a pod at its own limit is deleted by somebody later, and one that was taken away has an ended process, too.
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
        return BoxBroken(f"{where} was ended at its own limit: {status.get('message', '')}")
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
        return BoxLost(f"{where} lived beyond its deadline: {status.get('message', '')}")
    if ended and ended.get("exitCode") == BY_SIGKILL and not own_kernel:
        # No process of a namespace can send its first one this signal, root's neither; of its own memory limit the runtime tells.
        return BoxLost(f"{where}: its first process was killed from outside of the box")
    if ended and ended.get("reason") != UNKNOWN_END:
        return BoxBroken(f"{where}: its first process ended: {ended.get('reason', '')}, exit code {ended.get('exitCode')}")
    if ended or status.get("phase") in {"Failed", "Succeeded"}:
        said = (ended or status).get("message", "")
        return BoxLost(f"{where} ended, and its node does not know why: {said or status.get('reason', '') or status.get('phase', '')}")
    return None


def _main(status: Json) -> Json:
    return next((each for each in status.get("containerStatuses") or () if each.get("name") == CONTAINER), {})


def _image_error(container: Json, waiting: Json) -> ImageError:
    hint = "build the environment again, or give the nodes access to the registry (`image_pull_secrets`)"
    return ImageError(f"image {container.get('image')} cannot be had: {waiting['reason']}: {waiting.get('message', '')}", hint=hint)
