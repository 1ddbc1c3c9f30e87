from hypothesis import given
from hypothesis import strategies as st

from envfarm.episodes.truncation import cut


@given(st.text(max_size=600), st.integers(0, 300))
def test_a_cut_text_fits_and_keeps_both_ends(text: str, limit: int) -> None:
    shown, lost = cut(text, limit)
    assert len(shown) <= limit
    assert lost == (len(text) > limit)
    if not lost:
        assert shown == text
    elif "left out ...]" in shown and "left out" not in text:
        assert shown[0] == text[0]
        assert shown[-1] == text[-1]


def test_the_marker_says_how_much_is_lost() -> None:
    text = "head\n" + "x\n" * 1000 + "tail"
    shown, _ = cut(text, 100)
    head, _, rest = shown.partition("\n[... ")
    count, _, rest = rest.partition(" characters in ")
    lines, _, rest = rest.partition(" lines left out ...]\n")
    assert head.startswith("head")
    assert rest.endswith("tail")
    assert len(head) + len(rest) + int(count) == len(text)
    assert int(lines) == text[len(head) : len(text) - len(rest)].count("\n")


def test_a_limit_without_room_for_the_marker_keeps_the_head() -> None:
    assert cut("abcdefgh" * 20, 5) == ("abcde", True)
    assert cut("abc", 0) == ("", True)
