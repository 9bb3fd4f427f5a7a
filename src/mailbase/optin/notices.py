"""Letters about what a person did with their own data: a change of address, a copy of everything.

They are transactional, carry one button at most, and go to the address that has a right to know.
"""

from typing import Final

from msgspec import Struct

from mailbase.audience import account
from mailbase.audience.addresses import Address
from mailbase.db import Connection
from mailbase.letters.content import Rendered, Sender
from mailbase.optin import frame
from mailbase.optin.frame import Framed
from mailbase.optin.notice_words import Notice
from mailbase.sending.dispatch import messages
from mailbase.sending.dispatch.messages import NewMessage

AUTOMATIC: Final = {"Auto-Submitted": "auto-generated"}
"""RFC 3834, section 5: so that no holiday answers come back."""


class Letter(Struct, kw_only=True):
    """One notice to one address."""

    to: Address
    from_: Sender
    notice: Notice
    language: str
    url: str | None = None
    """Where the button leads."""
    subscriber_id: int | None = None
    """None: a bounce of it ends nobody."""
    confirms: bool = False
    """Whether it asks for an answer, as a confirmation does."""


SENDER = """
SELECT name, email FROM (
    SELECT 1 AS choice, from_name AS name, from_email AS email FROM deliveries JOIN campaigns ON campaigns.id = campaign_id
    WHERE deliveries.id = $2 AND subscriber_id = $1
    UNION ALL
    (SELECT 2, from_name, from_email FROM deliveries JOIN campaigns ON campaigns.id = campaign_id
     WHERE subscriber_id = $1 ORDER BY deliveries.id DESC LIMIT 1)
    UNION ALL
    (SELECT 3, from_name, from_email FROM messages WHERE subscriber_id = $1 AND kind = 'confirmation' ORDER BY id DESC LIMIT 1)
) AS known ORDER BY choice LIMIT 1
"""


async def sender_for(db: Connection, subscriber_id: int, delivery_id: int) -> Sender | None:
    """Return who wrote to a person: in this letter, else in the last one; None where nobody did."""
    row = await db.fetchrow(SENDER, subscriber_id, delivery_id)
    return Sender(row["name"], row["email"]) if row else None


def compose(letter: Letter, postal_address: str | None, accent: str | None = None) -> Rendered:
    """Return the letter's bodies."""
    framed = Framed(
        language=letter.language,
        subject=letter.notice.title,
        title=letter.from_.name or letter.from_.email,
        heading=letter.notice.title,
        lines=letter.notice.lines,
        url=letter.url or "",
        button=letter.notice.button,
        open=f"{letter.notice.button}:",
        foot=letter.notice.after,
        postal_address=postal_address,
        accent=accent,
    )
    return frame.compose(framed)


async def send(db: Connection, letter: Letter) -> int:
    """Queue the letter and return its message's id. Runs in the caller's transaction."""
    settings = await account.get(db)
    rendered = compose(letter, settings.postal_address, settings.accent)
    message = NewMessage(
        kind="confirmation" if letter.confirms else "transactional",
        from_=letter.from_,
        to=letter.to,
        subject=rendered.subject,
        html=rendered.html,
        text=rendered.text,
        headers={} if letter.confirms else AUTOMATIC,
        subscriber_id=letter.subscriber_id,
    )
    message_id, _ = await messages.create(db, message)
    return message_id
