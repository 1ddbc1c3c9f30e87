"""How inference engines say that a conversation exceeds their model's context: each in its own words, none with its own code."""

import re

STATUSES = frozenset({400, 413, 422})
WORDS = re.compile(
    r"context.?length|maximum context|max_model_len|too many tokens|(prompt|input) is too long|longer than the model", re.IGNORECASE
)


def says_too_long(status: int, text: str) -> bool:
    """Whether an answer with this HTTP status and text says so."""
    return status in STATUSES and WORDS.search(text) is not None
