"""What a form's owner may write: the definition's shape, and what is refused in it.

Everything wrong is said at once; what is accepted comes back in one spelling (origins, the sender's domain).
"""

import re
from collections.abc import Sequence
from typing import Final, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Struct, UnsetType

from mailbase.audience import addresses, limits
from mailbase.errors import FieldError, Invalid

FieldType = Literal["text", "email", "phone", "date", "number", "select", "checkbox"]

MAX_FIELDS: Final = 32
MAX_OPTIONS: Final = 200
MAX_INTERESTS: Final = 100
MAX_CONSENTS: Final = 10
MAX_ORIGINS: Final = 50
LONGEST_MINIMUM: Final = 3
RESERVED: Final = frozenset({"interests", "status", "tags", "id"})

_NAME = re.compile(r"[^\W\d_]\w{0,63}")
_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_HOST = re.compile(r"[a-z0-9.-]+|\[[0-9a-f:]+\]")


class Sender(Struct, frozen=True, forbid_unknown_fields=True):
    """Whom the confirmation letter comes from."""

    name: str
    email: str


class Field(Struct, frozen=True, forbid_unknown_fields=True):
    """One question besides the address; the answer becomes the attribute of the same name."""

    name: str
    label: str = ""
    type: FieldType = "text"
    required: bool = False
    options: list[str] | None = None


class FormConsent(Struct, frozen=True, forbid_unknown_fields=True):
    """A box to tick, posted as ``consent_<purpose>``; ``text`` goes into the ledger word for word."""

    purpose: str
    text: str
    policy_url: str | None = None
    required: bool = False


class Confirmation(Struct, frozen=True, forbid_unknown_fields=True):
    """The confirmation letter in the owner's own words; ``mjml`` holds ``{{ confirm_url }}``."""

    subject: str | None = None
    mjml: str | None = None


class Redirects(Struct, frozen=True, forbid_unknown_fields=True):
    """Where a browser goes after submitting and after confirming."""

    pending: str | None = None
    confirmed: str | None = None


class Display(Struct, frozen=True, forbid_unknown_fields=True):
    """How the embed script shows the form."""

    mode: str = "inline"


class Texts(Struct, frozen=True, forbid_unknown_fields=True):
    """Words on the form that replace the standard ones."""

    title: str | None = None
    intro: str | None = None
    email: str | None = None
    button: str | None = None
    note: str | None = None
    pending: str | None = None
    confirmed: str | None = None


class Protection(Struct, frozen=True, forbid_unknown_fields=True):
    """What keeps bots out: nobody fills the form in sooner than ``min_seconds`` after it was shown (0–3)."""

    min_seconds: float = 2.0


class NewForm(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A form as its owner writes it."""

    name: str
    fields: list[Field] = []
    interests: list[str] = []
    interest_choice: bool = False
    consents: list[FormConsent] = []
    double_opt_in: bool = True
    from_: Sender | None = msgspec.field(default=None, name="from")
    confirmation: Confirmation | None = None
    redirects: Redirects = Redirects()
    display: Display = Display()
    allowed_origins: list[str] = []
    locale: str | None = None
    texts: Texts = Texts()
    protection: Protection = Protection()


class FormChanges(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a PATCH replaces; each named field is replaced whole."""

    name: str | UnsetType = UNSET
    fields: list[Field] | UnsetType = UNSET
    interests: list[str] | UnsetType = UNSET
    interest_choice: bool | UnsetType = UNSET
    consents: list[FormConsent] | UnsetType = UNSET
    double_opt_in: bool | UnsetType = UNSET
    from_: Sender | UnsetType | None = msgspec.field(default=UNSET, name="from")
    confirmation: Confirmation | UnsetType | None = UNSET
    redirects: Redirects | UnsetType = UNSET
    display: Display | UnsetType = UNSET
    allowed_origins: list[str] | UnsetType = UNSET
    locale: str | UnsetType | None = UNSET
    texts: Texts | UnsetType = UNSET
    protection: Protection | UnsetType = UNSET


def check(form: NewForm, *, public_url: str) -> NewForm:
    """Return the form with origins and sender in their one spelling.

    Raises:
        Invalid: every bad field at once.

    """
    errors: list[FieldError] = []
    refuse = _Refusals(errors)
    refuse.text("name", form.name, 200)
    _check_fields(form.fields, refuse)
    _check_consents(form.consents, refuse)
    if len(form.interests) > MAX_INTERESTS or len(set(form.interests)) != len(form.interests):
        refuse("interests", "invalid_interests", f"at most {MAX_INTERESTS} different interests")
    origins = _check_origins(form.allowed_origins, refuse)
    _check_redirects(form.redirects, {*origins, origin_of(public_url)} if origins else None, refuse)
    _check_words(form, refuse)
    if form.display.mode != "inline":
        refuse("display.mode", "not_available", "the mode available is inline")
    if not 0 <= form.protection.min_seconds <= LONGEST_MINIMUM:
        refuse("protection.min_seconds", "out_of_range", f"from 0 to {LONGEST_MINIMUM} seconds")
    sender = _check_sender(form.from_, refuse)
    if errors:
        raise Invalid(code=errors[0].code, errors=errors)
    return msgspec.structs.replace(form, allowed_origins=origins, from_=sender)


class _Refusals:
    """Collects what is wrong with a definition."""

    def __init__(self, errors: list[FieldError]) -> None:
        self._errors = errors

    def __call__(self, field: str, code: str, message: str) -> None:
        self._errors.append(FieldError(field, code, message))

    def text(self, field: str, value: str, longest: int) -> None:
        if not value.strip():
            self(field, "blank", "must not be blank")
        elif len(value) > longest:
            self(field, "too_long", f"at most {longest} characters")
        elif "\0" in value:
            self(field, "invalid_character", "must not contain NUL")

    def url(self, field: str, value: str) -> bool:
        if len(value) <= 2000 and origin_of(value) is not None and not re.search(r"[\x00-\x20\x7f\\]", value):
            return True
        self(field, "invalid_url", "an absolute http or https address is needed")
        return False


def _check_redirects(redirects: Redirects, allowed: set[str | None] | None, refuse: _Refusals) -> None:
    for name in ("pending", "confirmed"):
        url = getattr(redirects, name)
        if (
            url is not None
            and refuse.url(f"redirects.{name}", url)
            and allowed is not None
            and origin_of(url) not in allowed
        ):
            refuse(f"redirects.{name}", "origin_not_allowed", "a redirect must stay on one of allowed_origins")


def _check_words(form: NewForm, refuse: _Refusals) -> None:
    if form.locale is not None and not limits.is_locale(form.locale):
        refuse("locale", "invalid_locale", "a language tag such as en or ru-RU is needed")
    for name, value in msgspec.structs.asdict(form.texts).items():
        if value is not None:
            refuse.text(f"texts.{name}", value, 1000)
    confirmation = form.confirmation or Confirmation()
    if confirmation.subject is not None:
        refuse.text("confirmation.subject", confirmation.subject, 500)
    if confirmation.mjml is not None:
        refuse.text("confirmation.mjml", confirmation.mjml, 512 * 1024)


def _check_fields(fields: Sequence[Field], refuse: _Refusals) -> None:
    if len(fields) > MAX_FIELDS:
        refuse("fields", "too_many", f"at most {MAX_FIELDS} fields")
    seen: set[str] = set()
    for n, field in enumerate(fields):
        at = f"fields.{n}"
        if not _NAME.fullmatch(field.name):
            refuse(f"{at}.name", "invalid_name", "letters, digits and _, beginning with a letter, at most 64")
        elif field.name in RESERVED or field.name.startswith("consent_"):
            refuse(f"{at}.name", "reserved_name", f"{field.name} has a meaning of its own")
        elif field.name == "email" and field.type != "email":
            refuse(f"{at}.type", "invalid_type", "the field email is of type email")
        elif field.name in seen:
            refuse(f"{at}.name", "duplicate", f"{field.name} is declared twice")
        seen.add(field.name)
        if len(field.label) > 500 or "\0" in field.label:
            refuse(f"{at}.label", "too_long", "at most 500 characters, none of them NUL")
        _check_options(f"{at}.options", field, refuse)


def _check_options(at: str, field: Field, refuse: _Refusals) -> None:
    if field.type != "select":
        if field.options is not None:
            refuse(at, "not_applicable", "only a select has options")
        return
    options = field.options or []
    if not 1 <= len(options) <= MAX_OPTIONS or len(set(options)) != len(options):
        refuse(at, "invalid_options", f"a select needs 1 to {MAX_OPTIONS} different options")
    elif any(not option.strip() or len(option) > 200 or "\0" in option for option in options):
        refuse(at, "invalid_options", "an option has 1 to 200 characters")


def _check_consents(consents: Sequence[FormConsent], refuse: _Refusals) -> None:
    if len(consents) > MAX_CONSENTS:
        refuse("consents", "too_many", f"at most {MAX_CONSENTS} consents")
    seen: set[str] = set()
    for n, consent in enumerate(consents):
        if not _PURPOSE.fullmatch(consent.purpose):
            refuse(
                f"consents.{n}.purpose",
                "invalid_purpose",
                "letters, digits and _ . -, beginning with a letter or digit, at most 64",
            )
        elif consent.purpose in seen:
            refuse(f"consents.{n}.purpose", "duplicate", f"{consent.purpose} is asked twice")
        seen.add(consent.purpose)
        refuse.text(f"consents.{n}.text", consent.text, 5000)
        if consent.policy_url is not None:
            refuse.url(f"consents.{n}.policy_url", consent.policy_url)


def _check_origins(origins: Sequence[str], refuse: _Refusals) -> list[str]:
    if len(origins) > MAX_ORIGINS:
        refuse("allowed_origins", "too_many", f"at most {MAX_ORIGINS} origins")
    found: list[str] = []
    for n, given in enumerate(origins):
        origin = origin_of(given)
        if origin is None or urlsplit(given).path not in {"", "/"} or "?" in given or "#" in given:
            refuse(f"allowed_origins.{n}", "invalid_origin", "scheme and host, such as https://shop.example")
        elif origin not in found:
            found.append(origin)
    return found


def _check_sender(sender: Sender | None, refuse: _Refusals) -> Sender | None:
    if sender is None:
        return None
    if len(sender.name) > 200 or re.search(r"[\x00-\x1f\x7f]", sender.name):
        refuse("from.name", "invalid_name", "one line of at most 200 characters")
    try:
        return Sender(sender.name, addresses.parse(sender.email, field="from.email").email)
    except Invalid as error:
        for problem in error.errors:
            refuse(problem.field, problem.code, problem.message)
        return sender


def origin_of(url: str) -> str | None:
    """Return ``scheme://host[:port]`` as browsers write it in ``Origin``, or None for anything but http and https."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in {"http", "https"} or not host or parts.username is not None or parts.password is not None:
        return None
    try:
        host = host.encode("idna").decode() if not host.isascii() else host
    except UnicodeError:
        return None
    host = f"[{host}]" if ":" in host else host
    if not _HOST.fullmatch(host):
        return None
    default = {"http": 80, "https": 443}[parts.scheme]
    return f"{parts.scheme}://{host}" + (f":{port}" if port not in {None, default} else "")
