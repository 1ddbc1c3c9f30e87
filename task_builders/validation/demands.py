"""What a task's sealed tests require an agent to know, and which of it the base tree or libraries provide. `sufficiency` judges."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from envfarm.core.task import Task
from task_builders.languages import vocabulary
from task_builders.languages.vocabulary import Need, Vocabulary
from task_builders.validation import sufficiency
from task_builders.validation.bench import Bench
from task_builders.validation.language_tools import LanguageTools
from task_builders.validation.library_names import bound_by_libraries
from task_builders.validation.sufficiency import Name, Sufficiency

SEALED = "files/"


@dataclass(frozen=True)
class Demands:
    """The needs of each test, and where besides the instruction they may be met."""

    needs: Mapping[str, frozenset[Need]]
    base: Vocabulary
    libraries: frozenset[Name]

    def judge(self, instruction: str) -> Sufficiency:
        """Which tests this instruction suffices for."""
        return sufficiency.judge(self.needs, base=self.base, instruction=instruction, known_elsewhere=self.libraries)

    def missing(self, instruction: str) -> frozenset[Need]:
        """Needs that are met nowhere."""
        known = self.base | vocabulary.of_text(instruction)
        return frozenset(need for found in self.needs.values() for need in sufficiency.unmet(found, known, self.libraries))


async def demands_of(
    task: Task, bench: Bench, tools: LanguageTools, *, tests: Sequence[str], base: Mapping[str, str], is_test: Callable[[str], bool]
) -> Demands:
    """Read a task's sealed files, and search its box for names that libraries bind. Raises what boxes raise.

    Args:
        task: with its sealed files and its instruction.
        bench: where to create the box.
        tools: those of the task's language.
        tests: ids of the tests whose needs are wanted.
        base: the text files of the tree that the agent sees.
        is_test: whether a path is a test file.
    """
    sealed = {path.removeprefix(SEALED): data for path, data in task.tests.items() if path.startswith(SEALED)}
    needs = tools.needs(sealed, tests, base, is_test)
    known = vocabulary.of_tree(base, tools.bound_names)
    doubtful = sufficiency.questionable_names(needs, base=known, instruction=task.instruction)
    if not doubtful:
        return Demands(needs, known, frozenset())
    async with bench.agent_box(task) as box:
        return Demands(needs, known, await bound_by_libraries(box, doubtful, tools.libraries(sealed, base), task.plan))
