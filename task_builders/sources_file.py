"""Reads the TOML file in which a person says what to mint from. Called by the builder's commands.

Whatever is wrong is told with the line, the key and what to do about it, all of it at once. Must not open what the file names.
"""

import difflib
import json
import re
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from envfarm.core.errors import UsageError
from task_builders.sources.clone import is_address
from task_builders.sources.source_models import (
    COMMIT_CHOICES,
    GithubSource,
    GitSource,
    ListedCommits,
    NewestCommits,
    RangeOfCommits,
    ReleasesSource,
    SampledCommits,
    Source,
    SourcesFile,
    StackexchangeApiSource,
    StackexchangeDumpSource,
)

EXAMPLE = '[[source]]\nkind = "git"\nrepository = "path or address"\ncommits = { newest = 15 }'
_TABLES: dict[str, type[Any]] = {
    "git": GitSource,
    "github": GithubSource,
    "releases": ReleasesSource,
    "stackexchange_dump": StackexchangeDumpSource,
    "stackexchange_api": StackexchangeApiSource,
}
_CHOICES = {"newest": NewestCommits, "sample": SampledCommits, "list": ListedCommits, "range": RangeOfCommits}

Location = tuple[int | str, ...]


def read(path: Path) -> tuple[Source, ...]:
    """The sources of a file, in its order, with its relative paths made absolute.

    Raises:
        UsageError: the file cannot be read or says what makes no sense; each complaint names its line and key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise UsageError(f"`{path}` cannot be read: {e.strerror}", hint="name a TOML file of sources") from e
    except UnicodeDecodeError as e:
        raise UsageError(f"`{path}` is not UTF-8: {e}", hint="name a TOML file of sources") from e
    return parse(text, str(path), path.parent.absolute())


def parse(text: str, file: str, directory: Path) -> tuple[Source, ...]:
    """The sources of a text.

    Args:
        text: TOML.
        file: how the text is called in complaints.
        directory: what relative paths are relative to.

    Raises:
        UsageError: see `read`.
    """
    try:
        said = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise UsageError(_syntax_complaint(file, str(e)), hint="the file is TOML; strings need quotes") from e
    if not said.get("source"):
        extra = [k for k in said if k != "source"]
        meant = f"`{extra[0]}` is not known here; " if extra else ""
        raise UsageError(f"{file}: {meant}there is no [[source]] in it", hint=f"write, for example:\n{EXAMPLE}")
    try:
        sources = SourcesFile.model_validate(said).sources
    except ValidationError as e:
        # Several models complain of one mistake now and then: one complaint for each place is enough.
        complaints = {_complaint(file, text, said, error): None for error in e.errors()}
        raise UsageError("\n".join(complaints)) from e
    return tuple(_absolute(s, directory) for s in sources)


def _absolute(source: Source, directory: Path) -> Source:
    if isinstance(source, StackexchangeDumpSource):
        return source.model_copy(update={"path": str(directory / Path(source.path).expanduser())})
    if not isinstance(source, GitSource):
        return source
    changed: dict[str, str] = {}
    if not is_address(source.repository):
        changed["repository"] = str(directory / Path(source.repository).expanduser())
    if source.issues:
        changed["issues"] = str(directory / Path(source.issues).expanduser())
    return source.model_copy(update=changed)


def _syntax_complaint(file: str, said: str) -> str:
    at = re.search(r"\(at line (\d+), column (\d+)\)", said)
    return f"{file}:{at.group(1)}: {said[: at.start()].strip()}" if at else f"{file}: {said}"


def _complaint(file: str, text: str, said: dict[str, Any], error: Any) -> str:
    location = _in_file(said, error["loc"])
    line = _line_of(text, location)
    return f"{file}:{line}: {_key(location)}: {_wording(said, location, error)}"


def _in_file(said: Any, location: Sequence[int | str]) -> Location:
    """The location without what only the models know (the names of alternatives)."""
    kept: list[int | str] = []
    at: Any = said
    for n, part in enumerate(location):
        last = n == len(location) - 1
        if (isinstance(at, dict) and part in at) or (isinstance(at, list) and isinstance(part, int)):
            key: Any = part
            at = at[key]
            kept.append(part)
        elif last and isinstance(at, dict) and not str(part).startswith("<") and part not in _TABLES:
            kept.append(part)
    return tuple(kept)


def _key(location: Location) -> str:
    """`source[2].commits`: tables are counted from 1, as a person counts them; the members of a list as well."""
    key = ""
    for part in location:
        key += f"[{part + 1}]" if isinstance(part, int) else f".{part}" if key else part
    return key


def _wording(said: dict[str, Any], location: Location, error: Any) -> str:
    kind = error["type"]
    if kind == "union_tag_not_found" and location[-1] == "commits":
        return f"say one of {_listed(COMMIT_CHOICES)}, such as {{ newest = 15 }}"
    if kind == "union_tag_invalid":
        given = str(error["input"].get("kind"))
        return f"`kind` is {given!r}: {_meant(given, _TABLES)}it is one of {_listed(_TABLES)}"
    if kind == "string_pattern_mismatch":
        return f"{error['input']!r} is not {_SHAPES.get(str(location[-1]), 'of the right shape')}"
    wordings: dict[str, Callable[[], str]] = {
        "extra_forbidden": lambda: _unknown(said, location),
        "missing": lambda: "is missing",
        "union_tag_not_found": lambda: f"`kind` is missing: it is one of {_listed(_TABLES)}",
        "tuple_type": lambda: _no_list(location, error["input"]),
        "value_error": lambda: str(error["ctx"]["error"]),
    }
    plain = f"{error['msg'][:1].lower()}{error['msg'][1:]}, and not {error['input']!r}"
    return wordings.get(kind, lambda: plain)()


def _no_list(location: Location, given: Any) -> str:
    """One thing where a list is due."""
    if location == ("source",):
        return "each source is a table of its own: write `[[source]]` above its keys"
    example = f": write `[{json.dumps(given, ensure_ascii=False)}]`" if isinstance(given, str) else ""
    return f"is a list{example}"


_SHAPES = {
    "repository": "`owner/name`",
    "base_url": "an http(s) address",
    "package": "a package's name",
    "range": "a range `A..B`",
    "site": "a site's name, such as `stackoverflow.com`",
}


def _unknown(said: dict[str, Any], location: Location) -> str:
    table: Any = said
    for part in location[:-1]:
        table = table[part]
    key = str(location[-1])
    if len(location) == 1:
        known: list[str] = ["source"]
    elif location[-2] == "commits":
        chosen = next(c for c in COMMIT_CHOICES if c in table)
        if key in COMMIT_CHOICES:
            return f"`{chosen}` and `{key}` exclude each other"
        known = _keys(_CHOICES[chosen])
    else:
        known = _keys(_TABLES[table["kind"]])
    return f"is not known: {_meant(key, known)}known are {_listed(known)}"


def _keys(model: type[Any]) -> list[str]:
    return [field.alias or name for name, field in model.model_fields.items()]


def _listed(names: Any) -> str:
    return ", ".join(f"`{n}`" for n in names)


def _meant(said: str, known: Any) -> str:
    near = difflib.get_close_matches(said, list(known), n=1, cutoff=0.6)
    return f"did you mean `{near[0]}`? " if near else ""


def _line_of(text: str, location: Location) -> int:
    """The line of the key, or of the nearest table that is in the file. TOML's parser tells no lines, so they are looked for."""
    lines = text.splitlines()
    if not location or not isinstance(location[0], str):
        return 1
    start, end = 0, len(lines)
    headers = [n for n, line in enumerate(lines) if re.match(r"\s*\[\[\s*source\s*\]\]", line)]
    if location[0] == "source" and len(location) > 1 and isinstance(location[1], int) and location[1] < len(headers):
        start = headers[location[1]]
        end = headers[location[1] + 1] if location[1] + 1 < len(headers) else len(lines)
        keys = [k for k in location[2:] if isinstance(k, str)]
    else:
        keys = [k for k in location if isinstance(k, str)]
    at = start
    for key in keys:
        pattern = re.compile(rf"""(?:^|[\[{{,.\s])["']?{re.escape(key)}["']?\s*(?:=|\.|\])""")
        at = next((n for n in range(at, end) if pattern.search(lines[n].split("#", 1)[0])), at)
    return at + 1
