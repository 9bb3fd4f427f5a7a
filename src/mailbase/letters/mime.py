"""MIME without a template: transactional and confirmation letters, attachments, and the names the engine calls."""

import base64
import re
from collections.abc import Sequence
from urllib.parse import quote

from mailbase.errors import FieldError, Invalid
from mailbase.letters.content import Attachment, Letter, Rendered
from mailbase.letters.fill import boundary_for, encode
from mailbase.letters.headers import (
    RESERVED,
    HeaderPlan,
    address,
    bare_address,
    check_headers,
    date,
    header,
    message_id,
)
from mailbase.letters.templates import one_line

__all__ = [
    "RESERVED",
    "Attachment",
    "HeaderPlan",
    "address",
    "assemble",
    "bare_address",
    "check_attachments",
    "check_headers",
    "date",
    "header",
    "message_id",
]

MAX_ATTACHMENTS = 15 * 1024 * 1024 * 3 // 4
"""As much as fits into a request of 15 MB, in base64."""
MAX_FILES = 20
_NAME = r"[a-z0-9][a-z0-9!#$&^_.+-]{0,60}"
_VALUE = r"[a-z0-9!#$%&'*+.^_`{|}~-]+" + r'|"(?:[!#-\[\]-~]| (?! ))*"'
_PARAMETER = re.compile(rf" *; *({_NAME})=({_VALUE})", re.IGNORECASE)
_TYPE = re.compile(rf"({_NAME}/{_NAME})((?: *; *{_NAME}=(?:{_VALUE}))*)", re.IGNORECASE)
_UNSAFE = re.compile(r"[\x00-\x1f\x7f/\\]+")


def check_attachments(attachments: Sequence[Attachment]) -> None:
    """Check attachments: at most 20 files and 11 MB together, a media type (parameters may follow) and a file name each.

    Raises:
        Invalid: every bad one, as ``attachments.<n>.<field>``.
    """
    errors: list[FieldError] = []
    if len(attachments) > MAX_FILES:
        errors.append(FieldError("attachments", "too_many", f"at most {MAX_FILES} attachments"))
    if sum(len(attachment.content) for attachment in attachments) > MAX_ATTACHMENTS:
        errors.append(FieldError("attachments", "too_large", f"attachments of more than {MAX_ATTACHMENTS >> 20} MB"))
    for number, attachment in enumerate(attachments):
        where = f"attachments.{number}"
        if not _TYPE.fullmatch(attachment.content_type):
            errors.append(FieldError(f"{where}.content_type", "invalid", "a media type like application/pdf"))
        elif attachment.content_type.lower().startswith(("multipart/", "message/")):
            errors.append(FieldError(f"{where}.content_type", "invalid", "a file, not a message of its own"))
        if not _filename(attachment) or len(attachment.filename.encode(errors="replace")) > 255:
            errors.append(FieldError(f"{where}.filename", "invalid", "a file name of at most 255 bytes"))
    if errors:
        raise Invalid(code=errors[0].code, errors=errors)


def assemble(subject: str, text: str, html: str | None, attachments: Sequence[Attachment] = ()) -> Letter:
    """Return a letter from finished strings: text, or text and HTML as alternatives, with attachments behind them.

    The result is the same bytes for the same content.

    Raises:
        Invalid: a bad attachment.
    """
    subject = one_line(subject)
    headers, body = encode(Rendered(subject, text, html))
    if attachments:
        check_attachments(attachments)
        boundary = boundary_for(body, *(attachment.content for attachment in attachments), b"mixed")
        chunks = [
            b"--" + boundary + b"\r\n",
            *(name + b": " + value + b"\r\n" for name, value in headers),
            b"\r\n",
            body,
        ]
        for attachment in attachments:
            chunks += [b"--" + boundary + b"\r\n", *_part(attachment)]
        chunks += [b"--" + boundary + b"--\r\n"]
        headers, body = [(b"Content-Type", b'multipart/mixed;\r\n boundary="' + boundary + b'"')], b"".join(chunks)
    return Letter(subject=subject, headers=[header("Subject", subject), *headers], pieces=(body,))


def _filename(attachment: Attachment) -> str:
    return _UNSAFE.sub("_", attachment.filename).strip(" .")


def _part(attachment: Attachment) -> list[bytes]:
    return [
        b"Content-Type: " + _media_type(attachment.content_type) + b"\r\n",
        b"Content-Transfer-Encoding: base64\r\n",
        b"Content-Disposition: attachment" + _parameter("filename", _filename(attachment)) + b"\r\n\r\n",
        base64.encodebytes(attachment.content).replace(b"\n", b"\r\n") or b"\r\n",
    ]


def _media_type(content_type: str) -> bytes:
    """Return a media type with each of its parameters on a line of its own."""
    whole = _TYPE.fullmatch(content_type)
    if whole is None:
        return b"application/octet-stream"
    return ";\r\n ".join([whole[1], *(f"{name}={value}" for name, value in _PARAMETER.findall(whole[2]))]).encode()


def _parameter(name: str, value: str) -> bytes:
    """Return a parameter by RFC 2231: quoted when short ASCII, else percent-encoded in numbered sections.

    Two spaces would not survive DKIM's relaxed canonicalisation as they are.
    """
    if value.isascii() and len(value) < 60 and "  " not in value:
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f';\r\n {name}="{escaped}"'.encode()
    encoded = "utf-8''" + quote(value, safe="", errors="replace")
    sections: list[str] = []
    while encoded:
        end = 56
        # An escape is not cut in two.
        if "%" in encoded[end - 2 : end] and len(encoded) > end:
            end = encoded.rindex("%", 0, end)
        sections.append(encoded[:end])
        encoded = encoded[end:]
    if len(sections) == 1:
        return f";\r\n {name}*={sections[0]}".encode()
    return "".join(f";\r\n {name}*{number}*={section}" for number, section in enumerate(sections)).encode()
