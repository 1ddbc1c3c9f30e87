"""Tar archives built in memory, including hostile ones, for tests of code that packs or unpacks."""

import io
import tarfile
from typing import Literal

MADE_AT = 1_000_000_000
"""The time of every entry, in seconds since 1970."""

Entry = tuple[tarfile.TarInfo, bytes]


def entry(name: str, content: bytes = b"", *, kind: bytes = tarfile.REGTYPE, link: str = "", mode: int = 0o644) -> Entry:
    """A member of any kind, with any name."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.mode, info.size, info.mtime = kind, link, mode, len(content), MADE_AT
    return info, content


def tar_of(*entries: Entry | tuple[str, bytes], packed: Literal["", "gz"] = "") -> bytes:
    """A tar of members, and of plain files given by name and contents."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz" if packed else "w") as tar:
        for named, content in entries:
            info, _ = entry(named, content) if isinstance(named, str) else (named, content)
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()
