"""Conformance: quiescence, the end of boxes, fencing."""

import asyncio

from envfarm.core.errors import BoxLost
from envfarm.core.protocols import SandboxProvider
from envfarm.core.sandbox import ExecRequest
from envfarm.testing.conformance_check import ConformanceFailure, SpecFactory, box_of, check, expect, refused, said, same, shell

FLOCK = 8


async def quiescence_is_proven(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Servers, ignored signals and respawning processes do not survive it; afterwards only the farm's own commands run."""
    spec = factory.spec()
    async with box_of(provider, spec) as box:
        await said(box, "(trap '' TERM HUP INT; while :; do sleep 0.01; done) >/dev/null 2>&1 &")
        await said(box, "setsid sh -c 'while :; do (sleep 100 &) ; sleep 0.05; done' >/dev/null 2>&1 </dev/null &")
        await said(box, "sleep 1000 & echo up", session="s")
        report = await box.quiesce()
        expect(report.ok, f"processes are left: {report.remaining}")
        expect(report.killed >= 3, f"only {report.killed} killed")
        await refused(box.exec(ExecRequest(shell="echo no")), "an agent's command after quiescence")
        await box.mark([spec.environment.work_dir])
        same(await said(box, "echo yes"), "yes", "a command after a mark")
        await box.quiesce()
        await box.resume()
        same(await said(box, "echo again"), "again", "a command after a resume")
        await box.quiesce()
        result = await box.exec(ExecRequest(shell="echo graded", user="root"))
        same(result.stdout, b"graded\n", "the farm's own command after quiescence")


async def closing_is_final(provider: SandboxProvider, factory: SpecFactory) -> None:
    """A closed box is gone; closing it again has no effect."""
    box = await provider.create(factory.spec())
    running = asyncio.ensure_future(shell(box, "sleep 1000", timeout_s=600))
    await said(box, "echo up")
    await box.close()
    await box.close()
    await asyncio.gather(
        refused(running, "a command that ran while its box was closed", BoxLost),
        refused(shell(box, "echo no"), "a command in a closed box", BoxLost),
    )
    expect(box.box_id not in await factory.boxes(), "the box is left after the close")


async def boxes_are_destroyed_by_their_ids(provider: SandboxProvider, factory: SpecFactory) -> None:
    """A box can be destroyed by its id, repeatedly; no other box is touched."""
    box = await provider.create(factory.spec())
    async with box_of(provider, factory.spec()) as other:
        expect({box.box_id, other.box_id} <= set(await factory.boxes()), "a box that is there is not seen")
        await provider.destroy(box.box_id)
        await provider.destroy(box.box_id)
        expect(box.box_id not in await factory.boxes(), "the box is left after the destruction")
        await refused(shell(box, "echo no"), "a command in a destroyed box", BoxLost)
        await box.close()
        same(await said(other, "echo still"), "still", "another box")


async def a_living_makers_boxes_are_no_left_overs(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Collecting what killed makers left touches no box of a maker that lives."""
    async with box_of(provider, factory.spec()) as box:
        await provider.collect_left_overs()
        expect(box.box_id in await factory.boxes(), "the box was collected")
        same(await said(box, "echo still"), "still", "the box")


async def boxes_start_together(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Several boxes are created at once, and each is separate."""
    boxes = await asyncio.gather(*(provider.create(factory.spec()) for _ in range(FLOCK)))
    try:
        same(len({box.box_id for box in boxes}), FLOCK, "distinct boxes")
        outputs = await asyncio.gather(*(said(box, f"echo {n} >mine; sleep 0.1; cat mine") for n, box in enumerate(boxes)))
        same(outputs, [str(n) for n in range(FLOCK)], "what each box said")
    finally:
        await asyncio.gather(*(box.close() for box in boxes))


async def lower_epochs_are_fenced(provider: SandboxProvider, factory: SpecFactory) -> None:
    """A client with a lower epoch is refused, also by an adopted box."""
    box = await provider.create(factory.spec().model_copy(update={"epoch": 5}))
    try:
        with_epoch = getattr(box, "with_epoch", None)
        if with_epoch is None:
            raise ConformanceFailure("the box's client cannot take another epoch")
        await refused(shell(with_epoch(4), "echo no"), "an older epoch")
        same(await said(with_epoch(6), "echo adopted"), "adopted", "a newer epoch")
        await refused(shell(box, "echo no"), "an epoch that was overtaken")
    finally:
        await box.close()


CHECKS = (
    check(quiescence_is_proven, "programs"),
    check(closing_is_final),
    check(boxes_are_destroyed_by_their_ids),
    check(a_living_makers_boxes_are_no_left_overs),
    check(boxes_start_together),
    check(lower_epochs_are_fenced, "fencing"),
)
