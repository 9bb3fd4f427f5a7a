"""Writing people by their address: what a POST, a PUT and nobody else does. One transaction of the caller's.

Whoever left, bounced or complained can be described further, and stays away: only the person's own double opt-in brings back.
"""

from typing import Literal

import msgspec

from mailbase.audience import consents, limits, subscribers, suppressions, timeline
from mailbase.audience.addresses import Address
from mailbase.audience.consents import ConsentGiven
from mailbase.audience.subscribers import Details
from mailbase.db import Connection
from mailbase.errors import Conflict, FieldError, Invalid

OnConflict = Literal["error", "merge", "replace", "skip"]

CONSENT_REQUIRED = FieldError(
    "consent", "consent_required", "Without double opt-in, the consent given must come along."
)


class Saved(msgspec.Struct, frozen=True):
    """What became of a write."""

    id: int
    created: bool
    ask: bool
    """The person must now be asked for a confirmation."""


def check(details: Details) -> list[FieldError]:
    """Return everything that is wrong with what is to be kept about a person."""
    errors = limits.check_attributes(details.attributes or {}) + limits.check_tags(details.tags or ())
    if details.locale is not None:
        errors += limits.check_locale(details.locale)
    if details.timezone is not None:
        errors += limits.check_timezone(details.timezone)
    return errors


async def save(
    db: Connection,
    address: Address,
    details: Details,
    *,
    consent: ConsentGiven | None,
    double_opt_in: bool,
    on_conflict: OnConflict,
    erasure_key: bytes,
) -> Saved:
    """Create the person, or treat the one who is there as ``on_conflict`` says.

    Raises:
        Conflict: ``subscriber_exists``.
        Invalid: limits, ``consent_required`` without double opt-in, ``suppressed`` for an address that is new, or erased and
            not confirmed since, and must not be written to.

    """
    errors = check(details)
    if not double_opt_in and consent is None:
        errors.append(CONSENT_REQUIRED)
    if errors:
        raise Invalid(errors=errors, code=errors[0].code)
    active = None if double_opt_in else consent
    found = await subscribers.lock(db, address.key)
    await _refuse(db, address, found, erasure_key)
    if found is None:
        made = await subscribers.create(db, address, details, status="active" if active else "pending", source="api")
        if made is not None:
            if active is not None:
                await consents.record(db, made, active)
            return Saved(made, created=True, ask=double_opt_in)
        found = await subscribers.lock(db, address.key)
    if found is None or on_conflict == "error":
        raise Conflict("There is a subscriber with this address already.", code="subscriber_exists")
    subscriber_id, status = found
    if on_conflict == "skip":
        return Saved(subscriber_id, created=False, ask=False)
    await _change(db, subscriber_id, details, on_conflict)
    if consent is not None and status not in subscribers.LEFT and (active or status != "pending"):
        await consents.record(db, subscriber_id, consent)
    if active:
        await subscribers.activate(db, subscriber_id)
        return Saved(subscriber_id, created=False, ask=False)
    comes_back = status in {"pending", "unsubscribed"}
    return Saved(
        subscriber_id, created=False, ask=comes_back and await suppressions.reason_for(db, address, erasure_key) is None
    )


async def _refuse(db: Connection, address: Address, found: tuple[int, str] | None, erasure_key: bytes) -> None:
    """Refuse a new address on the list, and an erased one that somebody typed into a form: until its mailbox answers, it is no way back."""
    if found is None or (found[1] == "pending" and await suppressions.reason_for(db, address, erasure_key) == "erased"):
        await suppressions.refuse(db, address, erasure_key)


async def _change(db: Connection, subscriber_id: int, details: Details, on_conflict: OnConflict) -> None:
    if on_conflict == "merge":
        refuse_too_much(*await subscribers.merge(db, subscriber_id, details))
    else:
        await subscribers.replace(db, subscriber_id, details)
    await timeline.note(db, subscriber_id, "updated", data={"source": "api", "how": on_conflict})


def refuse_too_much(attributes: dict[str, object], tags: int) -> None:
    """Refuse what merging made too large.

    Raises:
        Invalid: more attributes or tags than are kept.

    """
    errors = limits.check_attributes(attributes)
    if tags > limits.TAGS:
        errors.append(FieldError("tags", "too_many", f"At most {limits.TAGS} tags are kept."))
    if errors:
        raise Invalid(errors=errors, code=errors[0].code)
