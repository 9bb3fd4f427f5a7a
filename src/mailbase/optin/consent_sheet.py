"""The proof sheet of one person: every consent with its exact words and how it came about, as a page to print (A4, no script)."""

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from minijinja import Environment, Markup
from msgspec import Struct

from mailbase.audience import account, consent_proofs, consents, subscribers
from mailbase.audience.consents import Consent
from mailbase.db import Connection
from mailbase.letters.templates import show_html
from mailbase.pages.words import spoken

HERE: Final = Path(__file__).parent


class Given(Struct, kw_only=True):
    """One consent as the sheet tells it: given, the letter, the confirmation, the withdrawal."""

    given: Consent
    form: str | None
    letter: dict[str, Any] | None
    confirmed: Consent | None
    withdrawn: Consent | None


def gather(ledger: Sequence[Consent], letters: dict[int, dict[str, Any]], forms: dict[int, str]) -> list[Given]:
    """Return the consents of a ledger (in any order), the newest first."""
    lines = sorted(ledger, key=lambda line: line.id)
    found: list[Given] = []
    for line in lines:
        if line.act != "given":
            continue
        same = [one for one in lines if one.purpose == line.purpose and one.id > line.id]
        confirmed = next(
            (
                one
                for one in same
                if one.act == "confirmed"
                and one.confirmation_id == line.confirmation_id
                and one.version == line.version
            ),
            None,
        )
        found.append(
            Given(
                given=line,
                form=forms.get(line.form_id or 0),
                letter=letters.get(line.confirmation_id or 0),
                confirmed=confirmed,
                withdrawn=next((one for one in same if one.act == "withdrawn"), None),
            )
        )
    return found[::-1]


@cache
def _engine() -> Environment:
    return Environment(
        templates={"sheet": (HERE / "consent_sheet.html").read_text(encoding="utf-8")},
        undefined_behavior="strict",
        trim_blocks=True,
        lstrip_blocks=True,
        finalizer=lambda value: Markup(show_html(value)),
        filters={"when": _when},
    )


def _when(at: datetime | None) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC") if at else "—"


@cache
def _style() -> str:
    return (HERE / "consent_sheet.css").read_text(encoding="utf-8")


@cache
def policy() -> str:
    """Return the Content-Security-Policy of the sheet: nothing but its own style."""
    digest = base64.b64encode(hashlib.sha256(_style().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'"


async def sheet(db: Connection, subscriber_id: int, *, now: datetime) -> str:
    """Return the sheet of one person as HTML.

    Raises:
        NotFound: there is nobody of this id.

    """
    person = await subscribers.get(db, subscriber_id)
    ledger = await consents.page(db, subscriber_id)
    letters = await consent_proofs.letters(db, subscriber_id, ledger)
    settings = await account.get(db)
    found = gather(ledger, letters, await consent_proofs.form_names(db, ledger))
    said = spoken().words(spoken().choose(settings.locale))
    sender = settings.default_from.name if settings.default_from else ""
    return _engine().render_template(
        "sheet",
        words=said.table["proof"],
        lang=said.language,
        direction=said.direction,
        style=Markup(_style()),
        person=msgspec.to_builtins(person, builtin_types=(datetime,)),
        consents=[msgspec.to_builtins(one, builtin_types=(datetime,)) for one in found],
        sender=sender,
        postal_address=settings.postal_address or "",
        now=now,
    )
