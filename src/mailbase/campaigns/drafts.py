"""What a campaign is written as, and everything that can be wrong with it: said at once, when it is written.

A draft is checked whole, at POST and after every PATCH; launching it checks it once more, since domains and interests
change in the meantime.
"""

from datetime import datetime
from typing import Annotated, Final, Literal

from msgspec import UNSET, Meta, Struct, UnsetType, field, structs

from mailbase.audience import addresses, limits, selection
from mailbase.audience.selection import Audience, Rule
from mailbase.db import Connection
from mailbase.errors import FieldError, Invalid, gathered
from mailbase.letters import compile as letters
from mailbase.letters.content import Content, Sender
from mailbase.letters.headers import check_headers

# Lengths are documented here and looked at in `check`, together with everything else that can be wrong.
Name = Annotated[str, Meta(description="From 1 to 200 characters.", examples=["Bread on Saturday"])]
Subject = Annotated[str, Meta(description="From 1 to 998 characters on one line, a template.")]
Time = Annotated[datetime, Meta(tz=True)]
Email = Annotated[str, Meta(max_length=320, examples=["news@example.com"])]
Html = Annotated[str, Meta(examples=["<p>Hello {{ subscriber.attributes.name | default('you') }}</p>"])]
OnCrash = Literal["at_most_once", "at_least_once"]


class From(Struct, frozen=True, forbid_unknown_fields=True):
    """Who the letters are from; the domain of ``email`` is one of the sending domains."""

    email: Email
    name: Annotated[str, Meta(description="At most 200 characters on one line.", examples=["Mill Lane Bakery"])] = ""


class Track(Struct, frozen=True, forbid_unknown_fields=True):
    """What is measured in the letters."""

    opens: bool = True
    clicks: bool = True
    trap: bool | UnsetType = UNSET
    """A link nobody can see: whoever follows it is a machine. Some spam filters dislike hidden links, so it is up to you."""


class Draft(Struct, kw_only=True, forbid_unknown_fields=True):
    """A campaign as it is written."""

    name: Name
    from_: From = field(name="from")
    subject: Subject
    audience: Audience
    reply_to: Email | None = None
    preheader: Annotated[str, Meta(max_length=2000)] | None = None
    mjml: str | None = None
    html: Html | None = None
    text: str | None = None
    headers: dict[str, str] = {}
    send_until: Time | None = None
    track: Track = Track()
    utm: dict[str, str] | None = None
    on_crash: OnCrash = "at_most_once"


class Changes(Struct, kw_only=True, forbid_unknown_fields=True):
    """A change of a draft: what is absent stays; ``mjml`` takes the place of ``html`` and the other way round."""

    name: Name | UnsetType = UNSET
    from_: From | UnsetType = field(name="from", default=UNSET)
    subject: Subject | UnsetType = UNSET
    audience: Audience | UnsetType = UNSET
    reply_to: Email | UnsetType | None = UNSET
    preheader: Annotated[str, Meta(max_length=2000)] | UnsetType | None = UNSET
    mjml: str | UnsetType | None = UNSET
    html: Html | UnsetType | None = UNSET
    text: str | UnsetType | None = UNSET
    headers: dict[str, str] | UnsetType = UNSET
    send_until: Time | UnsetType | None = UNSET
    track: Track | UnsetType = UNSET
    utm: dict[str, str] | UnsetType | None = UNSET
    on_crash: OnCrash | UnsetType = UNSET


class Checked(Struct):
    """What a sound draft comes down to."""

    domain_id: int
    sender: Sender
    reply_to: str | None
    rule: Rule


def changed(draft: Draft, changes: Changes) -> Draft:
    """Return the draft with the changes made."""
    given = {name: value for name in changes.__struct_fields__ if (value := getattr(changes, name)) is not UNSET}
    for body, other in (("mjml", "html"), ("html", "mjml")):
        if given.get(body) is not None and other not in given:
            given[other] = None
    return structs.replace(draft, **given)


def content_of(draft: Draft) -> Content:
    """Return what the letters are made of."""
    return Content(subject=draft.subject, preheader=draft.preheader, mjml=draft.mjml, html=draft.html, text=draft.text)


DOMAIN = """
SELECT id FROM domains WHERE name = $1
"""


async def check(db: Connection, draft: Draft) -> Checked:
    """Check a draft.

    Raises:
        Invalid: every bad field: ``unknown_domain``, ``unknown_interest``, ``reserved_header``, template mistakes with line, column and word.

    """
    errors: list[FieldError] = []
    domain_id, email, reply_to, rule = 0, "", None, Rule()
    with gathered(errors):
        address = addresses.parse(draft.from_.email, field="from.email")
        email = address.email
        domain_id = await db.fetchval(DOMAIN, address.domain) or 0
        if not domain_id:
            errors.append(
                FieldError("from.email", "unknown_domain", f"{address.domain} is not one of the sending domains.")
            )
    with gathered(errors):
        reply_to = addresses.parse(draft.reply_to, field="reply_to").email if draft.reply_to is not None else None
    with gathered(errors):
        rule = await selection.rule_of(db, draft.audience)
    with gathered(errors):
        check_headers(draft.headers)
    errors += _lines(draft) + _utm(draft.utm)
    if draft.send_until is not None:
        with gathered(errors):
            check_time(draft.send_until, field="send_until")
    with gathered(errors):
        letters.check_content(content_of(draft), track_clicks=draft.track.clicks)
    if errors:
        raise Invalid(code=errors[0].code, errors=errors)
    return Checked(domain_id=domain_id, sender=Sender(draft.from_.name.strip(), email), reply_to=reply_to, rule=rule)


def check_time(at: datetime, *, field: str) -> None:
    """Refuse a time that no calendar of ours can hold in UTC.

    Raises:
        Invalid: ``invalid_time``.

    """
    if not 1 < at.year < 9000:
        raise Invalid.field(field, "invalid_time", "A year between 2 and 8999 is needed.")


def _lines(draft: Draft) -> list[FieldError]:
    """Refuse what would break out of its header, is not there, or too long."""
    errors = []
    for name, value, least, most in (
        ("name", draft.name, 1, 200),
        ("from.name", draft.from_.name, 0, 200),
        ("subject", draft.subject, 1, 998),
    ):
        if not limits.is_line(value):
            errors.append(FieldError(name, "invalid_text", "This has to be one line."))
        elif not least <= len(value) <= most:
            errors.append(FieldError(name, "invalid_value", f"From {least} to {most} characters are needed."))
    return errors


_UTM: Final = frozenset({"source", "medium", "campaign", "term", "content", "id"})


def _utm(utm: dict[str, str] | None) -> list[FieldError]:
    errors = []
    for name, value in (utm or {}).items():
        if name.removeprefix("utm_") not in _UTM:
            errors.append(FieldError(f"utm.{name}", "invalid_utm", f"One of {', '.join(sorted(_UTM))} is needed."))
        elif not value or len(value) > 200 or not limits.is_line(value):
            errors.append(FieldError(f"utm.{name}", "invalid_utm", "One line of 1 to 200 characters is needed."))
    return errors
