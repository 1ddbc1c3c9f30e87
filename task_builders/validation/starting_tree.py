"""The texts of a base tree, read from the environment's checkout blob: what the agent can read. Pure."""

import io
import tarfile
from collections.abc import Mapping

MAX_FILE_BYTES = 2 << 20
MAX_TREE_BYTES = 128 << 20
"""Enough for any project's texts; larger trees (of data) are cut here."""
BINARY_PROBE_BYTES = 8000


def texts(archive: bytes, work_dir: str) -> dict[str, str]:
    """Text files below `work_dir` of a tar archive rooted at `/`, by path relative to it; without `.git` and binary files."""
    prefix = work_dir.strip("/") + "/"
    found: dict[str, str] = {}
    left = MAX_TREE_BYTES
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for entry in tar:
            name = entry.name.lstrip("./")
            inner = name.removeprefix(prefix)
            if not entry.isreg() or inner == name or inner.startswith(".git/") or not 0 < entry.size <= min(MAX_FILE_BYTES, left):
                continue
            file = tar.extractfile(entry)
            data = file.read() if file else b""
            if b"\0" not in data[:BINARY_PROBE_BYTES]:
                found[inner] = data.decode(errors="replace")
                left -= len(data)
    return found


def joined(tree: Mapping[str, str]) -> str:
    """All texts, concatenated."""
    return "\n".join(tree.values())
