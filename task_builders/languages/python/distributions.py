"""Which distribution a module comes from. Pure."""

import re
import sys
from collections.abc import Collection

from task_builders.languages.python.known_packages import BY_IMPORT, GONE_FROM_STANDARD_LIBRARY


def distribution_of(module: str, own_modules: Collection[str]) -> str:
    """The distribution of a missing module: by the table, or by the module's own name.

    Empty for private modules and for those of the checkout, whose names must not be looked up in an index. A module of today's standard
    library that an older one lacks may come from a distribution (`dataclasses`).
    """
    top = module.partition(".")[0]
    if top in own_modules or top in GONE_FROM_STANDARD_LIBRARY or not re.fullmatch(r"[A-Za-z]\w*", top):
        return ""
    return BY_IMPORT.get(top) or top.lower().replace("_", "-")


def distributions_of(imports: Collection[str], own_modules: Collection[str]) -> list[str]:
    """The distributions of imported modules, each once, without the standard library's."""
    return sorted({found for i in imports if i not in sys.stdlib_module_names and (found := distribution_of(i, own_modules))})
