"""Our own addresses under a domain's bounce name, and the reference that makes each of them one letter's.

    b.{ref}@bounces.example.com             envelope sender (VERP): bounces come back to it
    unsubscribe+{ref}@bounces.example.com   the mailto: of List-Unsubscribe
    fbl@bounces.example.com                 CFBL-Address (RFC 9477): complaints
    X-Mailbase-Ref: {ref}                   for reports that return the letter and hide the reader

The reference is the delivery's id with a MAC: whoever was never sent the letter cannot make one up, so a forged bounce ends
nobody. It is hexadecimal, because some servers turn a local part to lower case (and base32 costs fifty times as much to write).
At most 46 characters with ``b.``, 56 with ``unsubscribe+``: under the 64 of RFC 5321 § 4.5.3.1.1.
"""

from typing import Final, Literal

from msgspec import Struct

from mailbase.sending.domains.dns_records import bounce_name
from mailbase.tokens import Tokens

Kind = Literal["bounce", "unsubscribe", "complaint"]

BOUNCE: Final = "b."
UNSUBSCRIBE: Final = "unsubscribe+"
COMPLAINTS: Final = "fbl"


class Own(Struct, frozen=True):
    """One of our own addresses, understood. ``delivery_id`` is None for ``fbl@``."""

    kind: Kind
    delivery_id: int | None
    domain: str
    """As written, in lower case."""


def ref(tokens: Tokens, delivery_id: int) -> str:
    """Return a letter's reference."""
    return tokens.sign_hex("verp", delivery_id)


def read_ref(tokens: Tokens, text: str) -> int | None:
    """Return the delivery of a reference; None: not one of ours."""
    numbers = tokens.read_hex("verp", text.strip(), 1)
    return numbers[0] if numbers else None


def envelope_sender(reference: str, domain: str) -> str:
    """Return where a letter's bounces come back to; ``domain`` is the sending domain."""
    return f"{BOUNCE}{reference}@{bounce_name(domain)}"


def unsubscribe_address(reference: str, domain: str) -> str:
    """Return where a mail lets a letter's reader leave."""
    return f"{UNSUBSCRIBE}{reference}@{bounce_name(domain)}"


def complaints_address(domain: str) -> str:
    """Return where complaints about a domain's letters come to."""
    return f"{COMPLAINTS}@{bounce_name(domain)}"


def read_address(tokens: Tokens, address: str) -> Own | None:
    """Return which of our addresses this is; None: none of them, or its MAC is wrong. Whether the domain is ours is not looked at."""
    local, _, domain = address.strip().strip("<>").lower().rpartition("@")
    if local == COMPLAINTS:
        return Own("complaint", None, domain)
    kinds: tuple[tuple[str, Kind], ...] = ((BOUNCE, "bounce"), (UNSUBSCRIBE, "unsubscribe"))
    for prefix, kind in kinds:
        if local.startswith(prefix):
            delivery_id = read_ref(tokens, local.removeprefix(prefix))
            return None if delivery_id is None else Own(kind, delivery_id, domain)
    return None
