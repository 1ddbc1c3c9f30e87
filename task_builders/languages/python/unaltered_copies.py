"""Copies of whole test modules in which nothing but names is changed. Pure; used by `canaries`.

They find who answers for tests by their names: of a copy such a one does not know that it is one, so that it says what the code is worth.
Who knows a copy by its text is not found by them (docs/grading.md).
"""

from collections.abc import Iterator, Mapping, Sequence
from random import Random

from envfarm.core.plan import Canary
from task_builders.languages.python.canary_set import CanarySet
from task_builders.languages.python.copies import TOKEN, Copy, destination_of, drawn_words, expected_in, module, new_name
from task_builders.languages.python.source_edits import Source

IDS_MAX = 4000
"""Of expected tests that are copied, module by module in a drawn order: a plan has a row for each."""


def of(files: Mapping[str, bytes], passing: Mapping[str, Sequence[str]], file_words: Iterator[str], chance: Random) -> CanarySet:
    """A copy of each module that holds expected tests (`passing`: ids by path), with these tests alone. What cannot be read is left out."""
    names = sorted(name for name in passing if name in files and name.endswith(".py"))
    chance.shuffle(names)
    canaries: list[Canary] = []
    templates: dict[str, bytes] = {}
    for number, name in enumerate(names):
        if len(canaries) + len(passing[name]) > IDS_MAX:
            continue
        try:
            source = Source(files[name])
        except (SyntaxError, ValueError):
            continue
        if TOKEN.encode() in source.data:
            continue
        template, destination, own = f"whole-{number}.py", destination_of(name, next(file_words)), drawn_words(chance)
        tests = [(one, new_name(one.node.name, next(own))) for one in expected_in(source, passing[name])]
        templates[template] = module(source, [(one.node, [Copy(copy)]) for one, copy in tests])
        for one, copy in tests:
            stem = "::".join([destination, *one.classes, copy])
            parts = [(test, test[test.index("[") :] if "[" in test else "") for test in one.ids]
            canaries += [Canary("renamed", template, destination, stem + part, test, unaltered=True) for test, part in parts]
    return CanarySet(tuple(canaries), templates)
