"""Looking a domain's records up and saying, record by record, what is there, what is wrong and what to do.

The DKIM record is not only compared: a letter is signed with the stored key and verified by dkimpy, a second implementation,
against the record as the world sees it.
"""

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence

import dkim
from msgspec import Struct, structs

from mailbase.sending.dns import Resolver, Unanswered
from mailbase.sending.domains import dmarc, spf
from mailbase.sending.domains.dns_records import Record, dkim_name
from mailbase.sending.signing.dkim import Signer

LETTER = (
    (b"From", b"mailbase <postmaster@%b>"),
    (b"To", b"postmaster@%b"),
    (b"Subject", b"=?utf-8?q?Pr=C3=BCfung?="),
    (b"Date", b"Thu, 01 Jan 2026 00:00:00 +0000"),
    (b"Message-ID", b"<verify@%b>"),
)
BODY = b"A letter to see whether the signature holds.\r\n"


class Asked(Struct, frozen=True):
    """What is looked at: the records to find, the signers by selector, and the SPF mechanism that must be there."""

    domain: str
    records: Sequence[Record]
    signers: Mapping[str, Signer]
    spf_term: str | None
    """None: any valid record will do, because who sends for us is not known."""
    now: int


async def check(resolver: Resolver, asked: Asked) -> list[Record]:
    """Return the records with what was found; one that could not be looked up is ``unknown``. Never raises for DNS."""
    return list(await asyncio.gather(*(_checked(resolver, asked, record) for record in asked.records)))


async def _checked(resolver: Resolver, asked: Asked, record: Record) -> Record:
    try:
        if record.purpose == "dkim":
            return await _dkim(resolver, asked, record)
        if record.purpose == "spf":
            return await _spf(resolver, asked, record)
        if record.purpose == "dmarc":
            return await _dmarc(resolver, asked, record)
        if record.purpose == "tracking":
            return await _tracking(resolver, record)
        return await _mx(resolver, record)
    except Unanswered as error:
        return structs.replace(
            record, status="unknown", message=f"The look-up got no answer ({error}). Try again later."
        )


def _missing(record: Record) -> Record:
    return structs.replace(record, status="missing", message=f"There is no such record at {record.name} yet.")


def _wrong(record: Record, found: list[str], message: str) -> Record:
    return structs.replace(record, status="wrong", found=found, message=message)


def _ok(record: Record, found: list[str], message: str | None = None) -> Record:
    return structs.replace(record, status="ok", found=found, message=message)


async def _dkim(resolver: Resolver, asked: Asked, record: Record) -> Record:
    texts = await resolver.txt(record.name)
    if not texts:
        return _missing(record)
    if len(texts) > 1:
        return _wrong(
            record, texts, f"There are {len(texts)} TXT records at this name; receivers pick any of them. Keep one."
        )
    tags = dict(part.strip().partition("=")[::2] for part in texts[0].split(";") if "=" in part)
    public = re.sub(r"\s", "", tags.get("p", ""))
    if "p" not in tags:
        return _wrong(record, texts, "This is not a DKIM record: it has no p=.")
    if not public:
        return _wrong(record, texts, "The key is revoked: p= is empty.")
    if public != record.value.partition("p=")[2]:
        return _wrong(
            record, texts, "This is another key than the one letters are signed with, or a part of it was cut off."
        )
    hashes = tags.get("h")
    if hashes is not None and "sha256" not in [name.strip() for name in hashes.split(":")]:
        return _wrong(record, texts, f"It allows h={hashes.strip()} only, and letters are signed with sha256.")
    signer = next(
        (signer for name, signer in asked.signers.items() if dkim_name(name, asked.domain) == record.name), None
    )
    if signer is not None and not await asyncio.to_thread(_signs, signer, texts[0], asked.now):
        return _wrong(
            record, texts, "A letter signed with this key does not verify against this record; look at its other tags."
        )
    return _ok(record, texts, record.message)


def _signs(signer: Signer, text: str, now: int) -> bool:
    domain = signer.domain.encode("ascii")
    headers = [(name, value.replace(b"%b", domain)) for name, value in LETTER]
    letter = (
        signer.sign(headers, BODY, now=now)
        + b"\r\n"
        + b"".join(name + b": " + value + b"\r\n" for name, value in headers)
    )
    lookup: Callable[..., bytes] = lambda _name, timeout=5: text.encode()  # noqa: ARG005, E731  (dkimpy's shape)
    try:
        return bool(dkim.verify(letter + b"\r\n" + BODY, dnsfunc=lookup))
    except dkim.DKIMException:
        return False


async def _spf(resolver: Resolver, asked: Asked, record: Record) -> Record:
    policy = await spf.read(resolver, record.name)
    if not policy.found:
        return _missing(record)
    if policy.error:
        return _wrong(record, policy.found, policy.error)
    term = asked.spf_term
    if term is not None and term not in policy.terms:
        return _wrong(record, policy.found, f"It does not name the host that sends: add {term} to it.")
    if not policy.terms - {"all"}:
        return _wrong(record, policy.found, "It names nobody who may send.")
    note = (
        None
        if term
        else "Whether it names the relay cannot be told from here; the relay's own instructions say what to include."
    )
    return _ok(record, policy.found, note)


async def _dmarc(resolver: Resolver, asked: Asked, record: Record) -> Record:
    policy = await dmarc.read(resolver, asked.domain)
    if policy is None:
        texts = await resolver.txt(record.name)
        if texts:
            return _wrong(record, texts, "The text at this name is not a DMARC record: it must begin with v=DMARC1.")
        return _missing(record)
    if policy.error:
        return _wrong(record, policy.found, policy.error)
    notes = list(policy.warnings)
    if policy.name != record.name:
        notes.insert(0, f"The policy at {policy.name} holds for this domain too.")
    return _ok(record, policy.found, " ".join(notes) or None)


async def _mx(resolver: Resolver, record: Record) -> Record:
    hosts = await resolver.mx(record.name)
    if not hosts:
        return _missing(record)
    if record.value.partition(" ")[2].lower() not in hosts:
        return _wrong(record, hosts, "Returned mail goes to another host.")
    return _ok(record, hosts)


async def _tracking(resolver: Resolver, record: Record) -> Record:
    """Any way to an address will do: a proxy or another record of the owner's may stand in front of this host."""
    found = await resolver.cname(record.name) or await resolver.address(record.name)
    return _ok(record, found) if found else _missing(record)
