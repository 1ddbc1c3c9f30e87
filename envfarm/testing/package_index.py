"""A package index with one invented project, for tests of code that reads releases."""

import hashlib
from collections.abc import Mapping
from typing import Any

from envfarm.testing.scripted_server import Reply, ScriptedServer

PROJECT = "frob"
JSON = {"Content-Type": "application/vnd.pypi.simple.v1+json"}
BYTES = {"Content-Type": "application/octet-stream"}


def publish(server: ScriptedServer, archives: Mapping[str, bytes], **more: Any) -> None:
    """Serve source distributions by version, each released a day after the one before; `more` are other fields of each file."""
    files: list[dict[str, Any]] = []
    for version, content in archives.items():
        name = f"{PROJECT}-{version}.tar.gz"
        server.on(f"/files/{name}", Reply(raw=content, headers=BYTES))
        digest = hashlib.sha256(content).hexdigest()
        day = f"2024-01-0{len(files) + 1}T00:00:00Z"
        files.append({"filename": name, "url": f"../../files/{name}", "hashes": {"sha256": digest}, "upload-time": day, **more})
    body = {"meta": {"api-version": "1.1"}, "name": PROJECT, "files": files}
    server.on(f"/simple/{PROJECT}/", Reply(body=body, headers=JSON))
