"""A submission: one transaction from what a visitor entered to the letter that asks them to confirm it.

::

    suspect, bot, limited ──────▶ held with the reasons, until the owner releases it
    the owner's suppression ────▶ noted, nothing else
    double opt-in ──────────────▶ a new person is pending; everybody gets the same letter, unless their address cools down
    without double opt-in ──────▶ active at once; who left, complained, bounced or was erased gets the letter all the same

The visitor is told the same in every case. An active person's choices wait for that letter too: anybody can type an address.
"""

from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from mailbase.audience import consents, form_counts, forms, subscribers, suppressions, timeline
from mailbase.audience.account import Account
from mailbase.audience.addresses import Address
from mailbase.audience.consents import ConsentGiven
from mailbase.audience.form_counts import Whence
from mailbase.audience.forms import Form
from mailbase.audience.subscribers import Details
from mailbase.db import Connection
from mailbase.errors import Invalid
from mailbase.optin import attacks, confirmation, magnets, submissions
from mailbase.optin.confirmation import Desk
from mailbase.optin.entry import Entry
from mailbase.optin.protection import PASSED, Judgement

Outcome = Literal["accepted", "activated", "cooldown", "suppressed", "held", "sender_missing"]

COUNTED = frozenset({"accepted", "activated"})
FORM_WORDS = "form_words"
"""The source of a consent where a form asks for none: the words beside its button."""


class Visitor(Struct, kw_only=True):
    """From where a submission came; kept as evidence."""

    ip: str | None = None
    user_agent: str | None = None
    whence: Whence = Whence()
    utm: dict[str, str] = {}
    locale: str | None = None

    @property
    def page(self) -> str | None:
        """The page the form stands on."""
        return self.whence.page

    @property
    def source(self) -> str | None:
        """What brought the visitor there."""
        return self.whence.source

    def came(self) -> dict[str, Any]:
        """Return what is kept beside the page: source, mode, trigger, utm_…, as far as they are said."""
        said = {**msgspec.structs.asdict(self.whence), **self.utm}
        return {name: value for name, value in said.items() if value and name != "page"}


class Taken(Struct, frozen=True):
    """A stored submission, and what became of it."""

    id: int
    outcome: Outcome


NOTE = """
WITH noted AS (
    INSERT INTO submissions (form_id, subscriber_id, outcome, fields, interests, page, ip, user_agent, whence, reasons)
    VALUES ($1, $2, $3, $4, $5, $6, $7::text::inet, $8, $9, $10) RETURNING id, subscriber_id, form_id, outcome
), told AS (
    INSERT INTO subscriber_events (subscriber_id, kind, form_id, data)
    SELECT subscriber_id, 'submitted', form_id, jsonb_build_object('outcome', outcome) FROM noted WHERE subscriber_id IS NOT NULL
)
SELECT id FROM noted
"""

HOLD = """
INSERT INTO submissions (form_id, outcome, fields, interests, page, ip, user_agent, whence, verdict, reasons, email, email_key, held)
VALUES ($1, 'held', $2, $3, $4, $5::text::inet, $6, $7, $8, $9, $10, $11, $12) RETURNING id
"""


class _Case(Struct):
    form: Form
    entry: Entry
    visitor: Visitor
    evidence: list[ConsentGiven]
    judgement: Judgement = PASSED
    settings: Account | None = None
    notify: bool = False


class _Content(Struct):
    """What is kept of a submission that is held."""

    entry: Entry
    visitor: Visitor
    words: str


async def submit(
    db: Connection,
    desk: Desk,
    form: Form,
    entry: Entry,
    visitor: Visitor,
    *,
    words: str,
    judgement: Judgement = PASSED,
    settings: Account | None = None,
) -> Taken:
    """Take a submission in and return what became of it; the visitor is not told.

    ``words`` are what a form without consents of its own says beside its button: the least anybody agreed to.
    Workers are not woken for its letter: see ``messages.create``.
    """
    if judgement.verdict != "pass":
        return await _hold(db, form, _Content(entry, visitor, words), judgement)
    standing = await _look(db, desk, entry.address)
    case = _Case(form, entry, visitor, evidence_of(entry, visitor, words, standing.at), judgement, settings=settings)
    if standing.stays_suppressed:
        return Taken(await _note(db, case, "suppressed", kept=False), "suppressed")
    subscriber_id, outcome = await _take_in(db, desk, case, barred=standing.barred)
    number = await _note(db, case, outcome, subscriber_id)
    await _count(db, case, outcome)
    return Taken(number, outcome)


async def release(db: Connection, desk: Desk, submission_id: int) -> Outcome:
    """Let a held submission go the ordinary way and return what became of it. Consents keep the time they were given.

    Raises:
        NotFound: there is no such submission.
        Conflict: ``not_held``.

    """
    held = await submissions.take_held(db, submission_id)
    content = msgspec.convert(held.content, _Content)
    form = await forms.get(db, held.form_id)
    offered = {interest.id for interest in form.interests}  # what was deleted meanwhile is no longer asked for
    content.entry.interests = [interest for interest in content.entry.interests if interest in offered]
    standing = await _look(db, desk, content.entry.address)
    case = _Case(
        form,
        content.entry,
        content.visitor,
        evidence_of(content.entry, content.visitor, content.words, held.at),
        notify=True,
    )
    if standing.stays_suppressed:
        await submissions.mark_released(db, submission_id, "suppressed", None)
        return "suppressed"
    subscriber_id, outcome = await _take_in(db, desk, case, barred=standing.barred)
    await submissions.mark_released(db, submission_id, outcome, subscriber_id)
    await timeline.note(db, subscriber_id, "submitted", form_id=form.id, data={"outcome": outcome})
    await _count(db, case, outcome)
    return outcome


async def _hold(db: Connection, form: Form, content: _Content, judgement: Judgement) -> Taken:
    visitor, entry = content.visitor, content.entry
    number: int = await db.fetchval(
        HOLD, form.id, entry.attributes, entry.interests, visitor.page, visitor.ip, visitor.user_agent, visitor.came(),
        judgement.verdict, list(judgement.reasons), entry.address.email, entry.address.key, msgspec.to_builtins(content),
    )  # fmt: skip
    await attacks.count(db, {(form.id, reason): 1 for reason in judgement.reasons})
    return Taken(number, "held")


async def _count(db: Connection, case: _Case, outcome: Outcome) -> None:
    if outcome in COUNTED:
        await form_counts.add(db, case.form.id, "submit", case.visitor.whence)
    await attacks.count(db, {(case.form.id, reason): 1 for reason in case.judgement.reasons})


async def _note(
    db: Connection, case: _Case, outcome: Outcome, subscriber_id: int | None = None, *, kept: bool = True
) -> int:
    fields, interests = (case.entry.attributes, case.entry.interests) if kept else ({}, [])
    visitor = case.visitor
    number: int = await db.fetchval(
        NOTE, case.form.id, subscriber_id, outcome, fields, interests, visitor.page, visitor.ip, visitor.user_agent, visitor.came(),
        list(case.judgement.reasons),
    )  # fmt: skip
    return number


def evidence_of(entry: Entry, visitor: Visitor, words: str, at: datetime) -> list[ConsentGiven]:
    """Return what was agreed to; ``words`` where nothing was asked."""
    # A page may call its source what it likes, but for what says that nothing was asked.
    source = visitor.source if visitor.source not in {None, FORM_WORDS} else "form"
    said = [(consent.purpose, consent.text, consent.policy_url, source) for consent in entry.consents]
    return [
        ConsentGiven(
            purpose=purpose,
            text=text,
            policy_url=policy_url,
            source=source,
            page=visitor.page,
            ip=visitor.ip,
            user_agent=visitor.user_agent,
            at=at,
        )
        for purpose, text, policy_url, source in said or [("newsletter", words, None, FORM_WORDS)]
    ]


class _Standing(Struct, frozen=True):
    at: datetime
    barred: bool
    stays_suppressed: bool


STANDING = """
SELECT now() AS at, EXISTS (SELECT FROM suppressions WHERE value = ANY($1::text[])) AS barred,
    EXISTS (SELECT FROM suppressions WHERE value = ANY($1::text[]) AND (kind = 'domain' OR reason = 'manual')) AS stays_suppressed
"""


async def _look(db: Connection, desk: Desk, address: Address) -> _Standing:
    """Return whether the address must not be written to, and whether even its owner's wish lifts that."""
    values = [address.key, address.domain, suppressions.erased_value(address.key, desk.erasure_key)]
    row = await db.fetchrow(STANDING, values)
    assert row is not None  # noqa: S101  (a SELECT without FROM)
    return _Standing(**row)


async def _take_in(db: Connection, desk: Desk, case: _Case, *, barred: bool) -> tuple[int, Outcome]:
    form, entry, visitor = case.form, case.entry, case.visitor
    at_once = not form.definition.double_opt_in and not barred
    # Of somebody who was erased nothing is written down before they confirm.
    details = (
        Details()
        if barred
        else Details(
            attributes=entry.attributes, interests=entry.interests, locale=form.definition.locale or visitor.locale
        )
    )
    made = await subscribers.create(
        db, entry.address, details, status="active" if at_once else "pending", source="form"
    )
    known = await subscribers.lock(db, entry.address.key) if made is None else (made, "new")
    assert known is not None  # noqa: S101  (created above, or there before)
    subscriber_id, status = known
    if at_once and status not in subscribers.LEFT:
        await _activate(db, subscriber_id, status, case)
        await magnets.deliver(db, desk, form.id, subscriber_id, locale=visitor.locale, sparingly=True)
        return subscriber_id, "activated"
    if status == "pending":
        await subscribers.merge(db, subscriber_id, Details(interests=entry.interests))
    try:
        return subscriber_id, await confirmation.ask(
            db,
            desk,
            subscriber_id,
            form=form,
            interests=entry.interests,
            consents=case.evidence,
            attributes=entry.attributes,
            whence=visitor.whence,
            locale=visitor.locale,
            notify=case.notify,
            settings=case.settings,
            new=entry.address if made is not None else None,
        )
    except Invalid as error:
        if error.code != "sender_missing":
            raise
        return subscriber_id, "sender_missing"


async def _activate(db: Connection, subscriber_id: int, status: str, case: _Case) -> None:
    if status != "new":
        # Nobody's mailbox was asked, so what is known already is not overwritten.
        held = (await subscribers.get(db, subscriber_id)).attributes
        fresh = {name: value for name, value in case.entry.attributes.items() if name not in held}
        await subscribers.merge(db, subscriber_id, Details(attributes=fresh, interests=case.entry.interests))
        await subscribers.activate(db, subscriber_id)
    for consent in case.evidence:
        await consents.record(db, subscriber_id, consent, form_id=case.form.id)
