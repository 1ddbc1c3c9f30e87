"""Small made-up questions and answers, in the form of a site's data."""

from html import escape

from envfarm.core.question import Answer, Credit, Question


def pre(text: str) -> str:
    return f"<pre><code>{escape(text, quote=False)}</code></pre>\n"


def question(body: str, *answers: str, title: str = "How?", tags: tuple[str, ...] = ("awk",)) -> Question:
    """The first answer is the accepted one."""
    where = Credit(url="https://example.org/q/1", licence="CC-BY-SA-4.0")
    given = tuple(
        Answer(id=n, body=text, accepted=n == 10, credit=Credit(url=f"https://example.org/a/{n}", licence="CC-BY-SA-4.0"))
        for n, text in enumerate(answers, 10)
    )
    return Question(id=1, name="example.org", title=title, body=body, tags=tags, credit=where, answers=given)


TABLE = "b 2\na 1\n"
SORTED = "a 1\nb 2\n"
ASKED = f"<p>I have a file <code>x.txt</code>:</p>{pre(TABLE)}<p>The expected output is:</p>{pre(SORTED)}"
