"""The sufficiency gate: can the tests' needs be met from the instruction and the base tree? Pure.

A test that needs a name, option or message found in neither would make the agent guess, and is left out of the plan. Missing names are
first looked for in the issue's discussion, never in the fix. A task without remaining tests is rejected. Whether the behaviour is described
well enough is not judged here: names alone cannot show that.
"""

import re
from collections.abc import Collection, Mapping, Sequence

from envfarm.core.candidate import Gate
from envfarm.core.frozen import Frozen
from envfarm.core.validation import GateResult
from envfarm.core.why import counted
from task_builders.languages import vocabulary
from task_builders.languages.vocabulary import Need, NeedKind, Vocabulary, phrase_known

REASON = "the tests need names that are neither in the instruction nor in the base tree"
NAMED_MAX = 20
THREAD_HEADING = "From the discussion:"


class Sufficiency(Frozen):
    """Which tests an instruction suffices for."""

    enough: tuple[str, ...]
    unmet: dict[str, tuple[str, ...]]
    """Test id → its unmet needs, as text."""

    @property
    def left_out(self) -> dict[str, str]:
        """Why each test with unmet needs is left out."""
        return {
            test: f"needs {', '.join(what[:3])}, which are in neither the instruction nor the base tree"
            for test, what in self.unmet.items()
        }

    @property
    def gate(self) -> GateResult:
        """The gate's verdict while tests can still be left out."""
        unmet = dict(list(self.unmet.items())[:NAMED_MAX])
        if not self.enough:
            named = ", ".join(dict.fromkeys(word for words in self.unmet.values() for word in words[:2]))[:300]
            return GateResult(
                gate=Gate.SUFFICIENCY,
                passed=False,
                detail=f"neither the instruction nor the base tree contains {named}",
                evidence={"unmet": unmet},
            )
        left_out = f", {len(self.unmet)} are left out" if self.unmet else ""
        detail = f"the instruction suffices for {counted(len(self.enough), 'test')}{left_out}"
        return GateResult(gate=Gate.SUFFICIENCY, passed=True, detail=detail, evidence={"unmet": unmet})

    @property
    def gate_of_all(self) -> GateResult:
        """The verdict on a finished plan, from which nothing can be left out: no test may have unmet needs."""
        if not self.unmet:
            return self.gate
        detail = f"the instruction does not suffice for {len(self.unmet)} of {len(self.unmet) + len(self.enough)} tests"
        return GateResult(gate=Gate.SUFFICIENCY, passed=False, detail=detail, evidence=self.gate.evidence)


Name = tuple[NeedKind, str]
"""An attribute or keyword, as a library may bind it."""


def unmet(needs: Collection[Need], known: Vocabulary, known_elsewhere: Collection[Name] = ()) -> tuple[Need, ...]:
    """Needs that nothing meets. `known_elsewhere` are names that the standard library or a third party binds."""
    return tuple(sorted(need for need in needs if not _is_met(need, known, known_elsewhere)))


def judge(
    needs_by_test: Mapping[str, Collection[Need]], *, base: Vocabulary, instruction: str, known_elsewhere: Collection[Name] = ()
) -> Sufficiency:
    """Compare each test's needs with what the agent can read."""
    known = base | vocabulary.of_text(instruction)
    missing = {test: unmet(needs, known, known_elsewhere) for test, needs in needs_by_test.items()}
    return Sufficiency(
        enough=tuple(test for test, needs in missing.items() if not needs),
        unmet={test: tuple(_as_text(need) for need in needs) for test, needs in missing.items() if needs},
    )


def questionable_names(needs_by_test: Mapping[str, Collection[Need]], *, base: Vocabulary, instruction: str) -> frozenset[Name]:
    """Unmet names that are worth searching in the environment's libraries, i.e. not used of the project itself."""
    known = base | vocabulary.of_text(instruction)
    every = {need for needs in needs_by_test.values() for need in unmet(needs, known)}
    return frozenset((need.kind, need.text) for need in every if need.kind in {"attribute", "keyword"} and not need.of_project)


def complete(instruction: str, thread: Sequence[str], missing: Collection[Need]) -> str:
    """Append those paragraphs of the thread that mention something missing. Returns the instruction unchanged if none does."""
    wanted = {need.text for need in missing}
    found = [p.strip() for remark in thread for p in re.split(r"\n\s*\n", remark) if _mentions(p, wanted) and p.strip() not in instruction]
    if not found:
        return instruction
    return instruction.rstrip() + f"\n\n{THREAD_HEADING}\n\n" + "\n\n".join(dict.fromkeys(found)) + "\n"


def _mentions(paragraph: str, wanted: Collection[str]) -> bool:
    words = vocabulary.of_text(paragraph)
    return any(w in words.names or w in words.options or (" " in w and phrase_known(w.split(), words.prose)) for w in wanted)


def _is_met(need: Need, known: Vocabulary, elsewhere: Collection[Name]) -> bool:
    if need.kind == "message":
        return phrase_known(need.text.split(), known.prose)
    if need.kind == "option":
        return need.text in known.options
    if need.of_project:
        return need.text in known.bound
    return need.text in known.names or (need.kind, need.text) in elsewhere


def _as_text(need: Need) -> str:
    if need.kind == "message":
        return f"the message “{need.text}”"
    return f"the {need.kind} `{need.text}`"
