"""The two clients' methods are one source: `methods.py` is `async_methods.py` without `async`.

`python -m tests.architecture.test_client_twins` writes it.
"""

import re
from pathlib import Path

CLIENT = Path(__file__).parents[2] / "envfarm" / "client"
REPLACED = (
    (r"\basync def\b", "def"),
    (r"\bawait ", ""),
    (r"for item in found\.items:\n +yield item.*\n", "yield from found.items\n"),
    (r"\bAsyncIterator\b", "Iterator"),
    (r"\bAsyncMethods\b", "Methods"),
    (
        r"asynchronous client, over one that makes a call\. `methods\.py` is this file without `async`\.",
        "synchronous client, over one that makes a call.",
    ),
    (r"Change it here, then `(.*)` writes the other one\.", r"Written from `async_methods.py` by `\1`: never changed by hand."),
)


def without_async(text: str) -> str:
    for pattern, by in REPLACED:
        text = re.sub(pattern, by, text)
    return text


def test_the_synchronous_methods_are_the_asynchronous_ones() -> None:
    written = (CLIENT / "methods.py").read_text()
    assert written == without_async((CLIENT / "async_methods.py").read_text())


if __name__ == "__main__":
    (CLIENT / "methods.py").write_text(without_async((CLIENT / "async_methods.py").read_text()))
