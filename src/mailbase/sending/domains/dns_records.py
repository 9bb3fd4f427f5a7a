"""The DNS records a sending domain publishes, and what is proposed for each.

``dkim`` and ``spf`` and ``dmarc`` make a domain verified; ``bounce_mx`` (with the SPF record of the same name) is asked for where
this host has a public name, and turns on envelope senders of our own. ``tracking``, the host of links and pages, is named where it
has a name of its own in the owner's zone; whether it answers is the doctor's to say.
"""

import ipaddress
from collections.abc import Sequence
from typing import Literal
from urllib.parse import urlsplit

from msgspec import Struct

from mailbase.config import Settings
from mailbase.sending.signing.keys import record

Purpose = Literal["dkim", "spf", "dmarc", "bounce_mx", "tracking"]
Status = Literal["unchecked", "ok", "missing", "wrong", "unknown"]

KNOWN_RELAYS = (
    (".amazonaws.com", "amazonses.com"),
    (".sendgrid.net", "sendgrid.net"),
    (".mailgun.org", "mailgun.org"),
    (".eu.mailgun.org", "eu.mailgun.org"),
    (".postmarkapp.com", "spf.mtasv.net"),
    (".brevo.com", "spf.brevo.com"),
    (".sendinblue.com", "spf.brevo.com"),
    (".mailjet.com", "spf.mailjet.com"),
    (".google.com", "_spf.google.com"),
    (".gmail.com", "_spf.google.com"),
    (".office365.com", "spf.protection.outlook.com"),
)
"""What a relay's own instructions ask to include, by the end of its host name."""


class Record(Struct, kw_only=True, omit_defaults=True):
    """One record to publish, and what was last seen in its place."""

    purpose: Purpose
    type: Literal["TXT", "MX", "CNAME"]
    name: str
    """Absolute, without the final dot."""
    value: str
    """One unquoted piece; an MX as ``10 host``."""
    status: Status
    found: list[str] | None = None
    message: str | None = None
    """What is wrong, or worth knowing, in words."""


class Key(Struct, frozen=True):
    """A signing key as DNS sees it."""

    id: int
    selector: str
    state: Literal["active", "next", "retiring"]
    public_key: str


def bounce_name(domain: str) -> str:
    """Return the name that returned mail comes to."""
    return f"bounces.{domain}"


def dkim_name(selector: str, domain: str) -> str:
    """Return where a key is published."""
    return f"{selector}._domainkey.{domain}"


def spf_term(settings: Settings) -> str | None:
    """Return the mechanism that names whoever hands our mail to the world; None when that cannot be known."""
    if settings.smtp is not None:
        host = "." + settings.smtp.host.lower()
        includes = [include for suffix, include in KNOWN_RELAYS if host.endswith(suffix)]
        if includes:
            return f"include:{includes[-1]}"
    name = public_name(settings)
    if name is not None:
        return f"a:{name}"
    try:
        address = ipaddress.ip_address(settings.hostname)
    except ValueError:
        return None
    return f"ip{address.version}:{address}"


def spf_is_certain(settings: Settings) -> bool:
    """Tell whether a record without ``spf_term`` is surely wrong: not behind a relay we know nothing of."""
    return settings.smtp is None or (spf_term(settings) or "").startswith("include:")


def public_name(settings: Settings) -> str | None:
    """Return this host's name when it is one DNS can know."""
    name = settings.hostname
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name if "." in name and ":" not in name and not name.endswith((".localhost", ".local")) else None
    return None


def tracking_name(domain: str, settings: Settings) -> str | None:
    """Return the host of links, where it is another name than this host's and the domain's own, and of the zone the domain is of."""
    host = urlsplit(settings.public_url).hostname or ""
    zone = host.partition(".")[2]
    # A CNAME suffers nothing beside it; the domain's own name has an SPF record.
    if host in {settings.hostname, domain, bounce_name(domain)} or "." not in zone or host.replace(".", "").isdigit():
        return None
    return host if f".{domain}".endswith(f".{zone}") else None


def proposed(domain: str, keys: Sequence[Key], *, signing: bool, settings: Settings) -> list[Record]:
    """Return every record to publish, none checked yet."""
    term = spf_term(settings)
    spf = f"v=spf1 {term} ~all" if term else "v=spf1 mx ~all"
    found: list[Record] = []
    if signing:
        for key in keys:
            keep = (
                "Keep this one for two more weeks: letters on their way still need it."
                if key.state == "retiring"
                else None
            )
            name = dkim_name(key.selector, domain)
            value = record(key.public_key)
            found.append(Record(purpose="dkim", type="TXT", name=name, value=value, status="unchecked", message=keep))
    found.append(Record(purpose="spf", type="TXT", name=domain, value=spf, status="unchecked"))
    policy = f"v=DMARC1; p=none; np=reject; rua=mailto:postmaster@{domain}"
    found.append(Record(purpose="dmarc", type="TXT", name=f"_dmarc.{domain}", value=policy, status="unchecked"))
    host = public_name(settings)
    if host is not None:
        name = bounce_name(domain)
        found.append(Record(purpose="bounce_mx", type="MX", name=name, value=f"10 {host}", status="unchecked"))
        found.append(Record(purpose="spf", type="TXT", name=name, value=spf, status="unchecked"))
        links = tracking_name(domain, settings)
        if links is not None:
            either = "An address record (A, AAAA) does as well."
            found.append(
                Record(purpose="tracking", type="CNAME", name=links, value=host, status="unchecked", message=either)
            )
    return found
