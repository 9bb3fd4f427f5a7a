"""Whether a confirmation can be sent at all: somebody to be from, at a domain that is set up."""

from mailbase.audience import account
from mailbase.audience.form_definition import Sender
from mailbase.db import Connection
from mailbase.errors import Invalid

KNOWN = """
SELECT EXISTS (SELECT FROM domains WHERE name = $1)
"""


async def check(db: Connection, sender: Sender | None, *, strict: bool) -> None:
    """Refuse a form whose confirmation could not be sent; ``strict`` asks for a domain that is set up.

    Raises:
        Invalid: ``sender_missing`` or ``unknown_domain``.

    """
    if sender is None:
        if (await account.get(db)).default_from is None:
            raise Invalid.field(
                "from", "sender_missing", "say whom the confirmation is from, here or in the settings' default_from"
            )
        return
    domain = sender.email.rpartition("@")[2]
    if strict and not await db.fetchval(KNOWN, domain):
        raise Invalid.field("from.email", "unknown_domain", f"{domain} is not set up as a sending domain")
