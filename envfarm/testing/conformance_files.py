"""Conformance: archives, marks, differences, the checkout."""

import io
import tarfile

from envfarm.core.change import CHANGE_BYTES, Change, ChangedFile
from envfarm.core.errors import BoxBroken
from envfarm.core.protocols import Box, SandboxProvider
from envfarm.testing.archives import entry, tar_of
from envfarm.testing.conformance_check import SpecFactory, box_of, check, expect, refused, said, same, shell

ODD_NAMES = ("plain.txt", "with space.txt", "ünïcödé-☃.txt", "new\nline", "-dash", "'quote\"", "back\\slash", "x" * 200)


async def archives_round_trip(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Contents, modes and links survive; the agent owns files that were put."""
    spec = factory.spec()
    work = spec.environment.work_dir
    async with box_of(provider, spec) as box:
        script = entry("in/run.sh", mode=0o755)
        archive = tar_of(
            *((f"in/{name}", name.encode()) for name in ODD_NAMES), script, entry("in/link", kind=tarfile.SYMTYPE, link="/nowhere")
        )
        await box.put(archive, dest=work)
        same(
            await said(box, "test -x in/run.sh && readlink in/link && echo more >>in/plain.txt && chmod 600 in/plain.txt && echo own"),
            "/nowhere\nown",
            "what was put",
        )
        taken = _contents(await box.get([f"{work}/in"]))
        root = work.lstrip("/")
        for name in ODD_NAMES[1:]:
            same(taken.get(f"{root}/in/{name}"), name.encode(), f"content of {name!r}")
        same(taken.get(f"{root}/in/link"), "/nowhere", "a link is taken as a link")


def _contents(archive: bytes) -> dict[str, bytes | str]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        seen: dict[str, bytes | str] = {}
        for entry in tar:
            stream = tar.extractfile(entry) if entry.isreg() else None
            seen[entry.name.removeprefix("./")] = stream.read() if stream else entry.linkname
        return seen


async def archives_stay_inside(provider: SandboxProvider, factory: SpecFactory) -> None:
    """An archive that would leave its destination is refused."""
    spec = factory.spec()
    work = spec.environment.work_dir
    async with box_of(provider, spec) as box:
        await said(box, "mkdir -p dest outside")
        attacks = {
            "..": tar_of(("../outside/a", b"x")),
            "a link out": tar_of(entry("out", kind=tarfile.SYMTYPE, link="../outside"), ("out/b", b"x")),
            "a hard link out": tar_of(entry("hard", kind=tarfile.LNKTYPE, link="../outside/kept")),
            "a device": tar_of(entry("null", kind=tarfile.CHRTYPE)),
        }
        await said(box, "echo kept >outside/kept")
        for what, archive in attacks.items():
            await refused(box.put(archive, dest=f"{work}/dest"), f"an archive with {what}")
        kept = _contents(await box.get([f"{work}/outside"]))
        same({name.rpartition("/")[2]: held for name, held in kept.items() if held}, {"kept": b"kept\n"}, "what lies outside")


async def missing_paths_are_told(provider: SandboxProvider, factory: SpecFactory) -> None:
    """`get` of a missing path raises FileNotFoundError."""
    spec = factory.spec()
    async with box_of(provider, spec) as box:
        await refused(box.get([f"{spec.environment.work_dir}/none"]), "a missing path", FileNotFoundError)


async def sizes_are_kept_to(provider: SandboxProvider, factory: SpecFactory) -> None:
    """`get` accepts what is as large as allowed, and nothing larger, whatever its size on disk."""
    spec = factory.spec()
    path = f"{spec.environment.work_dir}/sparse"
    async with box_of(provider, spec) as box:
        await said(box, "truncate -s 1000 sparse")
        same(_contents(await box.get([path], max_bytes=1000)), {path.lstrip("/"): bytes(1000)}, "a file of the allowed size")
        await said(box, "truncate -s 100M sparse")
        await refused(box.get([path], max_bytes=1000), "a larger file", BoxBroken)


async def changes_are_bounded(provider: SandboxProvider, factory: SpecFactory) -> None:
    """`diff` accepts what is as large as allowed, and nothing larger; it refuses at once, and blames the box."""
    spec = factory.spec()
    async with box_of(provider, spec) as box:
        await box.mark([spec.environment.work_dir])
        await said(box, "truncate -s 1000 sparse")
        same(sum(len(f.content or b"") for f in (await box.diff(max_bytes=1000)).files), 1000, "a change of the allowed size")
        await refused(box.diff(max_bytes=999), "a larger change", BoxBroken)
        await said(box, f"truncate -s {CHANGE_BYTES + 1} sparse")
        await refused(box.diff(), "a change that is too large to carry", BoxBroken)


PREPARE = "mkdir -p kept/deep gone; echo a >kept/a; echo b >kept/deep/b; echo c >gone/c; echo m >mode; ln -s kept/a link; echo u >same"
WORK = (
    "echo changed >kept/a && rm -r gone && chmod 755 mode && ln -sfn kept/deep/b link && mkdir -p new/empty"
    " && printf '\\001\\377' >new/raw "
    "&& : >new/zero && mkfifo pipe && ln -s /etc/passwd new/absolute && echo u >'ünï ☃' && printf x >\"$(printf 'new\\nline')\""
)


async def differences_are_whole(provider: SandboxProvider, factory: SpecFactory) -> None:
    """What was added, changed and deleted since the mark; nothing else."""
    spec = factory.spec()
    root = spec.environment.work_dir.lstrip("/")
    async with box_of(provider, spec) as box:
        await said(box, PREPARE)
        await box.mark([spec.environment.work_dir])
        expect(not await box.diff(), "a difference right after the mark")
        await said(box, WORK)
        change = await box.diff()
        files = {f.path.removeprefix(root + "/"): f for f in change.files}
        same(files["kept/a"].content, b"changed\n", "a changed file")
        same(files["mode"].mode & 0o777, 0o755, "a changed mode")
        same((files["link"].link, files["new/absolute"].link), ("kept/deep/b", "/etc/passwd"), "links")
        same((files["new/raw"].content, files["new/zero"].content), (b"\x01\xff", b""), "raw and empty files")
        expect(files["new/empty"].is_dir, "an empty directory is not carried")
        expect({"ünï ☃", "new\nline"} <= set(files), f"odd names are missing: {sorted(files)}")
        gone = {path.removeprefix(root + "/") for path in change.deleted}
        expect("gone/c" in gone or "gone" in gone, f"a deletion is missing: {gone}")
        expect(not {"same", "kept/deep/b"} & set(files), "an unchanged file is carried")
        expect(any(path.endswith("/pipe") for path in change.special), "a pipe is not reported")


async def changes_restore(provider: SandboxProvider, factory: SpecFactory) -> None:
    """A change restored in a fresh box gives the same tree and the same change."""
    spec = factory.spec()
    work = spec.environment.work_dir
    async with box_of(provider, spec) as box:
        await said(box, PREPARE)
        await box.mark([work])
        await said(box, f"{WORK} && rm pipe")
        change = await box.diff()
        wanted = await _listing(box)
        await said(box, "rm -rf ./* && " + PREPARE)
        await said(box, "touch -d @$(($(date +%s) - 5)) /tmp/built")
        await box.mark([work])
        await box.restore(change)
        same(await _listing(box), wanted, "the restored tree")
        again = await box.diff()
        same({f.path: f for f in again.files}, {f.path: f for f in change.files}, "the restored change")
        same(await said(box, "find kept/a new -type f ! -newer /tmp/built"), "", "restored files that are older than what was built")
        same(await said(box, "echo more >>kept/a && rm -r new && echo own"), "own", "the agent's rights on what was restored")


async def _listing(box: Box) -> str:
    return await said(
        box, "find . -type d -printf 'd %m %p\\n' -o -type l -printf 'l %p %l\\n' -o -printf 'f %m %s %p\\n' | sort; cat kept/a"
    )


async def restoring_stays_inside(provider: SandboxProvider, factory: SpecFactory) -> None:
    """A change with a path that leaves the tree is refused."""
    async with box_of(provider, factory.spec()) as box:
        for bad in ("../x", "/x", "a/../../x", ""):
            for change in (Change((ChangedFile(bad, 0o644, b""),)), Change((), (bad,))):
                await refused(box.restore(change), f"a change at {bad!r}")


async def the_checkout_is_there(provider: SandboxProvider, factory: SpecFactory) -> None:
    """The environment's blob is unpacked and owned by the agent, and is the same in the next box, whatever this one did."""
    spec = factory.spec()
    root = spec.environment.work_dir.lstrip("/")
    tool = entry(f"{root}/bin/tool", mode=0o755)
    archive = tar_of(tool, (f"{root}/pkg/mod.py", b"x = 1\n"), entry(f"{root}/latest", kind=tarfile.SYMTYPE, link="pkg/mod.py"))
    environment = spec.environment.model_copy(update={"checkout": await factory.blob(archive)})
    spec = spec.model_copy(update={"environment": environment})
    for _ in range(2):
        async with box_of(provider, spec) as box:
            same(await said(box, "cat latest; test -x bin/tool && echo ready"), "x = 1\nready", "the checkout")
            await box.mark([spec.environment.work_dir])
            await said(
                box, "echo y >>pkg/mod.py && touch -d 2001-01-01 bin/tool && chmod 700 pkg && mv pkg/mod.py pkg/other.py && echo z >new"
            )
            paths = {path.removeprefix(f"{root}/") for path in (await box.diff()).paths}
            expect({"pkg/other.py", "pkg/mod.py", "new"} <= paths, f"changes of the checkout are missing: {paths}")
            await said(box, "rm -rf pkg bin latest")


async def the_system_is_not_writable(provider: SandboxProvider, factory: SpecFactory) -> None:
    """An agent cannot change the programs of its box."""
    async with box_of(provider, factory.spec()) as box:
        for path in ("/usr/bin/planted", "/etc/planted"):
            expect(not (await shell(box, f"echo x >{path}")).ok, f"{path} could be written")


CHECKS = (
    check(archives_round_trip, "programs"),
    check(archives_stay_inside),
    check(missing_paths_are_told),
    check(sizes_are_kept_to, "programs"),
    check(changes_are_bounded, "programs"),
    check(differences_are_whole, "programs"),
    check(changes_restore, "programs"),
    check(restoring_stays_inside),
    check(the_checkout_is_there, "programs"),
    check(the_system_is_not_writable, "programs", "walls"),
)
