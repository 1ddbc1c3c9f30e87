"""Programs that differ from an answer's in one number, comparison or word. Pure.

What of them prints the visible output and passes all cases is a measure of what the cases do not tell apart: equivalent programs, and wrong
ones. It is evidence, and refuses nothing: which are equivalent is not known.
"""

import re

from task_builders.questions.programs import Program

MOST = 24
SWAPPED = {
    ">": ">=",
    ">=": ">",
    "<": "<=",
    "<=": "<",
    "==": "!=",
    "!=": "==",
    "max": "min",
    "min": "max",
    "any": "all",
    "all": "any",
    "first": "last",
    "last": "first",
}
IN_PYTHON = {"&": "|", "|": "&", "and": "or", "or": "and"}
"""In a shell these join commands."""
PLACES = re.compile(r"(?<![\w.&])\d{1,9}(?![\w.>])|(?<![<>=!|&-])(?:[<>]=?|[=!]=)(?![<>=(&])|(?<![|&])[&|](?![|&])|\b[a-z]+\b")
COMMENT = re.compile(r"(?:^|\s)#.*")


def mutants(program: Program) -> dict[str, Program]:
    """Up to `MOST` programs, by what is changed. Comments stay."""
    swapped = SWAPPED | (IN_PYTHON if program.kind == "python" else {})
    comments = [match.span() for match in COMMENT.finditer(program.text)]
    found: dict[str, Program] = {}
    for match in PLACES.finditer(program.text):
        if any(start <= match.start() < end for start, end in comments):
            continue
        old, line = match[0], program.text.count("\n", 0, match.start()) + 1
        news = [str(int(old) + 1), str(int(old) - 1)] if old.isdigit() else [swapped[old]] if old in swapped else []
        for new in news:
            text = program.text[: match.start()] + new + program.text[match.end() :]
            found.setdefault(f"line {line}, column {match.start()}: {old} -> {new}", Program(program.kind, text))
    return dict(list(found.items())[:MOST])
