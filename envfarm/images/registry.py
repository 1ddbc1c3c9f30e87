"""An OCI registry over its HTTP API: which digest a tag has, and small images that no Docker has to build. Called by `wiring` and by the
builder beside it.

Credentials are those that `docker login` kept. It speaks plain HTTP with this machine's own registry alone, as Docker does.
"""

import base64
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urljoin

import httpx

from envfarm.core import digest
from envfarm.core.errors import BuildOutage, UsageError
from envfarm.core.ids import Digest

INDEX = "application/vnd.oci.image.index.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_INDEX = "application/vnd.docker.distribution.manifest.list.v2+json"
PREFIX = re.compile(r"(?P<host>[A-Za-z0-9.-]+(?::\d+)?)/(?P<path>[a-z0-9]+(?:[._/-]+[a-z0-9]+)*)")
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
NOT_FOUND, UNAUTHORIZED, REFUSED, SERVER_ERRORS = 404, 401, 400, 500


class Registry:
    """The repositories below one prefix, `host[:port]/path`."""

    def __init__(self, prefix: str, *, docker_config: Path | None = None, timeout_s: float = 60.0) -> None:
        """`docker_config` is Docker's `config.json`. Raises `UsageError` for a prefix that is none."""
        parsed = PREFIX.fullmatch(prefix)
        if parsed is None:
            raise UsageError(
                f"{prefix!r} is no registry prefix", hint="host/path or host:port/path, in small letters: localhost:5000/envfarm"
            )
        self.prefix = prefix
        self._host, self._path = parsed["host"], parsed["path"]
        here = self._host.partition(":")[0] in {"localhost", "127.0.0.1"}
        self._login = _login(docker_config, self._host)
        self._bearer = ""
        self._http = httpx.AsyncClient(base_url=f"{'http' if here else 'https'}://{self._host}", timeout=timeout_s)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def digest_of(self, name: str, reference: str) -> Digest | None:
        """The digest of the manifest that a tag or digest names; None where there is none. Raises `BuildOutage`."""
        accept = {"Accept": f"{INDEX}, {MANIFEST}, {DOCKER_INDEX}, {DOCKER_MANIFEST}"}
        answer = await self._ask("HEAD", f"{self._base(name)}/manifests/{reference}", headers=accept, missing_is_fine=True)
        if answer.status_code == NOT_FOUND:
            return None
        return Digest(answer.headers["docker-content-digest"])

    async def push_program(self, name: str, tag: str, binaries: Mapping[str, tuple[str, bytes]]) -> str:
        """An image of several architectures that holds one program each; its reference by digest.

        `binaries` gives, by architecture (`amd64`), the program's path in the image and its bytes as a tar layer. Raises as `digest_of`.
        """
        rows = []
        for architecture, (entry, layer) in sorted(binaries.items()):
            config = {
                "architecture": architecture,
                "os": "linux",
                "config": {"Entrypoint": [entry]},
                "rootfs": {"type": "layers", "diff_ids": [digest.of_bytes(layer)]},
            }
            described = [await self._push_blob(name, LAYER, layer)]
            head = await self._push_blob(name, CONFIG, _json(config))
            manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": head, "layers": described}
            row = await self._push_manifest(name, MANIFEST, manifest)
            rows.append({**row, "platform": {"architecture": architecture, "os": "linux"}})
        index = {"schemaVersion": 2, "mediaType": INDEX, "manifests": rows}
        pushed = await self._push_manifest(name, INDEX, index, tag=tag)
        return f"{self.prefix}/{name}@{pushed['digest']}"

    async def _push_blob(self, name: str, kind: str, content: bytes) -> dict[str, Any]:
        known = digest.of_bytes(content)
        base = f"{self._base(name)}/blobs"
        there = await self._ask("HEAD", f"{base}/{known}", missing_is_fine=True)
        if there.status_code == NOT_FOUND:
            begun = await self._ask("POST", f"{base}/uploads/")
            place = httpx.URL(urljoin(str(begun.request.url), begun.headers["location"])).copy_merge_params({"digest": known})
            await self._ask("PUT", str(place), content=content, headers={"Content-Type": "application/octet-stream"})
        return {"mediaType": kind, "digest": known, "size": len(content)}

    async def _push_manifest(self, name: str, kind: str, manifest: dict[str, Any], *, tag: str = "") -> dict[str, Any]:
        content = _json(manifest)
        known = digest.of_bytes(content)
        await self._ask("PUT", f"{self._base(name)}/manifests/{tag or known}", content=content, headers={"Content-Type": kind})
        return {"mediaType": kind, "digest": known, "size": len(content)}

    def _base(self, name: str) -> str:
        return f"/v2/{self._path}/{name}"

    async def _ask(self, method: str, url: str, *, missing_is_fine: bool = False, **more: Any) -> httpx.Response:
        try:
            answer = await self._send(method, url, **more)
            if answer.status_code == UNAUTHORIZED and await self._log_in(answer.headers.get("www-authenticate", "")):
                answer = await self._send(method, url, **more)
        except httpx.HTTPError as e:
            raise BuildOutage(f"the registry {self._host} does not answer: {e!s}", hint="is it running?") from e
        if answer.status_code >= SERVER_ERRORS or answer.status_code == httpx.codes.TOO_MANY_REQUESTS:
            raise BuildOutage(f"the registry {self._host} answers {answer.status_code}: {answer.text[:200]}")
        if answer.status_code == NOT_FOUND and missing_is_fine:
            return answer
        if answer.status_code >= REFUSED:
            hint = f"docker login {self._host}" if answer.status_code in {UNAUTHORIZED, httpx.codes.FORBIDDEN} else ""
            raise BuildOutage(f"the registry {self._host} refuses {method} {url}: {answer.status_code} {answer.text[:200]}", hint=hint)
        return answer

    async def _send(self, method: str, url: str, *, headers: Mapping[str, str] | None = None, **more: Any) -> httpx.Response:
        own = {"Authorization": self._bearer} if self._bearer else {}
        return await self._http.request(method, url, headers={**own, **(headers or {})}, **more)

    async def _log_in(self, challenge: str) -> bool:
        """Whether another try is worth it, with what the registry's challenge asks for."""
        scheme, _, rest = challenge.partition(" ")
        basic = f"Basic {self._login}" if self._login else ""
        if scheme.lower() == "basic":
            self._bearer = basic
            return bool(basic)
        asked = dict(CHALLENGE.findall(rest))
        if scheme.lower() != "bearer" or "realm" not in asked:
            return False
        realm = asked.pop("realm")
        answer = await self._http.get(realm, params=asked, headers={"Authorization": basic} if basic else {})
        if not answer.is_success:
            return False
        said = answer.json()
        self._bearer = f"Bearer {said.get('token') or said.get('access_token', '')}"
        return True


def _login(config: Path | None, host: str) -> str:
    """`user:password` in base64, as Docker keeps it; empty for nobody."""
    try:
        kept = json.loads(config.read_bytes()) if config else {}
    except (OSError, ValueError):
        return ""
    auth = (kept.get("auths") or {}).get(host, {}).get("auth", "")
    try:
        base64.b64decode(auth, validate=True)
    except ValueError:
        return ""
    return str(auth)


def _json(value: Mapping[str, Any]) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
