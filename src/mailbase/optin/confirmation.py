"""Asking for a confirmation: one letter for everything chosen since the last one was answered.

::

    ask ──▶ open ──POST /c──▶ confirmed
              ├──▶ expired      its thirty days are over
              └──▶ void         the person left, bounced or complained after it was asked

While an address cools down no second letter goes out; what is chosen meanwhile joins the open confirmation, whose page lists all of it.
Nothing changes about a person before the answer, and the answer needs the mailbox.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from mailbase.audience import account, forms, suppressions
from mailbase.audience.account import Account
from mailbase.audience.addresses import Address
from mailbase.audience.consents import ConsentGiven
from mailbase.audience.form_counts import Whence
from mailbase.audience.forms import Form
from mailbase.db import Connection
from mailbase.errors import Invalid, NotFound
from mailbase.letters.content import Sender
from mailbase.optin import cooldowns, letter
from mailbase.sending.dispatch import messages
from mailbase.sending.dispatch.messages import NewMessage
from mailbase.tokens import Tokens

Outcome = Literal["accepted", "cooldown", "suppressed"]

MOST_ACTS: Final = 20


class Desk(Struct, frozen=True):
    """What asking needs beside the database: the signer of links, where they lead, the key of address hashes."""

    tokens: Tokens
    public_url: str
    erasure_key: bytes


class Act(Struct, kw_only=True):
    """One thing a visitor did, kept as evidence until it is confirmed; consents carry page, IP, agent and time."""

    form_id: int | None = None
    attributes: dict[str, Any] = {}
    consents: list[ConsentGiven] = []
    page: str | None = None
    source: str | None = None
    mode: str | None = None
    trigger: str | None = None
    more_of: int | None = None
    """The submission whose second step these attributes are."""

    @property
    def whence(self) -> Whence:
        """From where the visitor came."""
        return Whence(page=self.page, source=self.source, mode=self.mode, trigger=self.trigger)


class _Person(Struct):
    id: int
    email: str
    email_key: str
    domain: str
    locale: str | None = None
    stays_suppressed: bool = False

    @property
    def address(self) -> Address:
        return Address(self.email, self.email_key, self.domain)


PERSON = """
SELECT id, email, email_key, domain, locale, EXISTS (
    SELECT FROM suppressions WHERE value IN (email_key, domain) AND (kind = 'domain' OR reason = 'manual')) AS stays_suppressed
FROM subscribers WHERE id = $1 FOR UPDATE
"""

STAYS_SUPPRESSED = """
SELECT EXISTS (SELECT FROM suppressions WHERE value = ANY($1::text[]) AND (kind = 'domain' OR reason = 'manual'))
"""


async def stays_suppressed(db: Connection, address: Address) -> bool:
    """Tell whether even the person's own wish lifts nothing: the owner's entry, or the whole domain's."""
    stays: bool = await db.fetchval(STAYS_SUPPRESSED, [address.key, address.domain])
    return stays


OPEN = """
SELECT confirmation.id, confirmation.interests, confirmation.evidence
FROM confirmations AS confirmation JOIN subscribers AS subscriber ON subscriber.id = confirmation.subscriber_id
WHERE subscriber_id = $1 AND confirmation.confirmed_at IS NULL AND expires_at > now()
    AND NOT EXISTS (SELECT FROM confirmations AS later WHERE later.subscriber_id = $1 AND later.confirmed_at >= confirmation.created_at)
    AND confirmation.created_at >= COALESCE(unsubscribed_at, '-infinity')
    AND NOT EXISTS (SELECT FROM suppressions WHERE value IN (email_key, $2) AND suppressions.created_at > confirmation.created_at)
ORDER BY confirmation.id DESC LIMIT 1
"""

JOIN = """
UPDATE confirmations SET evidence = $3,
    interests = ARRAY(SELECT DISTINCT interest FROM unnest(interests || $2::bigint[]) AS interest ORDER BY interest)
WHERE id = $1
"""

CREATE = """
INSERT INTO confirmations (subscriber_id, form_id, interests, evidence, locale, expires_at)
VALUES ($1, $2, ARRAY(SELECT DISTINCT interest FROM unnest($3::bigint[]) AS interest ORDER BY interest), $4, $5, now() + interval '30 days')
RETURNING id, extract(epoch FROM date_trunc('second', expires_at))::bigint AS expires,
    ARRAY(SELECT name FROM interests WHERE id = ANY($3::bigint[]) ORDER BY name, id) AS names
"""

ASKED = """
WITH asked AS (UPDATE confirmations SET message_id = $2 WHERE id = $1 RETURNING id, subscriber_id, form_id)
INSERT INTO subscriber_events (subscriber_id, kind, form_id, data)
SELECT subscriber_id, 'confirmation_sent', form_id, jsonb_build_object('confirmation_id', id) FROM asked
"""


async def ask(
    db: Connection,
    desk: Desk,
    subscriber_id: int,
    *,
    form: Form | None = None,
    interests: Sequence[int] = (),
    consents: Sequence[ConsentGiven] = (),
    attributes: Mapping[str, Any] | None = None,
    whence: Whence | None = None,
    locale: str | None = None,
    otherwise: Sender | None = None,
    notify: bool = True,
    settings: Account | None = None,
    new: Address | None = None,
) -> Outcome:
    """Send one confirmation letter for these interests (ids), consents and attributes, unless the address cools down.

    Call it inside a transaction. Everything given is written to the person only by the confirmation.
    It is from the form's sender, else from the settings', else from ``otherwise``. ``notify``: see ``messages.create``.
    ``settings``: where the caller has read them already. ``new``: the address of a person this transaction made, whom nothing can bar.

    Raises:
        Invalid: ``sender_missing``, none of them says whom letters are from.
        NotFound: there is no such subscriber.

    """
    person = await _person(db, subscriber_id) if new is None else _Person(subscriber_id, new.email, new.key, new.domain)
    settings = settings or await account.get(db)
    sender = (form.definition.from_ if form else None) or settings.default_from or otherwise
    if sender is None:
        raise Invalid.field(
            "default_from",
            "sender_missing",
            "neither a form nor the settings' default_from says whom the confirmation is from",
        )
    if person.stays_suppressed:
        return "suppressed"
    acts = [
        Act(
            form_id=form.id if form else None,
            attributes=dict(attributes or {}),
            consents=list(consents),
            **msgspec.structs.asdict(whence or Whence()),
        )
    ]
    chosen = list(interests)
    erased = suppressions.erased_value(person.email_key, desk.erasure_key)
    opened = await db.fetchrow(OPEN, person.id, erased) if new is None else None
    if opened is not None:
        acts = [*acts_of(opened["evidence"]), *acts][-MOST_ACTS:]
        chosen += opened["interests"]
    if not await cooldowns.take(db, person.address, desk.erasure_key):
        if opened is not None:
            await db.execute(JOIN, opened["id"], chosen, _evidence(acts))
        return "cooldown"
    locale = (form.definition.locale if form else None) or locale or person.locale or settings.locale
    created = await db.fetchrow(CREATE, person.id, form.id if form else None, chosen, _evidence(acts), locale)
    assert created is not None  # noqa: S101  (an INSERT … RETURNING of one row)
    asked = letter.Asked(
        title=title_of(form, sender.name or sender.email),
        confirm_url=f"{desk.public_url}/c/{desk.tokens.sign('confirm', created['id'], created['expires'])}",
        interests=created["names"],
        consents=_texts(acts),
        postal_address=settings.postal_address,
        accent=settings.accent,
        locale=locale,
    )
    rendered = letter.compose(asked, form.definition.confirmation if form else None)
    message = NewMessage(
        kind="confirmation",
        from_=Sender(sender.name, sender.email),
        to=person.address,
        subject=rendered.subject,
        html=rendered.html,
        text=rendered.text,
        subscriber_id=person.id,
    )
    message_id, _ = await messages.create(db, message, notify=notify)
    await db.execute(ASKED, created["id"], message_id)
    return "accepted"


async def _person(db: Connection, subscriber_id: int) -> _Person:
    row = await db.fetchrow(PERSON, subscriber_id)
    if row is None:
        raise NotFound("there is no such subscriber")
    return _Person(**row)


def title_of(form: Form | None, otherwise: str) -> str:
    """Return what a form calls itself before visitors."""
    return (form.definition.texts.title or form.name) if form else otherwise


def acts_of(evidence: Any) -> list[Act]:
    """Read the evidence of a confirmation."""
    return msgspec.convert(evidence.get("acts", []), list[Act])


def _evidence(acts: Sequence[Act]) -> dict[str, Any]:
    return {"acts": msgspec.to_builtins(acts)}


def _texts(acts: Sequence[Act]) -> list[str]:
    return list(
        dict.fromkeys(consent.text for act in acts for consent in act.consents if consent.source != "form_words")
    )


LAST = """
SELECT form_id, locale FROM confirmations WHERE subscriber_id = $1 ORDER BY id DESC LIMIT 1
"""


async def send_again(db: Connection, desk: Desk, subscriber_id: int, *, form_id: int | None = None) -> Outcome:
    """Send the confirmation again, in the words of the form it came from, or of ``form_id``.

    Raises:
        Invalid: ``sender_missing``.
        NotFound: there is no such subscriber or form.

    """
    last = await db.fetchrow(LAST, subscriber_id)
    chosen = form_id or (last["form_id"] if last else None)
    form = await forms.get(db, chosen) if chosen else None
    return await ask(db, desk, subscriber_id, form=form, locale=last["locale"] if last else None)
