"""The addresses at which tenants' policies may be called, and the API key for each, as set by the operator.

Only listed addresses are allowed, and no address gets another one's key: a tenant chooses among the addresses, and may run one of them.
"""

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from pydantic import TypeAdapter, ValidationError

from envfarm.core.errors import UsageError

_KEYS: TypeAdapter[dict[str, str]] = TypeAdapter(dict[str, str])


class Address(NamedTuple):
    """An http(s) address without credentials, query or fragment."""

    scheme: str
    host: str
    port: int
    path: str
    """Without a trailing slash."""

    def holds(self, other: "Address") -> bool:
        """Whether the other address is on the same server, at this path or below it."""
        return self[:3] == other[:3] and (other.path + "/").startswith(self.path + "/")


class PolicyAddresses:
    """The allowed addresses."""

    def __init__(self, urls: Iterable[str], keys: Mapping[str, str]) -> None:
        """`keys` are by address. Raises `UsageError` for an invalid address, and for a key whose address is not listed."""
        self._listed = [parse(url) for url in urls]
        self._keys = {parse(url): key for url, key in keys.items()}
        for url in keys:
            if not self.lists(url):
                raise UsageError(f"there is a key for {url}, which is not listed", hint="list it with ENVFARM_POLICY_URLS or --policy-url")

    def lists(self, url: str) -> bool:
        """Whether policies may be called at this address."""
        return (address := _parsed_or_none(url)) is not None and any(listed.holds(address) for listed in self._listed)

    def key(self, url: str) -> str:
        """The key for this address or the closest listed path above it; empty if there is none."""
        if (address := _parsed_or_none(url)) is None:
            return ""
        above = [known for known in self._keys if known.holds(address)]
        return self._keys[max(above, key=lambda known: len(known.path))] if above else ""


def read_keys(path: Path | None) -> dict[str, str]:
    """Read keys by address from TOML lines `"https://host/v1" = "key"`. Raises `UsageError`, whose message contains no key."""
    if path is None:
        return {}
    hint = 'it must have TOML lines like "https://host/v1" = "key"; ENVFARM_POLICY_KEYS names the file'
    try:
        return _KEYS.validate_python(tomllib.loads(path.read_text(encoding="utf-8")), strict=True)
    except OSError as e:
        raise UsageError(f"policy keys file {path}: {e.strerror or e}", hint=hint) from e
    except (ValueError, ValidationError):
        raise UsageError(f"policy keys file {path}: not valid TOML of addresses and keys", hint=hint) from None


def parse(url: str) -> Address:
    """Parse an address. Raises `UsageError` for an invalid one."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError) as e:
        raise UsageError(f"{url!r} is not an http(s) address") from e
    odd = parts.username is not None or parts.password is not None or parts.query or parts.fragment
    path = parts.path.rstrip("/")
    if not parts.hostname or odd or "\\" in url or any(part in {".", ".."} for part in path.split("/")) or "%" in path:
        raise UsageError(f"{url!r} is not a plain http(s) address (no user, query, fragment, `..` or `%`)")
    return Address(parts.scheme, parts.hostname, port, path)


def _parsed_or_none(url: str) -> Address | None:
    try:
        return parse(url)
    except UsageError:
        return None
