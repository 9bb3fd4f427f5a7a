"""Did you mean gmail.com? What a mistyped domain most likely was, from the domain alone: nothing about anybody is looked up."""

from functools import lru_cache
from typing import Final

PROVIDERS: Final = [
    "gmail.com", "googlemail.com", "outlook.com", "hotmail.com", "live.com", "msn.com", "yahoo.com", "ymail.com", "aol.com", "icloud.com",
    "me.com", "proton.me", "protonmail.com", "fastmail.com", "gmx.com", "gmx.de", "gmx.net", "web.de", "t-online.de", "freenet.de",
    "hotmail.de", "outlook.de", "yahoo.de", "hotmail.fr", "yahoo.fr", "orange.fr", "wanadoo.fr", "free.fr", "laposte.net", "sfr.fr",
    "hotmail.co.uk", "yahoo.co.uk", "btinternet.com", "libero.it", "hotmail.it", "seznam.cz", "wp.pl", "o2.pl", "interia.pl",
    "mail.ru", "bk.ru", "list.ru", "inbox.ru", "internet.ru", "yandex.ru", "ya.ru", "yandex.com", "rambler.ru", "comcast.net",
    "qq.com", "163.com", "naver.com",
]  # fmt: skip
"""Where many people have an address; the commoner first."""
_KNOWN: Final = frozenset(
    {*PROVIDERS, "mail.com", "email.com", "gmx.at", "gmx.ch", "live.ru", "yandex.by", "yandex.kz", "hey.com", "pm.me"}
)
ENDINGS: Final = {
    "con": "com",
    "cpm": "com",
    "vom": "com",
    "comm": "com",
    "ocm": "com",
    "cmo": "com",
    "coom": "com",
    "nett": "net",
    "rru": "ru",
}


def hint(email: str) -> str | None:
    """Return the address that was probably meant, or None: this one looks right."""
    local, at, domain = email.strip().rpartition("@")
    meant = _meant(domain.lower()) if at and local else None
    return f"{local}@{meant}" if meant else None


@lru_cache(4096)
def _meant(domain: str) -> str | None:
    if domain in _KNOWN or not 4 <= len(domain) <= 40 or not domain.isascii():
        return None
    rest, _, ending = domain.rpartition(".")
    mended = f"{rest}.{ENDINGS[ending]}" if ending in ENDINGS else domain
    if mended in _KNOWN:
        return mended
    # Short names are one slip from too many others.
    near = [(distance(mended, known), n) for n, known in enumerate(PROVIDERS) if abs(len(known) - len(mended)) <= 2]
    best, n = min(near, default=(9, 0))
    allowed = 1 if len(PROVIDERS[n]) <= 9 else 2
    if best <= allowed and len(PROVIDERS[n]) > 5 and mended[0] == PROVIDERS[n][0]:
        return PROVIDERS[n]
    return mended if mended != domain else None


def is_slip(domain: str) -> bool:
    """Tell whether a domain is one letter, or two that changed places, from a large provider's."""
    meant = _meant(domain)
    return meant in PROVIDERS and distance(domain, meant) == 1


def distance(one: str, other: str) -> int:
    """Return how many slips lie between two words: a letter too many, too few, wrong, or two swapped."""
    before: list[int] = []
    row = list(range(len(other) + 1))
    for n, a in enumerate(one, 1):
        earlier, before, row = before, row, [n]
        for m, b in enumerate(other, 1):
            cost = min(before[m] + 1, row[m - 1] + 1, before[m - 1] + (a != b))
            if n > 1 and m > 1 and a == other[m - 2] and one[n - 2] == b:
                cost = min(cost, earlier[m - 2] + 1)
            row.append(cost)
    return row[-1]
