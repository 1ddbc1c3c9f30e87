"""Peers that do what a box does: Docker's command line, docker-py, SWE-ReX. Each says its version, or why it is not there."""

import asyncio
import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import docker

from envfarm.testing.served import free_port
from tests.bench.measure import Clock

SWE_REX = "swe-rex"
SWE_REX_NEEDS = (SWE_REX, "aiohttp")
"""Its client imports aiohttp, which its package does not ask for."""
CLIENT = Path(__file__).with_name("swe_rex_client.py")
START_S = 30.0


Blocking = Callable[[int], list[float]]
"""Measures so many times, blocking; milliseconds."""


class Missing(Exception):  # noqa: N818 - a state
    """The peer is not there; the text says why."""


def docker_program() -> tuple[str, str]:
    """Docker's command line and its version. Raises `Missing`."""
    program = shutil.which("docker")
    if program is None:
        raise Missing("docker: not on PATH")
    done = subprocess.run([program, "version", "--format", "{{.Server.Version}}"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Missing(f"docker: {done.stderr.strip() or 'does not answer'}")
    return program, done.stdout.strip()


def timed_program(argv: Sequence[str], *, swallow: bool = True) -> Blocking:
    """Starts a program so many times, one after the other; milliseconds. Raises `Missing` when it fails."""

    def sample(count: int) -> list[float]:
        clock = Clock()
        for _ in range(count):
            with clock:
                done = subprocess.run(argv, capture_output=swallow, stdin=subprocess.DEVNULL, check=False)
            if done.returncode:
                raise Missing(f"{argv[0]}: {(done.stderr or b'').decode(errors='replace').strip()[-300:]}")
        return clock.taken

    return sample


class DockerPy:
    """`exec_run` of docker-py in a container."""

    def __init__(self, container: str) -> None:
        try:
            self._client = docker.from_env()
            self._container = self._client.containers.get(container)
        except docker.errors.DockerException as e:
            raise Missing(f"docker-py: {e}") from e
        self.name = f"docker-py {version('docker')} exec_run"

    def sample(self, count: int) -> list[float]:
        """Milliseconds of so many actions."""
        clock = Clock()
        for _ in range(count):
            with clock:
                self._container.exec_run(["/bin/true"])
        return clock.taken

    def close(self) -> None:
        """Let go of the daemon."""
        self._client.close()


class SweRex:
    """SWE-ReX's server on this machine, without any sandbox around it, and its client, in a virtual environment of their own."""

    def __init__(self, cache: Path, uv: Path) -> None:
        self._processes: list[subprocess.Popen[bytes]] = []
        python = _installed(cache / "bench" / SWE_REX, uv)
        said = subprocess.run(
            [python, "-c", f"import importlib.metadata as m; print(m.version({SWE_REX!r}))"], capture_output=True, check=True
        )
        self.name = f"SWE-ReX {said.stdout.decode().strip()} (its server on the bare host)"
        token = secrets.token_hex(16)
        port = str(free_port())
        server = [str(python.with_name("swerex-remote")), "--host", "127.0.0.1", "--port", port, "--auth-token", token]
        self.server_pid = self._start(server, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL).pid
        self._client = self._start([str(python), "-I", str(CLIENT), port, token], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def _start(self, argv: Sequence[str], *, stdin: int, stdout: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(argv, stdin=stdin, stdout=stdout, stderr=subprocess.DEVNULL)
        self._processes.append(process)
        return process

    def execute(self, count: int) -> list[float]:
        """Its `execute`: one program, no shell."""
        return self._ask("execute", count)

    def in_session(self, count: int) -> list[float]:
        """Its `run_in_session`: a command in a persistent shell."""
        return self._ask("session", count)

    def _ask(self, what: str, count: int) -> list[float]:
        if self._client.stdin is None or self._client.stdout is None:
            raise Missing(f"{SWE_REX}: no pipes")
        self._client.stdin.write(f"{what} {count}\n".encode())
        self._client.stdin.flush()
        line = self._client.stdout.readline()
        if not line:
            raise Missing(f"{SWE_REX}: its client ended")
        return [float(ms) for ms in json.loads(line)]

    def close(self) -> None:
        """End both processes."""
        for process in reversed(self._processes):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(10)
        for pipe in (self._client.stdin, self._client.stdout):
            if pipe is not None:
                pipe.close()


def _installed(place: Path, uv: Path) -> Path:
    python, ready = place / "bin" / "python", place / ".ready"
    if not ready.is_file():
        for argv in ([str(uv), "venv", "-q", "--clear", str(place)], [str(uv), "pip", "install", "-q", "-p", str(python), *SWE_REX_NEEDS]):
            done = subprocess.run(argv, capture_output=True, text=True, check=False)
            if done.returncode:
                raise Missing(f"{SWE_REX} cannot be installed: {done.stderr.strip().splitlines()[-1:]}")
        ready.touch()
    return python


def swe_rex(cache: Path, uv: Path) -> SweRex:
    """The peer, ready. Raises `Missing`."""
    peer = SweRex(cache, uv)
    began = time.monotonic()
    try:
        peer.execute(1)
    except (Missing, OSError, ValueError) as e:
        peer.close()
        raise Missing(f"{peer.name}: not ready after {time.monotonic() - began:.0f} s: {e}") from e
    return peer


async def threaded(sample: Blocking, count: int) -> list[float]:
    """A blocking sampler beside the event loop, whose boxes live on."""
    return await asyncio.to_thread(sample, count)
