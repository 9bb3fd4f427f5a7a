"""What a form's owner may write: the definition's shape. What is refused in it is said in ``form_checks``."""

import re
from typing import Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Struct, UnsetType

FieldType = Literal["text", "email", "phone", "date", "number", "select", "checkbox", "hidden"]
Step = Literal[1, 2, 3]
Mode = Literal["inline", "popup", "slide_in", "bar"]
Attitude = Literal["allow", "warn", "deny"]

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
    step: Step = 1
    """1: with the address; 2: right after it was taken; 3: "one more thing", on the page after confirming."""
    year: Literal["required", "optional"] = "required"
    """Of a date: whether ``--03-14`` (ISO 8601:2000, a day without its year) is taken, too."""
    value: str | None = None
    """Of a hidden field: what is stored where the page says nothing else."""


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


class Trigger(Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """What opens a form that is not part of the page: exactly one of these."""

    delay: float | None = None
    """Seconds after the page was opened, 1–600; less than one counts as one."""
    scroll: float | None = None
    """The share of the page that was scrolled through, 0–1."""
    exit: bool | None = None
    """The pointer leaves the page at its top; true."""
    click: str | None = None
    """A CSS selector of what is clicked."""


class Display(Struct, frozen=True, forbid_unknown_fields=True):
    """How the embed script shows the form; ``every``: the quiet period after it was closed, ``30m``, ``12h``, ``15d``."""

    mode: Mode = "inline"
    trigger: Trigger | None = None
    every: str = "15d"


class LeadMagnet(Struct, frozen=True, forbid_unknown_fields=True):
    """What is given after confirming: at ``url``, or the file uploaded beside the form."""

    title: str
    url: str | None = None


class Texts(Struct, frozen=True, forbid_unknown_fields=True):
    """Words on the form that replace the standard ones."""

    title: str | None = None
    intro: str | None = None
    email: str | None = None
    button: str | None = None
    more_title: str | None = None
    """Above the second step's questions."""
    more_button: str | None = None
    one_more: str | None = None
    """Above what is asked on the page after confirming."""
    note: str | None = None
    pending: str | None = None
    confirmed: str | None = None


class Protection(Struct, frozen=True, forbid_unknown_fields=True):
    """What keeps bots out of this form."""

    min_seconds: float = 2.0
    """Nobody fills the form in sooner than this after it was shown (0–3)."""
    disposable: Attitude = "warn"
    """Addresses of throw-away mailboxes: warn puts them aside to be looked at, deny refuses them."""
    role: Attitude = "allow"
    """Addresses of an office rather than a person: info@, sales@ …"""
    mx: bool = True
    """Whether the address's domain must be able to take mail."""
    typo_hint: bool = True
    """Whether "did you mean gmail.com?" is asked."""
    proof_of_work: Literal["off", "auto", "always"] = "auto"
    """A sum the browser does unseen: never, while the form is attacked, or always."""
    quarantine: bool = True
    """Whether what looks suspicious waits for the owner's eyes; false lets it pass with its reasons noted."""


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
    lead_magnet: LeadMagnet | None = None


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
    lead_magnet: LeadMagnet | UnsetType | None = UNSET


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
