"""Boxes without walls: boxd as an ordinary process on a temporary directory, for tests where no sandbox is available.

It passes the conformance suite except for walls, limits and network. Commands in such a box run on this machine as this user, so only a
test's own commands may run in it.
"""

import asyncio
import contextlib
import io
import json
import os
import secrets
import shutil
import signal
import socket
import tarfile
from pathlib import Path
from typing import NamedTuple

from envfarm.core.errors import ImageError, SandboxError
from envfarm.core.ids import BoxId
from envfarm.core.protocols import BlobStore
from envfarm.core.sandbox import SandboxSpec
from envfarm.sandboxes.boxd_client import BoxAccess, BoxdBox
from envfarm.sandboxes.boxd_connection import Endpoint


class _Process(NamedTuple):
    process: asyncio.subprocess.Process
    sockets: Path


class BareProvider:
    """Creates boxes on directories below `home`, a test's temporary directory. The work dir must be below it."""

    name = "bare"

    def __init__(self, home: Path, boxd: Path, blobs: BlobStore) -> None:
        self._home = home
        self._boxd = boxd
        self._blobs = blobs
        self._boxes: dict[BoxId, _Process] = {}
        self._made = 0

    async def create(self, spec: SandboxSpec) -> BoxdBox:
        """See `SandboxProvider.create`. The work dir is created if missing; two boxes with the same one share it."""
        work = Path(spec.environment.work_dir)
        if not work.is_relative_to(self._home) or work == self._home:
            raise ImageError(f"the work dir of a bare box must be below {self._home}, and {work} is not")
        work.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - one call on a local disk
        self._made += 1
        box = BoxId(f"bare-{self._made}")
        place = Path("/tmp") / f"envfarm-bare-{secrets.token_hex(8)}"
        place.mkdir(mode=0o700)
        token = secrets.token_urlsafe(32)
        process = await self._serve(spec, place, token)
        self._boxes[box] = _Process(process, place)
        access = BoxAccess(
            endpoint=Endpoint(path=str(place / "boxd")),
            token=token,
            epoch=spec.epoch,
            alive=lambda: box in self._boxes and process.returncode is None,
            remove=lambda: self.destroy(box),
            output_bytes=spec.output_bytes,
        )
        made = BoxdBox(box, access)
        await made.health()
        if spec.environment.checkout is not None:
            await made.put(_below(work, await self._blobs.get(spec.environment.checkout.digest)), dest=str(work))
        return made

    @property
    def open_boxes(self) -> frozenset[BoxId]:
        """Those that nobody closed."""
        return frozenset(self._boxes)

    async def destroy(self, box: BoxId) -> None:
        """See `SandboxProvider.destroy`."""
        known = self._boxes.pop(box, None)
        if known is None:
            return
        with contextlib.suppress(ProcessLookupError):
            known.process.send_signal(signal.SIGSTOP)  # so that it cannot report how its children ended
        for pid in _descendants(known.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            known.process.kill()
        await known.process.wait()
        shutil.rmtree(known.sockets, ignore_errors=True)

    async def collect_left_overs(self) -> int:
        """Always 0: it knows only boxes of this object."""
        return 0

    async def aclose(self) -> None:
        """End every box."""
        for box in list(self._boxes):
            await self.destroy(box)

    async def _serve(self, spec: SandboxSpec, place: Path, token: str) -> asyncio.subprocess.Process:
        environment = spec.environment
        env = {"PATH": os.defpath, "HOME": environment.work_dir, "LANG": "C.UTF-8", **environment.env}
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(place / "boxd"))
            listener.listen(512)
            config = {
                "token": token,
                "epoch": spec.epoch,
                "listen_fd": listener.fileno(),
                "work_dir": environment.work_dir,
                "exec_env": env,
            }
            reader, writer = os.pipe()
            os.write(writer, json.dumps(config).encode())
            os.close(writer)
            try:
                argv = (str(self._boxd), "serve", "--config-fd", str(reader))
                return await asyncio.create_subprocess_exec(*argv, pass_fds=(reader, listener.fileno()), env={}, start_new_session=True)
            except OSError as e:
                raise SandboxError(f"boxd did not start: {e}") from e
            finally:
                os.close(reader)


def _below(work: Path, archive: bytes) -> bytes:
    """Turn a checkout rooted at `/` into one relative to its work dir. Without walls, it must have no other files."""
    prefix = str(work).lstrip("/") + "/"
    out = io.BytesIO()
    with tarfile.open(fileobj=io.BytesIO(archive)) as source, tarfile.open(fileobj=out, mode="w") as target:
        for entry in source:
            if not entry.name.startswith(prefix):
                if entry.isdir() and prefix.startswith(entry.name.rstrip("/") + "/"):
                    continue
                raise ImageError(f"{entry.name!r} of the checkout is not below the work dir")
            content = source.extractfile(entry) if entry.isreg() else None
            entry.name = entry.name.removeprefix(prefix)
            target.addfile(entry, content)
    return out.getvalue()


def _descendants(pid: int) -> list[int]:
    """All descendants. Processes that leave the tree become children of boxd, which is their reaper."""
    found = []
    for task in Path(f"/proc/{pid}/task").glob("*"):
        with contextlib.suppress(OSError):
            for child in (task / "children").read_text().split():
                found += [int(child), *_descendants(int(child))]
    return found
