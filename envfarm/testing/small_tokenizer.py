"""A real tokenizer built on the spot: byte-level BPE trained on a few lines, with a chat template that calls tools like Qwen's.

Building takes some milliseconds and needs no network. Any text survives encoding and decoding.
"""

import json
from pathlib import Path

from envfarm.gateway.hugging_face import HuggingFaceTokenizer

SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
ADDED = ("<tool_call>", "</tool_call>", "<think>", "</think>")
"""Added tokens that are not special, as in Qwen's."""
VOCABULARY = 600
CORPUS = (
    "The quick brown fox jumps over the lazy dog while the test suite runs again and again.",
    "def add(a: int, b: int) -> int:\n    return a + b\n\n\ndef test_add() -> None:\n    assert add(1, 2) == 3\n",
    "You work in a sandbox. Call the tools, one call at a time, and finish when the work is done.",
    '{"name": "bash", "arguments": {"command": "ls -la && cat README.md"}}',
    "Größe, naïve façade, Ελληνικά, русский текст, 日本語のテキスト, 😀🚀",
    "user assistant system tool_response im_start im_end error failed passed file line not found",
)
TEMPLATE = """\
{%- if tools %}
    {{- '<|im_start|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- '# Tools\\n' }}
    {%- for tool in tools %}
        {{- tool | tojson + '\\n' }}
    {%- endfor %}
    {{- '<|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}
    {{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>assistant\\n' + message.content }}
        {%- for call in message.tool_calls or [] %}
            {{- '\\n<tool_call>\\n' + {'name': call.function.name, 'arguments': call.function.arguments} | tojson + '\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == 'tool' %}
        {%- if loop.first or loop.previtem.role not in ['tool', 'assistant'] %}
            {{- raise_exception('a tool answers, it does not speak first') }}
        {%- endif %}
        {%- if loop.previtem.role != 'tool' %}
            {{- '<|im_start|>user' }}
        {%- endif %}
        {{- '\\n<tool_response>\\n' + message.content + '\\n</tool_response>' }}
        {%- if loop.last or loop.nextitem.role != 'tool' %}
            {{- '<|im_end|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""


def tokenizer_json() -> str:
    """The text of its `tokenizer.json`, always the same for the same corpus."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, trainers  # noqa: PLC0415 - an extra

    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=list(SPECIAL), initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    made.train_from_iterator(CORPUS, trainer)
    made.add_tokens([AddedToken(text, special=False, normalized=False) for text in ADDED])
    return made.to_str()


def small_tokenizer(*, template: str = TEMPLATE) -> HuggingFaceTokenizer:
    """The tokenizer, with its own or another template."""
    return HuggingFaceTokenizer(tokenizer_json(), template, names={"eos_token": "<|im_end|>"})


def write_model(directory: Path) -> None:
    """A model's directory as engines and farms read it, with this tokenizer and template, and no weights."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "tokenizer.json").write_text(tokenizer_json())
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": TEMPLATE, "eos_token": "<|im_end|>"}))
