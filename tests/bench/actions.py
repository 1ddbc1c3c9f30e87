"""One action (`/bin/true`) through the public client, beside the kernel's floor and beside peers."""

from contextlib import ExitStack
from functools import partial

from envfarm.core.protocols import Box
from envfarm.core.sandbox import ExecRequest
from envfarm.wiring import uv_program
from tests.bench import peers
from tests.bench.machine import TRUE, Bench, box_or_why, floor
from tests.bench.measure import Clock, Row, Sampler, interleaved
from tests.bench.peers import DockerPy, Missing

ROUNDS = 25
EACH = 20
SESSION = ExecRequest(shell="/bin/true", session="bench")
FLOOR = "floor: posix_spawn and wait in the same box"
TO_FLOOR = "<= 3 x floor"
TO_DOCKER = ">= 25 x docker exec"


async def rows(bench: Bench) -> list[Row]:
    """The section."""
    boxes = {name: await box_or_why(bench, name) for name in ("local", "docker")}
    with ExitStack() as stack:
        samplers: dict[str, Sampler] = {}
        for name, box in boxes.items():
            if not isinstance(box, str):
                samplers |= {name: partial(_actions, box, TRUE), f"{name} floor": partial(floor, box)}
                samplers[f"{name} session"] = partial(_actions, box, SESSION)
        found = _peers(bench, boxes["docker"], stack)
        samplers |= {name: sampler for name, sampler in found.items() if not isinstance(sampler, str)}
        taken = await interleaved(samplers, rounds=bench.rounds(ROUNDS), each=EACH)
    for box in boxes.values():
        if not isinstance(box, str):
            await box.close()
    table: list[Row] = []
    for name, box in boxes.items():
        what = f"action, {name} box"
        if isinstance(box, str):
            table.append(Row(what, "ms", beside=box))
            continue
        table.append(Row(what, "ms", taken[name], FLOOR, taken[f"{name} floor"], target=TO_FLOOR))
        for peer, sampler in found.items():
            target = TO_DOCKER if peer.startswith("docker ") else ""
            beside = peer if not isinstance(sampler, str) else sampler
            table.append(Row(what, "ms", taken[name], beside, taken.get(peer, ()), target=target))
        table.append(Row(f"in a session, {name} box", "ms", taken[f"{name} session"], FLOOR, taken[f"{name} floor"]))
    return table


async def _actions(box: Box, request: ExecRequest, count: int) -> list[float]:
    clock = Clock()
    for _ in range(count):
        with clock:
            await box.exec(request)
    return clock.taken


def _peers(bench: Bench, docker_box: Box | str, stack: ExitStack) -> dict[str, Sampler | str]:
    """By name with version; for those that are missing, why."""
    found: dict[str, Sampler | str] = {}
    if isinstance(docker_box, str):
        found["docker exec"] = found["docker-py"] = f"docker exec, docker-py: {docker_box}"
    else:
        container = f"envfarm-{docker_box.box_id}"
        try:
            program, number = peers.docker_program()
            found[f"docker exec {number}"] = _fewer(peers.timed_program([program, "exec", container, "/bin/true"]))
            client = DockerPy(container)
            stack.callback(client.close)
            found[client.name] = _fewer(client.sample)
        except Missing as e:
            found["docker"] = str(e)
    try:
        rex = peers.swe_rex(bench.farm.settings.cache, uv_program())
        stack.callback(rex.close)
        found[f"{rex.name}, execute"] = partial(peers.threaded, rex.execute)
        found[f"{rex.name}, in a session"] = _fewer(rex.in_session)
    except Missing as e:
        found["SWE-ReX"] = str(e)
    return found


def _fewer(sample: peers.Blocking) -> Sampler:
    """A tenth of the samples, of a peer that takes long for each."""
    return lambda count: peers.threaded(sample, max(1, count // 10))
