"""What a licence allows, as far as minting must know. Pure.

An expression counts as known only if every licence in it is in the table below. Must not detect licences: sources say which licence
applies.
"""

import re
from enum import StrEnum

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression


class Terms(StrEnum):
    """The consequences for someone who passes a task on."""

    PERMISSIVE = "permissive"
    COPYLEFT = "copyleft"
    UNKNOWN = "unknown"


_PERMISSIVE = frozenset(
    """
    0BSD AFL-3.0 Apache-2.0 Artistic-2.0 BSD-1-Clause BSD-2-Clause BSD-3-Clause BSD-3-Clause-Clear BSD-4-Clause BSL-1.0 BlueOak-1.0.0
    CC-BY-3.0 CC-BY-4.0 CC0-1.0 CNRI-Python FTL HPND HPND-sell-variant ICU ISC Libpng MIT MIT-0 MIT-CMU MS-PL MulanPSL-2.0 NCSA OFL-1.1
    OpenSSL PHP-3.01 PSF-2.0 PostgreSQL Python-2.0 Python-2.0.1 Ruby UPL-1.0 Unicode-3.0 Unlicense Vim W3C WTFPL X11 ZPL-2.1 Zlib
    """.split()  # noqa: SIM905 - a table for reading
)
_COPYLEFT = frozenset(
    """
    AGPL-3.0-only AGPL-3.0-or-later CC-BY-SA-2.5 CC-BY-SA-3.0 CC-BY-SA-4.0 CDDL-1.0 CDDL-1.1 EPL-1.0 EPL-2.0 EUPL-1.2 GPL-2.0-only
    GPL-2.0-or-later GPL-3.0-only GPL-3.0-or-later LGPL-2.0-only LGPL-2.0-or-later LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0-only
    LGPL-3.0-or-later MPL-1.1 MPL-2.0 MPL-2.0-no-copyleft-exception OSL-3.0
    """.split()  # noqa: SIM905 - see above
)


def terms(expression: str | None) -> Terms:
    """The terms of an SPDX expression: the best of a choice ("OR"), the strictest of a combination ("AND"); an exception ("WITH") only
    adds.
    """
    if not expression:
        return Terms.UNKNOWN
    try:
        canonical = str(canonicalize_license_expression(expression))
    except InvalidLicenseExpression:
        return Terms.UNKNOWN
    tokens = re.findall(r"[()]|[^\s()]+", canonical)
    found, rest = _choice(tokens)
    return found if not rest else Terms.UNKNOWN


_RANK = (Terms.PERMISSIVE, Terms.COPYLEFT, Terms.UNKNOWN)


def _choice(tokens: list[str]) -> tuple[Terms, list[str]]:
    found, rest = _sum(tokens)
    while rest[:1] == ["OR"]:
        other, rest = _sum(rest[1:])
        found = min(found, other, key=_RANK.index)
    return found, rest


def _sum(tokens: list[str]) -> tuple[Terms, list[str]]:
    found, rest = _one(tokens)
    while rest[:1] == ["AND"]:
        other, rest = _one(rest[1:])
        found = max(found, other, key=_RANK.index)
    return found, rest


def _one(tokens: list[str]) -> tuple[Terms, list[str]]:
    first, rest = tokens[0], tokens[1:]
    if first == "(":
        found, rest = _choice(rest)
        return found, rest[1:]
    if rest[:1] == ["WITH"]:
        rest = rest[2:]
    first = first.removesuffix("+")  # "or any later version" only adds rights, like an exception
    if first in _PERMISSIVE:
        return Terms.PERMISSIVE, rest
    return (Terms.COPYLEFT if first in _COPYLEFT else Terms.UNKNOWN), rest
