"""The account: the few settings an owner changes while everything runs."""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mailbase.audience import addresses
from mailbase.audience.form_definition import Sender
from mailbase.audience.limits import ONE_LINE
from mailbase.db import Connection
from mailbase.errors import FieldError, Invalid

LOCALE = r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{2,8}){0,3}$"


HTTP_URL = r"^https?://[^\s<>\"']+$"
COLOR = r"^#[0-9A-Fa-f]{6}$"
MOST_TEXTS = 500

Sentence = Annotated[str, Meta(max_length=1000)] | dict[str, Annotated[str, Meta(max_length=1000)]]
"""Words for a page, or their plural forms."""


class Account(msgspec.Struct, kw_only=True):
    """The settings as they are."""

    default_from: Sender | None
    """Whom confirmations come from when no form says so."""
    postal_address: str | None
    """Stands in the footer of every campaign's letters, as the law wants it, and under every page."""
    locale: str
    """The language of pages and letters when neither form nor visitor names one."""
    pending_days: int
    """After how many days somebody who never confirmed is deleted."""
    name: str | None
    """The shop's, on top of every public page unless there is a logo."""
    website: str | None
    """Where the logo leads, and whoever opens the bare address of this server."""
    accent: str | None
    """The colour of buttons and links, ``#1f4f8f``."""
    background: str | None
    """The colour around the card, by day."""
    css: str | None
    """Rules for public pages that come after ours."""
    texts: dict[str, dict[str, Sentence]]
    """What pages say instead, by language and key: ``{"en": {"confirm.title": "Nearly there"}}``."""
    confirm_auto_post: bool
    """Whether the confirmation page presses its button itself, with the risk of a scanner that runs scripts."""


class Changes(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What shall be different; what is not named stays."""

    default_from: Sender | UnsetType | None = UNSET
    postal_address: (
        Annotated[str, Meta(max_length=1000, examples=["Bakery Ltd, 1 Mill Lane, Bath BA1 1AA, UK"])] | UnsetType | None
    ) = UNSET
    locale: Annotated[str, Meta(pattern=LOCALE, max_length=35, examples=["en"])] | UnsetType = UNSET
    pending_days: Annotated[int, Meta(ge=1, le=365)] | UnsetType = UNSET
    name: Annotated[str, Meta(max_length=100, pattern=ONE_LINE, examples=["Mill Lane Bakery"])] | UnsetType | None = (
        UNSET
    )
    website: (
        Annotated[str, Meta(max_length=500, pattern=HTTP_URL, examples=["https://bakery.example/"])] | UnsetType | None
    ) = UNSET
    accent: Annotated[str, Meta(pattern=COLOR, examples=["#1f4f8f"])] | UnsetType | None = UNSET
    background: Annotated[str, Meta(pattern=COLOR, examples=["#f2f1ec"])] | UnsetType | None = UNSET
    css: Annotated[str, Meta(max_length=16384, examples=[".card { border-radius: 0 }"])] | UnsetType | None = UNSET
    texts: (
        dict[
            Annotated[str, Meta(pattern="^[a-z]{2,3}$")],
            Annotated[dict[str, Sentence], Meta(max_length=MOST_TEXTS)],
        ]
        | UnsetType
    ) = UNSET
    confirm_auto_post: bool | UnsetType = UNSET


GET = """
SELECT default_from, postal_address, locale, pending_days, name, website, accent, background, css, texts, confirm_auto_post FROM settings
"""


async def get(db: Connection) -> Account:
    """Return the settings."""
    row = await db.fetchrow(GET)
    return msgspec.convert(dict(row or {}), Account)


UPDATE = """
UPDATE settings SET default_from = $1, postal_address = $2, locale = $3, pending_days = $4, name = $5, website = $6,
    accent = $7, background = $8, css = $9, texts = $10, confirm_auto_post = $11, updated_at = now()
"""

LOCK = """
SELECT default_from, postal_address, locale, pending_days, name, website, accent, background, css, texts, confirm_auto_post
FROM settings FOR UPDATE
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
        (new.name or "").strip() or None,
        new.website or None,
        new.accent.lower() if new.accent else None,
        new.background.lower() if new.background else None,
        new.css or None,
        new.texts,
        new.confirm_auto_post,
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
