"""Answering a confirmation: the page that shows what is asked, and the act that makes it true.

``look`` changes nothing: scanners follow every link. ``confirm`` may come twice and answers the same.
"""

from datetime import datetime
from hashlib import sha256
from typing import Literal

import msgspec
from msgspec import Struct

from mailbase.audience import account, consents, form_counts, forms, suppressions, timeline
from mailbase.audience.addresses import Address
from mailbase.audience.consents import ConsentGiven
from mailbase.audience.forms import Form
from mailbase.db import Connection
from mailbase.errors import Gone
from mailbase.optin import cooldowns, magnets
from mailbase.optin.confirmation import Desk, acts_of, title_of
from mailbase.optin.words import words

State = Literal["open", "confirmed", "void"]


class Asked(Struct, kw_only=True):
    """What a confirmation's page shows."""

    state: State
    subscriber_id: int
    title: str
    form: Form | None
    interests: list[str]
    consents: list[ConsentGiven]
    locale: str | None
    timezone: str | None
    expires_at: datetime

    @property
    def shown(self) -> str:
        """What names the topics and words that are asked, so that the button confirms no others."""
        said = [self.interests, sorted((consent.purpose, consent.text) for consent in self.consents)]
        return sha256(msgspec.json.encode(said)).hexdigest()[:16]


class Witness(Struct, frozen=True):
    """From where a button was pressed."""

    ip: str | None
    user_agent: str | None


READ = """
SELECT confirmation.id, subscriber_id, form_id, confirmation.interests, evidence, confirmation.locale, confirmation.confirmed_at,
    expires_at, timezone, email, email_key, domain, status, subscriber.interests AS held,
    expires_at > now() AND confirmation.created_at >= COALESCE(unsubscribed_at, '-infinity') AS alive,
    EXISTS (SELECT FROM suppressions WHERE value = email_key AND suppressions.created_at > confirmation.created_at
        OR value IN (email_key, domain) AND (reason = 'manual' OR kind = 'domain')) AS barred
FROM confirmations AS confirmation JOIN subscribers AS subscriber ON subscriber.id = subscriber_id
WHERE confirmation.id = $1
"""

NAMES = """
SELECT name FROM interests WHERE id = ANY($1::bigint[]) ORDER BY name, id
"""


async def look(db: Connection, confirmation_id: int) -> Asked:
    """Return what is asked.

    Raises:
        Gone: the person is no longer there, or the confirmation is expired or void.

    """
    row = await db.fetchrow(READ, confirmation_id)
    if row is None:
        raise Gone("this confirmation is no longer there")
    confirmed = row["confirmed_at"] is not None
    if not confirmed and (not row["alive"] or row["barred"]):
        raise Gone("this confirmation is no longer valid")
    form = await forms.get(db, row["form_id"]) if row["form_id"] else None
    chosen = [*row["interests"], *(row["held"] if row["status"] == "pending" else [])]
    given = {
        (consent.purpose, consent.text): consent
        for act in acts_of(row["evidence"])
        for consent in act.consents
        if consent.source != "form_words"
    }
    left = confirmed and row["status"] in {"unsubscribed", "bounced", "complained"}
    return Asked(
        state="void" if left else "confirmed" if confirmed else "open",
        subscriber_id=row["subscriber_id"],
        title=title_of(form, ""),
        form=form,
        interests=[name["name"] for name in await db.fetch(NAMES, chosen)],
        consents=list(given.values()),
        locale=row["locale"],
        timezone=row["timezone"],
        expires_at=row["expires_at"],
    )


FORM_KEY = """
SELECT key FROM forms JOIN confirmations ON form_id = forms.id WHERE confirmations.id = $1
"""


async def form_key(db: Connection, confirmation_id: int) -> str | None:
    """Return the key of the form a confirmation came from."""
    found: str | None = await db.fetchval(FORM_KEY, confirmation_id)
    return found


LOCK = """
SELECT subscriber.id FROM subscribers AS subscriber JOIN confirmations AS confirmation ON confirmation.subscriber_id = subscriber.id
WHERE confirmation.id = $1 FOR UPDATE OF subscriber
"""

CLOSE = """
UPDATE confirmations SET confirmed_at = now() WHERE id = $1
"""

# Somebody who comes back starts with what was asked for now; the rest keep what they had. What would outgrow the limits of
# attributes is left out rather than refused: the button must work.
ACTIVATE = """
UPDATE subscribers SET
    status = CASE WHEN status = 'archived' THEN status ELSE 'active' END,
    confirmed_at = CASE WHEN status IN ('active', 'archived') THEN COALESCE(confirmed_at, now()) ELSE now() END,
    unsubscribed_at = NULL,
    interests = ARRAY(SELECT DISTINCT interest
        FROM unnest(CASE WHEN status IN ('unsubscribed', 'bounced', 'complained') THEN $2::bigint[] ELSE interests || $2::bigint[] END) AS interest
        ORDER BY interest),
    attributes = CASE WHEN octet_length((attributes || $3::jsonb)::text) <= 16384
        AND (SELECT count(*) FROM jsonb_object_keys(attributes || $3::jsonb)) <= 64 THEN attributes || $3::jsonb ELSE attributes END,
    locale = COALESCE(locale, $4),
    updated_at = now()
WHERE id = $1
"""


async def confirm(
    db: Connection, desk: Desk, confirmation_id: int, witness: Witness, *, shown: str | None = None
) -> Asked:
    """Make everything asked true, in one transaction with its evidence; a second time changes nothing.

    ``shown`` is what the page said; where more was asked since, by whomever, nothing is confirmed, and it is still open.

    Raises:
        Gone: as ``look``.

    """
    await db.fetchval(LOCK, confirmation_id)
    asked = await look(db, confirmation_id)
    if asked.state != "open" or shown not in {None, asked.shown}:
        return asked
    row = await db.fetchrow(READ, confirmation_id)
    assert row is not None  # noqa: S101  (locked and looked at above)
    acts = acts_of(row["evidence"])
    attributes = {name: value for act in acts for name, value in act.attributes.items()}
    locale = row["locale"] or (await account.get(db)).locale
    await db.execute(CLOSE, confirmation_id)
    await db.execute(ACTIVATE, asked.subscriber_id, row["interests"], attributes, locale)
    # An opt-in without words of its own agreed to the button's.
    said = [(act.form_id, consent) for act in acts for consent in act.consents] or [(None, _button(locale, witness))]
    await _ledger(db, asked.subscriber_id, confirmation_id, said, witness)
    address = Address(row["email"], row["email_key"], row["domain"])
    await suppressions.lift_for_confirmed(db, address, desk.erasure_key)
    await cooldowns.forget(db, address, desk.erasure_key)
    await timeline.note(
        db, asked.subscriber_id, "confirmed", form_id=row["form_id"], data={"confirmation_id": confirmation_id}
    )
    # In one order, because others who confirm hold the same counters.
    came = {act.form_id: act.whence for act in acts if act.form_id is not None and act.more_of is None}
    for form_id in sorted(came):
        await magnets.deliver(db, desk, form_id, asked.subscriber_id, locale=row["locale"], sparingly=False)
    for form_id in sorted(came):
        await form_counts.add(db, form_id, "confirmed", came[form_id])
    asked.state = "confirmed"
    return asked


async def _ledger(
    db: Connection,
    subscriber_id: int,
    confirmation_id: int,
    said: list[tuple[int | None, ConsentGiven]],
    witness: Witness,
) -> None:
    confirmed: dict[tuple[str, str, str | None], tuple[int | None, ConsentGiven]] = {}
    for form_id, consent in said:
        await consents.record(db, subscriber_id, consent, act="given", form_id=form_id, confirmation_id=confirmation_id)
        confirmed[consent.purpose, consent.text, consent.policy_url] = (form_id, consent)
    for form_id, consent in confirmed.values():
        act = msgspec.structs.replace(consent, ip=witness.ip, user_agent=witness.user_agent, at=None)
        await consents.record(db, subscriber_id, act, act="confirmed", form_id=form_id, confirmation_id=confirmation_id)


def _button(locale: str | None, witness: Witness) -> ConsentGiven:
    return ConsentGiven(
        purpose="newsletter",
        text=words(locale).button,
        source="confirmation",
        ip=witness.ip,
        user_agent=witness.user_agent,
    )
