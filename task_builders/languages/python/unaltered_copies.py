"""Copies of whole test modules in which only names are changed. Pure.

They detect forgers that recognize tests by name: such a forger does not recognize a copy, so that the copy shows the code's real result. A
forger that recognizes a copy by its text is not detected by them (docs/grading.md).
"""

from collections.abc import Iterator, Mapping, Sequence
from random import Random

from envfarm.core.plan import Canary
from task_builders.languages.python.canary_set import CanarySet
from task_builders.languages.python.copies import TOKEN, Copy, destination_of, drawn_words, expected_in, module, new_name
from task_builders.languages.python.source_edits import Source

IDS_MAX = 4000
"""Maximum number of expected tests that are copied, module by module in random order: a plan has an entry for each."""


def of(files: Mapping[str, bytes], passing: Mapping[str, Sequence[str]], file_words: Iterator[str], chance: Random) -> CanarySet:
    """A copy of each module with expected tests (`passing`: ids by path), with only these tests. Modules that cannot be parsed are left
    out.
    """
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
