"""Reading Python from several threads."""

import gc
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from task_builders.languages.python.syntax import tree_of, value_of

TEXT = "\n".join(f"def f{n}(a, b={{1: [2, (3, a)]}}): return [g(x)[a:b] for x in (a, b) if x > {n}]" for n in range(60))
LITERAL = repr([{n: [(n, [str(n), (n,)])]} for n in range(200)])


@pytest.mark.parametrize(("read", "text"), [(tree_of, TEXT), (value_of, LITERAL)])
def test_threads_that_are_let_in_by_a_collection_spoil_no_tree(read: Callable[[str], object], text: str) -> None:
    def let_others_in(_phase: str, _info: dict[str, int]) -> None:
        time.sleep(0)

    thresholds = gc.get_threshold()
    gc.callbacks.append(let_others_in)
    gc.set_threshold(20)
    try:
        with ThreadPoolExecutor(4) as threads:
            results = list(threads.map(read, [text] * 12))
    finally:
        gc.set_threshold(*thresholds)
        gc.callbacks.remove(let_others_in)
    assert len(results) == 12
