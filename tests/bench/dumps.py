"""Rows of a Stack Exchange dump per second, and the memory that reading takes, beside expat with an empty callback over the same file.

Each reading is a process of its own, and the two take turns: this module, started with a file, is that process. Seconds are those of the
CPU, so that what else the machine does falls on neither.
"""

import asyncio
import json
import resource
import sys
import tempfile
import time
from pathlib import Path
from pyexpat import ParserCreate

from envfarm.testing.question_dump import WANTED_TAG, write_large
from task_builders.sources import stackexchange_dump
from task_builders.sources.clone import silent
from task_builders.sources.source_models import StackexchangeDumpSource
from tests.bench.machine import Bench
from tests.bench.measure import Row

READERS = ("ours", "bare")
CHUNK_BYTES = 1 << 18


async def rows(bench: Bench) -> list[Row]:
    """The section."""
    count = bench.dump_rows or (20_000 if bench.quick else 200_000)
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in READERS}
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "Posts.xml"
        await asyncio.to_thread(write_large, file, count)
        size_mib = file.stat().st_size / 2**20
        for _ in range(1 if bench.dump_rows else 2 if bench.quick else 5):
            for name in READERS:
                taken[name].append(await _measured(name, file))
    what = f"dump of {count:,} rows, {size_mib:.0f} MiB"
    beside = "expat, an empty callback"
    speeds = {name: [count / seconds for seconds, _ in found] for name, found in taken.items()}
    memory = {name: [mib for _, mib in found] for name, found in taken.items()}
    return [
        Row(what, "rows/CPU s", speeds["ours"], beside, speeds["bare"], more_is_better=True, target=">= 0.7 x"),
        Row(f"{what}: the process at its largest", "MiB", memory["ours"], beside, memory["bare"], target="< 200"),
    ]


async def _measured(name: str, file: Path) -> tuple[float, float]:
    """Seconds and MiB of one reading."""
    child = await asyncio.create_subprocess_exec(sys.executable, "-m", "tests.bench.dumps", name, str(file), stdout=asyncio.subprocess.PIPE)
    out, _ = await child.communicate()
    seconds, mib = json.loads(out)
    return float(seconds), float(mib)


def _ours(file: Path) -> None:
    source = StackexchangeDumpSource(path=str(file), tags=(WANTED_TAG,))
    with tempfile.TemporaryDirectory() as directory:
        for _ in stackexchange_dump.read(source, Path(directory), silent):
            pass


def _bare(file: Path) -> None:
    parser = ParserCreate()
    parser.StartElementHandler = lambda _name, _attributes: None
    with file.open("rb") as source:
        while chunk := source.read(CHUNK_BYTES):
            parser.Parse(chunk)
    parser.Parse(b"", True)


if __name__ == "__main__":
    began = time.process_time()
    {"ours": _ours, "bare": _bare}[sys.argv[1]](Path(sys.argv[2]))
    seconds = time.process_time() - began
    print(json.dumps([seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))  # noqa: T201 - read by the parent
