"""What is refused in a form's definition: everything wrong is said at once.

What is accepted comes back in one spelling: origins, the sender's domain, the trigger of a form that opens by itself.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

import msgspec
from selectolax.lexbor import LexborHTMLParser, SelectolaxError

from mailbase.audience import addresses, limits
from mailbase.audience.form_definition import (
    Confirmation,
    Display,
    Field,
    FormConsent,
    LeadMagnet,
    NewForm,
    Redirects,
    Sender,
    Trigger,
    origin_of,
)
from mailbase.errors import FieldError, Invalid

MAX_FIELDS: Final = 32
MAX_OPTIONS: Final = 200
MAX_INTERESTS: Final = 100
MAX_CONSENTS: Final = 10
MAX_ORIGINS: Final = 50
LONGEST_MINIMUM: Final = 3
LONGEST_DELAY: Final = 600
LONGEST_TEXT: Final = 1000
LONGEST_SELECTOR: Final = 200
AFTER_CONFIRMING: Final = 3
PROSE: Final = frozenset({"intro", "note", "pending", "confirmed"})
"""The texts of a form that may have lines."""
RESERVED: Final = frozenset({"interests", "status", "tags", "id", "altcha", "token"})

_NAME = re.compile(r"[^\W\d_]\w{0,63}")
_PURPOSE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_EVERY = re.compile(r"[1-9][0-9]{0,2}[mhd]")
_QUOTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'")
_NO_BROWSER = re.compile(r"[#.]-?[0-9]|\|")
_STATES = re.compile(
    r":(?:focus-visible|scope|defined|modal|popover-open|fullscreen|autofill|user-valid|user-invalid|(?:lang|dir)\([\w\s,*-]+\))(?![\w-])"
)


def check(form: NewForm, *, public_url: str) -> NewForm:
    """Return the form with origins and sender in their one spelling.

    Raises:
        Invalid: every bad field at once.

    """
    errors: list[FieldError] = []
    refuse = _Refusals(errors)
    refuse.line("name", form.name, 200)
    _check_fields(form.fields, refuse, double_opt_in=form.double_opt_in)
    _check_consents(form.consents, refuse)
    if len(form.interests) > MAX_INTERESTS or len(set(form.interests)) != len(form.interests):
        refuse("interests", "invalid_interests", f"at most {MAX_INTERESTS} different interests")
    origins = _check_origins(form.allowed_origins, refuse)
    _check_redirects(form.redirects, {*origins, origin_of(public_url)} if origins else None, refuse)
    _check_words(form, refuse)
    display = _check_display(form.display, refuse)
    _check_magnet(form.lead_magnet, refuse)
    if not 0 <= form.protection.min_seconds <= LONGEST_MINIMUM:
        refuse("protection.min_seconds", "out_of_range", f"from 0 to {LONGEST_MINIMUM} seconds")
    sender = _check_sender(form.from_, refuse)
    if errors:
        raise Invalid(code=errors[0].code, errors=errors)
    return msgspec.structs.replace(form, allowed_origins=origins, from_=sender, display=display)


class _Refusals:
    """Collects what is wrong with a definition."""

    def __init__(self, errors: list[FieldError]) -> None:
        self._errors = errors

    def __call__(self, field: str, code: str, message: str) -> None:
        self._errors.append(FieldError(field, code, message))

    def line(self, field: str, value: str, longest: int) -> None:
        if limits.is_line(value):
            self.text(field, value, longest)
        else:
            self(field, "invalid_text", "one line, without control characters")

    def text(self, field: str, value: str, longest: int) -> None:
        if not value.strip():
            self(field, "blank", "must not be blank")
        elif len(value) > longest:
            self(field, "too_long", f"at most {longest} characters")
        elif not limits.is_prose(value):
            self(field, "invalid_character", "must not contain control characters")

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
            (refuse.text if name in PROSE else refuse.line)(f"texts.{name}", value, 1000)
    confirmation = form.confirmation or Confirmation()
    if confirmation.subject is not None:
        refuse.line("confirmation.subject", confirmation.subject, 500)
    if confirmation.mjml is not None:
        refuse.text("confirmation.mjml", confirmation.mjml, 512 * 1024)


def _check_fields(fields: Sequence[Field], refuse: _Refusals, *, double_opt_in: bool) -> None:
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
        if field.label:
            refuse.line(f"{at}.label", field.label, 500)
        _check_options(f"{at}.options", field, refuse)
        _check_kind(at, field, refuse)
        if field.step == AFTER_CONFIRMING and not double_opt_in:
            refuse(f"{at}.step", "not_applicable", "without double_opt_in no page follows a confirmation")


def _check_kind(at: str, field: Field, refuse: _Refusals) -> None:
    if field.name == "email" and field.step != 1:
        refuse(f"{at}.step", "not_applicable", "the address belongs to step 1")
    if field.year != "required" and field.type != "date":
        refuse(f"{at}.year", "not_applicable", "only a date has a year")
    if field.type != "hidden":
        if field.value is not None:
            refuse(f"{at}.value", "not_applicable", "only a hidden field has a value")
        return
    if field.required:
        refuse(f"{at}.required", "not_applicable", "nobody can fill a hidden field in")
    if field.step != 1:
        refuse(f"{at}.step", "not_applicable", "a hidden field belongs to step 1")
    if field.value is not None and (len(field.value) > LONGEST_TEXT or limits.CONTROL.search(field.value)):
        refuse(f"{at}.value", "too_long", f"one line of at most {LONGEST_TEXT} characters")


def _check_options(at: str, field: Field, refuse: _Refusals) -> None:
    if field.type != "select":
        if field.options is not None:
            refuse(at, "not_applicable", "only a select has options")
        return
    options = field.options or []
    if not 1 <= len(options) <= MAX_OPTIONS or len(set(options)) != len(options):
        refuse(at, "invalid_options", f"a select needs 1 to {MAX_OPTIONS} different options")
    elif any(not option.strip() or len(option) > 200 or not limits.is_line(option) for option in options):
        refuse(at, "invalid_options", "an option is one line of 1 to 200 characters")


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


def _check_display(display: Display, refuse: _Refusals) -> Display:
    if not _EVERY.fullmatch(display.every):
        refuse("display.every", "invalid_period", "a number of minutes, hours or days, such as 30m, 12h or 15d")
    if display.mode == "inline":
        if display.trigger is not None:
            refuse("display.trigger", "not_applicable", "a form within the page needs no trigger")
        return display
    return msgspec.structs.replace(display, trigger=_check_trigger(display.trigger or Trigger(delay=10), refuse))


def _check_trigger(trigger: Trigger, refuse: _Refusals) -> Trigger:
    at = "display.trigger"
    if sum(value is not None for value in msgspec.structs.astuple(trigger)) != 1:
        refuse(at, "invalid_trigger", "exactly one of delay, scroll, exit and click")
    if trigger.delay is not None and not 0 <= trigger.delay <= LONGEST_DELAY:
        refuse(f"{at}.delay", "out_of_range", f"from 1 to {LONGEST_DELAY} seconds")
    if trigger.scroll is not None and not 0 <= trigger.scroll <= 1:
        refuse(f"{at}.scroll", "out_of_range", "a share of the page, from 0 to 1")
    if trigger.exit is False:
        refuse(f"{at}.exit", "invalid_trigger", "true, or another trigger")
    if trigger.click is not None and not _is_selector(trigger.click):
        refuse(f"{at}.click", "invalid_selector", "a CSS selector of at most 200 characters, such as #open or a.button")
    # Nothing jumps at anybody in the first second.
    return trigger if trigger.delay is None else msgspec.structs.replace(trigger, delay=max(1.0, trigger.delay))


def _is_selector(text: str) -> bool:
    """Tell whether a browser's ``closest`` takes it; what our parser does not know of CSS, or is too lenient with, is said here."""
    if not 1 <= len(text.strip()) <= LONGEST_SELECTOR or limits.CONTROL.search(text):
        return False
    bare = _QUOTED.sub('""', text)
    if _NO_BROWSER.search(re.sub(r"\[[^\]]*\]?", "", bare)):
        return False
    try:
        LexborHTMLParser("<a></a>").css(_STATES.sub(":hover", bare))
    except (SelectolaxError, ValueError):
        return False
    return True


def _check_magnet(magnet: LeadMagnet | None, refuse: _Refusals) -> None:
    if magnet is None:
        return
    refuse.line("lead_magnet.title", magnet.title, 200)
    if magnet.url is not None:
        refuse.url("lead_magnet.url", magnet.url)


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
    if len(sender.name) > 200 or not limits.is_line(sender.name):
        refuse("from.name", "invalid_name", "one line of at most 200 characters")
    try:
        return Sender(sender.name, addresses.parse(sender.email, field="from.email").email)
    except Invalid as error:
        for problem in error.errors:
            refuse(problem.field, problem.code, problem.message)
        return sender
