"""Attribution for exported tasks, for anyone who copies the directory. Pure."""

import re

from envfarm.core.task import Task

_ID = re.compile(r"[^\s()]+")
_OPERATORS = frozenset({"AND", "OR", "WITH"})
_CREATIVE_COMMONS = re.compile(r"CC-(?P<terms>BY(?:-[A-Z]+)*)-(?P<version>\d\.\d)")


def readme(task: Task) -> str:
    """The text of a README: author, address, licences and changes. The agent does not see it."""
    named = task.attribution
    deeds = "".join(f"- {licence}: <{address}>\n" for licence, address in addresses(named.licence).items())
    made = f"Made from <{named.url}>. By: {named.author or 'an unknown author'}."
    return f"# {task.name}\n\n{made}\n\nLicence: {named.licence}. {named.changes}\n\n{deeds}"


def addresses(expression: str) -> dict[str, str]:
    """The licences and exceptions of an SPDX expression, each with the address of its deed or text. Those of nobody's list have none."""
    ids = dict.fromkeys(word for word in _ID.findall(expression) if word not in _OPERATORS and not word.startswith("LicenseRef-"))
    return {name: _address(name.removesuffix("+")) for name in ids}


def _address(name: str) -> str:
    if deed := _CREATIVE_COMMONS.fullmatch(name):
        return f"https://creativecommons.org/licenses/{deed['terms'].lower()}/{deed['version']}/"
    return "https://creativecommons.org/publicdomain/zero/1.0/" if name == "CC0-1.0" else f"https://spdx.org/licenses/{name}.html"
