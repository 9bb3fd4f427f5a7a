"""Lead magnets: what a form gives to those who confirmed: a file of ours, or a page of the owner's.

::

    confirmed ──▶ one letter with a signed link ──GET /d──▶ the file, or 302 to the URL      for seven days
                                                └─later──▶ a page that says so ──POST /d──▶ a new letter with a new link

The link names form and person, so nobody gets what they did not ask for, and the person's erasure ends it. What is counted is a
download that came to its end: people once each, and downloads, of which one person makes at most one in half an hour (a player asks
for a film in many pieces).
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from asyncpg import Record
from msgspec import Struct

from mailbase.audience import account, forms, timeline
from mailbase.audience.addresses import Address
from mailbase.db import Connection
from mailbase.errors import NotFound
from mailbase.letters.content import Sender
from mailbase.optin import magnet_letter
from mailbase.optin.confirmation import Desk, title_of
from mailbase.sending.dispatch import messages
from mailbase.sending.dispatch.messages import NewMessage
from mailbase.tokens import Tokens

VALID: Final = timedelta(days=7)


class File(Struct, frozen=True, kw_only=True):
    """A file as it is stored; ``sha256`` in hex."""

    content_id: int
    filename: str
    content_type: str
    size: int
    sha256: str


class Magnet(Struct, frozen=True, kw_only=True):
    """What a form gives away, and how often it was fetched; neither ``url`` nor ``file``: nothing yet."""

    title: str
    url: str | None = None
    file: File | None = None
    people: int = 0
    downloads: int = 0


class Offer(Struct, frozen=True):
    """What somebody may fetch, under which address."""

    title: str
    url: str


FIND = """
SELECT forms.id, definition -> 'lead_magnet' ->> 'title' AS title, definition -> 'lead_magnet' ->> 'url' AS url,
    content_id, filename, content_type, size, encode(sha256, 'hex') AS sha256, COALESCE(people, 0) AS people, COALESCE(downloads, 0) AS downloads
FROM forms LEFT JOIN magnet_files AS file ON file.form_id = forms.id LEFT JOIN magnet_contents AS content ON content.id = content_id
    LEFT JOIN magnet_counts AS counts ON counts.form_id = forms.id
WHERE forms.id = ANY($1::bigint[]) AND definition -> 'lead_magnet' ->> 'title' IS NOT NULL
"""


async def of_forms(db: Connection, form_ids: Sequence[int]) -> dict[int, Magnet]:
    """Return the lead magnets of these forms by form; those that have none are left out."""
    return {row["id"]: _magnet(row) for row in await db.fetch(FIND, form_ids)}


async def find(db: Connection, form_id: int) -> Magnet | None:
    """Return what a form gives away, as far as there is something to give."""
    magnet = (await of_forms(db, [form_id])).get(form_id)
    return magnet if magnet and (magnet.url or magnet.file) else None


def _magnet(row: Record) -> Magnet:
    file = None
    if row["content_id"] is not None and row["url"] is None:
        file = File(**{name: row[name] for name in ("content_id", "filename", "content_type", "size", "sha256")})
    return Magnet(title=row["title"], url=row["url"], file=file, people=row["people"], downloads=row["downloads"])


async def offer(
    db: Connection, tokens: Tokens, public_url: str, form_id: int, subscriber_id: int, *, now: datetime
) -> Offer | None:
    """Return what this person may fetch from this form, under a link that is valid for seven days from ``now``."""
    magnet = await find(db, form_id)
    if magnet is None:
        return None
    token = tokens.sign("download", form_id, subscriber_id, int((now + VALID).timestamp()))
    return Offer(magnet.title, f"{public_url}/d/{token}")


PERSON = """
SELECT id, email, email_key, domain, locale, now() AS now FROM subscribers WHERE id = $1 FOR UPDATE
"""

# A person's own confirmation needs the mailbox; whoever only typed an address, or only holds an old link, gets less.
SPARED = """
SELECT count(*) FILTER (WHERE at > now() - interval '10 minutes') > 0 OR count(*) > 2
FROM magnet_letters WHERE subscriber_id = $1 AND at > now() - interval '1 day'
"""

NOTE = """
WITH old AS (DELETE FROM magnet_letters WHERE subscriber_id = $1 AND at < now() - interval '7 days')
INSERT INTO magnet_letters (subscriber_id, form_id) VALUES ($1, $2)
"""


async def deliver(
    db: Connection, desk: Desk, form_id: int, subscriber_id: int, *, locale: str | None, sparingly: bool
) -> bool:
    """Queue the letter with the link, in the caller's transaction; False: nothing to give, nobody to be from, or too soon.

    ``sparingly``: at most one in ten minutes and three a day to one person, whatever the form.
    """
    magnet = await find(db, form_id)
    person = await db.fetchrow(PERSON, subscriber_id) if magnet else None
    if magnet is None or person is None or (sparingly and await db.fetchval(SPARED, subscriber_id)):
        return False
    form = await forms.get(db, form_id)
    settings = await account.get(db)
    sender = form.definition.from_ or settings.default_from
    offered = await offer(db, desk.tokens, desk.public_url, form_id, subscriber_id, now=person["now"])
    if sender is None or offered is None:
        return False
    given = magnet_letter.Given(
        title=title_of(form, ""),
        magnet=offered.title,
        url=offered.url,
        size=magnet.file.size if magnet.file else None,
        ending=magnet.file.filename.rpartition(".")[2].upper() if magnet.file and "." in magnet.file.filename else "",
        days=VALID.days,
        postal_address=settings.postal_address,
        accent=settings.accent,
        locale=form.definition.locale or locale or person["locale"] or settings.locale,
    )
    rendered = magnet_letter.compose(given)
    message = NewMessage(
        kind="transactional",
        from_=Sender(sender.name, sender.email),
        to=Address(person["email"], person["email_key"], person["domain"]),
        subject=rendered.subject,
        html=rendered.html,
        text=rendered.text,
        subscriber_id=subscriber_id,
    )
    await messages.create(db, message)
    await db.execute(NOTE, subscriber_id, form_id)
    await timeline.note(db, subscriber_id, "lead_magnet_sent", form_id=form_id)
    return True


OPENED = """
SELECT locale, now() AS now FROM subscribers WHERE id = $1
"""


class Opened(Struct, frozen=True):
    """A link that was followed: what it leads to, and the person's language."""

    magnet: Magnet
    form_title: str
    locale: str | None
    expired: bool


async def opened(db: Connection, form_id: int, subscriber_id: int, expires: int) -> Opened:
    """Return what a signed link leads to.

    Raises:
        NotFound: the person or the gift is no longer there.

    """
    person = await db.fetchrow(OPENED, subscriber_id)
    magnet = await find(db, form_id)
    if person is None or magnet is None:
        raise NotFound("there is nothing to fetch any more")
    form = await forms.get(db, form_id)
    return Opened(
        magnet,
        title_of(form, ""),
        form.definition.locale or person["locale"],
        expires <= person["now"].timestamp(),
    )


FETCHED = """
WITH person AS (
    INSERT INTO magnet_downloads AS known (form_id, subscriber_id)
    SELECT forms.id, subscribers.id FROM forms, subscribers WHERE forms.id = $1 AND subscribers.id = $2 FOR KEY SHARE
    ON CONFLICT (form_id, subscriber_id) DO UPDATE SET n = known.n + 1, last_at = now() WHERE known.last_at < now() - interval '30 minutes'
    RETURNING n
), counted AS (
    INSERT INTO magnet_counts AS counts (form_id, people, downloads) SELECT $1, (n = 1)::int, 1 FROM person
    ON CONFLICT (form_id) DO UPDATE SET people = counts.people + excluded.people, downloads = counts.downloads + 1
)
SELECT n FROM person
"""


async def count(db: Connection, form_id: int, subscriber_id: int) -> None:
    """Count a download that came to its end."""
    if await db.fetchval(FETCHED, form_id, subscriber_id) is not None:
        await timeline.note(db, subscriber_id, "lead_magnet_fetched", form_id=form_id)
