"""The consent ledger: who agreed to which words, when and from where. Rows are only ever appended; they leave with the person."""

import hashlib
from datetime import datetime

import msgspec

from mailbase.db import Connection
from mailbase.errors import NotFound


class ConsentGiven(msgspec.Struct, kw_only=True):
    """What was agreed to, as evidence."""

    purpose: str
    text: str
    """The exact words."""
    policy_url: str | None = None
    source: str | None = None
    page: str | None = None
    ip: str | None = None
    user_agent: str | None = None
    at: datetime | None = None
    """None: now."""


class Consent(msgspec.Struct, kw_only=True):
    """One line of the ledger."""

    id: int
    act: str
    purpose: str
    text: str
    version: str
    """SHA-256 of the words and the policy URL, in hex."""
    policy_url: str | None
    source: str | None
    form_id: int | None
    confirmation_id: int | None
    page: str | None
    ip: str | None
    user_agent: str | None
    at: datetime


def version(text: str, policy_url: str | None) -> bytes:
    """Return the hash by which two people are seen to have agreed to the same words."""
    return hashlib.sha256(text.encode() + b"\0" + (policy_url or "").encode()).digest()


RECORD = """
INSERT INTO consents (subscriber_id, act, purpose, text, text_hash, policy_url, source, form_id, confirmation_id, page, ip, user_agent, at)
SELECT id, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11::text::inet, $12, coalesce($13, now()) FROM subscribers WHERE id = $1 FOR KEY SHARE
RETURNING id
"""


async def record(
    db: Connection,
    subscriber_id: int,
    consent: ConsentGiven,
    *,
    act: str = "given",
    form_id: int | None = None,
    confirmation_id: int | None = None,
) -> int:
    """Append a consent (``given``) or the act that confirmed it (``confirmed``) and return its id.

    Raises:
        NotFound: there is nobody of this id.

    """
    words = version(consent.text, consent.policy_url)
    line: int | None = await db.fetchval(
        RECORD, subscriber_id, act, consent.purpose, consent.text, words, consent.policy_url, consent.source, form_id, confirmation_id,
        consent.page, consent.ip, consent.user_agent, consent.at,
    )  # fmt: skip
    if line is None:
        raise NotFound("There is no such subscriber.")
    return line


WITHDRAW = """
INSERT INTO consents (subscriber_id, act, purpose, text, text_hash, policy_url, source)
SELECT $1, 'withdrawn', purpose, text, text_hash, policy_url, $2
  FROM (SELECT DISTINCT ON (purpose) * FROM consents WHERE subscriber_id = $1 ORDER BY purpose, id DESC) AS latest
 WHERE act <> 'withdrawn'
"""


async def withdraw(db: Connection, subscriber_id: int, *, source: str) -> None:
    """Append the withdrawal of everything that stands."""
    await db.execute(WITHDRAW, subscriber_id, source)


PAGE = """
SELECT id, act, purpose, text, encode(text_hash, 'hex') AS version, policy_url, source, form_id, confirmation_id, page, host(ip) AS ip, user_agent, at
  FROM consents
 WHERE subscriber_id = $1 AND ($2::bigint IS NULL OR id < $2)
 ORDER BY id DESC LIMIT $3
"""


async def page(
    db: Connection, subscriber_id: int, *, limit: int | None = None, before: int | None = None
) -> list[Consent]:
    """Return lines of a person's ledger, newest first; without a limit, all of them."""
    return [Consent(**row) for row in await db.fetch(PAGE, subscriber_id, before, limit)]


COUNT = """
SELECT count(*) FROM consents WHERE subscriber_id = $1
"""


async def count(db: Connection, subscriber_id: int) -> int:
    """Return how many lines the ledger of one person has."""
    total: int = await db.fetchval(COUNT, subscriber_id)
    return total
