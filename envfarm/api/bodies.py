r"""Request bodies hold what can be kept: JSON proper, in text proper. The class of every route that reads one; and long answers.

Long ones are read and validated one after the other, and beside the event loop, as far as Python lets it go on meanwhile.

Python's own reader takes `NaN`, `Infinity`, numbers that no double holds, and halves of characters (`"\ud800"`), and so do fields of any
kind; a record of them could not be written, or not be read again.
"""

import asyncio
import json
import re
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from pydantic import TypeAdapter, ValidationError
from starlette.exceptions import HTTPException

from envfarm.core.json_parts import parts

MOST_COMMAS = 2 << 20
"""As many as 4 MiB of token ids have."""
MOST_BRACKETS = 250_000
MOST_FAULTS = 100
"""That are told, each with its place: to tell them takes longer than to find them."""
APART_BYTES = 64 << 10
_apart = ThreadPoolExecutor(1, "bodies")
SUSPICIOUS = re.compile(r"\\u[dD][89a-fA-F]|[eE]\+?\d{3}")
LONG = b"0" * 200
AS_ZEROS = bytes.maketrans(b"123456789", b"000000000")
"""One of these two is in every half character and every number beyond a double: only such bodies are looked at again. (A search for digits
by an expression takes longer than all else that is done with a body of many numbers.)"""
PIECE = 256 << 10


class PlainJson(APIRoute):
    """A route whose body is refused (422) where it holds what JSON or Unicode cannot say."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """See `APIRoute`."""
        handle = super().get_route_handler()
        body = self.body_field
        kind: Any = Annotated[body.field_info.annotation, body.field_info] if body else Any
        adapter: TypeAdapter[Any] = TypeAdapter(kind)

        async def asked(request: Request) -> Response:
            return await handle(_PlainRequest(request, adapter))

        return asked


class _PlainRequest(Request):
    def __init__(self, request: Request, kind: TypeAdapter[Any]) -> None:
        super().__init__(request.scope, request.receive)
        self._kind = kind

    async def json(self) -> Any:
        body = await self.body()
        if len(body) <= APART_BYTES:
            return read(body)
        return await asyncio.get_running_loop().run_in_executor(_apart, self._read, body)

    def _read(self, body: bytes) -> Any:
        """The value, as what the route takes where it is one. The framework, which validates it again, then has nothing to do."""
        value = read(body)
        try:
            return self._kind.validate_python(value)
        except ValidationError as e:
            if (faults := e.error_count()) > MOST_FAULTS:
                raise _refusal(f"{faults} values of the body are not what they have to be, or have names that are not known") from e
            return value


def read(body: bytes) -> Any:
    """A body's value. Raises `JSONDecodeError`, and `HTTPException` for what is not to be kept, or has too many parts."""
    commas, brackets = parts(body)
    if commas > MOST_COMMAS or brackets > MOST_BRACKETS:
        told = f"a body may have {MOST_COMMAS} commas and {MOST_BRACKETS} brackets"
        raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, told)
    try:
        text = body.decode(json.detect_encoding(body))
        value = json.loads(text, parse_constant=_refuse)
        if SUSPICIOUS.search(text) or LONG in text.encode().translate(AS_ZEROS):
            json.dumps(value, ensure_ascii=False, allow_nan=False).encode()
    except json.JSONDecodeError:
        raise
    except UnicodeError as e:
        raise _refusal("the body is no text: a character in it is broken, or a surrogate that stands alone") from e
    except RecursionError as e:
        raise _refusal("the body is nested too deeply") from e
    except ValueError as e:
        raise _refusal(str(e)) from e
    return value


def in_pieces(*json_texts: str) -> StreamingResponse:
    """An answer of these texts together, sent in small pieces: to pack a long one at once holds up everybody else's calls."""
    texts = (text.encode() for text in json_texts)
    pieces = (text[at : at + PIECE] for text in texts for at in range(0, len(text), PIECE))
    return StreamingResponse(pieces, media_type="application/json")


def _refuse(number: str) -> Any:
    raise ValueError(f"{number} in the body is no number that JSON has")


def _refusal(why: str) -> HTTPException:
    return HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, why)
