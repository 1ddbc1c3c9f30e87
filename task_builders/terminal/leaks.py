"""What must not be found anywhere in the agent's box, for a terminal task. Pure."""

from envfarm.core.task import Task
from task_builders.validation.leak import COMMONPLACE, MAX_LINES, MIN_LINE_CHARS


def lines(task: Task) -> tuple[str, ...]:
    """Lines of the reference program and of hidden outputs, if long enough to be distinctive."""
    shown = {case.folder for case in task.plan.cases if case.visible}
    given = "\n".join(data.decode() for path, data in task.tests.items() if path.split("/")[1] in shown) + task.instruction
    sealed = [task.solution["program"].decode()]
    sealed += [task.tests[f"cases/{case.folder}/expected"].decode() for case in task.plan.cases if not case.visible]
    found = (line.strip() for text in sealed for line in text.splitlines())
    own = (line for line in found if len(line) >= MIN_LINE_CHARS and line.isprintable() and not COMMONPLACE.match(line))
    return tuple(dict.fromkeys(line for line in own if line not in given))[:MAX_LINES]
