"""The account: the few settings an owner changes while everything runs."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mailbase.audience import addresses
from mailbase.audience.form_definition import Sender
from mailbase.db import Connection
from mailbase.errors import FieldError, Invalid

LOCALE = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$"


class Account(msgspec.Struct, kw_only=True):
    """The settings as they are."""

    default_from: Sender | None
    """Whom confirmations come from when no form says so."""
    postal_address: str | None
    """Stands in the footer of every campaign's letters, as the law wants it."""
    locale: str
    """The language of pages and letters when neither form nor visitor names one."""
    pending_days: int
    """After how many days somebody who never confirmed is deleted."""


class Changes(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What shall be different; what is not named stays."""

    default_from: Sender | UnsetType | None = UNSET
    postal_address: (
        Annotated[str, Meta(max_length=1000, examples=["Bakery Ltd, 1 Mill Lane, Bath BA1 1AA, UK"])] | UnsetType | None
    ) = UNSET
    locale: Annotated[str, Meta(pattern=LOCALE, max_length=35, examples=["en"])] | UnsetType = UNSET
    pending_days: Annotated[int, Meta(ge=1, le=365)] | UnsetType = UNSET


GET = """
SELECT default_from, postal_address, locale, pending_days FROM settings
"""


async def get(db: Connection) -> Account:
    """Return the settings."""
    row = await db.fetchrow(GET)
    return msgspec.convert(dict(row or {}), Account)


UPDATE = """
UPDATE settings SET default_from = $1, postal_address = $2, locale = $3, pending_days = $4, updated_at = now()
"""

LOCK = """
SELECT default_from, postal_address, locale, pending_days FROM settings FOR UPDATE
"""

KNOWN_DOMAIN = """
SELECT EXISTS (SELECT FROM domains WHERE name = $1)
"""


async def update(db: Connection, changes: Changes, *, strict: bool = False) -> Account:
    """Change the settings and return them. ``strict``: the default sender's domain must have been set up.

    Raises:
        Invalid: the sender is no address, its name holds a line break, or ``unknown_domain``.

    """
    if isinstance(changes.default_from, Sender):
        changes = msgspec.structs.replace(changes, default_from=await _checked(db, changes.default_from, strict=strict))
    row = await db.fetchrow(LOCK)
    new = msgspec.convert(
        {
            **dict(row or {}),
            **{name: value for name, value in msgspec.structs.asdict(changes).items() if value is not UNSET},
        },
        Account,
    )
    await db.execute(
        UPDATE,
        msgspec.to_builtins(new.default_from),
        (new.postal_address or "").strip() or None,
        new.locale,
        new.pending_days,
    )
    return await get(db)


async def _checked(db: Connection, sender: Sender, *, strict: bool) -> Sender:
    errors: list[FieldError] = []
    if len(sender.name) > 200 or any(ord(char) < 32 or ord(char) == 127 for char in sender.name):
        errors.append(
            FieldError("default_from.name", "invalid_value", "At most 200 characters on one line are needed.")
        )
    address = addresses.read(sender.email)
    if isinstance(address, str):
        errors.append(FieldError("default_from.email", "invalid_email", address))
    elif strict and not await db.fetchval(KNOWN_DOMAIN, address.domain):
        errors.append(
            FieldError(
                "default_from.email", "unknown_domain", f"{address.domain} has not been set up as a sending domain."
            )
        )
    if errors or isinstance(address, str):
        raise Invalid(errors=errors, code=errors[0].code)
    return Sender(sender.name.strip(), address.email)
