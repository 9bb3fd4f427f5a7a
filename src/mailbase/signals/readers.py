"""Readers: where a click leads for the person whose letter it was, and what templates know of that person."""

from typing import Final
from urllib.parse import quote, urlsplit

from mailbase.db import Connection
from mailbase.letters.content import Person
from mailbase.letters.links import link_url
from mailbase.signals.hits import Place

_KEPT: Final = "%/:=&?~#+!$,;'@()*[]"

PERSON = """
SELECT id, email, attributes, tags, locale, timezone,
       ARRAY(SELECT slug FROM interests WHERE id = ANY(subscribers.interests) ORDER BY slug) AS interests
FROM subscribers WHERE id = $1
"""


async def person(db: Connection, subscriber_id: int | None) -> Person | None:
    """Return what templates see of a subscriber; None once the person is erased."""
    row = await db.fetchrow(PERSON, subscriber_id)
    return None if row is None else Person(**row)


def destination(place: Place, reader: Person | None) -> str | None:
    """Return the URL a click is sent on to, in ASCII; None where the stored URL is not one for the web.

    Of an erased person nothing is known, and expressions come out empty.
    """
    url = link_url(place.url or "", reader or Person(id=0, email=""))
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return None
    if parts.netloc.isascii():
        return quote(url, safe=_KEPT)
    # quote() would percent-encode the host too; browsers want it as A-labels.
    host = parts.netloc.encode("idna").decode()
    return quote(parts._replace(netloc=host).geturl(), safe=_KEPT)


def personal(place: Place) -> bool:
    """Tell whether a place's URL needs to know its reader."""
    return "{{" in (place.url or "") or "{%" in (place.url or "")
