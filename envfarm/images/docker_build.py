"""Recipe → image in Docker: the shared layer is built once and found again by its label; project steps run in a container without network.

Made by `envfarm.wiring`, used by task builders. The only speaker of Docker in this room; its calls block and run in threads. The host's
proxy, index and certificate settings reach the stages that download, and none of the image. Those stages run strangers' code: they have
Docker's bridge network, and share the host's only where a setting names a proxy or an index on the host's loopback.
"""

import asyncio
import io
import re
import time
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any, NamedTuple

import docker
import urllib3
from docker.errors import APIError, DockerException

from envfarm.core.errors import BuildOutage, ImageError
from envfarm.core.ids import Digest
from envfarm.core.image import BlobRef, BuildFacts, Built, Environment, ImageRef
from envfarm.core.protocols import BlobStore, SandboxProvider
from envfarm.core.recipe import Recipe
from envfarm.core.retry import backoff_s
from envfarm.images.build_steps import step_failed
from envfarm.images.build_variables import for_builds, on_loopback
from envfarm.images.dockerfile import CERTIFICATES, environment_variables, python_in_image, render, render_workshop
from envfarm.images.layer_store import LayerStore
from envfarm.images.project_checkout import BuildLimits, ProjectSteps
from envfarm.images.tarball import Entry, pack

PUSH_TRIES, PUSH_AGAIN_S = 4, 1.0
DAEMON = "unix:///var/run/docker.sock"
LAYER_LABEL = "envfarm.layer"
WORKSHOP_LABEL = "envfarm.workshop"
CONTEXT_CERTIFICATES = "certificates.pem"
UV_PATH = "/usr/local/bin"
CONNECTION_FAILURES = (DockerException, OSError, urllib3.exceptions.HTTPError, HTTPException)
"""What docker-py raises of a connection; the errors of requests are `OSError`s."""
KILLED = re.compile(r"returned a non-zero code: 137|Killed signal terminated program")
"""As Docker says it of a step, and gcc of its compiler."""
STEP = re.compile(r"^Step \d+/\d+ : (.*)")
RUN = re.compile(r"^RUN ", re.MULTILINE)
TIMEOUT = "a timeout"


class BuildOutput(NamedTuple):
    """What the daemon said of a build."""

    image: str
    """Its id; empty where the build failed."""
    log: str
    failure: str


class DockerBuilder:
    """An `ImageBuilder` for one machine with Docker. Any number of builders and processes may share the daemon and `cache`."""

    def __init__(
        self,
        provider: SandboxProvider,
        cache: Path,
        *,
        blobs: BlobStore,
        uv_version: str,
        variables: Mapping[str, str],
        daemon: str = DAEMON,
        limits: BuildLimits | None = None,
    ) -> None:
        """`provider` makes boxes of images; `cache` keeps locks, notes and logs; `variables` is what `Settings.variables` holds."""
        self._uv_version = uv_version
        self._variables = for_builds(variables, certificates_at=CERTIFICATES)
        self._network = "host" if on_loopback(self._variables.env) else "bridge"
        self._daemon = daemon
        self._limits = limits or BuildLimits()
        self._locks = LayerStore(cache / "docker")
        self._logs = cache / "logs"
        self._project = ProjectSteps(provider, blobs, memory=cache / "checkouts", logs=self._logs, limits=self._limits)

    async def build(self, recipe: Recipe, *, checkout: BlobRef | None) -> Built:
        """See `ImageBuilder.build`."""
        start = time.monotonic()
        certificates = CONTEXT_CERTIFICATES if self._variables.certificates else None
        names = tuple(sorted(self._variables.env))
        text = render(recipe, checkout=None, uv_version=self._uv_version, arguments=names, certificates=certificates)
        layer, size, reused = await self._image(LAYER_LABEL, recipe.layer_digest, text)
        facts = BuildFacts(layer_reused=reused, layer_s=time.monotonic() - start, layer_bytes=size)
        env = environment_variables(recipe, python=python_in_image(recipe.toolchain))
        if checkout is not None and recipe.project:
            text = render_workshop(recipe, layer=layer, uv_version=self._uv_version, arguments=names, certificates=certificates)
            workshop, _, _ = await self._image(WORKSHOP_LABEL, recipe.layer_digest, text)
            own = await self._project.run(recipe, image=_ref(workshop), checkout=checkout, env=env, uv_path=UV_PATH)
            checkout = own.blob
            facts = facts.model_copy(
                update={"checkout_reused": own.reused, "checkout_s": own.seconds, "checkout_bytes": own.blob.size_bytes}
            )
        return Built(Environment(image=_ref(layer), checkout=checkout, env=env, work_dir=recipe.work_dir), facts)

    async def push(self, image: str, repository: str, tag: str) -> Digest:
        """Push an image to `host[:port]/path/name:tag`; the digest of its manifest there.

        A registry that fails is tried again: some fail when two push the same layer. Raises `BuildOutage` when it does not take the image.
        """
        for failures in range(1, PUSH_TRIES):
            try:
                return await asyncio.to_thread(self._push, image, repository, tag)
            except BuildOutage:
                await asyncio.sleep(backoff_s(failures, first_s=PUSH_AGAIN_S, longest_s=10 * PUSH_AGAIN_S))
        return await asyncio.to_thread(self._push, image, repository, tag)

    def _push(self, image: str, repository: str, tag: str) -> Digest:
        with self._speaking() as client:
            client.api.tag(image, repository, tag)
            said = list(client.api.push(repository, tag, stream=True, decode=True))
        failure = next((str(message["error"]) for message in said if "error" in message), "")
        if failure:
            hint = "is it running? docker login, where it asks for one"
            raise BuildOutage(f"{repository}:{tag} cannot be pushed: {failure}", hint=hint)
        digests = [message["aux"]["Digest"] for message in said if "Digest" in (message.get("aux") or {})]
        if not digests:
            raise BuildOutage(f"the registry does not tell the digest of {repository}:{tag}")
        return Digest(digests[-1])

    async def _image(self, label: str, layer: Digest, text: str) -> tuple[str, int, bool]:
        """Id and bytes of the image with this label and digest, and whether it was there already."""
        async with self._locks.claim(layer):
            found = await asyncio.to_thread(self._find, label, layer)
            if found is not None:
                return *found, True
            log = self._logs / f"docker-{label.rpartition('.')[2]}-{layer.removeprefix('sha256:')[:16]}.log"
            output = await asyncio.to_thread(self._build, label, layer, text)
            if output.failure:
                said, what = f"{output.log}\n{output.failure}", failed_step(output.log)
                await asyncio.to_thread(_keep, log, f"{text}\n{said}\n")
                if KILLED.search(said):
                    hint = "builds in Docker have no limit of memory of their own: give the machine more, or run fewer at once"
                    raise BuildOutage(f"the machine ran out of memory and killed {what}", hint=hint)
                raise step_failed(what, how_it_failed(output.failure), said, log)
            found = await asyncio.to_thread(self._find, label, layer)
            if found is None:
                how = f"built {output.image} and does not find it" if output.image else "ended a build without a word"
                raise BuildOutage(f"Docker {how}", hint="was it restarted, or is something removing images on this machine?")
            return *found, False

    def _find(self, label: str, layer: Digest) -> tuple[str, int] | None:
        with self._speaking() as client:
            images = client.api.images(filters={"label": f"{label}={layer}"})
        # A workshop stands on its layer, so it carries the layer's label too.
        fitting = [i for i in images if label == WORKSHOP_LABEL or WORKSHOP_LABEL not in (i.get("Labels") or {})]
        return (str(fitting[0]["Id"]), int(fitting[0]["Size"])) if fitting else None

    def _build(self, label: str, layer: Digest, text: str) -> BuildOutput:
        pem = self._variables.certificates.read_bytes() if self._variables.certificates else None
        end = time.monotonic() + self._limits.step_timeout_s * len(RUN.findall(text))
        with self._speaking() as client:
            said = client.api.build(
                fileobj=io.BytesIO(build_context(text, pem)),
                custom_context=True,
                tag=f"{label.replace('.', '/')}:{layer.removeprefix('sha256:')[:32]}",
                labels={label: layer},
                buildargs=self._variables.env,
                network_mode=self._network,
                rm=True,
                forcerm=True,
                decode=True,
                timeout=int(self._limits.step_timeout_s),  # of each read; else there is none
            )
            output = read_output(said, end)
            client.ping()  # a daemon that is lost is no step's fault
            return output

    def _speaking(self) -> "_Speaking":
        return _Speaking(self._daemon, timeout_s=self._limits.step_timeout_s)


class _Speaking:
    """A connection to the daemon for one call. What it refuses becomes an `ImageError`; where it fails or is lost, a `BuildOutage`."""

    def __init__(self, daemon: str, *, timeout_s: float) -> None:
        self._daemon = daemon
        self._timeout_s = timeout_s
        self._client: docker.DockerClient | None = None

    def __enter__(self) -> docker.DockerClient:
        try:
            self._client = docker.DockerClient(base_url=self._daemon, timeout=int(self._timeout_s), version="auto")
        except CONNECTION_FAILURES as e:
            raise BuildOutage(f"Docker does not answer at {self._daemon}: {e}", hint="is it running, and may this user talk to it?") from e
        return self._client

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if self._client is not None:
            self._client.close()
        if isinstance(error, APIError) and error.is_client_error():
            raise ImageError(f"Docker refuses: {error}") from error
        if isinstance(error, CONNECTION_FAILURES):
            raise BuildOutage(
                f"Docker failed, or was lost: {error}", hint="check that Docker is running, then run the same command again"
            ) from error


def build_context(dockerfile: str, certificates: bytes | None) -> bytes:
    """A context of a Dockerfile and, where there is one, a certificate file."""
    files = {"Dockerfile": dockerfile.encode(), CONTEXT_CERTIFICATES: certificates}
    return pack(Entry(name, content=content) for name, content in files.items() if content is not None)


def read_output(said: Any, end: float) -> BuildOutput:
    """Sum up the messages of a build. One that goes on after `end`, by `time.monotonic`, or is silent for too long failed by a timeout."""
    log, image, failure = [], "", ""
    try:
        for message in said:
            log.append(str(message.get("stream") or message.get("status") or ""))
            image = (message.get("aux") or {}).get("ID", image)
            failure = message.get("error") or failure
            if time.monotonic() > end:
                failure = TIMEOUT
                break
    except urllib3.exceptions.ReadTimeoutError:
        failure = TIMEOUT
    return BuildOutput(image, "".join(line if line.endswith("\n") else f"{line}\n" for line in log if line), failure)


def failed_step(log: str) -> str:
    """The last step that a build began."""
    begun = [match[1] for line in log.splitlines() if (match := STEP.match(line))]
    return f"`{begun[-1][:200]}`" if begun else "the build"


def how_it_failed(failure: str) -> str:
    """`status 3`, or the daemon's own words."""
    status = re.search(r"returned a non-zero code: (\d+)", failure)
    return f"status {status[1]}" if status else failure


def _ref(image: str) -> ImageRef:
    return ImageRef(kind="oci", digest=Digest(image), reference=image)


def _keep(log: Path, text: str) -> None:
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(text)
