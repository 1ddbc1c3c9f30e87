"""Whose work an exported task is made of, for whoever copies its directory. Pure; called by every exporter."""

from envfarm.core.task import Task


def readme(task: Task) -> str:
    """The text of a README: author, address, licence and changes. The agent does not see it."""
    named = task.attribution
    return (
        f"# {task.name}\n\nMade from <{named.url}>, by {named.author or 'an author who is not told'}.\n\n{named.licence}. {named.changes}\n"
    )
