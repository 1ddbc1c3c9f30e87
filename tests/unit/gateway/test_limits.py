import pytest
from hypothesis import given
from hypothesis import strategies as st

from envfarm.core.episode import derived_seed
from envfarm.core.errors import ContextExhausted, PolicyError
from envfarm.core.program import Allowance
from envfarm.gateway.conversation import Wishes
from envfarm.gateway.engines.engine import Finished, Order, Sampling, Tokens, Watch
from envfarm.gateway.limits import GatewayOptions, Pace, sampling
from envfarm.testing.small_tokenizer import small_tokenizer

TOKENIZER = small_tokenizer()
WISHES = st.builds(
    Wishes,
    st.none() | st.integers(1, 10**6),
    st.none() | st.floats(0, 1e6),
    st.none() | st.floats(0, 1e6),
)


@given(WISHES, st.integers(0, 999))
def test_no_wish_leads_out_of_the_limits(wishes: Wishes, prompt: int) -> None:
    allowance = Allowance(calls=9, context_tokens=1000, completion_tokens=100, temperature=0.9)
    how = sampling(allowance, wishes, prompt_tokens=prompt, call=3)
    assert 1 <= how.max_tokens <= min(100, 1000 - prompt, wishes.max_tokens or 100)
    assert (how.temperature, how.top_p) == (0.9, 1.0)


def test_a_prompt_without_room_is_told() -> None:
    allowance = Allowance(calls=9, context_tokens=10, completion_tokens=5, seed=40)
    with pytest.raises(ContextExhausted, match="has 10 tokens, and the model's context is 10"):
        sampling(allowance, Wishes(), prompt_tokens=10, call=0)
    assert sampling(allowance, Wishes(), prompt_tokens=9, call=2) == Sampling(1, seed=derived_seed(40, 2))


def watch() -> Watch:
    return Watch(TOKENIZER, Order("r", [1], Sampling(3)))


A, B = TOKENIZER.encode_text("a")[0], TOKENIZER.encode_text("b")[0]


@pytest.mark.parametrize(
    ("tokens", "words"),
    [
        (Tokens((A,), ()), "1 ids and 0 logprobs"),
        (Tokens((A,) * 4, (-1.0,) * 4), "more than the 3 tokens"),
        (Tokens((-1,), (-1.0,)), "no token of this model"),
        (Tokens((TOKENIZER.vocabulary_size,), (-1.0,)), "no token of this model"),
        (Tokens((A,), (float("nan"),)), "nan as a logprob"),
        (Tokens((A,), (float("-inf"),)), "-inf as a logprob"),
        (Tokens((A,), (0.5,)), r"0\.5 as a logprob"),
    ],
)
def test_what_cannot_have_been_sampled_is_not_believed(tokens: Tokens, words: str) -> None:
    with pytest.raises(PolicyError, match=words):
        watch().tokens(tokens)


def test_an_engines_text_must_be_that_of_its_ids() -> None:
    one = watch()
    assert one.tokens(Tokens((A, B), (-1.0, -2.0))) == "ab"
    with pytest.raises(PolicyError, match="not what its ids decode to"):
        one.finished(Finished("stop", "abc"))
    assert one.finished(Finished("stop", "ab")) == ""
    assert (one.ids, one.logprobs) == ([A, B], [-1.0, -2.0])


def test_a_text_that_was_cut_at_a_stop_agrees() -> None:
    one = Watch(TOKENIZER, Order("r", [1], Sampling(9, stop=("b",))))
    one.tokens(Tokens((A, B), (-1.0, -2.0)))
    one.finished(Finished("stop", "a"))
    assert (one.ids, one.logprobs) == ([A, B], [-1.0, -2.0])


def test_nothing_at_all_is_no_completion() -> None:
    with pytest.raises(PolicyError, match="sampled nothing"):
        watch().finished(Finished("length", ""))


def test_requests_are_taken_at_their_pace_with_a_burst_behind_a_pause() -> None:
    pace = Pace(GatewayOptions(requests_per_s=10, requests_burst=3))
    assert [pace.turn(100.0) for _ in range(3)] == [0.0] * 3
    waits = [pace.turn(100.0) for _ in range(12)]
    assert waits[:10] == pytest.approx([n / 10 for n in range(1, 11)])
    assert waits[10:] == [None, None]  # they cost those behind them nothing
    assert pace.turn(100.5) == pytest.approx(0.6)
    assert [pace.turn(900.0) for _ in range(3)] == [0.0] * 3
