r"""Request bodies hold what can be kept: JSON proper, in text proper. The class of every route that reads one.

Python's own reader takes `NaN`, `Infinity`, numbers that no double holds, and halves of characters (`"\ud800"`), and so do fields of any
kind; a record of them could not be written, or not be read again.
"""

import json
import re
from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

SUSPICIOUS = re.compile(r"\\u[dD][89a-fA-F]|[eE]\+?\d{3}|\d{200}")
"""What every half character and every number beyond a double has in it: only such bodies are looked at again."""


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
        if SUSPICIOUS.search(text):
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


def _refuse(number: str) -> Any:
    raise ValueError(f"{number} in the body is no number that JSON has")


def _refusal(why: str) -> HTTPException:
    return HTTPException(HTTPStatus.UNPROCESSABLE_ENTITY, why)
