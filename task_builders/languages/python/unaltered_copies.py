"""Copies of whole test modules in which only names are changed. Pure.

They detect forgers that recognize tests by name: such a forger does not recognize a copy, so that the copy shows the code's real result. A
forger that recognizes a copy by its text is not detected by them (docs/grading.md).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from random import Random

from envfarm.core.plan import Canary
from envfarm.core.why import counted
from task_builders.languages.canary_set import CanarySet
from task_builders.languages.python.copies import TOKEN, Copy, destination_of, drawn_words, expected_in, module, new_name
from task_builders.languages.python.source_edits import Source

IDS_MAX = 4000
"""Maximum number of expected tests that are copied, module by module in random order: a plan has an entry for each."""
TOLD_MAX = 5


def of(
    files: Mapping[str, bytes], passing: Mapping[str, Sequence[str]], wanted: Collection[str], file_words: Iterator[str], chance: Random
) -> CanarySet:
    """A copy of each module with expected tests (`passing`: ids by path), with only these tests. Modules that cannot be parsed are left
    out. A note tells of tests whose functions are not found, those in `wanted` first.
    """
    names = sorted(name for name in passing if name in files and name.endswith(".py"))
    chance.shuffle(names)
    canaries: list[Canary] = []
    unknown: list[str] = []
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
        tests = [(one, new_name(one.name, next(own))) for one in expected_in(source, passing[name])]
        found = {test for one, _ in tests for test in one.cases}
        unknown += [test for test in passing[name] if test not in found]
        if not tests:
            continue
        templates[template] = module(source, [(one.node, [Copy(copy)]) for one, copy in tests])
        for one, copy in tests:
            canaries += [
                Canary("renamed", template, destination, case.id(destination, copy), test, unaltered=True, copy=one.copy_of(copy))
                for test, case in one.cases.items()
            ]
    return CanarySet(tuple(canaries), templates, _told(sorted(unknown, key=lambda test: test not in wanted)))


def _told(unknown: Sequence[str]) -> tuple[str, ...]:
    """A note on tests whose functions were not found."""
    if not unknown:
        return ()
    named = ", ".join(unknown[:TOLD_MAX]) + (", …" if len(unknown) > TOLD_MAX else "")
    return (f"no function of the module is found for {counted(len(unknown), 'expected test')}, hence no copy: {named}",)
