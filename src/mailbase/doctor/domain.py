"""A sending domain: everything receivers look up about it, each with what to do."""

import ipaddress
import re
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from msgspec import Struct

from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.doctor.findings import About, Finding
from mailbase.doctor.way_out import own_addresses
from mailbase.errors import ConfigError
from mailbase.sending.dns import DnsResolver, Unanswered
from mailbase.sending.domains import dmarc, dns_records, spf, verify
from mailbase.sending.domains.dns_records import Key, Record
from mailbase.sending.signing import keys
from mailbase.sending.signing.dkim import Signer
from mailbase.vault import Vault

OLD: Final = timedelta(days=200)
"""M3AAWG asks for a new key every six months."""
MANY_LOOKUPS: Final = 8
_STRICT: Final = re.compile(r"(?:^|;)\s*aspf\s*=\s*s\s*(?:;|$)", re.IGNORECASE)


class Domain(Struct, frozen=True):
    """A domain as it is stored, with its keys opened."""

    id: int
    name: str
    signing: bool
    verp: bool
    keys: tuple[Key, ...]
    signers: dict[str, Signer]
    made: dict[str, datetime]
    locked: str | None
    """Why a key could not be opened."""


DOMAINS = """
SELECT id, name, signing, verp FROM domains WHERE $1::text IS NULL OR name = $1 ORDER BY name LIMIT 200
"""

KEYS = """
SELECT id, selector, state, public_key, private_key, created_at FROM dkim_keys WHERE domain_id = $1 ORDER BY id
"""


async def load(db: Connection, vault: Vault, name: str | None = None) -> list[Domain]:
    """Return the stored domains, or the one of that name."""
    found = []
    for row in await db.fetch(DOMAINS, name):
        stored = await db.fetch(KEYS, row["id"])
        signers: dict[str, Signer] = {}
        locked = None
        for key in stored:
            try:
                private = keys.from_der(vault.decrypt(key["private_key"], f"dkim:{key['id']}"))
                signers[key["selector"]] = Signer(row["name"], key["selector"], private)
            except (ConfigError, ValueError, TypeError) as error:
                locked = str(error)
        found.append(
            Domain(
                row["id"],
                row["name"],
                row["signing"],
                row["verp"],
                tuple(Key(key["id"], key["selector"], key["state"], key["public_key"]) for key in stored),
                signers,
                {key["selector"]: key["created_at"] for key in stored if key["state"] == "active"},
                locked,
            )
        )
    return found


async def examine(resolver: DnsResolver, domain: Domain, settings: Settings, now: datetime) -> list[Finding]:
    """Look at everything receivers will look at."""
    about = About(domain.name)
    real = not settings.to_outbox
    records = dns_records.proposed(domain.name, domain.keys, signing=domain.signing, settings=settings)
    records = [record for record in records if record.purpose != "tracking"]  # the public address is asked itself
    term = dns_records.spf_term(settings) if dns_records.spf_is_certain(settings) and settings.mx is None else None
    asked = verify.Asked(domain.name, records, domain.signers, term, int(now.timestamp()))
    seen = await verify.check(resolver, asked)
    bounces = dns_records.bounce_name(domain.name)
    found = [_shown(about, domain, record, needed=_needed(domain, record, bounces), real=real) for record in seen]
    found += _keys(about, domain, now)
    return_path = bounces if domain.verp else domain.name
    try:
        found += await _sources(about, resolver, return_path, settings)
        found.append(await _alignment(about, resolver, domain, return_path))
        found.append(await _receives(about, resolver, domain.name, real=real))
    except Unanswered as error:
        found.append(about.warning("dns", f"DNS does not answer ({error}).", "Try again later."))
    return found


def _needed(domain: Domain, record: Record, bounces: str) -> bool:
    if record.name == bounces:
        return domain.verp
    active = {dns_records.dkim_name(key.selector, domain.name) for key in domain.keys if key.state == "active"}
    return record.purpose != "dkim" or record.name in active


def _shown(about: About, domain: Domain, record: Record, *, needed: bool, real: bool) -> Finding:
    """Turn what a look-up found into words; what is not needed for sending is never wrong."""
    what = f"{'MX' if record.type == 'MX' else record.purpose.upper()} at {record.name}"
    publish = f"Publish {record.type} {record.name} with the value {record.value}"
    check = record.purpose
    if record.status == "ok":
        return about.ok(check, f"{what} is right.{' ' + record.message if record.message else ''}")
    if record.status == "unknown":
        return about.warning(
            check, f"{what}: DNS does not answer.", "Try again later, or look at MAILBASE_DNS_SERVERS."
        )
    text = f"{what} is missing."
    if record.status == "wrong":
        text = f"{what} is wrong. {record.message}"
        publish = f"Change the record that is there, do not add a second one; alone it would read {record.value}"
    if not needed:
        if record.name == dns_records.bounce_name(domain.name):
            text += " Without it returned mail goes to the From address, and mailbase does not see it."
        return about.warning(check, text, publish)
    return about.if_real(check, text, publish, real=real)


def _keys(about: About, domain: Domain, now: datetime) -> list[Finding]:
    found: list[Finding] = []
    if domain.locked is not None:
        advice = "Set MAILBASE_SECRET_KEY to the key it was stored under, or rotate the domain's key."
        found.append(about.wrong("dkim_key", f"A signing key cannot be opened: {domain.locked}.", advice))
    if domain.signing and not domain.keys:
        found.append(
            about.wrong("dkim_key", "Letters shall be signed, and there is no key.", "Rotate the domain's key.")
        )
    for selector, made in domain.made.items():
        if domain.signing and now - made > OLD:
            text = f"The key {selector} has signed for {(now - made).days} days."
            advice = f"Rotate it: POST /v1/domains/{domain.id}/dkim/rotate"
            found.append(about.warning("dkim_age", text, advice))
    return found


async def _sources(about: About, resolver: DnsResolver, return_path: str, settings: Settings) -> list[Finding]:
    """Say how far the SPF record of the return path is from its limit, and, sending straight, whether it names us."""
    policy = await spf.read(resolver, return_path)
    if not policy.found or policy.error:
        return []  # said already
    text = f"SPF at {return_path} takes {policy.lookups} of {spf.MOST_LOOKUPS} look-ups."
    if policy.lookups > MANY_LOOKUPS:
        advice = "Remove includes that are no longer used: past ten, receivers take the whole record for broken."
        found = [about.warning("spf_lookups", text, advice)]
    else:
        found = [about.ok("spf_lookups", text)]
    if settings.mx is None:
        return found
    for address in await own_addresses(resolver, settings.hostname, settings.mx.sources):
        if not await covers(resolver, policy.terms, return_path, address):
            text = f"SPF at {return_path} does not name {address}, which letters leave from."
            version = ipaddress.ip_address(address).version
            found.append(about.wrong("spf_source", text, f"Add ip{version}:{address} to the record, before its “all”."))
    return found


async def covers(resolver: DnsResolver, terms: Iterable[str], domain: str, address: str) -> bool:
    """Tell whether SPF mechanisms name an address.

    Raises:
        Unanswered: a name in them could not be looked up.

    """
    wanted = ipaddress.ip_address(address)
    for term in terms:
        kind, _, target = term.partition(":")
        host = target.partition("/")[0] or domain
        if kind in {"ip4", "ip6"}:
            try:
                if wanted in ipaddress.ip_network(target, strict=False):
                    return True
            except ValueError:
                continue
        elif (kind == "a" and address in await resolver.addresses(host)) or (
            kind == "mx" and any([address in await resolver.addresses(mx) for mx in await resolver.mx(host)])
        ):
            return True
    return False


async def _alignment(about: About, resolver: DnsResolver, domain: Domain, return_path: str) -> Finding:
    """Say whether what is proven is the From domain: the signature's domain and the return path's (RFC 9989 § 4.4)."""
    policy = await dmarc.read(resolver, domain.name)
    strict = policy is not None and any(_STRICT.search(text) for text in policy.found)
    if not domain.signing:
        text = "The relay signs, and perhaps not in this domain's name."
        advice = 'Let the relay sign as this domain (d=), or let mailbase sign: PATCH {"signing": true}.'
        return about.warning("alignment", text, advice)
    if strict and return_path != domain.name:
        text = f"DMARC asks for strict SPF alignment (aspf=s), and letters return to {return_path}: only the signature counts."
        return about.warning("alignment", text, "Take aspf=s out of the DMARC record.")
    return about.ok("alignment", f"Signature and return path ({return_path}) belong to the From domain.")


async def _receives(about: About, resolver: DnsResolver, name: str, *, real: bool) -> Finding:
    """Say whether somebody can answer: a From domain that takes no mail is refused by many."""
    hosts = await resolver.mx(name)
    if any(hosts):
        return about.ok("receives", f"Mail to {name} goes to {next(host for host in hosts if host)}.")
    if hosts:
        text = f"{name} says that it takes no mail (null MX); readers cannot answer, and many receivers refuse its letters."
    elif await resolver.addresses(name):
        return about.ok("receives", f"Mail to {name} goes to its own address; an MX record would be clearer.")
    else:
        text = f"{name} has no MX record: readers cannot answer, and many receivers refuse its letters."
    advice = f"Publish an MX record for {name}; postmaster@{name} should reach somebody."
    return about.if_real("receives", text, advice, real=real)
