"""The names of providers as people write them: what they call them, and a refusal of what nobody is called."""

import re
from collections.abc import Collection
from typing import Final

from mailbase.db import Connection
from mailbase.errors import Invalid
from mailbase.sending.warmup.rules import TOTAL, UNKNOWN

CALLED: Final = {
    "gmail": "google", "gmail.com": "google", "googlemail": "google", "googlemail.com": "google", "workspace": "google",
    "outlook": "microsoft", "outlook.com": "microsoft", "hotmail": "microsoft", "hotmail.com": "microsoft", "live.com": "microsoft",
    "office365": "microsoft365", "exchange": "microsoft365",
    "yahoo.com": "yahoo", "aol": "yahoo", "aol.com": "yahoo",
    "icloud": "apple", "icloud.com": "apple", "me.com": "apple",
    "mail.ru": "mailru", "mail_ru": "mailru", "bk.ru": "mailru", "list.ru": "mailru", "inbox.ru": "mailru",
    "yandex.ru": "yandex", "ya.ru": "yandex",
    "gmx.de": "gmx", "gmx.net": "gmx", "web.de": "gmx", "webde": "gmx", "t-online": "telekom", "t-online.de": "telekom",
    "orange.fr": "orange", "wanadoo.fr": "orange", "free.fr": "free", "laposte.net": "laposte", "comcast.net": "comcast",
}  # fmt: skip
"""What people call them, by the name in the table of providers."""

SITE: Final = re.compile(r"site:[a-z0-9](?:[a-z0-9.-]{0,250}[a-z0-9])?")

KNOWN = """
SELECT name FROM providers UNION SELECT provider FROM warmup_keys WHERE domain_id = $1 ORDER BY 1
"""


def called(name: str) -> str:
    """Return the provider's name in the table."""
    return CALLED.get(name.strip().lower(), name)


async def check(db: Connection, domain_id: int, names: Collection[str], *, field: str) -> None:
    """Refuse a provider that nobody is called: ``*``, ``other``, a name of the table, or a site (``site:example.net``).

    Raises:
        Invalid: ``unknown_provider``, with the names there are.

    """
    known = [row["name"] for row in await db.fetch(KNOWN, domain_id)]
    for name in names:
        if name not in {TOTAL, UNKNOWN, *known} and not SITE.fullmatch(name):
            usual = ", ".join(one for one in known if not one.startswith("site:") and one != TOTAL)
            message = f"There is no provider {name[:40]}. There are {usual}, * for all of them together, and site:HOST for others."
            raise Invalid.field(field, "unknown_provider", message)
