"""DKIM signatures (RFC 6376): rsa-sha256 (RFC 8301), relaxed/relaxed, over OpenSSL.

A letter of ours is canonical from birth, so the usual cost of signing (two regular expressions over the whole body and a
big number in pure Python) is reduced to one hash and one RSA operation; a row of letters shares that, too
(:mod:`~mailbase.sending.signing.eightfold`). ``Signer.sign`` also takes any other body with CRLF
line ends and canonicalises it first.

What is signed: every name of ``SIGNED`` that the letter carries, as often as it carries it; names of ``OVERSIGNED`` once more
than that, even when absent, so nobody can add a second ``Subject`` or a foreign ``List-Unsubscribe`` on the way. Never
``l=`` (a tail could be appended), always ``t=``.
"""

import hashlib
import re
from binascii import b2a_base64
from collections.abc import Iterable, Sequence

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from msgspec import Struct

from mailbase.sending.signing.eightfold import LANES, WORTH, Eightfold
from mailbase.sending.signing.keys import PrivateKey

OVERSIGNED = (
    b"from",
    b"to",
    b"cc",
    b"subject",
    b"date",
    b"reply-to",
    b"message-id",
    b"content-type",
    b"list-id",
    b"list-unsubscribe",
    b"list-unsubscribe-post",
)
SIGNED = (
    *OVERSIGNED,
    b"sender",
    b"mime-version",
    b"content-transfer-encoding",
    b"in-reply-to",
    b"references",
    b"list-help",
    b"list-subscribe",
    b"list-owner",
    b"list-archive",
    b"feedback-id",
    b"cfbl-address",
    b"cfbl-feedback-id",
)
PLANS_KEPT = 256  # the same few sets of header names come again and again

_WSP = re.compile(rb"[ \t]+")
_FOLDED = re.compile(rb"[ \t\r\n]+")
_PADDING = PKCS1v15()
_SHA256 = SHA256()


class _Plan(Struct, gc=False):
    """What letters with one set of header names sign: (index of the header, ``name:``), and the ``h=`` that says so."""

    order: list[tuple[int, bytes]]
    raw: bytes
    canonical: bytes
    seen: list[bytes | None]
    """The values signed last, and their canonical lines: most are the very same objects in the next letter."""
    lines: list[bytes]


def canonical_body(body: bytes) -> bytes:
    """Return the body under the relaxed algorithm (RFC 6376 § 3.4.4). Line ends are CRLF already."""
    if body and not body.endswith(b"\r\n"):
        body += b"\r\n"
    body = _WSP.sub(b" ", body).replace(b" \r\n", b"\r\n")
    end = len(body)
    while end >= 2 and body[end - 2 : end] == b"\r\n":
        end -= 2
    return body[:end] + b"\r\n" if end else b""


def canonical_value(value: bytes) -> bytes:
    """Return a header's value under the relaxed algorithm (RFC 6376 § 3.4.2): unfolded, single spaces, trimmed."""
    if b"\n" in value or b"  " in value or b"\t" in value:
        value = _FOLDED.sub(b" ", value)
    return value.strip(b" ")


def _digest(pieces: Iterable[bytes]) -> bytes:
    whole = hashlib.sha256()
    for piece in pieces:
        whole.update(piece)
    return whole.digest()


def finished(start: bytes, signature: bytes) -> bytes:
    """Return the whole header, folded with CRLF, without a CRLF at its end; ``start`` is of ``Signer.draft``."""
    text = b2a_base64(signature, newline=False)
    return start + b"\r\n ".join([text[at : at + 74] for at in range(0, len(text), 74)])


class Signer:
    """One key of one domain. Cheap to call and safe to share; keep one per domain and selector."""

    def __init__(self, domain: str, selector: str, private_key: PrivateKey) -> None:
        """``domain`` is an A-label; the record is looked up at ``{selector}._domainkey.{domain}``."""
        self.domain = domain
        self.selector = selector
        self._sign = private_key.sign
        self._eightfold = Eightfold.of(private_key)
        self._start = b"v=1; a=rsa-sha256; c=relaxed/relaxed; d=%b;\r\n s=%b; t=" % (
            domain.encode("ascii"),
            selector.encode("ascii"),
        )
        self._canonical_start = self._start.replace(b"\r\n", b"")
        self._plans: dict[tuple[bytes, ...], _Plan] = {}

    def sign(self, headers: Sequence[tuple[bytes, bytes]], body: bytes, *, now: int, canonical: bool = False) -> bytes:
        """Return ``b"DKIM-Signature: …"``, folded with CRLF, without a CRLF at its end.

        ``headers`` are (name, value) pairs as sent, values possibly folded, in their order; ``now`` is Unix time in
        seconds. ``canonical=True`` promises that the body is what ``canonical_body`` would return.
        """
        text, start = self.draft(headers, (body if canonical else canonical_body(body),), now=now)
        return finished(start, self.raw(text))

    def draft(self, headers: Sequence[tuple[bytes, bytes]], body: Iterable[bytes], *, now: int) -> tuple[bytes, bytes]:
        """Return all of a signature but the RSA operation: the text to sign, and the header up to ``b=``.

        ``body``: what ``canonical_body`` would return, in pieces.
        """
        names = tuple([name for name, _ in headers])
        plan = self._plans.get(names) or self._plan(names)
        body_hash = b2a_base64(_digest(body), newline=False)
        stamp = b"%d" % now
        seen, lines = plan.seen, plan.lines
        for place, (index, start) in enumerate(plan.order):
            value = headers[index][1]
            if value is not seen[place]:
                seen[place] = value
                lines[place] = start + canonical_value(value)
        lines[-1] = b"dkim-signature:%b%b%b%b; b=" % (self._canonical_start, stamp, plan.canonical, body_hash)
        start = b"DKIM-Signature: %b%b%b%b;\r\n b=" % (self._start, stamp, plan.raw, body_hash)
        return b"\r\n".join(lines), start

    def raw(self, text: bytes) -> bytes:
        """Return the RSA signature of a draft's text."""
        return self._sign(text, _PADDING, _SHA256)

    def raw_all(self, texts: Sequence[bytes]) -> list[bytes]:
        """Return the RSA signatures of many drafts' texts, in their order: cheaper by far than one by one, where the machine can."""
        signatures: list[bytes] = []
        for at in range(0, len(texts), LANES):
            row = texts[at : at + LANES]
            eight = self._eightfold.sign(row) if self._eightfold and len(row) >= WORTH else None
            signatures += eight or [self.raw(text) for text in row]
        return signatures

    def _plan(self, names: tuple[bytes, ...]) -> _Plan:
        """Work out once what a letter with these header names signs, and the ``h=`` that says so."""
        places: dict[bytes, list[int]] = {}
        for index, name in enumerate(names):
            places.setdefault(name.lower(), []).append(index)
        order: list[tuple[int, bytes]] = []
        listed: list[bytes] = []
        for name in SIGNED:
            # A verifier takes repeated names from the bottom up (RFC 6376 § 5.4.2).
            for index in reversed(places.get(name, ())):
                order.append((index, name + b":"))
                listed.append(name)
            if name in OVERSIGNED:
                listed.append(name)
        lines: list[bytes] = []
        line = b" h="
        for position, name in enumerate(listed):
            piece = name + (b":" if position < len(listed) - 1 else b";")
            if len(line) + len(piece) > 76:
                lines.append(line)
                line = b" "
            line += piece
        lines.append(line)
        raw = b";\r\n" + b"\r\n".join(lines) + b"\r\n bh="
        if len(self._plans) >= PLANS_KEPT:
            self._plans.clear()
        plan = _Plan(order, raw, raw.replace(b"\r\n", b""), [None] * len(order), [b""] * (len(order) + 1))
        self._plans[names] = plan
        return plan
