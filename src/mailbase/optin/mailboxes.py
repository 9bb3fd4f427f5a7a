"""Which mailbox an address ends in: ``a.da+shop@googlemail.com`` and ``ada@gmail.com`` are one person's, and one victim's.

Only for counting letters. Who subscribes keeps the address as it was typed.
"""

import unicodedata
from typing import Final

from msgspec import Struct

from mailbase.audience.addresses import Address

TAGGED: Final = frozenset(
    {
        "outlook.com", "hotmail.com", "live.com", "msn.com", "icloud.com", "me.com", "mac.com", "fastmail.com", "fastmail.fm",
        "proton.me", "protonmail.com", "pm.me", "mail.ru", "inbox.ru", "list.ru", "bk.ru", "internet.ru",
    }
)  # fmt: skip
"""Where ``name+tag`` is known to end in ``name``."""
GOOGLE: Final = frozenset({"gmail.com", "googlemail.com"})
YANDEX: Final = frozenset({"yandex.ru", "yandex.com", "yandex.by", "yandex.kz", "ya.ru"})


class Mailbox(Struct, frozen=True):
    """``key``: one mailbox, one key. ``family``: what ``name+tag`` has in common where nobody knows where it ends."""

    key: str
    family: str | None = None


def of(address: Address) -> Mailbox:
    """Return the mailbox an address ends in."""
    local, _, domain = address.key.rpartition("@")
    local = unicodedata.normalize("NFKC", local).casefold()
    bare = local.partition("+")[0] or local
    if domain in GOOGLE:
        return Mailbox(f"{bare.replace('.', '') or bare}@gmail.com")
    if domain in YANDEX:
        return Mailbox(f"{bare.replace('.', '-')}@yandex.ru")
    if domain in TAGGED:
        return Mailbox(f"{bare}@{domain}")
    return Mailbox(f"{local}@{domain}", f"{bare}+@{domain}" if bare != local else None)
