"""The files of lead magnets: in PostgreSQL, each content once, in slices of 1 MiB.

::

    begin ──▶ save, slice by slice ──▶ finish      one transaction: a break leaves nothing behind

Two forms with the same content share its rows; the last one that goes takes them along (a trigger of the table).
"""

import hashlib
from collections.abc import AsyncGenerator
from typing import Final

from msgspec import Struct

from mailbase.db import Connection, Pool
from mailbase.errors import Malformed, TooLarge
from mailbase.optin.magnet_types import HEAD, TAIL, clean_name, kind_of

LARGEST: Final = 25 * 1024 * 1024
SLICE: Final = 1024 * 1024
CHUNK: Final = 256 * 1024

BEGIN = """
INSERT INTO magnet_contents DEFAULT VALUES RETURNING id
"""

SAVE = """
INSERT INTO magnet_slices (content_id, seq, data) VALUES ($1, $2, $3)
"""

LOCK = """
SELECT pg_advisory_xact_lock(hashtextextended('mailbase lead magnets', 0))
"""

KNOWN = """
SELECT id FROM magnet_contents WHERE sha256 = $1
"""

FINISH = """
UPDATE magnet_contents SET sha256 = $2, size = $3 WHERE id = $1
"""

DROP = """
DELETE FROM magnet_contents WHERE id = $1
"""

NAME = """
INSERT INTO magnet_files (form_id, content_id, filename, content_type) VALUES ($1, $2, $3, $4)
ON CONFLICT (form_id) DO UPDATE SET content_id = excluded.content_id, filename = excluded.filename, content_type = excluded.content_type, uploaded_at = now()
"""


class Upload:
    """Takes a file in as it streams: ``await upload(data)`` with slices of ``SLICE`` bytes, the last one shorter."""

    def __init__(self, db: Connection, content_id: int) -> None:
        self._db = db
        self._content_id = content_id
        self._hash = hashlib.sha256()
        self._head = self._tail = b""
        self._seq = self._size = 0

    @classmethod
    async def begin(cls, db: Connection) -> "Upload":
        """Start one; call it inside a transaction."""
        return cls(db, await db.fetchval(BEGIN))

    async def __call__(self, data: bytes) -> None:
        """Store the next slice.

        Raises:
            TooLarge: together they are more than 25 MiB.

        """
        self._size += len(data)
        if self._size > LARGEST:
            raise TooLarge(f"A lead magnet has at most {LARGEST >> 20} MB.")
        self._hash.update(data)
        self._head = self._head or data[:HEAD]
        self._tail = (self._tail + data)[-TAIL:]
        await self._db.execute(SAVE, self._content_id, self._seq, data)
        self._seq += 1

    async def finish(self, form_id: int, filename: str) -> None:
        """Give the file to a form under its cleaned name, in place of the one it had.

        Raises:
            Invalid: ``unsafe_file``.
            Malformed: the file is empty.

        """
        if not self._size:
            raise Malformed("The file is empty.")
        name = clean_name(filename)
        kind = kind_of(self._head, self._tail, name)
        await self._db.execute(LOCK)
        content_id = await self._db.fetchval(KNOWN, self._hash.digest())
        if content_id is None:
            content_id = self._content_id
            await self._db.execute(FINISH, content_id, self._hash.digest(), self._size)
        else:
            await self._db.execute(DROP, self._content_id)
        await self._db.execute(NAME, form_id, content_id, name, kind)


REMOVE = """
DELETE FROM magnet_files WHERE form_id = $1 RETURNING form_id
"""


async def remove(db: Connection, form_id: int) -> bool:
    """Take a form's file away; False: it had none."""
    return await db.fetchval(REMOVE, form_id) is not None


class Part(Struct, frozen=True):
    """What is asked for of a content, in bytes from 0; ``last`` is still part of it."""

    first: int
    last: int

    @property
    def length(self) -> int:
        """How many bytes that is."""
        return self.last - self.first + 1


READ = """
SELECT substring(data FROM $3 FOR $4) FROM magnet_slices WHERE content_id = $1 AND seq = $2
"""


async def stream(pool: Pool, content_id: int, part: Part) -> AsyncGenerator[bytes]:
    """Yield a part in pieces of at most 256 KiB; between two of them no connection is held, a phone may take its time.

    Raises:
        LookupError: the content went away meanwhile; the answer breaks off.

    """
    at = part.first
    while at <= part.last:
        seq, offset = divmod(at, SLICE)
        wanted = min(CHUNK, SLICE - offset, part.last - at + 1)
        async with pool.acquire(timeout=30) as db:
            data: bytes | None = await db.fetchval(READ, content_id, seq, offset + 1, wanted)
        if not data:
            raise LookupError("the file was taken away while it was being fetched")
        yield data
        at += len(data)
