"""Opens a file of a Stack Exchange dump, plain or packed with 7-Zip, and pushes its bytes on. Called by the dump's index.

py7zr unpacks in this process and hands chunks on as it goes, so that nothing is written to disk and memory holds one dictionary
(64 MiB at most in the dumps); a `7z` program would be one more thing to install, and a pipe to watch. A 7z's table of contents stands at
its end: one that was cut off can tell nothing, and says so.
"""

import io
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from py7zr import SevenZipFile
from py7zr.exceptions import ArchiveError, CrcError
from py7zr.io import Py7zIO, WriterFactory

from envfarm.core.errors import SourceError

CHUNK_BYTES = 1 << 18
PACKED_BYTES = 1 << 14
"""Of a 7z, unpacked at once: text that packs well grows a hundredfold."""
Feed = Callable[[bytes], None]


class DumpFile(NamedTuple):
    """One table of a dump: `Posts.xml`, `Users.xml`, `PostHistory.xml`."""

    path: Path
    """The file itself, or the 7z that it is in."""
    member: str = ""
    """Its name in the 7z; empty for a plain file."""


def find(path: Path, table: str) -> DumpFile | None:
    """A table beside the posts, or in the same 7z.

    Args:
        path: a plain file, a 7z, or a directory that holds either.
        table: `Posts`, `Users` or `PostHistory`.

    Raises:
        SourceError: the 7z cannot be opened.
    """
    folder = path if path.is_dir() else path.parent
    candidates = [path] if path.is_file() else []
    candidates += [folder / f"{table}.xml", folder / f"{table}.7z", *sorted(folder.glob(f"*-{table}.7z"))]
    candidates += sorted(path.glob("*.7z")) if table == "Posts" else []  # a site's whole dump
    for file in candidates:
        if not file.is_file():
            continue
        if file.suffix.casefold() != ".7z":
            if file.name.casefold() == f"{table}.xml".casefold() or (file == path and table == "Posts"):
                return DumpFile(file)
        elif member := next((m for m in _members(file) if m.rpartition("/")[2].casefold() == f"{table}.xml".casefold()), None):
            return DumpFile(file, member)
    return None


def push(file: DumpFile, feed: Feed) -> str:
    """Feed all bytes of a file, in order. Says what went wrong on the way, or nothing: what came before it was fed.

    Raises:
        SourceError: it cannot be opened. What `feed` raises passes.
    """
    if file.member:
        return _push_member(file, feed)
    try:
        with file.path.open("rb") as source:
            while chunk := source.read(CHUNK_BYTES):
                feed(chunk)
    except OSError as e:
        raise SourceError(f"`{file.path}` cannot be read: {e.strerror}", hint="name a dump's Posts.xml, or the 7z that it is in") from e
    return ""


class _InPieces(io.BufferedReader):
    """A 7z that is read in small pieces once its table of contents is: py7zr unpacks all that it read, up to 128 MB, at once."""

    is_open = False

    def read(self, size: int | None = -1, /) -> bytes:
        """At most a piece."""
        return super().read(PACKED_BYTES if self.is_open and (size is None or not 0 <= size < PACKED_BYTES) else size)


class _Through(Py7zIO):
    """What py7zr takes for a file to write."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._written = 0

    def write(self, s: bytes | bytearray) -> int:
        self._written += len(s)
        for at in range(0, len(s), CHUNK_BYTES):
            self._feed(bytes(s[at : at + CHUNK_BYTES]))
        return len(s)

    def read(self, size: int | None = None) -> bytes:
        del size
        return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        del offset, whence
        return 0

    def flush(self) -> None:
        """Nothing is held back."""

    def size(self) -> int:
        return self._written


class _Only(WriterFactory):
    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def create(self, filename: str) -> Py7zIO:
        del filename
        return _Through(self._feed)


def _push_member(file: DumpFile, feed: Feed) -> str:
    try:
        with _InPieces(io.FileIO(file.path)) as source, SevenZipFile(source) as archive:
            source.is_open = True
            archive.extract(targets=[file.member], factory=_Only(feed))
    except CrcError:
        return "its checksum is not what the 7z says"
    except (ArchiveError, lzma.LZMAError, EOFError, ValueError, OSError) as e:
        return f"the 7z is broken: {str(e) or type(e).__name__}"
    return ""


def _members(file: Path) -> list[str]:
    try:
        with SevenZipFile(file) as archive:
            return list(archive.getnames())
    except (ArchiveError, lzma.LZMAError, EOFError, ValueError, OSError, IndexError, KeyError, TypeError) as e:
        why = str(e) or type(e).__name__
        hint = "is it whole? A 7z's table of contents stands at its end, so one that is cut off tells nothing: fetch it again"
        raise SourceError(f"`{file}` is no 7z that can be opened: {why}", hint=hint) from e
