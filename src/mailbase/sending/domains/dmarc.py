"""DMARC records (RFC 9989): found by a walk up the tree, read tag by tag."""

import re

from msgspec import Struct, field

from mailbase.sending.dns import Resolver

POLICIES = ("none", "quarantine", "reject")
REMOVED = ("pct", "rf", "ri")
MOST_LABELS = 8  # RFC 9989 § 4.10: a longer name is cut to its last seven labels after the first look-up

_RUA = re.compile(r"mailto:[^\s@!,;]+@[^\s@!,;]+(![0-9]+[kmgt]?)?", re.IGNORECASE)
_TAG = re.compile(r"\s*([a-z]+)\s*=\s*([^;]*?)\s*", re.IGNORECASE)


class Policy(Struct):
    """What a name's DMARC record says."""

    name: str
    """Where it was found: ``_dmarc.`` + the domain or one above it."""
    found: list[str]
    error: str | None = None
    warnings: list[str] = field(default_factory=list)


def is_dmarc(text: str) -> bool:
    """Tell whether a TXT record means to be a DMARC record."""
    return re.match(r"v\s*=\s*DMARC1\s*(;|$)", text) is not None


def names(domain: str) -> list[str]:
    """Return where to look, in order: the domain, then each name above it down to the top-level domain."""
    labels = domain.split(".")
    found = [domain]
    above = labels[1:] if len(labels) < MOST_LABELS else labels[-(MOST_LABELS - 1) :]
    while len(above) > 1:
        found.append(".".join(above))
        above = above[1:]
    return [f"_dmarc.{name}" for name in found]


def parse(name: str, texts: list[str]) -> Policy:
    """Read the record (or records) at one name."""
    policy = Policy(name, texts)
    if len(texts) > 1:
        policy.error = f"There are {len(texts)} DMARC records; receivers then use none of them."
        return policy
    tags: dict[str, str] = {}
    for part in filter(str.strip, texts[0].split(";")):
        match = _TAG.fullmatch(part)
        if match is None:
            policy.error = f"{part.strip()!r} is not a tag of a DMARC record."
            return policy
        if match[1].lower() in tags:
            policy.error = f"The tag {match[1].lower()} is there twice."
            return policy
        tags[match[1].lower()] = match[2]
    policy.error = _bad_value(tags)
    policy.warnings = _oddities(tags)
    return policy


def _bad_value(tags: dict[str, str]) -> str | None:
    for tag in ("p", "sp", "np"):
        if tags.get(tag, "none").lower() not in POLICIES:
            return f"{tag}={tags[tag]} is not a policy; it is none, quarantine or reject."
    for tag in ("adkim", "aspf"):
        if tags.get(tag, "r").lower() not in {"r", "s"}:
            return f"{tag}={tags[tag]} is neither r nor s."
    return None


def _oddities(tags: dict[str, str]) -> list[str]:
    warnings = []
    if "p" not in tags:
        warnings.append("There is no p=; it is read as p=none.")
    if removed := [tag for tag in REMOVED if tag in tags]:
        warnings.append(f"{', '.join(removed)} no longer mean anything (RFC 9989) and can go.")
    uris = [uri.strip() for uri in tags["rua"].split(",")] if "rua" in tags else []
    warnings += [f"rua={uri} is not an address reports can be sent to." for uri in uris if not _RUA.fullmatch(uri)]
    return warnings


async def read(resolver: Resolver, domain: str) -> Policy | None:
    """Return the policy that holds for a domain, or None when there is none on the whole way up.

    Raises:
        Unanswered: a name on the way could not be looked up.

    """
    for name in names(domain):
        texts = [text for text in await resolver.txt(name) if is_dmarc(text)]
        if texts:
            return parse(name, texts)
    return None
