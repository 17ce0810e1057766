"""PNG files with texts or a colour profile that Pillow finds too large, though their pixels decode."""

import struct

SIGNATURE = b"\x89PNG\r\n\x1a\n"


def without_texts(png: bytes) -> bytes:
    """Return a PNG without the chunks that do not concern its pixels: texts and the colour profile."""
    kept, place = [SIGNATURE], len(SIGNATURE)
    while place + 8 <= len(png):
        size, name = struct.unpack_from(">I4s", png, place)
        if name not in (b"tEXt", b"zTXt", b"iTXt", b"iCCP"):
            kept.append(png[place : place + 12 + size])
        place += 12 + size
    return b"".join(kept)
