"""A letter in the browser: what one reader was sent, from the frozen content and what is known of the reader now."""

import html
import re

import msgspec

from mailbase.db import Connection
from mailbase.errors import NotFound
from mailbase.letters.content import Compiled
from mailbase.letters.content import Tokens as Links
from mailbase.letters.preview import render
from mailbase.signals import readers
from mailbase.tokens import Tokens

LETTER = """
SELECT delivery.id, delivery.subscriber_id, campaign.compiled
FROM deliveries AS delivery JOIN campaigns AS campaign ON campaign.id = delivery.campaign_id
WHERE delivery.id = $1 AND campaign.compiled IS NOT NULL
"""


async def page(db: Connection, delivery_id: int, tokens: Tokens) -> str:
    """Return the letter as one HTML document, its links as in the letter, without the pixel.

    Raises:
        NotFound: no such letter, or its reader was erased.

    """
    row = await db.fetchrow(LETTER, delivery_id)
    reader = await readers.person(db, row["subscriber_id"]) if row else None
    if row is None or reader is None:
        raise NotFound
    compiled = msgspec.msgpack.decode(row["compiled"], type=Compiled)
    links = Links(
        letter=tokens.sign("letter", delivery_id),
        unsubscribe=tokens.sign("unsubscribe", reader.id, delivery_id),
        preferences=tokens.sign("preferences", reader.id, delivery_id),
        view=tokens.sign("view", delivery_id),
    )
    letter = render(compiled, reader, links)
    if letter.html is None:
        style = "max-width:40em;margin:2em auto;padding:0 1em;white-space:pre-wrap;overflow-wrap:anywhere"
        return f'<!doctype html><meta charset="utf-8"><pre style="{style}">{html.escape(letter.text)}</pre>'
    return re.sub(rf'<img\s[^>]*/o/{re.escape(links.letter)}"[^>]*>', "", letter.html)
