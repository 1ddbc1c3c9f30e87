"""Conformance: labels, quiescence, the end of boxes, fencing."""

import asyncio
import uuid
from datetime import UTC, datetime

from envfarm.core.errors import BoxLost
from envfarm.core.ids import EpisodeId, RunId
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
    spec = factory.spec().model_copy(update={"owner": f"conformance-{uuid.uuid4().hex}"})
    box = await provider.create(spec)
    running = asyncio.ensure_future(shell(box, "sleep 1000", timeout_s=600))
    await said(box, "echo up")
    await box.close()
    await box.close()
    await asyncio.gather(
        refused(running, "a command that ran while its box was closed", BoxLost),
        refused(shell(box, "echo no"), "a command in a closed box", BoxLost),
    )
    same(list(await provider.list_owned(spec.owner)), [], "boxes after the close")


async def boxes_are_found_by_labels(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Boxes are found by the owner's label, with all their labels, and can be destroyed."""
    owner = f"conformance-{uuid.uuid4().hex}"
    deadline = datetime(2100, 1, 2, 3, 4, 5, tzinfo=UTC)
    labels = {"owner": owner, "run_id": RunId("r"), "episode_id": EpisodeId("e"), "deadline": deadline}
    box = await provider.create(factory.spec().model_copy(update=labels))
    async with box_of(provider, factory.spec()) as other:
        (found,) = await provider.list_owned(owner)
        same(found.model_dump(), {**labels, "box_id": box.box_id, "alive_owner": True}, "the box that was found")
        await provider.destroy(box.box_id)
        await provider.destroy(box.box_id)
        same(list(await provider.list_owned(owner)), [], "boxes after the destruction")
        await refused(shell(box, "echo no"), "a command in a destroyed box", BoxLost)
        await box.close()
        same(await said(other, "echo still"), "still", "a box of another owner")


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
    check(boxes_are_found_by_labels),
    check(boxes_start_together),
    check(lower_epochs_are_fenced, "fencing"),
)
