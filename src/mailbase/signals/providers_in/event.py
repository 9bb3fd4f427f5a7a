"""What the readers of providers' webhooks share: the request as it came, an event as we keep it, and how a report is weighed.

A reader is a module with ``check`` (is this a secret it can use?) and ``read`` (verify, then map). Each says where its provider
documents what it maps. Payloads are somebody else's: a field may be missing or of any type, and no shape of JSON raises.
"""

import hashlib
import hmac
import re
from base64 import b64decode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import msgspec
from msgspec import Struct

from mailbase.errors import Invalid, Malformed, Unauthorized
from mailbase.outgoing import Outgoing
from mailbase.reports.judge import code_of, status_of, weigh
from mailbase.signals.feedback import Class, Feedback, Kind

SUPPRESSED: Final = "provider_suppressed"
"""The reason of a letter the provider did not even try, because of a list of its own: no news of the address, so never more than a block."""
LONGEST_ADDRESS: Final = 320
LONGEST_REPLY: Final = 2000
MOST_LETTERS: Final = 20
REFUSED: Final = "This request does not carry the source's signature or secret."
UNDECIDED: Final = frozenset(
    {"uncategorized", "mailbox_unavailable", "dns_failure", "routing_errors", "bad_configuration", "protocol_errors"}
)
"""Readings of a reply that are no evidence against the provider's own word."""
HARSHNESS: Final[Mapping[str, int]] = {"block": 0, "soft": 1, "hard": 2}
_OURS: Final = re.compile(r"(?<![0-9])([0-9]{1,19})\.([0-9a-f]{10,16})@[A-Za-z0-9.-]{1,255}")


class Incoming(Struct, frozen=True):
    """One request: header names in lower case, the query, the body's bytes."""

    headers: Mapping[str, str]
    query: Mapping[str, str]
    body: bytes


class Trust(Struct, frozen=True):
    """What a source is known by, opened: the secret, or for Amazon the topic."""

    secret: str = ""
    topic_arn: str = ""


class Desk(Struct, frozen=True):
    """What verifying needs beside the request."""

    outgoing: Outgoing
    now: datetime


class Event(Struct, kw_only=True):
    """One event. ``key`` is the provider's id of it; ``refs`` are texts that may hold our Message-ID."""

    key: str
    kind: str
    raw: Any
    email: str | None = None
    at: datetime | None = None
    refs: tuple[str, ...] = ()
    feedback: Feedback | None = None


class Reading(Struct):
    """What a verified request holds. ``token``: what its signature covers instead of the body, good for one body only."""

    events: list[Event]
    token: str | None = None


def refuse() -> Unauthorized:
    """Return the one refusal there is, whatever was wrong."""
    return Unauthorized(REFUSED)


def same(given: str, wanted: str) -> bool:
    """Compare two secrets in a time that tells nothing, not even the length."""
    return hmac.compare_digest(
        hashlib.sha256(given.encode("utf-8", "surrogateescape")).digest(), hashlib.sha256(wanted.encode()).digest()
    )


def need_secret(secret: str) -> None:
    """Refuse an empty secret.

    Raises:
        Invalid: ``secret_missing``.

    """
    if not secret.strip():
        raise Invalid.field(
            "secret", "secret_missing", "This provider's requests are verified by a `secret` (or `token`)."
        )


def verify_shared(incoming: Incoming, secret: str) -> None:
    """Let pass who knows the secret: as password in the URL, as bearer token, in ``X-Mailbase-Token`` or as ``?token=``.

    Raises:
        Unauthorized: nobody who does.

    """
    scheme, _, value = incoming.headers.get("authorization", "").partition(" ")
    given = [
        incoming.headers.get("x-mailbase-token", ""),
        incoming.query.get("token", ""),
        incoming.query.get("secret", ""),
    ]
    if scheme.lower() == "bearer":
        given.append(value.strip())
    elif scheme.lower() == "basic":
        try:
            pair = b64decode(value.strip(), validate=True).decode("utf-8", "surrogateescape")
        except ValueError:
            pair = ""
        given += [pair, pair.partition(":")[2]]
    # Every one is compared, so that the time does not tell which was right.
    if not sum(same(one, secret) for one in given):
        raise refuse()


def json_body(body: bytes) -> Any:
    """Return the body's JSON.

    Raises:
        Malformed: it is none.

    """
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed("The body is not JSON.") from None


def text(value: Any) -> str:
    """Return a field's text, without what PostgreSQL cannot hold; an empty one for anything else."""
    return value.replace("\0", "") if isinstance(value, str) else ""


def member(value: Any, *path: str) -> Any:
    """Return what stands at a path of names, or None."""
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def many(value: Any) -> list[Any]:
    """Return a list; anything else is an empty one."""
    return value if isinstance(value, list) else []


def moment(value: Any) -> datetime | None:
    """Return a time told as ISO 8601, or as seconds or milliseconds since 1970."""
    try:
        if isinstance(value, bool) or value is None:
            return None
        if isinstance(value, (int, float)):
            return datetime.fromtimestamp(value / 1000 if value > 1e11 else value, UTC)
        found = datetime.fromisoformat(str(value))
        return found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError, OSError):
        return None


def content_key(raw: Any) -> str:
    """Return a key for an event that has no id of its own: the same content is the same event."""
    return hashlib.sha256(msgspec.json.encode(raw, order="sorted")).hexdigest()


def own_ids(refs: tuple[str, ...]) -> list[tuple[int, int]]:
    """Return (delivery, microseconds of its making) for everything in the texts that looks like a Message-ID of ours."""
    found = [(int(match[1]), int(match[2], 16)) for one in refs for match in _OURS.finditer(one[: 256 * 1024])]
    return [(number, made) for number, made in dict.fromkeys(found) if number < 2**63 and made < 2**63][:MOST_LETTERS]


def address(value: Any) -> str | None:
    """Return an address without a display name around it; None where there is none."""
    found = text(value).strip()
    if found.endswith(">") and "<" in found:
        found = found.rpartition("<")[2][:-1].strip()
    return found[:LONGEST_ADDRESS] or None


def told(source: str, kind: Kind, email: str | None, at: datetime | None) -> Feedback:
    """Return a report without a bounce."""
    return Feedback(kind=kind, source=source, email=email, at=at)


def bounce(
    source: str,
    cls: Class,
    reason: str,
    *,
    email: str | None,
    at: datetime | None,
    reply: str = "",
    status: str = "",
    mta: str = "",
) -> Feedback:
    """Return a bounce, the milder of what the provider calls it and what the server's own words say.

    Providers put every 5xx into one drawer. A server that spoke of policy, spam or a full mailbox said nothing against the address.
    """
    said = status_of(status) or status_of(reply)
    if reply and reason != SUPPRESSED:
        # The provider has given up: a 4xx may be its last word, too.
        verdict = weigh(code_of(reply) or 550, said, reply, final=True)
        milder = verdict.reason not in UNDECIDED and HARSHNESS.get(verdict.cls, 3) < HARSHNESS[cls]
        if milder or (verdict.cls == cls and verdict.reason not in UNDECIDED):
            cls, reason = msgspec.convert(verdict.cls, Class), verdict.reason
    return Feedback(
        kind="bounce",
        source=source,
        email=email,
        at=at,
        cls=cls,
        reason=reason,
        status=said,
        reply=reply[:LONGEST_REPLY] or None,
        reporting_mta=mta[:LONGEST_REPLY] or None,
    )
