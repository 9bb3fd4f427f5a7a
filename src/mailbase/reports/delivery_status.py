"""The machine-readable part of a delivery report (RFC 3464, RFC 6533), in all the shapes it is written in.

Blocks are separated by empty lines, but some servers leave them out between recipients and others put them between
the fields of one; so a recipient's field begins a block, whatever stands around it.
"""

import re
from typing import Literal

import msgspec

from mailbase.reports.addresses import inward, one_of
from mailbase.reports.judge import statuses

Action = Literal["failed", "delayed", "delivered"]

MOST_BLOCKS = 500
LONGEST_VALUE = 4000

KINDS = frozenset(
    {"message/delivery-status", "message/global-delivery-status", "message/disposition-notification-status"}
)

_FIELD = re.compile(r"^[ \t>]{0,4}([A-Za-z][A-Za-z\-]{2,40}?)[ \t]*:[ \t]*(.*)$")
_KNOWN = frozenset(
    {
        "final-recipient",
        "original-recipient",
        "action",
        "status",
        "diagnostic-code",
        "remote-mta",
        "reporting-mta",
        "x-supplementary-info",
        "last-attempt-date",
        "arrival-date",
        "x-actual-recipient",
        "x-display-name",
        "will-retry-until",
        "final-log-id",
        "original-envelope-id",
        "received-from-mta",
        "dsn-gateway",
        "x-postfix-queue-id",
        "x-postfix-sender",
        "x-original-message-id",
    }
)
_TYPE = re.compile(
    r"^\s*(?:smtp|x-[\w\-]{1,40}|x400|x\.400|unknown|lmtp|esmtp|mta|unix|local|dns|notes|http|exim|x)\s*;\s*",
    re.IGNORECASE,
)
_EMBEDDED = re.compile(r"^[ \t>]{0,4}Final-Recipient[ \t]*:", re.IGNORECASE | re.MULTILINE)
_NEXT = re.compile(r"^[ \t>]{0,4}(?:Action|Status|Diagnostic-Code)[ \t]*:", re.IGNORECASE | re.MULTILINE)
_QUOTED = re.compile(r"^[ \t]{0,4}>[ \t>]{0,8}Final-Recipient[ \t]*:", re.IGNORECASE | re.MULTILINE)
_QUOTE = re.compile(r"^[ \t]{0,4}>(?:[ \t>]{0,8}>)?[ \t]?", re.MULTILINE)
_MTA = re.compile(r"^\s*[\w\-]{1,30}\s*;\s*")


class Block(msgspec.Struct, kw_only=True):
    """What a report says of one recipient; ``reply`` is the diagnostic without its type."""

    recipient: str
    original: str = ""
    action: Action | None
    status: str | None
    reply: str = ""
    supplement: str = ""


class Status(msgspec.Struct, kw_only=True):
    """A whole delivery report."""

    reporting_mta: str | None = None
    blocks: list[Block] = []
    originals: list[str] = []


def looks_like(text: str) -> bool:
    """Whether a text holds the fields of a report, though nobody declared them."""
    return "-recipient" in text.lower() and _EMBEDDED.search(text) is not None and _NEXT.search(text) is not None


def parse(text: str) -> Status:
    """Return what the fields say."""
    found = Status(blocks=[], originals=[])
    text = text[:200_000]
    if _QUOTED.search(text):
        text = _QUOTE.sub("", text)
    for fields in _blocks(text):
        mta = fields.get("reporting-mta")
        if mta and found.reporting_mta is None:
            found.reporting_mta = _MTA.sub("", mta).strip()[:255] or None
        if (
            "final-recipient" not in fields
            and "original-recipient" not in fields
            and not ("action" in fields and "status" in fields)
        ):
            continue
        final, original = one_of(fields.get("final-recipient", "")), one_of(fields.get("original-recipient", ""))
        actual = one_of(fields.get("x-actual-recipient", ""))
        found.originals += [one for one in (original, final, actual) if "@" in one]
        if original and "@" in original and inward(final):
            final = original
        status = next(iter(statuses(fields.get("status", ""))), None)
        diagnostic = _TYPE.sub("", fields.get("diagnostic-code", "")).strip()
        found.blocks.append(
            Block(
                recipient=final or original or actual,
                original=original,
                action=_action(fields.get("action", ""), status),
                status=status,
                reply=diagnostic,
                supplement=" ".join(
                    one
                    for one in (
                        fields.get("x-supplementary-info", ""),
                        fields.get("x-powermta-bouncecategory", ""),
                        _comment(fields.get("status", "")),
                    )
                    if one
                ),
            )
        )
    return found


def _blocks(text: str) -> list[dict[str, str]]:
    blocks: list[dict[str, str]] = [{}]
    last = ""
    empty = False
    for line in text.split("\n"):
        if not line.strip():
            empty = True
            continue
        if line.startswith("--"):
            last, empty = "", True
            continue
        field = _FIELD.match(line) if line[0] not in " \t" or last == "" else None
        name = field[1].lower() if field else ""
        if field is None or (name not in _KNOWN and last == "diagnostic-code" and not name.startswith("x-")):
            # A folded value; or a diagnostic whose fold lost its indentation.
            if last and not (empty and last != "diagnostic-code"):
                joined = f"{blocks[-1].get(last, '')} {line.strip()}"
                blocks[-1][last] = joined[:LONGEST_VALUE]
            continue
        current = blocks[-1]
        begins = (
            (name in {"final-recipient", "original-recipient"} and name in current)
            or (name == "original-recipient" and "final-recipient" in current and empty)
            or (
                name == "final-recipient"
                and "original-recipient" in current
                and ("action" in current or "status" in current)
                and empty
            )
            or (name in {"final-recipient", "original-recipient"} and "reporting-mta" in current)
            or (name == "action" and name in current and empty)
        )
        if begins:
            if len(blocks) >= MOST_BLOCKS:
                break
            blocks.append({})
        if name not in blocks[-1]:
            blocks[-1][name] = field[2].strip()[:LONGEST_VALUE]
        last, empty = name, False
    return blocks


def _comment(status: str) -> str:
    _, bracket, comment = status.partition("(")
    return comment.rstrip(") ") if bracket else ""


def _action(value: str, status: str | None) -> Action | None:
    word = value.strip().lower()
    if word.startswith(("fail", "error", "expired", "reject", "undeliver", "bounce")):
        return "failed"
    if word.startswith(("delay", "defer", "warn", "transient")):
        return "delayed"
    if word.startswith(("deliver", "relay", "expand")):
        return "delivered"
    if status is None:
        return None
    return {"5": "failed", "4": "delayed", "2": "delivered"}[status[0]]  # type: ignore[return-value]
