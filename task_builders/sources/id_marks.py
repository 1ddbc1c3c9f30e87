"""A mark from 0 to 3 for each post id, in little memory at any size: two bits each, in pages. Used by the dump's reader.

Ids of a site are dense (80 million posts need 20 MB). An id that stands alone costs a page of 1 KiB, so that even a hundred thousand ids
with nothing in between stay in memory.
"""

PAGE_BITS = 12
PAGE_BYTES = 1 << (PAGE_BITS - 2)
IN_PAGE = (1 << PAGE_BITS) - 1


class IdMarks:
    """Marks of whole numbers from 0 up; 0 where none was put."""

    __slots__ = ("_pages",)

    def __init__(self) -> None:
        self._pages: dict[int, bytearray] = {}

    def put(self, number: int, mark: int) -> None:
        """Mark a number with 1, 2 or 3."""
        page = self._pages.get(number >> PAGE_BITS)
        if page is None:
            page = self._pages[number >> PAGE_BITS] = bytearray(PAGE_BYTES)
        at, shift = (number & IN_PAGE) >> 2, (number & 3) << 1
        page[at] = page[at] & ~(3 << shift) | mark << shift

    def of(self, number: int) -> int:
        """The mark of a number."""
        page = self._pages.get(number >> PAGE_BITS)
        return page[(number & IN_PAGE) >> 2] >> ((number & 3) << 1) & 3 if page is not None else 0
