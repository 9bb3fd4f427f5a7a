"""Change of address: asked from the preference centre, answered from the new mailbox, announced to the old one.

::

    ask ──▶ open ──the new mailbox answers──▶ confirmed     letters go there; the old one is told
              ├──the old mailbox objects───▶ stopped
              └──────────────────────────▶ expired          after seven days, or when a newer one is asked

Whoever asks is told the same whatever is known of the new address: nothing goes to one that is suppressed, was erased, or still cools
down from another letter. If somebody is subscribed there already, the answer of that mailbox joins the two: they keep what is theirs
(attributes, tags), gain the interests and consents of the one that moves, and the one that moves leaves.
"""

from datetime import datetime
from typing import Any, Final, Literal

from asyncpg import Record, UniqueViolationError
from msgspec import Struct

from mailbase.audience import account, addresses, consents, subscribers, suppressions, timeline
from mailbase.audience.addresses import Address
from mailbase.audience.consents import ConsentGiven
from mailbase.db import Connection
from mailbase.errors import Gone, Invalid, NotFound, RateLimited
from mailbase.letters.content import Sender
from mailbase.optin import cooldowns, notices, withdrawal
from mailbase.optin.confirm import Witness
from mailbase.optin.confirmation import Desk
from mailbase.optin.notice_words import Notice
from mailbase.optin.notice_words import notices as said_in
from mailbase.optin.notices import Letter
from mailbase.optin.preferences import HERE, masked
from mailbase.optin.words import letter_language

State = Literal["open", "confirmed", "stopped"]
Role = Literal["confirm", "stop"]

ROLES: Final[tuple[Role, ...]] = ("confirm", "stop")
"""By the second number of the token."""
A_DAY: Final = 3


class Change(Struct):
    """What a change's page shows; ``old`` and ``new`` are masked."""

    state: State
    old: str
    new: str
    locale: str | None
    expires_at: datetime


PERSON = """
SELECT id, email, email_key, domain, status, locale FROM subscribers WHERE id = $1 FOR UPDATE
"""

ASKED = """
SELECT count(*) FROM subscriber_events WHERE subscriber_id = $1 AND kind = 'address_asked' AND at > now() - interval '1 day'
"""

SUPERSEDE = """
UPDATE address_changes SET stopped_at = now() WHERE subscriber_id = $1 AND confirmed_at IS NULL AND stopped_at IS NULL
"""

CREATE = """
INSERT INTO address_changes (subscriber_id, old_email, old_key, email, email_key, domain, from_name, from_email, locale, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + interval '7 days') RETURNING id
"""

LETTERS = """
UPDATE address_changes SET message_ids = message_ids || $2::bigint[] WHERE id = $1
"""


async def ask(db: Connection, desk: Desk, subscriber_id: int, email: str, *, delivery_id: int) -> None:
    """Ask the new address whether it is right, and tell the old one; the same to the caller whatever the new one is.

    Raises:
        Invalid: ``invalid_email``; ``not_available``, the person gets no letters; ``sender_missing``.
        NotFound: the person is no longer there.
        RateLimited: the fourth time within a day.

    """
    new = addresses.parse(email)
    row = await db.fetchrow(PERSON, subscriber_id)
    if row is None:
        raise NotFound("there is nothing stored about you any more")
    if row["status"] not in HERE:
        raise Invalid.field("action", "not_available", "Who gets no letters has no address to change. Subscribe again.")
    settings = await account.get(db)
    otherwise = await notices.sender_for(db, subscriber_id, delivery_id)
    named = settings.default_from
    sender = Sender(named.name, named.email) if named else otherwise
    if sender is None:
        raise Invalid.field("default_from", "sender_missing", "Nobody is named whom letters are from.")
    if await db.fetchval(ASKED, subscriber_id) >= A_DAY:
        raise RateLimited("An address can be changed three times a day.", retry_after=86400)
    await timeline.note(db, subscriber_id, "address_asked")
    old = Address(row["email"], row["email_key"], row["domain"])
    if new.email == old.email or await suppressions.reason_for(db, new, desk.erasure_key) is not None:
        return
    if not await cooldowns.take(db, new, desk.erasure_key):
        return
    locale = row["locale"] or settings.locale
    await db.execute(SUPERSEDE, subscriber_id)
    change: int = await db.fetchval(
        CREATE, subscriber_id, old.email, old.key, new.email, new.key, new.domain, sender.name, sender.email, locale
    )
    said = said_in(locale)
    about = {"old": masked(old.email), "new": masked(new.email)}

    async def write(to: Address, notice: Notice, role: Role) -> int:
        url = f"{desk.public_url}/a/{desk.tokens.sign('address', change, ROLES.index(role))}"
        letter = Letter(
            to=to,
            from_=sender,
            notice=notice.about(**about),
            language=letter_language(locale),
            url=url,
            confirms=role == "confirm",
        )
        return await notices.send(db, letter)

    letters = [await write(new, said.confirm_address, "confirm"), await write(old, said.address_asked, "stop")]
    await db.execute(LETTERS, change, letters)


READ = """
SELECT change.id, subscriber_id, old_email, old_key, change.email, change.email_key, change.domain, from_name, from_email, change.locale,
    expires_at, change.confirmed_at, stopped_at,
    expires_at > now() AND person.status IN ('active', 'archived') AND person.email_key = old_key
        AND change.created_at >= COALESCE(person.unsubscribed_at, '-infinity') AS alive,
    EXISTS (SELECT FROM suppressions WHERE value IN (change.email_key, change.domain, $2)) AS barred
FROM address_changes AS change JOIN subscribers AS person ON person.id = subscriber_id
WHERE change.id = $1
"""


async def look(db: Connection, desk: Desk, change_id: int) -> Change:
    """Return what is asked.

    Raises:
        Gone: it is expired, void, or the person is no longer there.

    """
    return _shown(await _read(db, desk, change_id))


BOTH = """
SELECT person.id FROM subscribers AS person JOIN address_changes AS change ON change.id = $1
WHERE person.id = change.subscriber_id OR person.email_key = change.email_key
ORDER BY person.id FOR UPDATE OF person
"""

CONFIRM = """
UPDATE address_changes SET confirmed_at = now() WHERE id = $1
"""

HOLDER = """
SELECT id FROM subscribers WHERE email_key = $1 AND id <> $2
"""

MOVE = """
UPDATE subscribers SET email = $2, email_key = $3, domain = $4, updated_at = now() WHERE id = $1
"""


async def confirm(db: Connection, desk: Desk, change_id: int, witness: Witness) -> Change:
    """Let the letters go to the new address, in one transaction; a second time changes nothing.

    Raises:
        Gone: as ``look``.

    """
    await db.execute(BOTH, change_id)
    row = await _read(db, desk, change_id)
    if row["confirmed_at"] is not None or row["stopped_at"] is not None:
        return _shown(row)
    person: int = row["subscriber_id"]
    await db.execute(CONFIRM, change_id)
    holder = await db.fetchval(HOLDER, row["email_key"], person)
    if holder is None:
        try:
            async with db.transaction():
                await db.execute(MOVE, person, row["email"], row["email_key"], row["domain"])
        except UniqueViolationError:  # somebody subscribed with it this very moment
            await db.execute(BOTH, change_id)
            holder = await db.fetchval(HOLDER, row["email_key"], person)
    about = {"from": row["old_email"], "to": row["email"]}
    await timeline.note(db, person, "address_changed", data=about if holder is None else {**about, "joined": holder})
    if holder is not None:
        await _join(db, row, holder, witness)
    await cooldowns.forget(db, Address(row["email"], row["email_key"], row["domain"]), desk.erasure_key)
    await _tell(db, row)
    return _shown(await _read(db, desk, change_id))


STOP = """
UPDATE address_changes SET stopped_at = now() WHERE id = $1 AND confirmed_at IS NULL AND stopped_at IS NULL RETURNING subscriber_id
"""


async def stop(db: Connection, desk: Desk, change_id: int) -> Change:
    """Stop a change that nobody has confirmed yet; one that is done stays done.

    Raises:
        Gone: as ``look``.

    """
    person = await db.fetchval(STOP, change_id)
    if person is not None:
        await timeline.note(db, person, "address_stopped")
    return _shown(await _read(db, desk, change_id))


JOIN = """
UPDATE subscribers AS holder SET
    status = CASE WHEN holder.status = 'archived' THEN holder.status ELSE 'active' END,
    confirmed_at = CASE WHEN holder.status IN ('active', 'archived') THEN COALESCE(holder.confirmed_at, now()) ELSE now() END,
    unsubscribed_at = NULL,
    frequency = CASE WHEN holder.status IN ('active', 'archived') THEN holder.frequency ELSE mover.frequency END,
    interests = ARRAY(SELECT DISTINCT interest FROM unnest(mover.interests
        || CASE WHEN holder.status IN ('unsubscribed', 'bounced', 'complained') THEN '{}'::bigint[] ELSE holder.interests END) AS interest ORDER BY interest),
    updated_at = now()
FROM subscribers AS mover WHERE mover.id = $1 AND holder.id = $2
"""


async def _join(db: Connection, row: Record, holder: int, witness: Witness) -> None:
    mover: int = row["subscriber_id"]
    await db.execute(JOIN, mover, holder)
    for one in await withdrawal.in_force(db, mover):
        given = ConsentGiven(
            purpose=one.purpose, text=one.text, policy_url=one.policy_url, source="address_change", at=one.at
        )
        await consents.record(db, holder, given)
        given = ConsentGiven(
            purpose=one.purpose,
            text=one.text,
            policy_url=one.policy_url,
            source="address_change",
            ip=witness.ip,
            user_agent=witness.user_agent,
        )
        await consents.record(db, holder, given, act="confirmed")
    about = {"from": row["old_email"], "to": row["email"], "joined_by": mover}
    await timeline.note(db, holder, "address_changed", data=about)
    await subscribers.unsubscribe(db, mover, source="address_change")


async def _tell(db: Connection, row: Record) -> None:
    notice = said_in(row["locale"]).address_changed
    letter = Letter(
        to=Address(row["old_email"], row["old_key"], row["old_key"].rpartition("@")[2]),
        from_=Sender(row["from_name"], row["from_email"]),
        notice=notice.about(old=masked(row["old_email"]), new=masked(row["email"])),
        language=letter_language(row["locale"]),
    )
    await db.execute(LETTERS, row["id"], [await notices.send(db, letter)])


FORGET = """
DELETE FROM address_changes WHERE confirmed_at IS NULL AND expires_at < now() - interval '30 days'
"""


async def forget_old(db: Connection) -> None:
    """Forget, with its letters, what nobody confirmed: the address may be a stranger's."""
    await db.execute(FORGET)


async def _read(db: Connection, desk: Desk, change_id: int) -> Any:
    key = await db.fetchval("SELECT email_key FROM address_changes WHERE id = $1", change_id)
    erased = suppressions.erased_value(key, desk.erasure_key) if key else ""
    row = await db.fetchrow(READ, change_id, erased)
    settled = row is not None and (row["confirmed_at"] is not None or row["stopped_at"] is not None)
    if row is None or (not settled and (not row["alive"] or row["barred"])):
        raise Gone("this change of address is no longer valid")
    return row


def _shown(row: Record) -> Change:
    state: State = "confirmed" if row["confirmed_at"] else "stopped" if row["stopped_at"] else "open"
    return Change(state, masked(row["old_email"]), masked(row["email"]), row["locale"], row["expires_at"])
