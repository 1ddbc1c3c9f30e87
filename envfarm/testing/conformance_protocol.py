"""Conformance: what every boxd answers, whatever is behind it. These checks, and others without the need `programs`, use only the few words
of shell that a simulated box knows (`envfarm.testing.boxd_simulator.words`).
"""

import asyncio
import io
import tarfile

from envfarm.core.errors import BoxBroken
from envfarm.core.ids import ExecId
from envfarm.core.protocols import Box, Interrupts, SandboxProvider
from envfarm.core.sandbox import ExecRequest, ExecResult
from envfarm.testing.archives import entry, tar_of
from envfarm.testing.conformance_check import SpecFactory, box_of, check, expect, refused, said, same, shell

RESULTS_KEPT = 256


async def variables_are_seen(provider: SandboxProvider, factory: SpecFactory) -> None:
    """The work dir, the environment's variables, and the request's, which override them."""
    spec = factory.spec()
    spec = spec.model_copy(update={"environment": spec.environment.model_copy(update={"env": {"ONE": "1", "BOTH": "1"}})})
    async with box_of(provider, spec) as box:
        same(await said(box, "pwd"), spec.environment.work_dir, "the place where commands run")
        result = await box.exec(ExecRequest(shell='echo "$ONE $BOTH" && pwd', cwd="/", env={"BOTH": "2 ü"}))
        same(result.stdout.decode(), "1 2 ü\n/\n", "variables and cwd")


async def sessions_last(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Directory and variables persist between runs, separately for each session; a shell that exited is started again."""
    spec = factory.spec()
    async with box_of(provider, spec) as box:
        await said(box, "mkdir -p 'a b' && cd 'a b' && export WORD=set", session="one")
        same(await said(box, "echo $WORD && pwd", session="one"), f"set\n{spec.environment.work_dir}/a b", "the session's state")
        same(await said(box, "echo [$WORD]", session="two"), "[]", "another session")
        same((await shell(box, "exit 6", session="one")).exit_code, 6, "exit in a session")
        same(await said(box, "echo on", session="one"), "on", "a session after exit")
        both = await asyncio.gather(said(box, "sleep 0.2; echo 1", session="one"), said(box, "echo 2", session="one"))
        same(both, ["1", "2"], "two commands for one session")


async def timeouts_are_told(provider: SandboxProvider, factory: SpecFactory) -> None:
    """A command that exceeds its time is killed and its output kept; the box and the session stay usable."""
    async with box_of(provider, factory.spec()) as box:
        for session in ("", "s"):
            result = await shell(box, "echo out; sleep 1000", timeout_s=0.5, session=session)
            expect(result.timed_out and not result.ok, f"not called timed out: {result}")
            same(result.stdout, b"out\n", "output before the timeout")
            same(await said(box, "echo on", session=session), "on", "a command after a timeout")


async def commands_are_interrupted(provider: SandboxProvider, factory: SpecFactory) -> None:
    """A command can be interrupted by another call; interrupting one that has ended or never existed is no error."""
    async with box_of(provider, factory.spec()) as box:
        if not isinstance(box, Interrupts):
            return
        for number, session in enumerate(("", "s")):
            name = ExecId(f"long-{number}")
            running = await _begun(box, name, session)
            await box.interrupt(name)
            result = await running
            expect(not result.ok and not result.timed_out, f"an interrupted command: {result}")
            await box.interrupt(name)
        await box.interrupt(ExecId("never"))


async def _begun(box: Box, name: ExecId, session: str) -> asyncio.Future[ExecResult]:
    """Start a command that sleeps, and wait until it runs."""
    request = ExecRequest(shell=f"echo up >{name}; sleep 1000", exec_id=name, session=session)
    running = asyncio.ensure_future(box.exec(request))
    while not running.done() and not (await shell(box, f"cat {name}")).ok:  # noqa: ASYNC110 - boxes have no events
        await asyncio.sleep(0.05)
    return running


async def results_are_kept(provider: SandboxProvider, factory: SpecFactory) -> None:
    """For a while an id returns its first result; afterwards it is not run again."""
    async with box_of(provider, factory.spec()) as box:
        first = ExecRequest(shell="echo run >>ran; echo once", exec_id=ExecId("first"))
        wanted = await box.exec(first)
        same(await box.exec(first), wanted, "a result that was asked for again")
        for number in range(RESULTS_KEPT):
            await box.exec(ExecRequest(shell="true", exec_id=ExecId(f"next-{number}")))
        await refused(box.exec(first), "an id whose result is no longer kept")
        same(await said(box, "cat ran"), "run", "what the command wrote")


async def archives_come_back(provider: SandboxProvider, factory: SpecFactory) -> None:
    """What was put is there and is returned unchanged, but never more than allowed."""
    spec = factory.spec()
    work = spec.environment.work_dir
    raw = bytes(range(256)) * 8
    async with box_of(provider, spec) as box:
        await box.put(tar_of(("in/text", b"text\n"), ("in/raw", raw), entry("in/link", kind=tarfile.SYMTYPE, link="text")), dest=work)
        same(await said(box, "cat in/text in/link"), "text\ntext", "what was put")
        with tarfile.open(fileobj=io.BytesIO(await box.get([f"{work}/in"], max_bytes=4096))) as tar:
            seen = {each.name.rpartition("/")[2]: tar.extractfile(each) if each.isreg() else each.linkname for each in tar}
            taken = {name: of if isinstance(of, str) or of is None else of.read() for name, of in seen.items()}
        same((taken["text"], taken["raw"], taken["link"]), (b"text\n", raw, "text"), "what was taken")
        await refused(box.get([f"{work}/in/raw"], max_bytes=2047), "more than allowed", BoxBroken)


async def changes_are_carried(provider: SandboxProvider, factory: SpecFactory) -> None:
    """What was written and removed since the mark, and nothing else, is restored in a fresh box, where it is the same change."""
    spec = factory.spec()
    work = spec.environment.work_dir
    root = work.lstrip("/")
    start = tar_of(("kept", b"kept\n"), ("changed", b"before\n"), ("gone", b"gone\n"))
    async with box_of(provider, spec) as box:
        await box.put(start, dest=work)
        await box.mark([work])
        expect(not await box.diff(), "a difference right after the mark")
        await said(box, "echo after >changed && rm gone && mkdir -p new && echo fresh >new/file")
        change = await box.diff()
        await refused(box.diff(max_bytes=11), "a change larger than allowed", BoxBroken)
    contents = {f.path.removeprefix(f"{root}/"): f.content for f in change.files if f.content is not None}
    same(contents, {"changed": b"after\n", "new/file": b"fresh\n"}, "what was written")
    same(change.deleted, (f"{root}/gone",), "what was removed")
    async with box_of(provider, spec) as box:
        await box.put(start, dest=work)
        await box.mark([work])
        await box.restore(change)
        same(await said(box, "cat kept changed new/file"), "kept\nafter\nfresh", "the restored tree")
        expect(not (await shell(box, "cat gone")).ok, "what was removed is there")
        again = await box.diff()
        same({f.path: f.content for f in again.files if not f.is_dir}, {f.path: f.content for f in change.files if not f.is_dir}, "again")
        same(again.deleted, change.deleted, "what was removed, again")


async def checkouts_are_unpacked(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Every box of an environment begins with its checkout, whatever earlier boxes did."""
    spec = factory.spec()
    root = spec.environment.work_dir.lstrip("/")
    blob = await factory.blob(tar_of((f"{root}/pkg/mod", b"x = 1\n"), entry(f"{root}/link", kind=tarfile.SYMTYPE, link="pkg/mod")))
    spec = spec.model_copy(update={"environment": spec.environment.model_copy(update={"checkout": blob})})
    for _ in range(2):
        async with box_of(provider, spec) as box:
            same(await said(box, "cat link"), "x = 1", "the checkout")
            await said(box, "echo y >pkg/mod && rm link")


async def quiescence_closes_the_door(provider: SandboxProvider, factory: SpecFactory) -> None:
    """All runs are ended, and nothing starts until a resume, a mark or a command of the farm's own."""
    spec = factory.spec()
    async with box_of(provider, spec) as box:
        running = await _begun(box, ExecId("long"), "s")
        report = await box.quiesce()
        expect(report.ok and report.killed >= 1, f"what ran is left: {report}")
        expect(not (await running).ok, "a killed command succeeded")
        for session in ("", "s"):
            await refused(shell(box, "echo no", session=session), "an agent's command after quiescence")
        await box.resume()
        same(await said(box, "echo again", session="s"), "again", "a command after a resume")
        await box.quiesce()
        await box.mark([spec.environment.work_dir])
        same(await said(box, "echo yes"), "yes", "a command after a mark")
        await box.quiesce()
        result = await box.exec(ExecRequest(shell="echo graded", user="root"))
        same(result.stdout, b"graded\n", "the farm's own command after quiescence")


async def use_is_answered(provider: SandboxProvider, factory: SpecFactory) -> None:
    """The duration of a command, and the box's counters."""
    async with box_of(provider, factory.spec()) as box:
        result = await shell(box, "sleep 0.2")
        expect(0.2 <= result.duration_s < 20, f"{result.duration_s} s for a sleep of 0.2 s")
        stats = await box.stats()
        expect(stats.cpu_s >= 0 and stats.memory_peak_bytes >= 0, f"counters: {stats}")


CHECKS = (
    check(variables_are_seen),
    check(sessions_last),
    check(timeouts_are_told),
    check(commands_are_interrupted),
    check(results_are_kept),
    check(archives_come_back),
    check(changes_are_carried),
    check(checkouts_are_unpacked),
    check(quiescence_closes_the_door),
    check(use_is_answered),
)
