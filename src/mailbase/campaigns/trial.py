"""A letter before its campaign: looked at as one person would get it, or sent to a few addresses of one's own.

Both show the letter untracked, with the links as they were written: looking at it counts as nobody's open or click.
"""

from collections.abc import Sequence

from msgspec import Struct

from mailbase.audience import account, addresses, subscribers, suppressions
from mailbase.audience.addresses import Address
from mailbase.campaigns import campaigns, drafts
from mailbase.campaigns.campaigns import Campaign
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.errors import FieldError, Invalid
from mailbase.letters import content as letters
from mailbase.letters import templates
from mailbase.letters.content import Person
from mailbase.letters.preview import Preview
from mailbase.letters.preview import preview as render
from mailbase.sending.dispatch import messages
from mailbase.sending.dispatch.messages import NewMessage
from mailbase.tokens import Tokens


class Trial(Struct):
    """A test letter on its way; what became of it is told by its message."""

    message_id: int
    to: str


async def preview(db: Connection, campaign_id: int, subscriber_id: int | None, *, settings: Settings) -> Preview:
    """Render a campaign's letter for a subscriber, or for somebody of whom nothing is known.

    Its links open nothing: who may look at letters may not therefore speak for a subscriber.

    Raises:
        NotFound: there is no such campaign.
        Invalid: ``unknown_subscriber``, or the template fails on this person.

    """
    campaign = await campaigns.get(db, campaign_id)
    person = None
    if subscriber_id is not None:
        person = await _person(db, subscriber_id)
        if person is None:
            raise Invalid.field("subscriber_id", "unknown_subscriber", "There is no such subscriber.")
    return await _render(db, campaign, person, settings=settings, tokens=None)


async def send_test(
    db: Connection,
    campaign_id: int,
    to: Sequence[str],
    *,
    settings: Settings,
    tokens: Tokens,
    erasure_key: bytes,
) -> list[Trial]:
    """Send the letter to each address: with a subscriber's own data where the address is one's.

    Raises:
        NotFound: there is no such campaign.
        Invalid: ``invalid_email`` and ``suppressed``, each bad address by its number; nothing is sent then.

    """
    campaign = await campaigns.get(db, campaign_id)
    found: dict[str, Address] = {}
    errors: list[FieldError] = []
    for number, text in enumerate(to):
        try:
            address = addresses.parse(text, field=f"to.{number}")
            await suppressions.refuse(db, address, erasure_key, field=f"to.{number}")
            found[address.key] = address
        except Invalid as error:
            errors += error.errors
    if errors:
        raise Invalid(code=errors[0].code, errors=errors)
    return [await _send(db, campaign, address, settings=settings, tokens=tokens) for address in found.values()]


async def _send(db: Connection, campaign: Campaign, to: Address, *, settings: Settings, tokens: Tokens) -> Trial:
    known = await db.fetchval(BY_KEY, to.key)
    person = await _person(db, known) if known is not None else Person(id=0, email=to.email)
    shown = await _render(db, campaign, person, settings=settings, tokens=tokens)
    message_id, _ = await messages.create(
        db,
        NewMessage(
            kind="test",
            from_=letters.Sender(campaign.from_.name, campaign.from_.email),
            to=to,
            subject=shown.subject,
            html=shown.html,
            text=shown.text,
            headers=campaign.headers,
            reply_to=campaign.reply_to,
            subscriber_id=known,
        ),
    )
    return Trial(message_id, to.email)


BY_KEY = """
SELECT id FROM subscribers WHERE email_key = $1
"""

# A name that nobody has costs a look at every subscriber: the price of saying so.
KNOWN = """
SELECT name FROM unnest($1::text[]) AS name WHERE EXISTS (SELECT FROM subscribers WHERE attributes ? name)
"""


async def _known_attributes(db: Connection, content: letters.Content) -> set[str]:
    """Return which of the attributes a content uses any subscriber has."""
    sources = (content.subject, content.preheader, content.mjml, content.html, content.text)
    parts = [name.split(".") for source in sources if source for name in templates.used(source)]
    used = {name[2] for name in parts if len(name) > 2 and name[:2] == ["subscriber", "attributes"]}
    return {row["name"] for row in await db.fetch(KNOWN, used)} if used else set()


async def _person(db: Connection, subscriber_id: int) -> Person | None:
    known = await db.fetchval(EXISTS, subscriber_id)
    if known is None:
        return None
    found = await subscribers.get(db, subscriber_id)
    return Person(
        id=found.id,
        email=found.email,
        attributes=found.attributes,
        interests=found.interests,
        tags=found.tags,
        locale=found.locale,
        timezone=found.timezone,
    )


EXISTS = """
SELECT id FROM subscribers WHERE id = $1
"""


async def _render(
    db: Connection, campaign: Campaign, person: Person | None, *, settings: Settings, tokens: Tokens | None
) -> Preview:
    content = drafts.content_of(campaigns.draft_of(campaign))
    settled = await account.get(db)
    own = None
    if tokens is not None and person is not None and person.id:
        leave, choose = tokens.sign("unsubscribe", person.id, 0), tokens.sign("preferences", person.id, 0)
        own = letters.Tokens(letter="preview", unsubscribe=leave, preferences=choose, view="preview")
    return render(
        content,
        person,
        base_url=settings.public_url,
        postal_address=settled.postal_address,
        locale=settled.locale,
        tokens=own,
        known_attributes=await _known_attributes(db, content),
        track_clicks=campaign.track.clicks,
    )
