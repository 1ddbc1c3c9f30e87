"""zstd with a bound that holds, for archives and reports that others sent. Used by the catalogue; does no I/O."""

import zstandard


def decompress(data: bytes, *, most_bytes: int) -> bytes:
    """What one frame holds. Raises `zstandard.ZstdError` for a damaged one, and for one that holds more than `most_bytes`.

    The library does not look at `max_output_size` where a frame says how large it is: such a frame would get all the memory it asks for.
    """
    told = zstandard.frame_content_size(data)
    if told > most_bytes:
        raise zstandard.ZstdError(f"it holds {told} bytes, and {most_bytes} are the most")
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=most_bytes)
