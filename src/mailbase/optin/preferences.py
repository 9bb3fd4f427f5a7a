"""The preference centre: what a person may see and change about themselves.

Interests that are not public are the owner's: neither shown nor changed. Who has left is asked to confirm by letter before
anything is sent again, as at a form.
"""

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from mailbase.audience import timeline
from mailbase.audience.consents import ConsentGiven
from mailbase.db import Connection
from mailbase.errors import Invalid, NotFound
from mailbase.letters.content import Sender
from mailbase.optin import confirmation
from mailbase.optin.confirm import Witness
from mailbase.optin.confirmation import Desk
from mailbase.optin.words import words

Saved = Literal["saved", "asked"]


class Topic(Struct):
    """An interest on offer."""

    slug: str
    name: str
    description: str | None
    chosen: bool


class Preferences(Struct):
    """What the page shows."""

    email: str
    status: str
    locale: str | None
    topics: list[Topic]


PERSON = """
SELECT email, status, locale FROM subscribers WHERE id = $1
"""

TOPICS = """
SELECT slug, name, description, id = ANY((SELECT interests FROM subscribers WHERE id = $1)::bigint[]) AS chosen
FROM interests WHERE public ORDER BY name, id
"""


async def read(db: Connection, subscriber_id: int) -> Preferences:
    """Return a person's preferences.

    Raises:
        NotFound: the person is no longer there.

    """
    row = await db.fetchrow(PERSON, subscriber_id)
    if row is None:
        raise NotFound("there is nothing stored about you any more")
    return Preferences(
        row["email"], row["status"], row["locale"], [Topic(**topic) for topic in await db.fetch(TOPICS, subscriber_id)]
    )


CHOSEN = """
SELECT id, slug FROM interests WHERE public AND slug = ANY($1::text[])
"""

SAVE = """
UPDATE subscribers SET updated_at = now(), interests = ARRAY(
    SELECT id FROM interests WHERE id = ANY($2::bigint[]) OR NOT public AND id = ANY(subscribers.interests) ORDER BY id)
WHERE id = $1
"""


WRITER = """
SELECT from_name AS name, from_email AS email FROM deliveries JOIN campaigns ON campaigns.id = campaign_id
WHERE deliveries.id = $1 AND subscriber_id = $2
"""


async def save(
    db: Connection, desk: Desk, subscriber_id: int, slugs: Sequence[str], witness: Witness, *, delivery_id: int = 0
) -> Saved:
    """Set the public interests; ``asked`` when the person had left and a letter now asks them to confirm coming back.

    ``delivery_id`` is the letter whose link led here, 0 for none: its sender asks when the settings name nobody.

    Raises:
        Invalid: an interest that is not on offer; ``sender_missing``.
        NotFound: the person is no longer there.

    """
    preferences = await read(db, subscriber_id)
    ids = {row["slug"]: row["id"] for row in await db.fetch(CHOSEN, slugs)}
    if any(slug not in ids for slug in slugs):
        raise Invalid.field("interests", "unknown_interest", "there is no such interest")
    if preferences.status not in {"active", "archived"}:
        text = words(preferences.locale).button
        consent = ConsentGiven(
            purpose="newsletter", text=text, source="preferences", ip=witness.ip, user_agent=witness.user_agent
        )
        writer = await db.fetchrow(WRITER, delivery_id, subscriber_id)
        await confirmation.ask(
            db,
            desk,
            subscriber_id,
            interests=list(ids.values()),
            consents=[consent],
            otherwise=Sender(writer["name"], writer["email"]) if writer else None,
        )
        return "asked"
    before = sorted(topic.slug for topic in preferences.topics if topic.chosen)
    await db.execute(SAVE, subscriber_id, list(ids.values()))
    if before != sorted(set(slugs)):
        await timeline.note(db, subscriber_id, "preferences", data={"interests": sorted(set(slugs))})
    return "saved"


def masked(email: str) -> str:
    """Return an address as its owner still recognises it: ``m•••@example.com``."""
    local, _, domain = email.rpartition("@")
    return f"{local[:1]}•••@{domain}"
