"""HTML to prose and blocks, valid and broken."""

import pytest

from task_builders.questions.blocks import Block, Piece, Prose, pieces


@pytest.mark.parametrize(
    ("html", "expected"),
    [
        ("", []),
        ("<p>One <code>a.txt</code> and <b>two</b>.</p>", [Prose("One `a.txt` and two.", ("a.txt",))]),
        ("<pre><code>a &lt; b\n  c\n</code></pre>", [Block("a < b\n  c\n")]),
        ("<pre>\n\n x\n\n</pre>", [Block(" x\n")]),
        ("<pre><code>\n \n</code></pre>", []),
        ('<pre class="lang-bash s-code-block"><code class="hljs">ls\n</code></pre>', [Block("ls\n", "bash")]),
        ('<pre><code class="lang-py">x\n</code></pre>', [Block("x\n", "py")]),
        ("<blockquote><p>he said</p><pre>x\n</pre></blockquote>", [Prose("he said"), Block("x\n", quoted=True)]),
        ("<ul><li>one<pre>x\n</pre>two</li><li>three</li></ul>", [Prose("one"), Block("x\n"), Prose("two"), Prose("three")]),
        ("<p>one<br>two", [Prose("one two")]),
        ("<h2>One <code>x</code></h2><p><b>Two</b></p>", [Prose("One `x`", ("x",), heading=True), Prose("Two", heading=True)]),
        ("<p>open <b>and <pre><code>never closed", [Prose("open and"), Block("never closed\n")]),
        ('<li><a href="u">One <b>x</b></a>, <a>2</a></li><a>y</a>', [Prose("One x, 2"), Prose("y", link=True)]),
        ("<script>alert(1)</script><p>x</p>", [Prose("x")]),
        ("no markup & an <odd thing", [Prose("no markup & an")]),
        ("<pre>a\r\nb\rc\xa0d</pre>", [Block("a\nb\nc d\n")]),
    ],
)
def test_a_post_in_pieces(html: str, expected: list[Piece]) -> None:
    assert list(pieces(html)) == expected


def test_deep_nesting_is_read() -> None:
    assert pieces("<div>" * 300 + "x") == (Prose("x"),)


@pytest.mark.parametrize("tag", ["div", "b", "blockquote", "span", "code", "pre"])
def test_nesting_of_any_depth_is_read(tag: str) -> None:
    found = pieces(f"<{tag}>" * 5_000 + "x" + f"</{tag}>" * 5_000 + "<p>y</p>")
    assert found[-1] == Prose("y")
    assert [piece.text.strip("`\n") for piece in found[:-1]] == ["x"]
