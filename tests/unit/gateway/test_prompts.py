"""What a request's prompt is made of: tokens that were sampled, tokens that the template adds, and what is told as drift."""

from envfarm.core.ids import EpisodeId
from envfarm.core.sampled import DriftSpan, Sampled
from envfarm.gateway import prompts
from envfarm.gateway.conversation import Asked, Message
from envfarm.gateway.forest import Completion, Forest
from envfarm.gateway.hugging_face import HuggingFaceTokenizer
from envfarm.gateway.tokenizer import decode
from envfarm.testing.engine_replies import Sampler, lines
from envfarm.testing.small_tokenizer import TEMPLATE, small_tokenizer

TOKENIZER = small_tokenizer()
SAMPLER = Sampler(TOKENIZER, lines(""), seed=3)
END = TOKENIZER.added_id("<|im_end|>")
HI, GO_ON = Message("user", "hi"), Message("user", "go on")


def sample(forest: Forest, asked: Asked, text: str, *, cut: bool = False, tokenizer: HuggingFaceTokenizer = TOKENIZER) -> list[int]:
    ids = SAMPLER.rough(text) + ([] if cut else [END])
    made = Completion(ids, [-1.0] * len(ids), "length" if cut else "stop", "e")
    forest.add(asked, prompts.build(forest, tokenizer, asked), made, Message("assistant", text), dialect="d")
    return ids


def test_a_further_prompt_is_what_was_sampled_and_the_new_words() -> None:
    forest = Forest()
    first = prompts.build(forest, TOKENIZER, Asked((HI,)))
    sampled = sample(forest, Asked((HI,)), "Größe 😀")
    second = prompts.build(forest, TOKENIZER, Asked((HI, Message("assistant", "Größe 😀"), GO_ON)))
    assert (second.parent, second.drift, second.length) == (0, None, len(first.added) + len(sampled) + len(second.added))
    assert second.added[0] != END
    assert decode(TOKENIZER, second.added) == "\nuser\ngo on\nassistant\n"


def test_a_turn_that_was_cut_is_closed_by_the_template() -> None:
    forest = Forest()
    sample(forest, Asked((HI,)), "Grö", cut=True)
    second = prompts.build(forest, TOKENIZER, Asked((HI, Message("assistant", "Grö"), GO_ON)))
    assert second.added[0] == END


def test_the_same_prompt_again_is_the_same_tokens() -> None:
    forest = Forest()
    asked = Asked((HI,))
    sample(forest, asked, "one")
    sample(forest, asked, "two")
    assert forest.prompt(1) is forest.prompt(0)
    assert len(Sampled(episode=EpisodeId("e"), calls=forest.calls()).branches) == 2


def test_an_altered_answer_is_drift_from_where_it_stands() -> None:
    forest = Forest()
    sample(forest, Asked((HI,)), "one")
    second = Asked((HI, Message("assistant", "one"), GO_ON))
    sample(forest, second, "two")
    prompt = prompts.build(forest, TOKENIZER, Asked((*second.messages, Message("assistant", "other"), HI)))
    assert prompt.parent == 0
    assert prompt.drift == DriftSpan(start=0, end=len(prompt.added), reason="changed", messages=1)
    assert "other" in decode(TOKENIZER, prompt.added)


def test_an_example_that_the_agent_brings_is_foreign() -> None:
    prompt = prompts.build(Forest(), TOKENIZER, Asked((HI, Message("assistant", "as an example"), GO_ON)))
    assert prompt.drift is not None
    assert (prompt.parent, prompt.drift.reason, prompt.drift.messages) == (None, "foreign", 1)


def test_a_summary_and_a_sub_agent_are_no_drift() -> None:
    forest = Forest()
    sample(forest, Asked((HI,)), "one")
    assert prompts.build(forest, TOKENIZER, Asked((Message("user", "In short: hi."),))).drift is None


def test_a_template_that_cannot_go_on_from_an_answer_makes_drift_and_no_guess() -> None:
    counting = small_tokenizer(template=TEMPLATE.replace("assistant\\n' + message.content", "assistant\\n' ~ message.content | length"))
    forest = Forest()
    sample(forest, Asked((HI,)), "one", tokenizer=counting)
    asked = Asked((HI, Message("assistant", "one"), GO_ON))
    prompt = prompts.build(forest, counting, asked)
    assert prompt.parent is None
    assert prompt.added.tolist() == counting.render(asked.messages, ())
    assert prompt.drift is not None
    assert prompt.drift.reason == "changed"
