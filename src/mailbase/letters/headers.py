"""Headers by RFC 5322 and RFC 2047: 7-bit, folded at 76, and nothing of a value can become a header of its own."""

import base64
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache

from mailbase.errors import FieldError, Invalid
from mailbase.letters.content import Sender

Header = tuple[bytes, bytes]

WIDTH = 76
_NAME = re.compile(r"[!-9;-~]{1,64}")
_FORBIDDEN = re.compile(r"[\r\n\x00]")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_PLAIN = re.compile(r"[ -~]*")
_ATOMS = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?: [A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_ADDRESS = re.compile(r"[^\s<>@,;:\"\\()\[\]\x00-\x1f\x7f]+@[^\s<>@,;:\"\\()\x00-\x1f\x7f]+")
_DAYS = (b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun")
_MONTHS = (b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec")

RESERVED = frozenset(
    [
        "arc-authentication-results",
        "arc-message-signature",
        "arc-seal",
        "authentication-results",
        "bcc",
        "cc",
        "cfbl-address",
        "cfbl-feedback-id",
        "content-disposition",
        "content-id",
        "content-transfer-encoding",
        "content-type",
        "date",
        "dkim-signature",
        "feedback-id",
        "from",
        "list-id",
        "list-unsubscribe",
        "list-unsubscribe-post",
        "message-id",
        "mime-version",
        "precedence",
        "received",
        "reply-to",
        "resent-bcc",
        "resent-cc",
        "resent-date",
        "resent-from",
        "resent-message-id",
        "resent-sender",
        "resent-to",
        "return-path",
        "sender",
        "subject",
        "to",
        "x-mailbase-from",
        "x-mailbase-ref",
        "x-mailbase-to",
        "x-mailru-msgtype",
    ],
)
"""Header names (lower case) an owner's ``headers`` may not set: mailbase sets them, or the mail's way does."""

MAX_HEADERS = 20


def header(name: str, value: str) -> Header:
    """Return an unstructured header.

    Raises:
        Invalid: the name is not one, or the value holds CR, LF or NUL.
    """
    if not _NAME.fullmatch(name):
        raise Invalid(f"{name!r} is not a header's name", code="invalid_header")
    if _FORBIDDEN.search(value):
        raise Invalid(f"the header {name} may not hold line breaks", code="invalid_header")
    value = _CONTROL.sub(" ", value).strip()
    return name.encode(), unstructured(value, len(name) + 2)


def unstructured(value: str, used: int) -> bytes:
    """Return one line's value as it is when it is short ASCII, folded at spaces when it is long, else as encoded words.

    ``used``: columns taken by the name, colon and space.
    """
    if _PLAIN.fullmatch(value) and "=?" not in value:
        if used + len(value) <= WIDTH and "  " not in value:
            return value.encode()
        words = value.split(" ")
        if all(words) and max(map(len, words)) <= WIDTH - 2 and used + len(words[0]) <= WIDTH:
            return _fold(words, used).encode()
    return encoded_words(value, used)


def _fold(words: Sequence[str], used: int) -> str:
    lines: list[str] = []
    line = ""
    for word in words:
        if line and used + len(line) + 1 + len(word) > WIDTH:
            lines.append(line)
            line = word
            used = 1
        else:
            line = f"{line} {word}" if line else word
    return "\r\n ".join([*lines, line])


def encoded_words(value: str, used: int) -> bytes:
    """Return RFC 2047 encoded words (UTF-8, base64), cut between characters, one a line. ``used``: columns taken."""
    raw = value.encode(errors="replace")
    words: list[bytes] = []
    at = 0
    while at < len(raw):
        room = (WIDTH - used - 12) // 4 * 3
        end = min(len(raw), at + max(room, 6))
        while end < len(raw) and raw[end] & 0xC0 == 0x80:
            end -= 1
        words.append(b"=?utf-8?B?" + base64.b64encode(raw[at:end]) + b"?=")
        at = end
        used = 2
    return b"\r\n ".join(words)


def address(sender: Sender) -> bytes:
    """Return a mailbox for From, Reply-To or To: display name in any script, then the address in angle brackets.

    Raises:
        Invalid: the address could break out of its header.
    """
    email = bare_address(sender.email)
    name = _CONTROL.sub(" ", sender.name).strip()
    if not name:
        return email
    if not _PLAIN.fullmatch(name) or "=?" in name or len(name) > WIDTH - 12:
        shown = encoded_words(name, 10)
    elif _ATOMS.fullmatch(name):
        shown = name.encode()
    else:
        shown = b'"' + name.replace("\\", "\\\\").replace('"', '\\"').encode() + b'"'
    last = shown.rpartition(b"\r\n")[2]
    joint = b"\r\n " if 10 + len(last) + len(email) + 3 > WIDTH else b" "
    return shown + joint + b"<" + email + b">"


def bare_address(email: str) -> bytes:
    """Return an address alone. A local part beyond ASCII stays UTF-8 (RFC 6532): such a letter needs SMTPUTF8."""
    if not _ADDRESS.fullmatch(email) or len(email) > 320:
        raise Invalid(f"{email[:80]!r} is not an address a header can carry", code="invalid_header")
    return email.encode()


def check_headers(headers: Mapping[str, str]) -> None:
    """Check the headers an owner adds.

    Raises:
        Invalid: ``reserved_header`` or ``invalid_header`` for ``headers.<name>``.
    """
    errors: list[FieldError] = []
    if len(headers) > MAX_HEADERS:
        errors.append(FieldError("headers", "too_many", f"at most {MAX_HEADERS} headers"))
    seen: set[str] = set()
    for name, value in headers.items():
        field = f"headers.{name[:64]}"
        if name.lower() in RESERVED:
            errors.append(FieldError(field, "reserved_header", f"{name} is set by mailbase"))
        elif name.lower() in seen:
            errors.append(FieldError(field, "invalid_header", f"{name} is there twice"))
        elif len(value) > 998:
            errors.append(FieldError(field, "invalid_header", f"{name} is longer than 998 characters"))
        else:
            try:
                header(name, value)
            except Invalid as error:
                errors.append(FieldError(field, "invalid_header", error.message))
        seen.add(name.lower())
    if errors:
        raise Invalid(code=errors[0].code, errors=errors)


def message_id(delivery_id: int, created: datetime, domain: str) -> str:
    """Return a Message-ID with its angle brackets, made of the delivery alone: a second copy is the same letter."""
    return f"<{delivery_id}.{int(created.timestamp() * 1_000_000):x}@{domain}>"


@lru_cache(maxsize=64)
def _date(timestamp: int) -> bytes:
    at = datetime.fromtimestamp(timestamp, UTC)
    return b"%s, %02d %s %04d %02d:%02d:%02d +0000" % (
        _DAYS[at.weekday()],
        at.day,
        _MONTHS[at.month - 1],
        at.year,
        at.hour,
        at.minute,
        at.second,
    )


def date(at: datetime) -> bytes:
    """Return a Date header's value in UTC, whatever the locale."""
    return _date(int(at.timestamp()))


class HeaderPlan:
    """The headers of a stream of letters: what never changes is encoded once.

    Order: From, To, Date, Message-ID, [Reply-To], MIME-Version, then the stream's own, then the letter's.
    """

    def __init__(
        self,
        sender: Sender,
        *,
        reply_to: str | None = None,
        list_id: tuple[str, str] | None = None,
        feedback_id: str | None = None,
        msgtype: str | None = None,
        bulk: bool = False,
        auto_submitted: bool = False,
        extra: Mapping[str, str] | None = None,
    ) -> None:
        """Prepare a stream.

        ``list_id``: name and identifier (RFC 2919). ``feedback_id``: ``campaign:list:type:sender``. ``msgtype``: at most
        32 Latin letters and digits. ``bulk``: a newsletter. ``auto_submitted``: a confirmation (RFC 3834). ``extra``:
        the owner's own, already checked by ``check_headers``.
        """
        self._from = (b"From", address(sender))
        statics: list[Header] = []
        if reply_to:
            statics.append((b"Reply-To", bare_address(reply_to)))
        statics.append((b"MIME-Version", b"1.0"))
        if list_id:
            statics.append((b"List-Id", _list_id(*list_id)))
        if bulk:
            statics.append((b"Precedence", b"bulk"))
        if auto_submitted:
            statics.append((b"Auto-Submitted", b"auto-generated"))
        if feedback_id:
            statics.append(header("Feedback-ID", feedback_id))
        if msgtype:
            statics.append(header("X-Mailru-Msgtype", re.sub(r"[^A-Za-z0-9]", "", msgtype)[:32]))
        statics += [header(name, value) for name, value in (extra or {}).items()]
        self._statics = tuple(statics)

    def fill(  # noqa: PLR0917 — the letter's own headers in the order they stand in it
        self,
        to: str,
        message_id: str,
        date: datetime,
        unsubscribe_url: str | None = None,
        unsubscribe_mailto: str | None = None,
        ref: str | None = None,
    ) -> list[Header]:
        """Return one letter's headers; values without a trailing CRLF. One-click needs ``unsubscribe_url`` (RFC 8058)."""
        filled = [
            self._from,
            (b"To", bare_address(to)),
            (b"Date", _date(int(date.timestamp()))),
            (b"Message-ID", _safe(message_id)),
            *self._statics,
        ]
        if unsubscribe_url:
            value = b"<" + _safe(unsubscribe_url) + b">"
            if unsubscribe_mailto:
                value += b",\r\n <mailto:" + _safe(unsubscribe_mailto.removeprefix("mailto:")) + b">"
            filled.append((b"List-Unsubscribe", value))
            filled.append((b"List-Unsubscribe-Post", b"List-Unsubscribe=One-Click"))
        if ref:
            filled.append((b"X-Mailbase-Ref", _safe(ref)))
        return filled


def _safe(value: str) -> bytes:
    if not value.isascii() or not value.isprintable() or " " in value:
        raise Invalid(f"{value[:80]!r} does not fit a header", code="invalid_header")
    return value.encode()


def _list_id(name: str, identifier: str) -> bytes:
    if not name:
        return b"<" + _safe(identifier) + b">"
    shown, _, rest = address(Sender(name, f"x@{identifier}")).rpartition(b"<x@")
    return shown + b"<" + rest
