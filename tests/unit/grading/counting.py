"""Work is counted, not timed: by the lines that a module runs, and by the calls of a function."""

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import CodeType, FrameType, ModuleType
from typing import Any


def lines_run(module: ModuleType, asked: Callable[[], object]) -> int:
    """How many lines of a module something takes."""
    count = 0

    def trace(frame: FrameType, event: str, _: object) -> Any:
        nonlocal count
        count += event == "line"
        return trace if frame.f_code.co_filename == module.__file__ else None

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        asked()
    finally:
        sys.settrace(before)
    return count


@contextmanager
def calls(of: CodeType) -> Iterator[list[threading.Thread]]:
    """The threads in which the code of a function is called, once for each call: of this one, and of those that begin now."""
    threads: list[threading.Thread] = []

    def profile(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code is of:
            threads.append(threading.current_thread())

    sys.setprofile(profile)
    threading.setprofile(profile)
    try:
        yield threads
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
