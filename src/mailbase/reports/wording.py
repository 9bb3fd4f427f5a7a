"""A reply's words, made comparable: lower case, no accents, no punctuation, no addresses, links or host names.

Host names and links must go because they lie: ``antispam.example.net said: user unknown`` is not about spam. Only the
names of block lists stay; whoever names one means it.
"""

import re
import unicodedata
from functools import lru_cache

LONGEST = 6000
GAP = 80

_LISTS = r"spamhaus|spamcop|barracudacentral|sorbs|dnsbl|abuseat|uribl|surbl|senderscore|uceprotect|abusix|mailspike|invaluement|\brbl|csi\.cloudmark|backscatterer|justspam|senderbase"
_LIES = re.compile(
    rf"(?:https?://|www\.)(?!\S*(?:{_LISTS}))\S+"
    r"|[^\s<>@\"'():;,\[\]]{1,128}@[^\s<>@\"'():;,\[\]]{1,128}"
    rf"|\b(?!\S*(?:{_LISTS}))(?:[a-z0-9_-]{{1,63}}\.)+(?:[a-z0-9_-]{{1,63}}\.[a-z]{{2,24}}|com|net|org|edu|gov|info|biz|jp|de|ru|fr|uk|br|cn|pl|cz|nl)\b"
    r"|\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b"
    r"|\b[245]\.\d{1,3}\.\d{1,3}\b|(?<![\w.])[245]\d\d(?=[\s-])"
)
_APART = re.compile(r"[^\w]+|_+")


def plain(text: str) -> str:
    """Return words with single spaces between and around them."""
    text = text[:LONGEST].lower()
    if not text.isascii():
        text = without_accents(text)
    text = _LIES.sub(" ", text.replace("'", "").replace("’", ""))
    return f" {_APART.sub(' ', text).strip()} "


def without_accents(text: str) -> str:
    """Return the text with its letters bare, so that a charset lost on the way costs one letter and not the phrase."""
    bare = unicodedata.normalize("NFKD", text).replace("ß", "ss").replace("ł", "l").replace("ı", "i")
    return "".join(sign for sign in bare if not unicodedata.combining(sign))


@lru_cache(maxsize=4096)
def pieces(phrase: str) -> tuple[str, ...]:
    """Return what a phrase of the table looks for, in order, at most ``GAP`` signs apart.

    ``…`` is the gap, ``*`` at an end lets the word go on there. Scripts without spaces between words match anywhere.
    """
    found = []
    for written in phrase.split("…"):
        part = written.strip()
        words = plain(part).strip()
        if not words:
            raise ValueError(f"nothing to look for in {phrase!r}")
        spaced = max(words) < "\u0e00"
        start = "" if part.startswith("*") or not spaced else " "
        end = "" if part.endswith("*") or not spaced else " "
        found.append(f"{start}{words}{end}")
    return tuple(found)


def spoken(wanted: tuple[str, ...], words: str) -> bool:
    """Whether the pieces stand in the words in this order, near enough to each other."""
    first, *others = wanted
    if first not in words:
        return False
    if not others:
        return True
    if any(other not in words for other in others):
        return False
    begin = words.find(first)
    while begin >= 0:
        at = begin + len(first)
        for other in others:
            # Two pieces may share the space between them.
            next_at = words.find(other, at - 1, at + GAP + len(other))
            if next_at < 0:
                break
            at = next_at + len(other)
        else:
            return True
        begin = words.find(first, begin + 1)
    return False
