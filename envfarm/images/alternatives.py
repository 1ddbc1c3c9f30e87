"""Debian's alternatives: which of several packages a shared command's name means (`awk`: gawk or mawk). Called by `system_packages`.

On an installed system `update-alternatives` sets these links when a package is configured. Unpacked packages are never configured, so what
their postinst scripts would set is read from their text. Nothing of a script is run.
"""

import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

_CONTINUED = re.compile(r"\\\n\s*")
_SLAVE = r"\s+--slave\s+(\S+)\s+\S+\s+(\S+)"
_INSTALL = re.compile(rf"--install\s+(\S+)\s+\S+\s+(\S+)\s+(-?\d+)((?:{_SLAVE})*)")


class Alternative(NamedTuple):
    """A link that a package offers to set, and how strongly."""

    link: str
    """Absolute: `/usr/bin/awk`."""
    target: str
    priority: int


def offered(postinst: str) -> list[Alternative]:
    """What a postinst script offers, with the links that follow each; none of those that the script computes."""
    found: list[Alternative] = []
    for match in _INSTALL.finditer(_CONTINUED.sub(" ", postinst)):
        priority = int(match[3])
        pairs = [(match[1], match[2]), *re.findall(_SLAVE, match[4])]
        found += [Alternative(link, target, priority) for link, target in pairs if _is_plain(link) and _is_plain(target)]
    return found


def link_into(folder: Path, alternatives: Iterable[Alternative]) -> None:
    """Set below `folder`, where packages are unpacked, the strongest link of each name to a file that is there.

    Names that a package brings itself stay.
    """
    for each in sorted(alternatives, key=lambda a: -a.priority):
        link, target = folder / each.link.lstrip("/"), folder / each.target.lstrip("/")
        if os.path.lexists(target) and not os.path.lexists(link):
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(each.target)


def stronger(alternatives: Iterable[Alternative], present: Iterable[Alternative]) -> list[Alternative]:
    """Those that would take the place of what is set already."""
    strongest: dict[str, int] = {}
    for each in present:
        strongest[each.link] = max(each.priority, strongest.get(each.link, each.priority))
    return [each for each in alternatives if each.link not in strongest or each.priority > strongest[each.link]]


def _is_plain(path: str) -> bool:
    return bool(re.fullmatch(r"/[\w.+@/-]+", path)) and ".." not in path
