"""A box from nothing to the end of its first action, beside `docker run --rm IMAGE true`."""

from functools import partial

from tests.bench import peers
from tests.bench.machine import TRUE, Bench, box_or_why
from tests.bench.measure import Clock, Row, Sampler, interleaved
from tests.bench.peers import Missing

ROUNDS = 15
EACH = 3
TARGETS = {"local": "p50 <= 25 ms", "docker": ""}


async def rows(bench: Bench) -> list[Row]:
    """The section."""
    samplers: dict[str, Sampler] = {}
    missing: dict[str, str] = {}
    for name in TARGETS:
        box = await box_or_why(bench, name)
        if isinstance(box, str):
            missing[name] = box
            continue
        await box.close()
        samplers[name] = partial(_starts, bench, name)
    peer = f"docker run --rm {bench.image} true"
    try:
        program, number = peers.docker_program()
        peer = f"docker run --rm {bench.image} true ({number})"
        sample = peers.timed_program([program, "run", "--rm", bench.image, "true"])
        samplers[peer] = lambda count: peers.threaded(sample, max(1, count // 3))
    except Missing as e:
        missing[peer] = str(e)
    taken = await interleaved(samplers, rounds=bench.rounds(ROUNDS), each=EACH)
    table = []
    for name, target in TARGETS.items():
        beside = missing.get(name) or missing.get(peer) or peer
        table.append(Row(f"start to first action, {name} box", "ms", taken.get(name, ()), beside, taken.get(peer, ()), target=target))
    return table


async def _starts(bench: Bench, sandbox: str, count: int) -> list[float]:
    clock = Clock()
    for _ in range(count):
        with clock:
            box = await bench.farm.provider(sandbox).create(bench.spec(sandbox))
            await box.exec(TRUE)
        await box.close()
    return clock.taken
