"""A task as one archive: a deterministic tar, compressed with zstd. Used by the catalogue; does no I/O.

The archive is named by the task's digest, which covers what is in it and not how it was compressed, so that another version of zstd
changes nothing. Layout: `task.json` (all but the files), `solution/…`, `tests/…`.
"""

import io
import json
import tarfile

import zstandard
from pydantic import ValidationError

from envfarm.core.errors import StoreError
from envfarm.core.ids import TaskDigest
from envfarm.core.task import Task
from envfarm.stores import bounded_zstd

MAX_TASK_BYTES = 1 << 30
"""A task's files unpacked: far above any honest task, and a bound for a damaged or hostile archive."""
COMPRESSION_LEVEL = 10


def pack(task: Task) -> bytes:
    """The task's archive; the same task gives the same tar."""
    head = task.model_dump(mode="json", exclude={"solution", "tests"})
    text = json.dumps(head, sort_keys=True, indent=1) + "\n"
    files = {"task.json": text.encode()}
    files |= {f"solution/{path}": data for path, data in task.solution.items()}
    files |= {f"tests/{path}": data for path, data in task.tests.items()}
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path, data in sorted(files.items()):
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(data), 0o644
            tar.addfile(entry, io.BytesIO(data))
    return zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compress(out.getvalue())


def unpack(data: bytes, *, expected: TaskDigest, where: str, most_bytes: int = MAX_TASK_BYTES) -> Task:
    """Read an archive back. Raises `StoreError` naming `where` when it is damaged or holds another task than `expected`."""
    try:
        files = _entries(bounded_zstd.decompress(data, most_bytes=most_bytes))
        head = json.loads(files["task.json"])
        head |= {"solution": _below(files, "solution/"), "tests": _below(files, "tests/")}
        task = Task.model_validate(head)
    except (zstandard.ZstdError, tarfile.TarError, EOFError, KeyError, ValueError, ValidationError) as e:
        raise _damaged(where, f"{type(e).__name__}: {e}".splitlines()[0]) from e
    if task.digest != expected:
        raise _damaged(where, f"it holds the task {task.digest}")
    return task


def _entries(data: bytes) -> dict[str, bytes]:
    files: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for entry in tar:
            content = tar.extractfile(entry) if entry.isreg() else None
            if content is None:
                raise tarfile.TarError(f"{entry.name} is not a file")
            files[entry.name] = content.read()
    return files


def _below(files: dict[str, bytes], prefix: str) -> dict[str, bytes]:
    return {path.removeprefix(prefix): data for path, data in files.items() if path.startswith(prefix)}


def _damaged(where: str, detail: str) -> StoreError:
    hint = "the archive is damaged: delete the file and mint or import the task again (`envfarm build` finds that it is missing)"
    return StoreError(f"{where}: not the archive of this task: {detail}", hint=hint)
