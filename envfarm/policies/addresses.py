"""Where tenants' policies may be called, and which key goes along: the operator's word. Made by `envfarm.wiring_hosts`.

Nothing is listed that is not named, and no address gets another one's key: a tenant chooses among addresses, and may keep one of them.
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
    """A plain http(s) address."""

    scheme: str
    host: str
    port: int
    path: str
    """Without a slash at its end."""

    def holds(self, other: "Address") -> bool:
        """Whether the other one is the same server's, at the same path or below it."""
        return self[:3] == other[:3] and (other.path + "/").startswith(self.path + "/")


class PolicyAddresses:
    """The listed ones."""

    def __init__(self, urls: Iterable[str], keys: Mapping[str, str]) -> None:
        """`keys` by address. Raises `UsageError` for what is no plain address, and for a key of one that is not listed."""
        self._listed = [parse(url) for url in urls]
        self._keys = {parse(url): key for url, key in keys.items()}
        for url in keys:
            if not self.lists(url):
                raise UsageError(f"a key is named for {url}, which is not listed", hint="list it by ENVFARM_POLICY_URLS or --policy-url")

    def lists(self, url: str) -> bool:
        """Whether a policy may be called there."""
        return (address := _parsed_or_none(url)) is not None and any(listed.holds(address) for listed in self._listed)

    def key(self, url: str) -> str:
        """What is sent there: the key that is named for it or for the closest path above; empty where none is."""
        if (address := _parsed_or_none(url)) is None:
            return ""
        above = [known for known in self._keys if known.holds(address)]
        return self._keys[max(above, key=lambda known: len(known.path))] if above else ""


def read_keys(path: Path | None) -> dict[str, str]:
    """The file's keys by address: TOML, a line `"https://host/v1" = "key"` for each. Raises `UsageError`, which tells none of them."""
    if path is None:
        return {}
    hint = 'lines of TOML like "https://host/v1" = "key"; ENVFARM_POLICY_KEYS names the file'
    try:
        return _KEYS.validate_python(tomllib.loads(path.read_text(encoding="utf-8")), strict=True)
    except OSError as e:
        raise UsageError(f"the file of policies' keys {path}: {e.strerror or e}", hint=hint) from e
    except (ValueError, ValidationError):
        raise UsageError(f"the file of policies' keys {path} cannot be read", hint=hint) from None


def parse(url: str) -> Address:
    """An address in its parts. Raises `UsageError` for what is no plain http(s) address."""
    try:
        parts = urlsplit(url)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
    except (ValueError, KeyError) as e:
        raise UsageError(f"{url!r} is no http(s) address") from e
    odd = parts.username is not None or parts.password is not None or parts.query or parts.fragment
    path = parts.path.rstrip("/")
    if not parts.hostname or odd or "\\" in url or any(part in {".", ".."} for part in path.split("/")) or "%" in path:
        raise UsageError(f"{url!r} is no plain http(s) address")
    return Address(parts.scheme, parts.hostname, port, path)


def _parsed_or_none(url: str) -> Address | None:
    try:
        return parse(url)
    except UsageError:
        return None
