"""Attribution for exported tasks, for anyone who copies the directory. Pure."""

from envfarm.core.task import Task


def readme(task: Task) -> str:
    """The text of a README: author, address, licence and changes. The agent does not see it."""
    named = task.attribution
    return f"# {task.name}\n\nMade from <{named.url}>, by {named.author or 'an unknown author'}.\n\n{named.licence}. {named.changes}\n"
