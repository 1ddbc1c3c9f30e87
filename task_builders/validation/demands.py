"""What a task's sealed tests demand, and what of it is known beside the instruction. Called when a task is minted and when it is validated
again; `sufficiency` judges.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from envfarm.core.task import Task
from task_builders.validation import sufficiency, vocabulary
from task_builders.validation.bench import Bench
from task_builders.validation.language_tools import LanguageTools
from task_builders.validation.library_names import bound_by_libraries
from task_builders.validation.needs_python import Need
from task_builders.validation.sufficiency import Name, Sufficiency
from task_builders.validation.vocabulary import Vocabulary

SEALED = "files/"


@dataclass(frozen=True)
class Demands:
    """The needs of each test, and where else than in the instruction they may be met."""

    needs: Mapping[str, frozenset[Need]]
    base: Vocabulary
    libraries: frozenset[Name]

    def judge(self, instruction: str) -> Sufficiency:
        """Which tests this instruction is enough for."""
        return sufficiency.judge(self.needs, base=self.base, instruction=instruction, known_elsewhere=self.libraries)

    def missing(self, instruction: str) -> frozenset[Need]:
        """What nobody tells."""
        known = self.base | vocabulary.of_text(instruction)
        return frozenset(need for found in self.needs.values() for need in sufficiency.unmet(found, known, self.libraries))


async def demands_of(
    task: Task, bench: Bench, tools: LanguageTools, *, tests: Sequence[str], base: Mapping[str, str], is_test: Callable[[str], bool]
) -> Demands:
    """Read the sealed files of a task, and ask its box for what libraries bind. Raises what boxes raise.

    Args:
        task: with its sealed files and its instruction.
        bench: its boxes.
        tools: of its language.
        tests: ids of the tests that are asked for.
        base: the texts of the tree that the agent sees.
        is_test: whether a path is a test's.
    """
    sealed = {path.removeprefix(SEALED): data for path, data in task.tests.items() if path.startswith(SEALED)}
    needs = tools.needs(sealed, tests, base, is_test)
    known = vocabulary.of_tree(base)
    doubtful = sufficiency.questionable_names(needs, base=known, instruction=task.instruction)
    if not doubtful:
        return Demands(needs, known, frozenset())
    async with bench.agent_box(task) as box:
        return Demands(needs, known, await bound_by_libraries(box, doubtful, tools.libraries(sealed, base), task.plan))
