"""Invented data dumps of a question-and-answer site: small hand-written ones for tests, and large ones for the bench.

Rows have the form of the public dumps: one line each, fifteen attributes, HTML escaped for XML.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import quoteattr

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n'
ROWS_PER_QUESTION = 3
"""One question and two answers."""
WANTED_TAG = "awk"
_FILLER = (
    "&lt;p&gt;The third column isn't what &quot;sort -k3&quot; makes of it: &lt;code&gt;a &amp;amp;&amp;amp; b&lt;/code&gt;.&lt;/p&gt;&#xA;"
)


def row(attributes: Mapping[str, object]) -> str:
    """One row of any table."""
    return "  <row " + " ".join(f"{name}={quoteattr(str(value))}" for name, value in attributes.items()) + " />\n"


def question(number: int, accepted: int | None = None, **more: object) -> dict[str, object]:
    """A question's row; `more` adds or replaces attributes."""
    said: dict[str, object] = {"Id": number, "PostTypeId": 1}
    if accepted is not None:
        said["AcceptedAnswerId"] = accepted
    plain = {"CreationDate": "2019-03-01T10:00:00.000", "Score": 5, "Body": "<p>How?</p>", "Title": f"Question {number}", "Tags": "<awk>"}
    return said | plain | more


def answer(number: int, parent: int, **more: object) -> dict[str, object]:
    """An answer's row; see `question`."""
    plain = {"CreationDate": "2019-03-02T10:00:00.000", "Score": 3, "Body": f"<p>So: {number}</p>"}
    return {"Id": number, "PostTypeId": 2, "ParentId": parent} | plain | more


def table(rows: Sequence[Mapping[str, object] | str], name: str = "posts") -> str:
    """A whole file; rows that are text are written unchanged."""
    return HEAD + f"<{name}>\n" + "".join(each if isinstance(each, str) else row(each) for each in rows) + f"</{name}>\n"


def write_large(path: Path, rows: int, *, apart: int = 0, wanted_of: int = 50, paragraphs: int = 6) -> None:
    """Write a dump.

    Args:
        path: the file.
        rows: the number of rows.
        apart: about how many rows are between a question and its answers; 0 for as many as possible.
        wanted_of: one in so many questions has `WANTED_TAG`; on the largest site that would be a large share.
        paragraphs: the median number of 110-byte paragraphs of a body; it varies from one to twice as many.
    """
    bodies = ["&lt;p&gt;So&lt;/p&gt;&#xA;" + _FILLER * n for n in range(1, 2 * paragraphs)]
    with path.open("w", encoding="utf-8") as out:
        out.write(HEAD + "<posts>\n")
        out.writelines(_large(rows, apart or rows, wanted_of, bodies))
        out.write("</posts>\n")


def _large(rows: int, apart: int, wanted_of: int, bodies: list[str]) -> Iterator[str]:
    """Blocks of questions, each followed by the answers of its questions."""
    block = max(1, min(apart, rows) // ROWS_PER_QUESTION)
    number = 0
    while number < rows:
        first = number + 1
        for _ in range(min(block, rows - number)):
            number += 1
            tags = f"|{WANTED_TAG}|linux|" if (number - first) % wanted_of == 0 else "|java|spring|"
            yield (
                f'  <row Id="{number}" PostTypeId="1" AcceptedAnswerId="{number + block}" CreationDate="2014-05-06T07:08:09.123" '
                f'Score="{number % 90}" ViewCount="{number % 9999}" Body="{bodies[number % len(bodies)]}" OwnerUserId="{number % 77777}" '
                f'LastActivityDate="2015-01-02T03:04:05.678" Title="How do I do number {number}?" Tags="{tags}" '
                f'AnswerCount="2" CommentCount="1" ContentLicense="CC BY-SA 3.0" />\n'
            )
        for of in range((ROWS_PER_QUESTION - 1) * block):
            if number == rows:
                return
            number += 1
            yield (
                f'  <row Id="{number}" PostTypeId="2" ParentId="{first + of % block}" CreationDate="2014-05-07T07:08:09.123" '
                f'Score="{number % 30}" Body="{bodies[number % len(bodies)]}" OwnerUserId="{number % 77777}" '
                f'LastActivityDate="2015-01-02T03:04:05.678" CommentCount="0" ContentLicense="CC BY-SA 3.0" />\n'
            )
