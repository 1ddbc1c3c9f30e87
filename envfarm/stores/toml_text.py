"""TOML text for what the farm writes: tables of strings, numbers, booleans and lists of strings.

Used by `task_dir`; pure. The standard library reads TOML and does not write it.
"""

import json
import re
from collections.abc import Mapping

BARE = re.compile(r"[A-Za-z0-9_-]+")


def dump(table: Mapping[str, object], prefix: str = "") -> str:
    """The table's text: its own values first, then its tables under dotted headings, in the given order.

    Raises `TypeError` for a value that is none of the above.
    """
    lines = [f"{_key(key)} = {_value(value)}" for key, value in table.items() if not isinstance(value, Mapping) and not _is_tables(value)]
    parts = ["\n".join(lines) + "\n"] if lines else []
    for key, value in table.items():
        name = f"{prefix}.{_key(key)}" if prefix else _key(key)
        if isinstance(value, Mapping):
            own = [v for v in value.values() if not isinstance(v, Mapping)]
            parts.append((f"[{name}]\n" if own or not value else "") + dump(value, name))
        elif _is_tables(value):
            parts += [f"[[{name}]]\n{dump(item, name)}" for item in _tables(value)]
    return "\n".join(parts)


def _is_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(item, Mapping) for item in value)


def _tables(value: object) -> list[Mapping[str, object]]:
    return [item for item in value if isinstance(item, Mapping)] if isinstance(value, list | tuple) else []


def _key(key: str) -> str:
    return key if BARE.fullmatch(key) else _text(key)


def _value(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, list | tuple) and all(isinstance(item, str) for item in value):
        return "[" + ", ".join(_text(item) for item in value) + "]"
    raise TypeError(f"{type(value).__name__} has no place in this project's TOML")


def _text(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
