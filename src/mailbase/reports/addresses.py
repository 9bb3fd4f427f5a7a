"""Addresses as reports write them: in brackets, after ``rfc822;``, in xtext, with what a forwarder made of them."""

import re

ADDRESS = re.compile(
    r"(?:\"[^\"\n@]{1,64}\"|[^\s<>@\"'()\[\]:;,\\|*`]{1,200})@(?:\[[\d.]{7,15}\]|[^\W_](?:[\w\-]{0,62}[^\W_])?(?:\.[^\W_](?:[\w\-]{0,62}[^\W_])?){0,8})",
    re.UNICODE,
)
_HEX = re.compile(r"\+([0-9A-F]{2})")
_UNICODE = re.compile(r"\\x\{([0-9A-Fa-f]{1,6})\}")
_WRAPPED = re.compile(r"IMCEA[A-Z]{2,20}-([^@]{3,200})@", re.IGNORECASE)
"""Exchange's way to write what is no Internet address as one; what is one after all stands in hexadecimal."""
_KIND = re.compile(r"\s*([\w\-]{1,30})\s*;\s*", re.UNICODE)

MACHINES = re.compile(
    r"(?:[^@]{1,64}@abuse[.-]|(?:mailer-?daemon|mail-?daemon|postmaster|mdaemon|daemon|abuse[\w.\-]{0,30}|support|help|help-?desk|servicedesk|hostmaster|webmaster|no-?reply|noc|staff|it-?support|microsoftexchange[0-9a-f]*|mailadmin|mail-?admin|admin|administrator|root|security|unblock|delist|removals?|postfix|mailgateway|spam|info)@)",
    re.IGNORECASE,
)

DAEMONS = re.compile(
    r"(?:mailer-?daemon|mail-?daemon|postmaster|mdaemon|daemon|no-?reply|microsoftexchange[0-9a-f]*|unblock|delist|removals?|postfix)@",
    re.IGNORECASE,
)
"""Of those, the ones nobody writes newsletters to."""


def addresses(text: str) -> list[str]:
    """Return the addresses in a text, in order, each once."""
    if "@" not in text:
        return []
    found = (one.strip(".").strip() for one in ADDRESS.findall(text))
    return list(dict.fromkeys(one for one in found if not one.startswith("@")))


def one_of(value: str) -> str:
    """Return the address a field such as ``rfc822; <a@b>`` names; the bare word when it has no domain; else empty."""
    kind = _KIND.match(value)
    bare = value[kind.end() :] if kind else value
    if kind and kind[1].lower() == "utf-8":
        bare = _UNICODE.sub(lambda found: chr(min(int(found[1], 16), 0xFFFD)), bare)
    bare = bare.strip().removeprefix("mailto:").removeprefix("MAILTO:")
    found = ADDRESS.search(bare)
    wrapped = _WRAPPED.match(found[0]) if found else None
    if found and not (wrapped and "+40" in wrapped[1]):
        return found[0].strip(".")
    if "+40" in bare:
        bare = wrapped[1] if wrapped else bare
        found = ADDRESS.search(_HEX.sub(lambda hexed: chr(int(hexed[1], 16)), bare))
        if found:
            return found[0]
    return ""


def inward(address: str) -> bool:
    """Whether an address is only good within the system that made it up: without a real domain, or a directory's name."""
    domain = address.rpartition("@")[2]
    return ("." not in domain and not domain.startswith("[")) or address[:7].lower() == "imceaex"


def same(one: str, other: str) -> bool:
    """Whether two addresses are one, as far as bounces go."""
    return one.casefold() == other.casefold()
