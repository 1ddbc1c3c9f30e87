"""Conformance: the disk's limits, and what evades a careless measure of them."""

from envfarm.core.protocols import Box, SandboxProvider
from envfarm.testing.conformance_check import SpecFactory, box_of, check, expect, is_usable, said, shell

SECONDS_OF_ATTACK = 60.0
SMALL = {"disk_mib": 64, "disk_inodes": 5000}


async def disk_is_limited(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Filling the disk fails; the box stays usable, and its difference can be taken."""
    spec = factory.spec().model_copy(update=SMALL)
    async with box_of(provider, spec) as box:
        await box.mark([spec.environment.work_dir])
        for place in ("/tmp", ".", "/dev/shm", "/home/agent", "/var/tmp"):
            result = await shell(box, f"dd if=/dev/zero of={place}/big bs=1M count=500", timeout_s=SECONDS_OF_ATTACK)
            expect(not result.ok, f"500 MB were written to {place} of a box of 64 MiB")
            await shell(box, f"rm -f {place}/big")
        await said(box, "echo mine >mine")
        await shell(box, "cat /dev/zero >/var/tmp/fill")
        change = await box.diff()
        expect(any(path.endswith("/mine") for path in change.paths), "no difference can be taken from a full box")
        await shell(box, "rm -f /var/tmp/fill")
        await is_usable(box)


async def inodes_are_limited(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Empty files and directories are limited; what makes room may do so."""
    async with box_of(provider, factory.spec().model_copy(update=SMALL)) as box:
        for make in ("touch", "mkdir"):
            many = f"mkdir many && cd many && seq 50000 | xargs -n 500 {make} && sleep 1"
            result = await shell(box, many, timeout_s=SECONDS_OF_ATTACK)
            expect(not result.ok and not result.timed_out, f"50000 times `{make}` in a box of 5000 inodes")
            await said(box, "rm -r many")
        await is_usable(box)


async def files_without_a_name_are_limited(provider: SandboxProvider, factory: SpecFactory) -> None:
    """Files that are deleted while they are open take space as others do, and give it back."""
    hold = "for n in 3 4 5 6 7 8 9; do eval exec $n'>held'; rm held; head -c 40000000 /dev/zero >&$n || exit 9; done; sleep 1"
    async with box_of(provider, factory.spec().model_copy(update=SMALL)) as box:
        result = await shell(box, hold, timeout_s=SECONDS_OF_ATTACK)
        expect(not result.ok, "280 MB are held in a box of 64 MiB")
        await is_usable(box)


async def what_is_left_behind_is_limited(provider: SandboxProvider, factory: SpecFactory) -> None:
    """A process that outlives its command does not fill the disk while no command runs."""
    fill = "i=0; while [ $i -lt 50 ]; do i=$((i+1)); head -c 10000000 /dev/zero >fill$i || exit; sleep 0.02; done"
    async with box_of(provider, factory.spec().model_copy(update=SMALL)) as box:
        await said(box, f"setsid sh -c '{fill}' >/dev/null 2>&1 & echo $! >left")
        await _ended(box)
        mebibytes = int(await said(box, "du -sm . | cut -f1"))
        expect(mebibytes < 250, f"{mebibytes} MiB were written by what a command left in a box of 64 MiB")
        await shell(box, "rm -f fill*")
        await is_usable(box)


async def _ended(box: Box) -> None:
    """Wait for the process in the file `left`. What looks for it may be killed in its place at first."""
    for _ in range(100):
        if (await shell(box, "sleep 0.2; kill -0 $(cat left) || echo ended")).stdout == b"ended\n":
            return


CHECKS = (
    check(disk_is_limited, "programs", "limits"),
    check(inodes_are_limited, "programs", "limits"),
    check(files_without_a_name_are_limited, "programs", "limits"),
    check(what_is_left_behind_is_limited, "programs", "limits"),
)
