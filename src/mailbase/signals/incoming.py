"""Incoming mail: stored before anybody is told that it was taken, then read by a worker.

    waiting ─▶ applied      it named a letter of ours; what it says was done
      │  └───▶ ignored      understood, and nothing to do: a vacation answer, a delay, a receipt
      └──────▶ unresolved   which letter it is about cannot be proven, or what it says cannot be told

The mail itself is kept while it waits, and of the unresolved for thirty days, to be looked at; of the others only the outcome.
The same mail under the same envelope is stored once, so whoever hands it over may do so again.
"""

import hashlib
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, Literal

from msgspec import Struct

from mailbase.db import Connection
from mailbase.errors import NotFound

Source = Literal["smtp", "api", "pipe", "imap"]
State = Literal["waiting", "applied", "ignored", "unresolved"]
End = Literal["applied", "ignored", "unresolved"]

LARGEST: Final = 10 * 1024 * 1024
"""Bytes of a mail that are taken."""
KEPT_BYTES: Final = 1024 * 1024
"""Bytes of a mail that are kept: what a report has to say stands at its beginning, the returned letter behind it."""
KEPT: Final = timedelta(days=30)
KEPT_TOGETHER: Final = 1 << 30
"""Bytes of unresolved mails that are kept: anybody may write to ``fbl@``, and the disk is not theirs to fill."""
MOST: Final = 100
"""Recipients of one mail."""
LONGEST: Final = 320


class Mail(Struct, kw_only=True):
    """A mail and its envelope, where there was one."""

    source: Source
    data: bytes
    mail_from: str | None = None
    """None: not known. Empty: the null sender, as of every honest bounce."""
    recipients: Sequence[str] = ()
    peer: str | None = None


STORE = """
INSERT INTO incoming (source, mail_from, recipients, peer, digest, raw, size) VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (digest) DO NOTHING RETURNING id
"""

KNOWN = """
SELECT id FROM incoming WHERE digest = $1
"""


async def store(db: Connection, mail: Mail) -> int:
    """Store a mail and return its id; the same one again is the one that is there."""
    mail_from = None if mail.mail_from is None else _text(mail.mail_from)
    recipients = [_text(one) for one in mail.recipients[:MOST]]
    digest = hashlib.sha256(repr((mail_from, recipients)).encode() + mail.data).digest()
    made: int | None = await db.fetchval(
        STORE, mail.source, mail_from, recipients, mail.peer, digest, mail.data[:KEPT_BYTES], len(mail.data)
    )
    if made is None:
        made = await db.fetchval(KNOWN, digest)
    return made or 0


def _text(value: str) -> str:
    return value.replace("\0", "").encode(errors="replace").decode()[:LONGEST]


class Waiting(Struct):
    """A mail that is read now. Whoever reads it has a minute, then somebody else does."""

    id: int
    source: Source
    mail_from: str | None
    recipients: list[str]
    raw: bytes
    attempts: int
    received_at: datetime


TAKE = """
WITH due AS (
    SELECT id FROM incoming WHERE state = 'waiting' AND due_at <= COALESCE($2, now()) ORDER BY due_at, id LIMIT $1 FOR UPDATE SKIP LOCKED
)
UPDATE incoming AS mail SET attempts = mail.attempts + 1, due_at = COALESCE($2, now()) + make_interval(mins => mail.attempts + 1)
FROM due WHERE mail.id = due.id
RETURNING mail.id, mail.source, mail.mail_from, mail.recipients, mail.raw, mail.attempts, mail.received_at
"""


async def take(db: Connection, limit: int, *, now: datetime | None = None) -> list[Waiting]:
    """Return the mails that have waited longest."""
    return sorted((Waiting(**row) for row in await db.fetch(TAKE, limit, now)), key=lambda mail: mail.id)


FINISH = """
UPDATE incoming SET state = $2, outcome = $3, read_at = now(), raw = CASE WHEN $2 = 'unresolved' THEN raw END
WHERE id = $1 AND state = 'waiting'
"""


async def finish(db: Connection, mail_id: int, state: End, outcome: str) -> None:
    """Write down what a mail was."""
    await db.execute(FINISH, mail_id, state, outcome[:500])


FORGET = """
DELETE FROM incoming WHERE received_at < COALESCE($1, now()) - $2::interval AND state <> 'waiting'
"""


FORGET_MOST = """
DELETE FROM incoming WHERE id IN (
    SELECT id FROM (SELECT id, sum(octet_length(raw)) OVER (ORDER BY id DESC) AS together FROM incoming WHERE state = 'unresolved') AS newest
    WHERE together > $1)
"""


async def forget_old(db: Connection, now: datetime | None = None, *, most: int = KEPT_TOGETHER) -> int:
    """Delete what was read and is older than thirty days, and the oldest unresolved beyond a gigabyte; return how many."""
    old = await db.execute(FORGET, now, KEPT)
    beyond = await db.execute(FORGET_MOST, most)
    return int(old.rpartition(" ")[2]) + int(beyond.rpartition(" ")[2])


class Incoming(Struct):
    """A mail as the API shows it."""

    id: int
    source: Source
    state: State
    outcome: str | None
    """What it was, and what it changed, in words."""
    mail_from: str | None
    recipients: list[str]
    size: int
    kept: bool
    """Whether the mail itself is still there."""
    received_at: datetime
    read_at: datetime | None


PAGE = """
SELECT id, source, state, outcome, mail_from, recipients, size, raw IS NOT NULL AS kept, received_at, read_at FROM incoming
WHERE id < $1 AND ($2::text IS NULL OR state = $2) ORDER BY id DESC LIMIT $3
"""

COUNT = """
SELECT count(*) FROM incoming WHERE $1::text IS NULL OR state = $1
"""

GET = """
SELECT id, source, state, outcome, mail_from, recipients, size, raw IS NOT NULL AS kept, received_at, read_at FROM incoming WHERE id = $1
"""

RAW = """
SELECT raw FROM incoming WHERE id = $1
"""


async def page(db: Connection, *, before: int, limit: int, state: State | None = None) -> list[Incoming]:
    """Return mails, newest first."""
    return [Incoming(**row) for row in await db.fetch(PAGE, before, state, limit)]


async def count(db: Connection, *, state: State | None = None) -> int:
    """Return how many there are."""
    total: int = await db.fetchval(COUNT, state)
    return total


async def get(db: Connection, mail_id: int) -> Incoming:
    """Return one mail without its content.

    Raises:
        NotFound: there is none of this id.

    """
    row = await db.fetchrow(GET, mail_id)
    if row is None:
        raise NotFound("There is no such mail.")
    return Incoming(**row)


async def raw(db: Connection, mail_id: int) -> bytes:
    """Return a mail as it came, its first megabyte.

    Raises:
        NotFound: there is none of this id, or it was understood and is no longer kept.

    """
    data: bytes | None = await db.fetchval(RAW, mail_id)
    if data is None:
        raise NotFound("There is no such mail, or it was understood and is no longer kept.")
    return data
