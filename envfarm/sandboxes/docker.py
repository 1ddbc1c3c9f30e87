"""Boxes as Docker containers, on the machine of this process's Docker daemon. The only module of this package that uses Docker.

Calls to the daemon block, so they run in threads. Commands and files go directly to boxd's socket, never through the daemon. boxd reads
its config from standard input, which is closed before anything else runs, so no token is in a file, in arguments or in variables.
"""

import asyncio
import json
import os
import platform
import secrets
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import docker
import requests
from docker.errors import APIError, DockerException, NotFound

from envfarm.core.errors import BoxBroken, BoxLost, BuildOutage, EnvfarmError, ImageError, SandboxError
from envfarm.core.ids import BoxId
from envfarm.core.image import Environment
from envfarm.core.protocols import BlobStore
from envfarm.core.sandbox import ExecRequest, Network, SandboxSpec
from envfarm.core.uninterrupted import in_thread
from envfarm.sandboxes import local_seccomp
from envfarm.sandboxes.box_ends import why_ended
from envfarm.sandboxes.boxd_client import BoxAccess, BoxdBox
from envfarm.sandboxes.boxd_connection import Endpoint
from envfarm.sandboxes.docker_plan import (
    AGENT,
    BOXD,
    LABEL,
    READY,
    SOCKET,
    SOCKETS,
    HostPlaces,
    box_variables,
    boxd_config,
    host_config,
    labels,
    memory_areas,
)
from envfarm.sandboxes.local_layers import LayerTrees
from envfarm.sandboxes.local_ownership import Ownership, is_process
from envfarm.sandboxes.local_stage import start_time
from envfarm.sandboxes.memory_kills import MemoryWitness
from envfarm.sandboxes.suspended import is_suspended

DAEMON = "unix:///var/run/docker.sock"
DAEMON_TIMEOUT_S = 120
START_S = 60.0
FULL_BYTES = 16 << 20
EMPTY_ARCHIVE_BYTES = 512 + 1024
T = TypeVar("T")


class DockerProvider:
    """Creates boxes from Docker images. Use it in one event loop and `aclose` it; if killed, `collect_left_overs` removes its boxes."""

    name = "docker"

    def __init__(self, home: Path, boxd: Path, blobs: BlobStore, *, daemon: str = DAEMON) -> None:
        """`daemon` is the daemon's URL. It must run on this machine, since containers mount this machine's files."""
        self._boxd = boxd
        self._blobs = blobs
        self._daemon = daemon
        self._ownership = Ownership(home / "docker-boxes")
        self._layers = LayerTrees(home / "layers")
        self._client: docker.DockerClient | None = None
        self._preparing = asyncio.Lock()
        self._places_fd = -1
        self._disk = Path("/")
        self._seen: dict[tuple[str, str], bool] = {}
        self._open: dict[BoxId, BoxdBox] = {}

    async def create(self, spec: SandboxSpec) -> BoxdBox:
        """See `SandboxProvider.create`."""
        if spec.environment.image.kind != "oci":
            hint = "build the recipe with the Docker builder, or use the local provider"
            raise ImageError(f"Docker boxes start from images, not from `{spec.environment.image.kind}` environments", hint=hint)
        if spec.mounts and spec.network is not Network.OPEN:
            hint = "mounts are for building environments, with an open network"
            raise ImageError("a box with a closed network cannot have mounts of the host", hint=hint)
        await self._prepared()
        checkout = await self._blobs.get(spec.environment.checkout.digest) if spec.environment.checkout else b""
        image = await self._image(spec.environment.image.reference)
        box = self._ownership.next_box()
        self._ownership.place(box).mkdir(mode=0o700)
        try:
            return await self._start(box, spec, image, checkout)
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(self.destroy(box)))
            raise

    async def holds(self, environment: Environment) -> bool:
        """See `Holds.holds`."""
        try:
            await self._ask("look at an image", lambda client: client.images.get(environment.image.reference))
        except NotFound:
            return False
        return True

    async def destroy(self, box: BoxId) -> None:
        """See `SandboxProvider.destroy`."""
        place = self._ownership.place(box)
        self._open.pop(box, None)
        await self._prepared()
        with suppress(NotFound):
            await self._ask(f"remove box {box}", lambda client: client.api.remove_container(_container(box), force=True, v=True))
        await asyncio.to_thread(shutil.rmtree, place, ignore_errors=True)

    async def collect_left_overs(self) -> int:
        """Remove every box of this home whose maker is dead. Returns how many. Live makers' and other homes' boxes are untouched."""
        await self._prepared()
        ours = {"label": f"{LABEL}home={self._ownership.boxes}"}
        found = await self._ask("list boxes", lambda client: client.api.containers(all=True, filters=ours))
        made = [(BoxId(each["Labels"][f"{LABEL}box"]), each["Labels"][f"{LABEL}maker"]) for each in found]
        dead = {box for box, maker in made if not self._ownership.lives(maker)} | set(self._ownership.left_over())
        for box in sorted(dead):
            await self.destroy(box)
        self._ownership.collect_owners()
        return len(dead)

    async def aclose(self) -> None:
        """Close every open box, the connection to the daemon, and this maker's lock."""
        for box in list(self._open.values()):
            await box.close()
        if self._client is not None:
            await asyncio.to_thread(self._client.close)
            self._client = None
        self._ownership.release()
        if self._places_fd >= 0:
            os.close(self._places_fd)
            self._places_fd = -1

    async def _prepared(self) -> docker.DockerClient:
        if self._client is not None:
            return self._client
        async with self._preparing:
            return await in_thread(self._prepare)  # to its end: `aclose` removes what it makes

    def _prepare(self) -> docker.DockerClient:
        if self._client is not None:
            return self._client
        try:
            client = docker.DockerClient(base_url=self._daemon, timeout=DAEMON_TIMEOUT_S, version="auto")
        except (DockerException, requests.RequestException) as e:
            hint = "check that Docker runs and that this user may access it; `envfarm doctor` shows details"
            raise SandboxError(f"Docker does not answer at {self._daemon}: {e}", hint=hint) from e
        self._ownership.hold()
        self._disk = Path(client.info().get("DockerRootDir") or "/")
        self._places_fd = os.open(self._ownership.boxes, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        program = self._ownership.directory / "boxd"
        shutil.copyfile(self._boxd, program)
        program.chmod(0o755)
        self._client = client
        return client

    async def _ask(self, what: str, call: Callable[[docker.DockerClient], T]) -> T:
        """Call the daemon in a thread. Raises `NotFound` for what it does not have, `SandboxError` for other failures."""
        client = await self._prepared()
        try:
            return await asyncio.to_thread(call, client)
        except NotFound:
            raise
        except (DockerException, requests.RequestException, OSError) as e:
            raise SandboxError(f"Docker could not {what}: {_explanation(e)}") from e

    async def _image(self, reference: str) -> dict[str, Any]:
        """Docker's data on an image, which is pulled if it is missing."""
        if not reference:
            raise ImageError("an `oci` environment has no image", hint="its `reference` must be `name@sha256:…` or a local image id")
        try:
            return await self._ask("look at an image", lambda client: dict(client.images.get(reference).attrs))
        except NotFound:
            pass
        try:
            await self._ask(f"pull {reference}", lambda client: client.images.pull(reference))
            return await self._ask("look at an image", lambda client: dict(client.images.get(reference).attrs))
        except (NotFound, SandboxError) as e:
            hint = "build the environment on this machine, or give Docker access to the registry"
            raise BuildOutage(f"image {reference} is not in Docker and cannot be pulled: {_explanation(e)}", hint=hint) from e

    async def _start(self, box: BoxId, spec: SandboxSpec, image: dict[str, Any], checkout: bytes) -> BoxdBox:
        own = bool(checkout) or await self._is_empty(image["Id"], spec.environment.work_dir)
        areas = memory_areas(spec, own_work_dir=own)
        attached = {name: str(path) for name, path in self._layers.below_opt(spec.environment.image.attached).items()}
        places = HostPlaces(str(self._ownership.directory / "boxd"), str(self._ownership.place(box)), attached)
        marks = labels(spec, box=box, maker=self._ownership.owner_id, home=str(self._ownership.boxes))
        token = secrets.token_urlsafe(32)
        env = box_variables(spec, (image.get("Config") or {}).get("Env") or ())
        seccomp = local_seccomp.program(platform.machine())
        config = json.dumps(boxd_config(spec, token=token, areas=areas, env=env, seccomp=seccomp)).encode()
        settings = host_config(spec, places, areas=areas)
        try:
            pid = await self._ask(
                "start a box", lambda client: _run(client, box, image["Id"], settings=settings, marks=marks, config=config)
            )
        except NotFound as e:
            raise SandboxError(f"a Docker box vanished while it started: {_explanation(e)}") from e
        made = BoxdBox(box, self._access(box, spec, token, pid))
        await self._wait_for_socket(box, pid)
        try:
            await made.health(timeout_s=START_S)
        except (BoxLost, BoxBroken) as e:
            raise SandboxError(f"a Docker box did not start: {await self._log(box) or e}") from e
        # In an image without a shell this fails, and only the agent's account is missing: so the result is not checked.
        await made.exec(ExecRequest(argv=("/bin/sh", "-c", READY, "sh", spec.environment.work_dir), cwd="/", user="root", timeout_s=120))
        if checkout:
            await made.put(checkout)
        self._open[box] = made
        return made

    async def _wait_for_socket(self, box: BoxId, pid: tuple[int, int]) -> None:
        """Wait until boxd listens. Polled, since directory events do not reach across a container's mount everywhere."""
        path = self._ownership.place(box) / SOCKET
        async with asyncio.timeout(START_S) as limit:
            while not await asyncio.to_thread(path.exists):
                if not is_process(*pid) or limit.expired():
                    raise SandboxError(f"a Docker box did not start: {await self._log(box) or 'its first process ended'}")
                await asyncio.sleep(0.002)
        if os.geteuid() != 0:
            # The socket belongs to the daemon's root. Its directory, on the host and in the box, keeps others from it.
            await self._ask("open a box's socket", lambda client: _as_root(client, box, ["chmod", "0666", f"{SOCKETS}/{SOCKET}"]))

    def _access(self, box: BoxId, spec: SandboxSpec, token: str, pid: tuple[int, int]) -> BoxAccess:
        gone: asyncio.Future[EnvfarmError] = asyncio.get_running_loop().create_future()
        witness = MemoryWitness(pid[0], limit_bytes=spec.memory_mib << 20)
        witness.look_up()

        async def look() -> None:
            if not is_process(*pid) and (why := await self._end_of(box, witness)) and not gone.done():
                gone.set_result(why)

        return BoxAccess(
            endpoint=Endpoint(path=f"/proc/self/fd/{self._places_fd}/{box}/{SOCKET}"),
            token=token,
            epoch=spec.epoch,
            alive=lambda: is_process(*pid),
            remove=lambda: self.destroy(box),
            agent=(AGENT, AGENT),
            output_bytes=spec.output_bytes,
            disk_is_full=lambda: is_full(self._disk),
            suspended=lambda: is_suspended([pid[0]]),
            memory_kills=witness.read,
            gone=gone,
            look=look,
        )

    async def _end_of(self, box: BoxId, witness: MemoryWitness) -> EnvfarmError | None:
        """Why a container without processes ended; None if the daemon does not say."""
        try:
            said = await self._ask("see how a box ended", lambda client: client.api.wait(_container(box), timeout=DAEMON_TIMEOUT_S))
        except NotFound:
            return BoxLost("it was removed")
        except SandboxError:
            return None
        return why_ended(int(said["StatusCode"]), witness.read())

    async def _is_empty(self, image: str, work_dir: str) -> bool:
        """Whether the image's work dir is empty. Checked once per image and directory."""
        key = (image, work_dir)
        if key not in self._seen:
            self._seen[key] = await self._ask("look into an image", lambda client: _has_nothing(client, image, work_dir))
        return self._seen[key]

    async def _log(self, box: BoxId) -> str:
        try:
            said = await self._ask("read a log", lambda client: client.api.logs(_container(box), tail=20))
        except (NotFound, SandboxError):
            return ""
        return bytes(said).decode(errors="replace").strip()


def is_full(directory: Path) -> bool:
    """Whether its file system is almost full; False if that cannot be determined from here."""
    try:
        return shutil.disk_usage(directory).free < FULL_BYTES
    except OSError:
        return False


def _container(box: BoxId) -> str:
    return f"envfarm-{box}"


def _explanation(error: Exception) -> str:
    return str(error.explanation) if isinstance(error, APIError) and error.explanation else str(error)


def _run(
    client: docker.DockerClient, box: BoxId, image: str, *, settings: dict[str, Any], marks: dict[str, str], config: bytes
) -> tuple[int, int]:
    """Create and start a container, and pass boxd its config. Returns its process's pid and start time."""
    api = client.api
    made = api.create_container(
        image,
        name=_container(box),
        entrypoint=[BOXD],
        command=["serve", "--config-fd", "0"],
        user="0:0",
        working_dir="/",
        hostname="box",
        stdin_open=True,
        healthcheck={"test": ["NONE"]},
        labels=marks,
        host_config=api.create_host_config(**settings),
    )
    stream = api.attach_socket(made["Id"], params={"stdin": 1, "stream": 1})
    connection = stream._sock  # noqa: SLF001 - docker-py gives the half-closable socket no other way
    try:
        api.start(made["Id"])
        connection.sendall(config)
        connection.shutdown(1)
    finally:
        connection.close()
        stream.close()
    pid = int(api.inspect_container(made["Id"])["State"]["Pid"])
    return pid, start_time(pid)


def _as_root(client: docker.DockerClient, box: BoxId, argv: list[str]) -> None:
    made = client.api.exec_create(_container(box), argv, user="0")
    client.api.exec_start(made["Id"])


def _has_nothing(client: docker.DockerClient, image: str, work_dir: str) -> bool:
    """Whether a directory of an image is empty or missing, looked at through a container that is never started."""
    made = client.api.create_container(image, entrypoint=["/none"], labels={f"{LABEL}probe": image})
    try:
        pieces, _ = client.api.get_archive(made["Id"], work_dir)
        # A header has 512 bytes and an archive's end 1024: more than one header and the end means that there is content.
        size = 0
        for piece in pieces:
            size += len(piece)
            if size > EMPTY_ARCHIVE_BYTES:
                pieces.close()
                return False
    except NotFound:
        pass
    finally:
        client.api.remove_container(made["Id"], force=True, v=True)
    return True
