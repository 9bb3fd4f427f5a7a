"""What an address gives away by itself: a throw-away mailbox, an office rather than a person, letters borrowed from another script.

Throw-away domains are the public list of the disposable-email-domains project (CC0), as the package of that name brings it: it is as new
as the installed version. Domains below a listed one count, too.
"""

import unicodedata
from functools import lru_cache
from typing import Final

from disposable_email_domains import blocklist

from mailbase.audience.addresses import Address
from mailbase.optin import address_hints

# RFC 2142 and what else offices are called.
ROLES: Final = frozenset(
    {
        "abuse", "accounting", "accounts", "admin", "administrator", "all", "billing", "careers", "contact", "customerservice",
        "devnull", "dns", "enquiries", "everyone", "feedback", "ftp", "hello", "help", "helpdesk", "hostmaster", "hr", "info", "inquiries",
        "invoice", "invoices", "it", "jobs", "legal", "list", "mail", "mailer-daemon", "mailerdaemon", "marketing", "media", "news",
        "newsletter", "no-reply", "noc", "noreply", "null", "office", "orders", "postmaster", "press", "privacy", "registrar", "root",
        "sales", "security", "service", "shop", "spam", "staff", "subscribe", "support", "sysadmin", "team", "unsubscribe", "usenet",
        "uucp", "webmaster", "www",
    }
)  # fmt: skip


def is_disposable(address: Address) -> bool:
    """Tell whether the mailbox is one of those made to be thrown away.

    The list has some slips of large providers' names; who types ``gmial.com`` made one, and is asked what was meant.
    """
    if address_hints.is_slip(address.domain):
        return False
    labels = address.domain.split(".")
    return any(".".join(labels[n:]) in blocklist for n in range(len(labels) - 1))


def is_role(address: Address) -> bool:
    """Tell whether an office reads this mailbox, and perhaps several people."""
    local = address.key.rpartition("@")[0].partition("+")[0]
    return local in ROLES or local.startswith("list-") or local.endswith(("-request", "-owner", "-bounces"))


def looks_like_another(address: Address) -> bool:
    """Tell whether a word of it mixes scripts, as ``pаypal`` with a Cyrillic а does; Japanese and Korean writing mix by nature."""
    if address.key.isascii() and "xn--" not in address.domain:
        return False
    local, _, domain = address.key.rpartition("@")
    return any(_mixes(word) for word in [local, *(_shown(label) for label in domain.split("."))])


def _shown(label: str) -> str:
    try:
        return label.encode("ascii").decode("idna") if label.startswith("xn--") else label
    except UnicodeError:
        return label


def _script(char: str) -> str:
    # ɑ and ɡ are Latin to Unicode, and a and g to whoever reads them.
    is_phonetic = "\u0250" <= char <= "\u02af" or "\u1d00" <= char <= "\u1dbf"
    return "PHONETIC" if is_phonetic else unicodedata.name(char, "?").partition(" ")[0]


@lru_cache(4096)
def _mixes(word: str) -> bool:
    scripts = {_script(char) for char in word if char.isalpha()}
    east = {"CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "FULLWIDTH", "HALFWIDTH"}
    if scripts & east:
        scripts -= {*east, "LATIN"}
    return len(scripts) > 1
