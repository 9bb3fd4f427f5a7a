"""A person's own copy of everything held, and its erasure, by the link of a letter.

The link is the authority. So the copy holds no other link that works, the person is told by letter that it was made, and after a change
of address the letters of before open neither: whoever reads the old mailbox now is perhaps somebody else.
"""

import re
from typing import Any, Final

import msgspec

from mailbase.audience import account, dossier, erasure, timeline
from mailbase.audience.addresses import Address
from mailbase.audience.dossier import Dossier
from mailbase.db import Connection
from mailbase.errors import Gone, NotFound, RateLimited
from mailbase.letters.content import Sender
from mailbase.optin import notices
from mailbase.optin.confirmation import Desk
from mailbase.optin.notice_words import notices as said_in
from mailbase.optin.notices import Letter
from mailbase.optin.words import letter_language

A_DAY: Final = 5
TOKEN: Final = re.compile(r"/([acdopuv]|l/\d+)/[A-Za-z0-9_-]{16,}")


MOVED = """
SELECT EXISTS (
    SELECT FROM address_changes WHERE subscriber_id = $1 AND confirmed_at IS NOT NULL
    AND confirmed_at >= COALESCE((SELECT created_at FROM deliveries WHERE id = $2 AND deliveries.subscriber_id = $1), '-infinity')
)
"""


async def authorise(db: Connection, subscriber_id: int, delivery_id: int) -> None:
    """Let a letter's link be enough, unless the letter went to an address the person has left since.

    Raises:
        Gone: ``newer_letter_needed``.

    """
    if await db.fetchval(MOVED, subscriber_id, delivery_id):
        raise Gone("For this, please use the link of a letter to your new address.", code="newer_letter_needed")


PERSON = """
SELECT email, email_key, domain, locale, status,
    (SELECT count(*) FROM subscriber_events WHERE subscriber_id = $1 AND kind = 'exported' AND at > now() - interval '1 day') AS copies
FROM subscribers WHERE id = $1 FOR NO KEY UPDATE
"""


async def export(db: Connection, desk: Desk, subscriber_id: int, *, delivery_id: int) -> Dossier:
    """Return everything held about a person, and tell them by letter that it was asked for (once a day).

    Raises:
        NotFound: the person is no longer there.
        Gone: see ``authorise``.
        RateLimited: the sixth time within a day.

    """
    row = await db.fetchrow(PERSON, subscriber_id)
    if row is None:
        raise NotFound("there is nothing stored about you any more")
    await authorise(db, subscriber_id, delivery_id)
    if row["copies"] >= A_DAY:
        raise RateLimited(f"A copy can be had {A_DAY} times a day.", retry_after=86400)
    await timeline.note(db, subscriber_id, "exported")
    found = await dossier.read(db, subscriber_id, desk.erasure_key)
    if not row["copies"] and row["status"] != "bounced":
        await _tell(db, subscriber_id, row, delivery_id)
    return msgspec.convert(_without_links(msgspec.to_builtins(found)), Dossier)


async def erase(db: Connection, desk: Desk, subscriber_id: int, *, delivery_id: int) -> None:
    """Erase a person at once; a keyed hash of the address stays, so that nobody writes to them again.

    Raises:
        NotFound: the person is no longer there.
        Gone: see ``authorise``.

    """
    await authorise(db, subscriber_id, delivery_id)
    await erasure.erase(db, subscriber_id, desk.erasure_key)


async def _tell(db: Connection, subscriber_id: int, row: Any, delivery_id: int) -> None:
    settings = await account.get(db)
    named = settings.default_from
    sender = Sender(named.name, named.email) if named else await notices.sender_for(db, subscriber_id, delivery_id)
    if sender is None:
        return
    locale = row["locale"] or settings.locale
    letter = Letter(
        to=Address(row["email"], row["email_key"], row["domain"]),
        from_=sender,
        notice=said_in(locale).exported,
        language=letter_language(locale),
        subscriber_id=subscriber_id,
    )
    await notices.send(db, letter)


def _without_links(value: Any) -> Any:
    """Return the same with the tokens taken out of every text: a confirmation must be answered from the mailbox alone."""
    if isinstance(value, str):
        return TOKEN.sub(r"/\1/…", value)
    if isinstance(value, list):
        return [_without_links(item) for item in value]
    if isinstance(value, dict):
        return {key: _without_links(item) for key, item in value.items()}
    return value
