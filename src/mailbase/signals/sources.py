"""Signal sources: the relay providers that may report what became of letters, and how each is believed.

A source has an address of its own, unguessable, and what its requests are verified by: a secret (encrypted, never shown again),
for Amazon the one topic it listens to.
"""

import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Final, Literal

from msgspec import Struct

from mailbase.db import Connection
from mailbase.errors import Invalid, NotFound
from mailbase.signals.providers_in import brevo, mailgun, postmark, sendgrid, ses
from mailbase.signals.providers_in.event import Desk, Incoming, Reading, Trust
from mailbase.vault import Vault

Provider = Literal["ses", "sendgrid", "mailgun", "postmark", "brevo"]

Read = Callable[[Incoming, Trust, Desk], Awaitable[Reading]]
Check = Callable[[str, str], None]

KEY: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
READERS: Final[Mapping[str, tuple[Check, Read]]] = {
    "ses": (ses.check, ses.read),
    "sendgrid": (sendgrid.check, sendgrid.read),
    "mailgun": (mailgun.check, mailgun.read),
    "postmark": (postmark.check, postmark.read),
    "brevo": (brevo.check, brevo.read),
}


class Source(Struct, kw_only=True):
    """A source, without its secret. ``url`` is where the provider sends its reports."""

    id: int
    provider: Provider
    url: str
    topic_arn: str | None
    created_at: datetime
    last_event_at: datetime | None


class Opened(Struct, frozen=True):
    """A source as a request is verified against it, and what time it is."""

    id: int
    trust: Trust
    now: datetime


def _checked(provider: Provider, secret: str | None, topic_arn: str | None) -> str | None:
    """Return the secret as it is kept.

    Raises:
        Invalid: ``not_used``, and what the provider's ``check`` refuses.

    """
    if provider == "ses" and secret is not None:
        raise Invalid.field("secret", "not_used", "Amazon signs with a certificate; the `topic_arn` is what is needed.")
    if provider != "ses" and topic_arn is not None:
        raise Invalid.field("topic_arn", "not_used", "Only ses has a topic.")
    secret = secret.strip() if secret is not None else None  # what a copy brings along is no part of it
    READERS[provider][0](secret or "", topic_arn or "")
    return secret


NEXT_ID = """
SELECT nextval(pg_get_serial_sequence('signal_sources', 'id'))
"""

ADD = """
INSERT INTO signal_sources (id, key, provider, secret, topic_arn) OVERRIDING SYSTEM VALUE VALUES ($1, $2, $3, $4, $5)
"""


async def create(
    db: Connection, vault: Vault, *, provider: Provider, secret: str | None = None, topic_arn: str | None = None
) -> int:
    """Add a source and return its id.

    Raises:
        Invalid: ``not_used`` (a secret for ``ses``, a topic for others), and what the provider's ``check`` refuses.

    """
    secret = _checked(provider, secret, topic_arn)
    number: int = await db.fetchval(NEXT_ID)
    blob = vault.encrypt(secret.encode(), f"signal_source:{number}") if secret is not None else None
    await db.execute(ADD, number, secrets.token_urlsafe(18), provider, blob, topic_arn)
    return number


GET = """
SELECT source.id, source.provider, $2 || '/in/' || source.provider || '/' || source.key AS url, source.topic_arn, source.created_at,
       (SELECT received_at FROM signal_events WHERE source_id = source.id ORDER BY id DESC LIMIT 1) AS last_event_at
FROM signal_sources AS source WHERE source.id = $1
"""


async def get(db: Connection, source_id: int, public_url: str) -> Source:
    """Return a source.

    Raises:
        NotFound: there is none of that id.

    """
    row = await db.fetchrow(GET, source_id, public_url)
    if row is None:
        raise NotFound("There is no such signal source.")
    return Source(**row)


PAGE = """
SELECT source.id, source.provider, $3 || '/in/' || source.provider || '/' || source.key AS url, source.topic_arn, source.created_at,
       (SELECT received_at FROM signal_events WHERE source_id = source.id ORDER BY id DESC LIMIT 1) AS last_event_at
FROM signal_sources AS source WHERE source.id < $1 ORDER BY source.id DESC LIMIT $2
"""


async def page(db: Connection, *, before: int, limit: int, public_url: str) -> list[Source]:
    """Return sources with smaller ids, newest first."""
    return [Source(**row) for row in await db.fetch(PAGE, before, limit, public_url)]


COUNT = """
SELECT count(*) FROM signal_sources
"""


async def count(db: Connection) -> int:
    """Return how many there are."""
    total: int = await db.fetchval(COUNT)
    return total


CHANGE = """
UPDATE signal_sources SET secret = $2, topic_arn = $3 WHERE id = $1
"""


async def change(
    db: Connection, vault: Vault, source_id: int, *, secret: str | None = None, topic_arn: str | None = None
) -> None:
    """Verify a source's requests by something else from now on; its address stays.

    Raises:
        NotFound: there is none of that id.
        Invalid: as for :func:`create`.

    """
    held = await get(db, source_id, "")
    secret = _checked(held.provider, secret, topic_arn)
    blob = vault.encrypt(secret.encode(), f"signal_source:{source_id}") if secret is not None else None
    await db.execute(CHANGE, source_id, blob, topic_arn)


DELETE = """
DELETE FROM signal_sources WHERE id = $1 RETURNING id
"""


async def delete(db: Connection, source_id: int) -> None:
    """Believe a source no more; what it said is forgotten, what that changed stays.

    Raises:
        NotFound: there is none of that id.

    """
    if await db.fetchval(DELETE, source_id) is None:
        raise NotFound("There is no such signal source.")


OPEN = """
SELECT id, secret, topic_arn, now() AS now FROM signal_sources WHERE key = $2 AND provider = $1
"""


async def find(db: Connection, vault: Vault, provider: str, key: str) -> Opened:
    """Return the source behind an address, its secret opened.

    Raises:
        NotFound: there is none.

    """
    row: Any = await db.fetchrow(OPEN, provider, key) if KEY.fullmatch(key) else None
    if row is None:
        raise NotFound
    secret = vault.decrypt(row["secret"], f"signal_source:{row['id']}").decode() if row["secret"] is not None else ""
    return Opened(row["id"], Trust(secret, row["topic_arn"] or ""), row["now"])
