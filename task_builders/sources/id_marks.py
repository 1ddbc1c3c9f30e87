"""A mark from 0 to 3 for each post id, in little memory at any size: two bits each, in pages. Used by the dump's reader.

Ids of a site are dense (80 million posts need 20 MB). An id that stands alone costs a page of 1 KiB; a file with more such ids than
any dump has ends with an error.
"""

import re

from envfarm.core.errors import SourceError

PAGE_BITS = 12
PAGE_BYTES = 1 << (PAGE_BITS - 2)
IN_PAGE = (1 << PAGE_BITS) - 1
MAX_PAGES = 1 << 17
"""128 MiB, or 500 million ids that are dense."""
NUMBER = re.compile(r"[0-9]{1,18}", re.ASCII)
"""What fits a database's integer."""


def number_of(text: str) -> int | None:
    """An id as dumps write it; None for anything else."""
    return int(text) if NUMBER.fullmatch(text) else None


class IdMarks:
    """Marks of whole numbers from 0 up; 0 where none was put."""

    __slots__ = ("_max_pages", "_pages")

    def __init__(self, *, max_pages: int = MAX_PAGES) -> None:
        self._pages: dict[int, bytearray] = {}
        self._max_pages = max_pages

    def put(self, number: int, mark: int) -> None:
        """Mark a number with 1, 2 or 3. Raises `SourceError` where the numbers are scattered over more pages than memory is for."""
        page = self._pages.get(number >> PAGE_BITS)
        if page is None:
            if len(self._pages) >= self._max_pages:
                raise SourceError("the ids of the file are scattered as no dump's are", hint="is it a dump of a Stack Exchange site?")
            page = self._pages[number >> PAGE_BITS] = bytearray(PAGE_BYTES)
        at, shift = (number & IN_PAGE) >> 2, (number & 3) << 1
        page[at] = page[at] & ~(3 << shift) | mark << shift

    def of(self, number: int) -> int:
        """The mark of a number."""
        page = self._pages.get(number >> PAGE_BITS)
        return page[(number & IN_PAGE) >> 2] >> ((number & 3) << 1) & 3 if page is not None else 0
