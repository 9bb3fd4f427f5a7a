"""SPF as receivers read it (RFC 7208), as far as a sender can get it wrong.

One record a name; at most ten mechanisms that need a look-up, those of included records counted in, and at most two that find
nothing: beyond that a receiver stops reading and the result is an error.
"""

import re

from msgspec import Struct, field

from mailbase.sending.dns import Resolver

MOST_LOOKUPS = 10
MOST_VOID = 2

_TERM = re.compile(r"([+\-?~]?)(all|include|a|mx|ptr|ip4|ip6|exists)(?:[:]([^/\s]+(?:/.*)?))?(/.*)?", re.IGNORECASE)
_MODIFIER = re.compile(r"([a-z][a-z0-9_.\-]*)=(\S*)", re.IGNORECASE)


class Policy(Struct):
    """What reading a domain's SPF record came to."""

    found: list[str]
    """Every SPF record at the name."""
    lookups: int = 0
    void: int = 0
    error: str | None = None
    """Why a receiver would give up, as a sentence."""
    terms: set[str] = field(default_factory=set)
    """Mechanisms met on the way, lower case, without qualifier."""


def is_spf(text: str) -> bool:
    """Tell whether a TXT record is an SPF record."""
    return text.lower() == "v=spf1" or text.lower().startswith("v=spf1 ")


async def read(resolver: Resolver, domain: str) -> Policy:
    """Read a domain's record and everything it includes.

    Raises:
        Unanswered: a name on the way could not be looked up.

    """
    policy = Policy([text for text in await resolver.txt(domain) if is_spf(text)])
    if len(policy.found) > 1:
        policy.error = (
            f"There are {len(policy.found)} SPF records; receivers treat that as an error. Merge them into one."
        )
    elif policy.found:
        await _walk(resolver, policy, domain, policy.found[0], {domain})
    return policy


async def _walk(resolver: Resolver, policy: Policy, domain: str, text: str, seen: set[str]) -> None:
    for term in text.split()[1:]:
        if policy.error:
            return
        modifier = _MODIFIER.fullmatch(term)
        if modifier:
            if modifier[1].lower() == "redirect":
                await _include(resolver, policy, modifier[2].lower(), seen)
            continue
        match = _TERM.fullmatch(term)
        if match is None:
            policy.error = f"{term!r} is not an SPF mechanism."
            return
        kind, target = match[2].lower(), (match[3] or "").lower()
        policy.terms.add(f"{kind}:{target}" if target else kind)
        if kind == "include":
            await _include(resolver, policy, target, seen)
        elif kind in {"a", "mx", "ptr", "exists"}:
            _count(policy)
            host = target.partition("/")[0] or domain
            if policy.error is None and kind in {"a", "mx"} and "%" not in host:
                _void(policy, bool(await (resolver.address(host) if kind == "a" else resolver.mx(host))))


async def _include(resolver: Resolver, policy: Policy, target: str, seen: set[str]) -> None:
    _count(policy)
    if policy.error or "%" in target:
        return
    if not target or target in seen:
        policy.error = (
            f"It includes {target or 'nothing'}, which leads back to itself." if target else "It includes nothing."
        )
        return
    texts = [text for text in await resolver.txt(target) if is_spf(text)]
    if len(texts) != 1:
        policy.error = f"It includes {target}, which has {'no SPF record' if not texts else 'several SPF records'}."
        return
    await _walk(resolver, policy, target, texts[0], seen | {target})


def _count(policy: Policy) -> None:
    policy.lookups += 1
    if policy.lookups > MOST_LOOKUPS:
        policy.error = f"It needs more than {MOST_LOOKUPS} DNS look-ups; receivers stop there. Remove includes that are no longer used."


def _void(policy: Policy, answered: bool) -> None:
    if not answered:
        policy.void += 1
        if policy.void > MOST_VOID:
            policy.error = f"More than {MOST_VOID} of the names in it do not exist; receivers stop there."
