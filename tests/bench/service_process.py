"""The measured service: `python -m tests.bench.service_process WORDS OF envfarm serve`.

Started by `service.py` alone. For each line of its standard input it prints a JSON object with what it has used by then.
"""

import json
import os
import resource
import sys
import threading
from itertools import count
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from envfarm.cli.serve import serve

STATEMENTS = count()


def main() -> None:
    """Serve, and answer."""
    event.listen(Engine, "before_cursor_execute", _one_more)
    threading.Thread(target=_answer, daemon=True).start()
    serve.main(args=sys.argv[1:])


def _one_more(*_: Any) -> None:
    next(STATEMENTS)


def _answer() -> None:
    for _ in sys.stdin:
        used = resource.getrusage(resource.RUSAGE_SELF)
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        told = {
            "statements": int(repr(STATEMENTS)[len("count(") : -1]),
            "cpu_s": used.ru_utime + used.ru_stime,
            "resident_mib": pages * os.sysconf("SC_PAGE_SIZE") / 2**20,
        }
        sys.stdout.write(json.dumps(told) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
