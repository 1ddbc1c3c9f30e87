import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from envfarm.core.errors import UsageError
from envfarm.gateway import hugging_face
from envfarm.gateway.conversation import Message, Tool, ToolCall
from envfarm.gateway.hugging_face import HuggingFaceTokenizer
from envfarm.gateway.tokenizer import TemplateRefused, TextStream, decode, last_words
from envfarm.testing.engine_replies import Sampler, lines
from envfarm.testing.small_tokenizer import SPECIAL, TEMPLATE, small_tokenizer, tokenizer_json

TOKENIZER = small_tokenizer()
SAMPLER = Sampler(TOKENIZER, lines(""))
START, END = TOKENIZER.added_id("<|im_start|>"), TOKENIZER.added_id("<|im_end|>")
HARD = st.lists(
    st.sampled_from([*SPECIAL, "<|im_", "end|>", "<tool_call>", "envfarm0x", "envfarm0x1x", "😀", "größe", "\n", "a"]), max_size=8
).map("".join)
TEXT = st.one_of(HARD, st.text(max_size=30))
LS = ToolCall("c1", "bash", '{"command": "ls"}')
quick = settings(max_examples=60)


@quick
@given(TEXT.filter(lambda t: not any(0xD800 <= ord(c) < 0xE000 for c in t)), st.lists(st.integers(1, 5), max_size=40))
def test_pieces_of_text_add_up_wherever_characters_are_split(text: str, sizes: list[int]) -> None:
    ids = SAMPLER.rough(text)
    stream, said, at = TextStream(TOKENIZER), "", 0
    for size in sizes:
        said += stream.feed(ids[at : at + size])
        at += size
    said += stream.feed(ids[at:]) + stream.end()
    assert said == text == decode(TOKENIZER, ids)


@given(st.lists(st.integers(0, TOKENIZER.vocabulary_size - 1), max_size=30))
def test_any_tokens_at_all_come_out_alike_one_by_one(ids: list[int]) -> None:
    stream = TextStream(TOKENIZER)
    assert "".join(stream.feed([i]) for i in ids) + stream.end() == decode(TOKENIZER, ids)


def test_a_character_comes_when_its_last_byte_is_there() -> None:
    ids = [i for b in "😀".encode() for i in range(TOKENIZER.vocabulary_size) if TOKENIZER.token_bytes(i) == bytes([b])]
    stream = TextStream(TOKENIZER)
    assert [stream.feed([i]) for i in ids] == ["", "", "", "😀"]
    assert stream.feed(ids[:2]) == ""
    assert stream.end() == "\N{REPLACEMENT CHARACTER}"


def test_an_id_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="no token 99999"):
        TextStream(TOKENIZER).feed([99999])


@quick
@given(TEXT, TEXT, TEXT)
def test_nobodys_words_become_special_tokens(system: str, seen: str, described: str) -> None:
    messages = [Message("system", system), Message("user", seen), Message("assistant", seen, (LS,)), Message("tool", seen, answers="c1")]
    ids = TOKENIZER.render(messages, [Tool("bash", described, {described: described})])
    assert [i for i in ids if i in (START, END, 0)] == [START, END] * 4 + [START]
    assert decode(TOKENIZER, ids).count(seen) >= 3


@quick
@given(TEXT, st.lists(TEXT, min_size=1, max_size=3), st.booleans())
def test_what_follows_an_answer_is_what_a_whole_rendering_says_there(user: str, seen: list[str], speaks: bool) -> None:  # noqa: FBT001
    calls = tuple(ToolCall(f"c{n}", "bash", "{}") for n in range(len(seen)))
    before = [Message("user", user), Message("assistant", "Well.", calls)]
    new = [Message("tool", text, answers=f"c{n}") for n, text in enumerate(seen)] + ([Message("user", user)] if speaks else [])
    whole = TOKENIZER.render([*before, *new], ())
    after = TOKENIZER.render_after_answer(before[1], new, None)
    assert whole[-len(after) :] == after
    assert after[0] == END
    assert TOKENIZER.render_after_answer(before[1], new, END) == after[1:]


EOS_AT_THE_END = TEMPLATE.replace("{%- if add_generation_prompt %}", "{%- if not add_generation_prompt %}{{- eos_token }}{%- else %}")
THINKS_LAST = TEMPLATE.replace("assistant\\n' + message", "assistant\\n' + ('<think></think>' if loop.last else '') + message")
TEXT_ARGUMENTS = TEMPLATE.replace("call.function.arguments}", "call.function.arguments + ''}")
MARKED = TEMPLATE.replace(
    "{{- '<|im_start|>assistant\\n' + message.content }}",
    "{%- generation %}{{- '<|im_start|>assistant\\n' + message.content }}{%- endgeneration %}",
)
NO_WORDS_WITH_CALLS = TEMPLATE.replace(
    "+ message.content }}\n        {%- for", "+ ('' if message.tool_calls else message.content) }}\n        {%- for"
)


@pytest.mark.parametrize("template", [EOS_AT_THE_END, THINKS_LAST, TEXT_ARGUMENTS, MARKED, NO_WORDS_WITH_CALLS])
def test_the_ways_of_real_templates_are_known(template: str) -> None:
    """Each is a habit of one that is in use (Phi, Qwen 3, DeepSeek, those for training, Llama 3.1)."""
    assert template != TEMPLATE
    tokenizer = small_tokenizer(template=template)
    user = Message("user", "hi")
    for before, new in [
        (Message("assistant", "Well."), [user]),
        (Message("assistant", "Well.", (LS,)), [Message("tool", "a", answers="c1")]),
    ]:
        if template is EOS_AT_THE_END and before.calls:
            continue
        whole, after = tokenizer.render([user, before, *new], ()), tokenizer.render_after_answer(before, new, None)
        assert whole[-len(after) :] == after


def test_a_template_may_say_which_tool_answers_and_end_calls_by_a_token_of_their_own() -> None:
    named = "'\\n<tool_response>\\n' + messages[loop.index0 - 1].tool_calls[0].function.name + message.content"
    template = TEMPLATE.replace("'\\n<tool_response>\\n' + message.content", named).replace(
        "{{- '<|im_end|>\\n' }}\n    {%- elif message.role == 'tool'",
        "{{- '<|endoftext|>' if message.tool_calls else '<|im_end|>\\n' }}\n    {%- elif message.role == 'tool'",
    )
    tokenizer = small_tokenizer(template=template)
    answer, new = Message("assistant", "Well.", (LS,)), [Message("tool", "<|im_end|>a", answers="c1")]
    over = tokenizer.added_id("<|endoftext|>")
    whole, after = tokenizer.render([Message("user", "hi"), answer, *new], ()), tokenizer.render_after_answer(answer, new, over)
    assert whole[-len(after) - 1 :] == [over, *after]
    assert "bash<|im_end|>a" in decode(tokenizer, after)
    assert tokenizer.render_after_answer(answer, new, None)[0] == END


def test_the_last_words_of_a_prompt_are_the_templates_own_as_far_as_they_are_text() -> None:
    def end_of(template: str, seen: str) -> str:
        tokenizer = small_tokenizer(template=template)
        return last_words(tokenizer, tokenizer.render([Message("user", seen)], ()))

    assert end_of(TEMPLATE, "<think>") == "assistant\n"
    assert end_of(TEMPLATE.replace("assistant\\n' }}", "assistant\\n<think>\\n' }}"), "hi") == "assistant\n<think>\n"
    assert end_of(TEMPLATE.replace("{{- '<|im_start|>assistant\\n' }}", "{{- eos_token }}"), "<think>") == ""
    assert end_of("{{ messages[0].content }}", "word 😀 " * 99).endswith(" word 😀 ")


def test_a_template_that_has_no_words_for_it_says_so() -> None:
    with pytest.raises(TemplateRefused, match="does not speak first"):
        TOKENIZER.render([Message("tool", "a", answers="x")], ())
    with pytest.raises(TemplateRefused):
        small_tokenizer(template="{{ messages[0].content }}").render_after_answer(Message("assistant"), [Message("user", "a")], None)


def test_a_template_cannot_reach_out() -> None:
    with pytest.raises(UsageError, match="unsafe"):
        small_tokenizer(template="{{ messages.__class__.__mro__ }}")


def test_what_cannot_be_served_is_refused_with_words() -> None:
    described = json.loads(tokenizer_json())
    with pytest.raises(UsageError, match="byte-level"):
        HuggingFaceTokenizer(json.dumps({**described, "decoder": {"type": "WordPiece"}}), TEMPLATE)
    with pytest.raises(UsageError, match="no Jinja template"):
        small_tokenizer(template="{% if %}")
    for template in ("{{ raise_exception('images only') }}", "{{ strftime_now('%Y') }}", "{{ range(10 ** 9) }}"):
        with pytest.raises(UsageError, match="cannot say a user's words"):
            small_tokenizer(template=template)


def test_a_models_directory_is_read(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text(tokenizer_json())
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE, "eos_token": {"content": "<|im_end|>"}}))
    asked = [Message("user", "hi")]
    assert hugging_face.load(tmp_path).render(asked, ()) == TOKENIZER.render(asked, ())
    (tmp_path / "chat_template.jinja").write_text("{{ eos_token }}{{ bos_token }}")
    assert hugging_face.load(tmp_path).render(asked, ()) == [END]
    with pytest.raises(UsageError, match="holds no tokenizer"):
        hugging_face.load(tmp_path / "nowhere")
