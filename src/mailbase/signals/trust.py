"""Trust: whether a complaint that hides our letter comes from a provider that sends such reports.

A report that carries a reference of ours proves itself. One that names only an address is believed when its From is one of the
addresses providers report from (``complaint_senders``), and a DKIM signature of that very domain, or of the one above it, covers it and verifies.
Anybody may sign for a domain of free mailboxes, nobody but the provider may write as these.
"""

import asyncio
import re
from collections.abc import Callable
from email.utils import parseaddr
from typing import Final

import dkim

from mailbase.sending.dns import Resolver, Unanswered

SIGNATURES: Final = 10
_TAG: Final = re.compile(rb"(?:^|;)\s*([ds])\s*=\s*([^;\s]+)", re.IGNORECASE)
_FIELD: Final = re.compile(rb"^dkim-signature[ \t]*:(.*(?:\r?\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)
_FROM: Final = re.compile(rb"^from[ \t]*:(.*(?:\r?\n[ \t].*)*)", re.IGNORECASE | re.MULTILINE)


async def is_provider(data: bytes, resolver: Resolver, senders: frozenset[str]) -> bool:
    """Tell whether a report is from a provider that sends them; False too when DNS does not answer."""
    head = re.split(rb"\r?\n\r?\n", data, maxsplit=1)[0]
    froms = _FROM.findall(head)
    if len(froms) != 1:
        return False
    email = parseaddr(froms[0].decode("utf-8", "replace").strip())[1].lower()
    domain = email.rpartition("@")[2]
    if email not in senders and f"@{domain}" not in senders:
        return False
    for index, field in enumerate(_FIELD.findall(head)[:SIGNATURES]):
        tags = {name.lower(): value.decode("ascii", "replace").lower() for name, value in _TAG.findall(field)}
        signer = tags.get(b"d", "")
        if not ("." in signer and f".{domain}".endswith(f".{signer}")):
            continue
        try:
            keys = await resolver.txt(f"{tags.get(b's', '')}._domainkey.{signer}")
        except Unanswered:
            continue
        if not keys:
            continue
        if await asyncio.to_thread(_verifies, data, index, keys[0].encode()):
            return True
    return False


def _verifies(data: bytes, index: int, key: bytes) -> bool:
    lookup: Callable[..., bytes] = lambda _name, timeout=5: key  # noqa: ARG005, E731  (dkimpy's shape)
    try:
        return bool(dkim.DKIM(data).verify(idx=index, dnsfunc=lookup))
    except (dkim.DKIMException, ValueError, IndexError):
        return False
