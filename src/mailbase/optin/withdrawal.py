"""Withdrawing one consent: the ledger gets a line more, nothing is taken out of it.

Without a consent to the newsletter nobody is written to: withdrawing that one, or the last one in force, is leaving.
"""

from datetime import datetime
from typing import Final

from msgspec import Struct

from mailbase.audience import timeline
from mailbase.db import Connection
from mailbase.errors import Invalid
from mailbase.optin.confirm import Witness
from mailbase.optin.leave import leave

NEWSLETTER: Final = "newsletter"


class InForce(Struct):
    """A consent nobody has withdrawn: the latest words of its purpose, and when they were agreed to."""

    purpose: str
    text: str
    policy_url: str | None
    at: datetime
    leaving: bool = False
    """Whether withdrawing it means leaving."""


IN_FORCE = """
SELECT purpose, text, policy_url, at FROM (
    SELECT DISTINCT ON (purpose) * FROM consents WHERE subscriber_id = $1 ORDER BY purpose, id DESC
) AS latest WHERE act <> 'withdrawn' ORDER BY purpose <> 'newsletter', purpose
"""


async def in_force(db: Connection, subscriber_id: int) -> list[InForce]:
    """Return what a person agrees to at present."""
    found = [InForce(**row) for row in await db.fetch(IN_FORCE, subscriber_id)]
    for one in found:
        one.leaving = one.purpose == NEWSLETTER or len(found) == 1
    return found


WITHDRAW = """
INSERT INTO consents (subscriber_id, act, purpose, text, text_hash, policy_url, source, ip, user_agent)
SELECT $1, 'withdrawn', purpose, text, text_hash, policy_url, 'preferences', $3::text::inet, $4
FROM (SELECT * FROM consents WHERE subscriber_id = $1 AND purpose = $2 ORDER BY id DESC LIMIT 1) AS latest
WHERE act <> 'withdrawn'
"""


async def withdraw(db: Connection, subscriber_id: int, purpose: str, witness: Witness, *, delivery_id: int) -> bool:
    """Withdraw the consent to one purpose; True if the person has left by it.

    Raises:
        Invalid: ``unknown_purpose``, nothing of that purpose is in force.

    """
    consent = next((one for one in await in_force(db, subscriber_id) if one.purpose == purpose), None)
    if consent is None:
        raise Invalid.field("purpose", "unknown_purpose", "No consent to this is in force.")
    await db.execute(WITHDRAW, subscriber_id, purpose, witness.ip, witness.user_agent)
    await timeline.note(db, subscriber_id, "consent_withdrawn", data={"purpose": purpose})
    if consent.leaving:
        await leave(db, subscriber_id, delivery_id=delivery_id, source="consent_withdrawn")
    return consent.leaving
