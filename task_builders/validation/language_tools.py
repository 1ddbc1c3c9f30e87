"""What the gates need of a language beyond its profile: its tests' needs, canaries, variants of a fix. One entry per language."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from envfarm.core.plan import Canary
from task_builders.languages.python import canaries as python_canaries
from task_builders.languages.python import copies
from task_builders.languages.python import mutants as python_variants
from task_builders.languages.python import needs as python_needs
from task_builders.languages.python.canaries import Draft
from task_builders.languages.python.file_of_tests import libraries_in
from task_builders.languages.python.rule_bits import rule_bits
from task_builders.languages.variant import Variant
from task_builders.languages.vocabulary import Need

DraftCanaries = Callable[[Mapping[str, bytes], Collection[str], Collection[str], Collection[str], Mapping[str, str], str], Draft]
MakeVariants = Callable[[Mapping[str, bytes], Mapping[str, bytes], str, int], tuple[Variant, ...]]
FindNeeds = Callable[[Mapping[str, bytes], Sequence[str], Mapping[str, str], Callable[[str], bool]], dict[str, frozenset[Need]]]


@dataclass(frozen=True)
class LanguageTools:
    """One language's part of the gates."""

    needs: FindNeeds
    """(sealed files, FAIL_TO_PASS ids, base tree, is it a test file) → needs by test."""
    bound_names: Callable[[str, str], Collection[str]]
    """(path, text) → the names that a file of the tree binds."""
    libraries: Callable[[Mapping[str, bytes], Mapping[str, str]], frozenset[str]]
    """(sealed files, base tree) → the modules that they import."""
    draft_canaries: DraftCanaries
    """(sealed files, FAIL_TO_PASS, PASS_TO_PASS, tests that fail with the fix, base tree, seed) → canaries to try."""
    only_copies: Callable[[bytes, Collection[str]], bytes]
    """(template, names) → the template without its other copies."""
    rule_bits: Callable[[Sequence[Canary], Mapping[str, bytes], Collection[str]], float]
    """(canaries, templates, FAIL_TO_PASS) → how many bits a forger's rule that is fixed beforehand has to get right."""

    mutants: MakeVariants
    """(the fix's files before, and after it, seed, limit) → wrong solutions."""
    equivalents: MakeVariants
    """The same → right solutions, written otherwise."""


def of_language(name: str) -> LanguageTools | None:
    """The tools of a language, or None if there are none yet; its tasks' reports then say that these gates did not run."""
    return {"python": PYTHON}.get(name)


def _python_needs(
    sealed: Mapping[str, bytes], ids: Sequence[str], base: Mapping[str, str], is_test: Callable[[str], bool]
) -> dict[str, frozenset[Need]]:
    project = frozenset(_module_names(base, lambda path: not is_test(path)))
    tests = frozenset(_module_names({**base, **dict.fromkeys(sealed, "")}, is_test))
    found: dict[str, frozenset[Need]] = {}
    for path, data in sealed.items():
        of_file = [test for test in ids if test.partition("::")[0] == path]
        if of_file and path.endswith(".py"):
            try:
                found |= python_needs.needs(data.decode(errors="replace"), of_file, project_modules=project, test_modules=tests - project)
            except (SyntaxError, ValueError):
                # A file that this Python cannot parse yields no needs: its tests pass the gate unread.
                found |= dict.fromkeys(of_file, frozenset())
    return found | {test: frozenset[Need]() for test in ids if test not in found}


def _module_names(tree: Mapping[str, str], wanted: Callable[[str], bool]) -> set[str]:
    """Names by which a tree's files can be imported: directories of packages, and modules."""
    names: set[str] = set()
    for path in tree:
        parts = PurePosixPath(path)
        if parts.suffix == ".py" and wanted(path):
            names.add(parts.parent.name if parts.stem == "__init__" else parts.stem)
            names.update(part for part in parts.parts[:-1] if part not in {"src", "lib"})
    return names - {""}


def _python_libraries(sealed: Mapping[str, bytes], base: Mapping[str, str]) -> frozenset[str]:
    texts = {**base, **{path: data.decode(errors="replace") for path, data in sealed.items()}}
    return libraries_in(text for path, text in texts.items() if path.endswith(".py"))


def _draft_python_canaries(
    sealed: Mapping[str, bytes],
    fail_to_pass: Collection[str],
    pass_to_pass: Collection[str],
    failing: Collection[str],
    base: Mapping[str, str],
    seed: str,
) -> Draft:
    return python_canaries.draft(sealed, fail_to_pass, pass_to_pass, failing=failing, base=base, seed=seed)


PYTHON = LanguageTools(
    needs=_python_needs,
    bound_names=python_needs.bound_names,
    libraries=_python_libraries,
    draft_canaries=_draft_python_canaries,
    only_copies=copies.only,
    rule_bits=rule_bits,
    mutants=python_variants.mutants,
    equivalents=python_variants.equivalents,
)
