"""The licence of a tree, as an SPDX expression: from the text of its LICENSE files and from its metadata. Pure.

Called by the sources. Only texts known well are named: an unknown or altered text gives None, and a task of it is refused later. Must
not judge whether a licence is good enough; `task_builders.candidates.licence` does.
"""

import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

ReadFile = Callable[[str], str | None]
"""A file's text by its path in the tree; None where there is none."""

LICENCE_FILE = re.compile(r"^(?:licen[cs]es?|copying|unlicense|copyright)(?:[.-][\w.+-]+)?$", re.IGNORECASE)

_HEADED = (  # by what stands in the first lines: the long texts name one another further down
    (r"gnu affero general public license version 3", "AGPL-3.0-only"),
    (r"gnu lesser general public license version 3", "LGPL-3.0-only"),
    (r"gnu lesser general public license version 2\.1", "LGPL-2.1-only"),
    (r"gnu library general public license version 2", "LGPL-2.0-only"),
    (r"gnu general public license version 3", "GPL-3.0-only"),
    (r"gnu general public license version 2", "GPL-2.0-only"),
    (r"mozilla public license,? version 2\.0", "MPL-2.0"),
    (r"eclipse public license - v 2\.0", "EPL-2.0"),
    (r"eclipse public license - v 1\.0", "EPL-1.0"),
    (r"european union public licence v\. ?1\.2", "EUPL-1.2"),
    (r"the artistic license 2\.0", "Artistic-2.0"),
    (r"boost software license - version 1\.0", "BSL-1.0"),
    (r"cc0 1\.0 universal", "CC0-1.0"),
    (r"apache license version 2\.0,? january 2004", "Apache-2.0"),
)
_HEAD_CHARACTERS = 400
_APACHE_NOTICE = "licensed under the apache license, version 2.0"
_PSF = "python software foundation license version 2"
_MPL_NOTICE = re.compile(r"subject to the terms of the mozilla public license, v\. 2\.0")
_RESTRICTED = re.compile(r"commons clause|server side public license|business source license|elastic license")
_NOT_FOR_TRADE = re.compile(r"\bnon-?commercial\b")  # the GNU licences use the word for something else
_NAMES = (  # free-text names in metadata, whole value, punctuation aside
    (r"(the )?(expat|mit)( license)?( \(?expat\)?)?", "MIT"),
    (r"(the )?apache( software)?( license)?,? ?(version |v)?2(\.0)?( license)?", "Apache-2.0"),
    (r"((the )?(new|modified|revised) bsd|bsd[- ]?3[- ]clause|3[- ]clause bsd)( license)?", "BSD-3-Clause"),
    (r"((the )?simplified bsd|bsd[- ]?2[- ]clause|2[- ]clause bsd)( license)?", "BSD-2-Clause"),
    (r"(the )?isc( license)?", "ISC"),
    (r"(mozilla public license|mpl) ?(version |v)?2(\.0)?", "MPL-2.0"),
    (r"(the )?unlicense", "Unlicense"),
    (r"(python software foundation license|psf)", "PSF-2.0"),
)
_CLASSIFIERS = {
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "zlib/libpng License": "Zlib",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
}


def of_tree(root_files: Iterable[str], read: ReadFile) -> str | None:
    """The licence of a tree, or None where it is not known for certain.

    Metadata that is a whole SPDX expression speaks first, since only it can say "or"; then the texts; then names in metadata.
    """
    names = list(root_files)
    stated = _stated(names, read)
    if stated and expression(stated):
        return expression(stated)
    texts = [read(n) or "" for n in sorted(names) if LICENCE_FILE.match(n)]
    if any(_RESTRICTED.search(_plain(t)) for t in texts):
        return None
    found = list(dict.fromkeys(spdx for t in texts if (spdx := of_text(t))))
    if len(found) == 1:
        return found[0]
    if found:
        # LICENSE-MIT beside LICENSE-APACHE is how a choice is offered. Which of the two it is matters for copyleft alone.
        return " OR ".join(found)
    return of_name(stated) if stated else None


def of_text(text: str) -> str | None:
    """The SPDX identifier of a licence's text, or None."""
    plain = _plain(text)
    if not plain or _RESTRICTED.search(plain):
        return None
    head = plain[:_HEAD_CHARACTERS]
    headed = [(found.start(), spdx) for pattern, spdx in _HEADED if (found := re.search(pattern, head))]
    if headed:
        return min(headed)[1]
    if _NOT_FOR_TRADE.search(plain):
        return None
    return " AND ".join(_short_texts(plain)) or None


def expression(text: str) -> str | None:
    """The text as a canonical SPDX expression, or None where it is none."""
    try:
        return str(canonicalize_license_expression(text.strip()))
    except InvalidLicenseExpression:
        return None


def of_name(name: str) -> str | None:
    """The SPDX identifier of a name that people write ("MIT License"); None for "BSD" and others that leave it open."""
    if found := expression(name):
        return found
    plain = re.sub(r"\s+", " ", name.strip().casefold())
    return next((spdx for pattern, spdx in _NAMES if re.fullmatch(pattern, plain)), None)


def of_classifiers(classifiers: Iterable[str]) -> str | None:
    """The licence of trove classifiers, if they name exactly one that is definite ("BSD License" is not)."""
    found = {_CLASSIFIERS.get(c.rsplit(" :: ", 1)[-1]) for c in classifiers if c.startswith("License :: ") and c.count(" :: ") > 1}
    return found.pop() if len(found) == 1 else None


def _plain(text: str) -> str:
    return re.sub(r"[\s*#=>]+", " ", text.casefold().replace("“", '"').replace("”", '"')).strip()


def _short_texts(plain: str) -> Iterator[str]:
    """Each short licence whose words stand in the text: all of them hold, since nothing here can say that they are a choice."""
    if "permission is hereby granted, free of charge, to any person obtaining a copy" in plain and "without restriction" in plain:
        yield "MIT" if re.search(r"this permission notice (\([^)]*\) )?shall be included", plain) else "MIT-0"
    if re.search(r"permission to use, copy, modify,? and/?(or)? ?distribute this software for any purpose with or without fee", plain):
        yield "ISC" if "provided that the above copyright notice" in plain else "0BSD"
    if re.search(r"redistribution and use (of the software )?in source and binary forms", plain):
        if "all advertising materials mentioning" in plain:
            yield "BSD-4-Clause"
        else:
            yield "BSD-3-Clause" if re.search(r"endorse or promote products", plain) else "BSD-2-Clause"
    if "free and unencumbered software released into the public domain" in plain:
        yield "Unlicense"
    if "altered source versions must be plainly marked" in plain:
        yield "Zlib"
    if _PSF in plain:
        yield "PSF-2.0"
    if _APACHE_NOTICE in plain:
        yield "Apache-2.0"
    if _MPL_NOTICE.search(plain):
        yield "MPL-2.0"


def _stated(names: list[str], read: ReadFile) -> str:
    """What the first metadata file that says anything says."""
    for name, parse in _METADATA.items():
        text = read(name) if name in names else None
        stated = parse(text) if text else ""
        if stated:
            return stated
    return ""


def _of_pyproject(text: str) -> str:
    project = _toml(text).get("project") or _toml(text).get("tool", {}).get("poetry") or {}
    said = project.get("license")
    if isinstance(said, Mapping):
        body = str(said.get("text") or "")
        said = of_text(body) or (body if "\n" not in body else "")
    return str(said or of_classifiers(project.get("classifiers") or ()) or "")


def _of_cargo(text: str) -> str:
    said = _toml(text).get("package", {}).get("license", "")
    return said.replace("/", " OR ") if isinstance(said, str) else ""


def _of_json(text: str) -> str:
    try:
        said = json.loads(text).get("license", "")
    except (ValueError, AttributeError):
        return ""
    return " OR ".join(said) if isinstance(said, list) else said if isinstance(said, str) else ""


def _of_setup_cfg(text: str) -> str:
    found = re.search(r"^license\s*=\s*(\S.*)$", text, re.MULTILINE)
    return found.group(1).strip() if found else ""


def _of_setup_py(text: str) -> str:
    found = re.search(r"""\blicense\s*=\s*["']([^"'\n]+)["']""", text)
    return found.group(1).strip() if found else ""


def _toml(text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError:
        return {}


_METADATA: Mapping[str, Callable[[str], str]] = {
    "pyproject.toml": _of_pyproject,
    "setup.cfg": _of_setup_cfg,
    "setup.py": _of_setup_py,
    "package.json": _of_json,
    "Cargo.toml": _of_cargo,
    "composer.json": _of_json,
}
