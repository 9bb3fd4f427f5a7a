"""What cannot be composed: one letter alone fails, and the others go on; a campaign that fails letter after letter stops.

composed · failed · composed …    that letter is ``failed``, and its ``last_reply`` says why
failed · failed · failed …        the campaign is paused, and its ``stopped_reason`` says why; whoever resumes it tries again
"""

import logging
from collections.abc import Sequence
from typing import Final

from mailbase.db import Connection
from mailbase.errors import MailbaseError

log = logging.getLogger(__name__)

FIRST: Final = 5
"""So many letters that fail before any could be composed stop a campaign."""
MOST: Final = 20
"""So many more letters that fail than are composed stop a campaign that has begun well."""
LONGEST: Final = 300


def words(error: Exception, what: str) -> str:
    """Return why something could not be made, as its owner may read it; what nobody foresaw is logged as well."""
    if isinstance(error, MailbaseError):
        text = error.message
    else:
        log.error("%s could not be made", what, exc_info=error)
        text = f"{type(error).__name__}: {error}"
    return text.replace("\0", "").encode(errors="replace").decode()[:LONGEST]


class Faults:
    """What one lane heard of its campaigns."""

    def __init__(self) -> None:
        self._begun: set[int] = set()
        self._over: dict[int, int] = {}
        """How many more have failed than were composed since, by campaign."""

    def heard(self, campaign_id: int, failures: Sequence[str], *, of: int) -> str | None:
        """Note a batch of ``of`` letters; return why its campaign must stop, if it must."""
        composed = of - len(failures)
        if composed:
            self._begun.add(campaign_id)
        if not failures and campaign_id not in self._over:
            return None
        over = max(self._over.pop(campaign_id, 0) + len(failures) - composed, 0)
        if failures and over >= (MOST if campaign_id in self._begun else FIRST):
            return f"Letter after letter could not be made, the last one for this: {failures[-1]}"
        if over:
            self._over[campaign_id] = over
        return None


STOP = """
UPDATE campaigns SET status = 'paused', paused_from = 'sending', stopped_reason = $2, updated_at = now()
WHERE id = $1 AND status = 'sending'
"""


async def stop(db: Connection, campaign_id: int, reason: str) -> None:
    """Pause a campaign that is sending, and say why."""
    log.error("campaign %d is paused: %s", campaign_id, reason)
    await db.execute(STOP, campaign_id, reason)
