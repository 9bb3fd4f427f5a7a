"""Forms as a process remembers them, with the settings: read once, and known to be the latest by a version that costs little to ask.

The version is made of the rows' own: of the form, of the settings and of the interests that are asked for. Whoever works with what is
remembered has the version looked at by the statement that comes next anyway, and reads anew where it is another.
"""

from typing import Final

from msgspec import Struct

from mailbase.audience import account, forms
from mailbase.audience.account import Account
from mailbase.audience.forms import Form
from mailbase.db import Connection
from mailbase.errors import NotFound

MOST: Final = 256
"""Forms that are remembered."""


class Known(Struct, frozen=True):
    """A form and the settings, as they were at one moment."""

    form: Form
    settings: Account
    version: str
    by_name: tuple[int, ...]
    """The ids of its interests in the order in which letters list them: PostgreSQL's, not ours."""


# In this order: what changes between two statements is noticed by its version.
VERSION = """
SELECT form.id, concat_ws(' ', form.xmin, (SELECT xmin FROM settings), (
    SELECT string_agg(interest.xmin::text, ' ' ORDER BY interest.id)
    FROM jsonb_array_elements(form.definition -> 'interests') AS asked (id) JOIN interests AS interest ON interest.id = asked.id::bigint)) AS version
FROM forms AS form WHERE form.key = $1
"""

BY_NAME = """
SELECT id FROM interests WHERE id = ANY ($1::bigint[]) ORDER BY name, id
"""


class KnownForms:
    """What one process remembers."""

    def __init__(self) -> None:
        self._known: dict[str, Known] = {}

    def at_hand(self, key: str) -> Known | None:
        """Return what was read some time ago, or None."""
        return self._known.get(key)

    async def read(self, db: Connection, key: str) -> Known:
        """Return the form and the settings as they are now.

        Raises:
            NotFound: there is no form of this key.

        """
        row = await db.fetchrow(VERSION, key) if len(key) <= 64 and "\0" not in key else None
        known = self._known.get(key)
        if row is not None and known is not None and known.version == row["version"]:
            return known
        self._known.pop(key, None)
        if row is None:
            raise NotFound("there is no such form")
        form = await forms.by_key(db, key)
        names = await db.fetch(BY_NAME, [interest.id for interest in form.interests])
        known = Known(form, await account.get(db), row["version"], tuple(name["id"] for name in names))
        if len(self._known) >= MOST:
            self._known.pop(next(iter(self._known)))
        self._known[key] = known
        return known
