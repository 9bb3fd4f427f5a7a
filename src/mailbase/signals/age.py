"""Age: what a signal keeps of where it came from is shortened after thirty days."""

from datetime import datetime, timedelta
from typing import Final

from mailbase.db import Connection

KEPT: Final = timedelta(days=30)

SHORTEN = """
UPDATE signals SET ip = set_masklen(ip, CASE family(ip) WHEN 4 THEN 24 ELSE 48 END)::cidr
WHERE at < coalesce($1, now()) - $2::interval AND masklen(ip) > CASE family(ip) WHEN 4 THEN 24 ELSE 48 END
"""


async def shorten(db: Connection, now: datetime | None = None) -> int:
    """Cut addresses older than thirty days to their /24 or /48 and return how many. Reads the old rows: once a day will do."""
    return int((await db.execute(SHORTEN, now, KEPT)).rpartition(" ")[2])
