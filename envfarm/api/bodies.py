r"""Request bodies hold what can be kept: JSON proper, in text proper. The class of every route that reads one; and long answers.

Python's own reader takes `NaN`, `Infinity`, numbers that no double holds, and halves of characters (`"\ud800"`), and so do fields of any
kind; a record of them could not be written, or not be read again.
"""

import json
import re
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.responses import StreamingResponse
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

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

        async def asked(request: Request) -> Response:
            return await handle(_PlainRequest(request.scope, request.receive))

        return asked


class _PlainRequest(Request):
    async def json(self) -> Any:
        return read(await self.body())


def read(body: bytes) -> Any:
    """A body's value. Raises `JSONDecodeError`, and `HTTPException` for what is not to be kept."""
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
