"""The owner's logo: one picture, kept in PostgreSQL and served from an address that names its content.

SVG is not taken: it is a document, with scripts and links of its own.
"""

import hashlib
import struct
from typing import Final

from msgspec import Struct

from mailbase.db import Connection
from mailbase.errors import Invalid, TooLarge

LARGEST: Final = 256 * 1024
WIDEST: Final = 4000
ROOM: Final = (224, 64)
"""What a page has for it."""
ENDINGS: Final = {"image/png": "png", "image/jpeg": "jpg", "image/webp": "webp"}


class Logo(Struct, frozen=True):
    """What a page needs to show it."""

    hash: str
    type: str
    width: int
    height: int

    @property
    def shown(self) -> tuple[int, int]:
        """Return its width and height on a page, in CSS pixels, so that nothing moves when it arrives."""
        scale = min(1.0, ROOM[0] / self.width, ROOM[1] / self.height)
        return max(1, round(self.width * scale)), max(1, round(self.height * scale))

    @property
    def path(self) -> str:
        """Return its address on this origin."""
        return f"/assets/logo-{self.hash}.{ENDINGS[self.type]}"


def examine(content: bytes) -> Logo:
    """Tell what a picture is by its own first bytes, whatever it was declared as.

    Raises:
        TooLarge: more than 256 kB.
        Invalid: neither PNG, JPEG nor WebP, or no size can be read, or a side is longer than 4,000 pixels.

    """
    if len(content) > LARGEST:
        raise TooLarge(f"A logo has at most {LARGEST // 1024} kB.")
    try:
        kind, width, height = _measure(content)
    except (struct.error, IndexError, ValueError):
        raise Invalid.field(
            "logo", "unknown_type", "A logo is a PNG, JPEG or WebP picture; SVG is not taken."
        ) from None
    if not (1 <= width <= WIDEST and 1 <= height <= WIDEST):
        raise Invalid.field("logo", "invalid_size", f"A logo's sides are 1 to {WIDEST} pixels long.")
    return Logo(hashlib.sha256(content).hexdigest()[:16], kind, width, height)


def _measure(content: bytes) -> tuple[str, int, int]:
    if content.startswith(b"\x89PNG\r\n\x1a\n") and content[12:16] == b"IHDR":
        return "image/png", *struct.unpack(">II", content[16:24])
    if content.startswith(b"\xff\xd8\xff"):
        return "image/jpeg", *_jpeg(content)
    if content.startswith(b"RIFF") and content[8:12] == b"WEBP":
        return "image/webp", *_webp(content)
    raise ValueError


def _jpeg(content: bytes) -> tuple[int, int]:
    at = 2
    while content[at] == 0xFF:  # ITU-T T.81, B.1.1.2: a marker, then the length of what follows
        marker = content[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in range(0xC0, 0xD0) and marker not in {0xC4, 0xC8, 0xCC}:
            height, width = struct.unpack(">HH", content[at + 5 : at + 9])
            return width, height
        at += 2 + struct.unpack(">H", content[at + 2 : at + 4])[0]
    raise ValueError


def _webp(content: bytes) -> tuple[int, int]:
    kind = content[12:16]  # RFC 9649
    if kind == b"VP8X":
        return 1 + int.from_bytes(content[24:27], "little"), 1 + int.from_bytes(content[27:30], "little")
    if kind == b"VP8L" and content[20] == 0x2F:
        bits = int.from_bytes(content[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 " and content[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", content[26:30])
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError


PUT: Final = """
INSERT INTO logos (hash, type, width, height, content) VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (one) DO UPDATE SET hash = EXCLUDED.hash, type = EXCLUDED.type, width = EXCLUDED.width, height = EXCLUDED.height, content = EXCLUDED.content
"""


async def put(db: Connection, content: bytes) -> Logo:
    """Keep a logo in the place of the one there was.

    Raises:
        TooLarge, Invalid: as ``examine``.

    """
    logo = examine(content)
    await db.execute(PUT, logo.hash, logo.type, logo.width, logo.height, content)
    return logo


GET: Final = """
SELECT hash, type, width, height FROM logos
"""


async def get(db: Connection) -> Logo | None:
    """Return the logo there is."""
    row = await db.fetchrow(GET)
    return Logo(*row.values()) if row else None


CONTENT: Final = """
SELECT content, type FROM logos WHERE hash = $1
"""


async def content(db: Connection, hash: str) -> tuple[bytes, str] | None:
    """Return the picture and its type."""
    row = await db.fetchrow(CONTENT, hash)
    return (row["content"], row["type"]) if row else None


DELETE: Final = """
DELETE FROM logos
"""


async def delete(db: Connection) -> None:
    """Go back to the shop's name."""
    await db.execute(DELETE)
