"""Content digests. Used wherever a thing is named by what it contains."""

import hashlib
import json
from collections.abc import Collection
from typing import Any

from pydantic import BaseModel

from envfarm.core.ids import Digest


def of_bytes(data: bytes) -> Digest:
    """The digest of a byte string."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def of_json(value: Any) -> Digest:
    """The digest of a JSON value in canonical form (sorted keys, no spaces, UTF-8)."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    # Patches carry bytes that are no UTF-8 as lone surrogates; text without them encodes as ever.
    return of_bytes(text.encode(errors="surrogatepass"))


def of_noun(noun: BaseModel, *, without: Collection[str] = ()) -> Digest:
    """The digest of a noun's fields, save those that have their default: a field that is added later changes no identity."""
    return of_json(noun.model_dump(mode="json", exclude=set(without), exclude_defaults=True))
