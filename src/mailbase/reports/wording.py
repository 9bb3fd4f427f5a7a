"""A reply's words, made comparable: lower case, no accents, no punctuation, no addresses, links or host names.

Host names and links must go because they lie: ``antispam.example.net said: user unknown`` is not about spam. Only the
names of block lists stay; whoever names one means it.
"""

import re
import unicodedata
from functools import lru_cache
from typing import NamedTuple

LONGEST = 6000
LONGEST_WORD = 400
FAR = 80
NEAR = 25

_LISTS = r"spamhaus|spamcop|barracudacentral|sorbs|dnsbl|abuseat|uribl|surbl|senderscore|uceprotect|abusix|mailspike|invaluement|\brbl|csi\.cloudmark|backscatterer|justspam|senderbase|openspf"
_LIES = re.compile(
    rf"(?:https?://|www\.)(?!\S{{0,200}}(?:{_LISTS}))\S+"
    r"|[^\s<>@\"'():;,\[\]]{1,128}@[^\s<>@\"'():;,\[\]]{1,128}"
    rf"|\b(?!\S{{0,200}}(?:{_LISTS})|resolver\.|storedrv\.|smtpsend\.|queue\.)(?:[a-z0-9_-]{{1,63}}\.){{1,9}}(?:[a-z0-9_-]{{1,63}}\.[a-z]{{2,24}}|com|net|org|edu|gov|info|biz|jp|de|ru|fr|uk|br|cn|pl|cz|nl)\b"
    r"|\b\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}\b"
    r"|\b[245]\.\d{1,3}\.\d{1,3}\b|(?<![\w.])[245]\d\d(?=-|$)"
)
_SHORTENED = re.compile(r"['’](?=(?:t|s|re|ve|ll|d|m)\b)")
_IN_REPLY = re.compile(r"in reply to [\w ]{2,40}? command")
_TO_SENDER = re.compile(r"return(?:ed|ing)(?: \w{1,20}){0,3} to (?:the )?sender")
_ASIDES = (
    "unknown address error",
    "not going to try again",
    "following organization rejected your message",
    "they may be blacklisted",
    "failed to get ips from ptr record",
    "user does not exist, but will deliver to",
    "while performing the helo handshake",
    "while performing the ehlo handshake",
)
"""What servers say besides the reason, and would be taken for one."""
_SCANNED = re.compile(
    r"\b(?:was|were|been|is|are)? ?scanned (?:by|for)\b[^.;\n]{0,80}|\breport (?:it as |as |any )?spam\b"
)
"""A filter's advertisement beneath a mail."""
_GREETING = re.compile(
    r"\b(?:уважаем\w+|dear|hello|lieber?|sehr geehrter?|estimad[oa]|chere?|gentile|car[oa]|prezad[oa]|geachte|szanown[ya]|vazeny)"
    r" (?:sender|отправител\w+|absender|remitente|expediteur|mittente|remetente|afzender|nadawco|odesilateli)\b"
)
"""Who is spoken to, not of."""
_SPOKEN_TO = (
    "dear ",
    "hello ",
    "уважаем",
    "lieber ",
    "geehrte",
    "estimad",
    "cher",
    "gentile",
    "prezad",
    "geachte",
    "szanown",
    "vazeny",
)
_UNKNOWN_WHAT = re.compile(
    r"(?<!user )(?<!recipient )(?<!address )(?<!mailbox )\bunknown (?:error|reason|client(?! (?:host|ip|address|name))|problem|cause)\b"
)
_SAID = re.compile(r"\b(?:said|reason|error message|diagnostic|server (?:replied|response|returned))\b[^\n:.]{0,12}:")
_ADVICE = re.compile(
    r"(?:check|verify|correct|confirm)[^.;\n]{3,80} (?:and|then|before) (?:please )?(?:re-?try|(?:try|send|resend)[^.;]{0,30} again|resend)\w*"
)
"""What to do about it is no reason: "check the address and try again" does not mean that it will be better later."""
_SPEAKER = re.compile(r"\bhost [a-z0-9._\-]{1,255} ?\[[0-9a-f.:]{2,45}\](?::\d{1,5})?")
"""Who says what follows: without its name, "host … unknown" would be about the host."""
STOP = "zstopz"
"""Stands where a server's own words end and a quotation begins: no phrase goes across."""
_APART = re.compile(r"[^\w]+|_+")


class Phrase(NamedTuple):
    """What to look for, in this order, at most ``gap`` signs apart."""

    pieces: tuple[str, ...]
    gap: int


@lru_cache(maxsize=64)
def plain(text: str) -> str:
    """Return words with single spaces between and around them."""
    text = text[:LONGEST].lower()
    if not text.isascii():
        text = without_accents(text)
    text = " ".join(text.split())
    text = _without_asides(_without_trimmings(text))
    if ":" in text:
        text = _SAID.sub(f" {STOP} ", text)
    if "host " in text and "[" in text:
        text = _SPEAKER.sub(f" {STOP} ", text)
    words: list[str] = []
    if "'" in text or "’" in text:
        text = _SHORTENED.sub("", text)
    for word in text.split():
        if word.isalpha():
            words.append(word)
        else:
            words += _APART.sub(" ", _LIES.sub(" ", word[:LONGEST_WORD]) if _may_lie(word) else word).split()
    return f" {' '.join(words)} "


def _without_trimmings(text: str) -> str:
    """Return a text without its greeting and what a filter says of itself."""
    if any(word in text for word in _SPOKEN_TO):
        text = _GREETING.sub(" ", text)
    return _SCANNED.sub(" ", text) if "scanned" in text or "report" in text else text


def _without_asides(text: str) -> str:
    """Return a reply without what it says besides the reason, and would be taken for one."""
    for aside in _ASIDES:
        if aside in text:
            text = text.replace(aside, " ")
    if "e-mail" in text:
        text = text.replace("e-mail", "email")
    if "mail box" in text:
        text = text.replace("mail box", "mailbox")
    if "unknown" in text:
        text = _UNKNOWN_WHAT.sub(" ", text)
    # What follows these words is the reason; the words themselves are none.
    text = text.replace("recipient address rejected", "recipient declined")
    if "again" in text or "resend" in text:
        text = _ADVICE.sub(" ", text)
    if "in reply to" in text:
        text = _IN_REPLY.sub(" ", text)
    if "sender" in text:
        text = _TO_SENDER.sub(" returned ", text)
    return text


def _may_lie(word: str) -> bool:
    return "." in word or "@" in word or "/" in word or word[:3].isdigit()


def without_accents(text: str) -> str:
    """Return the text with its letters bare, so that a charset lost on the way costs one letter and not the phrase."""
    bare = unicodedata.normalize("NFKD", text).replace("ß", "ss").replace("ł", "l").replace("ı", "i")
    return "".join(sign for sign in bare if not unicodedata.combining(sign))


def phrase(written: str) -> Phrase:
    """Return a phrase of the table, ready to be looked for.

    ``…`` stands for other words between, ``..`` for few of them; ``*`` at an end lets the word go on there.
    Scripts without spaces between words match anywhere.

    Raises:
        ValueError: there is nothing to look for.
    """
    found = []
    for piece in written.replace("..", "…").split("…"):
        part = piece.strip()
        words = plain(part).strip()
        if not words:
            raise ValueError(f"nothing to look for in {written!r}")
        spaced = max(words) < "\u0e00"
        start = "" if part.startswith("*") or not spaced else " "
        end = "" if part.endswith("*") or not spaced else " "
        found.append(f"{start}{words}{end}")
    return Phrase(tuple(found), NEAR if ".." in written else FAR)


def spoken(wanted: Phrase, words: str) -> bool:
    """Whether the words say the phrase; the caller has seen that its first piece is there."""
    first, *others = wanted.pieces
    for other in others:
        if other not in words:
            return False
    begin = words.find(first)
    while begin >= 0:
        at = begin + len(first)
        for other in others:
            # Two pieces may share the space between them.
            next_at = words.find(other, at - 1, at + wanted.gap + len(other))
            if next_at < 0 or STOP in words[at:next_at]:
                break
            at = next_at + len(other)
        else:
            return True
        begin = words.find(first, begin + 1)
    return False


SHORT = 400
HEAD = 4
"""How many letters of a word phrases are filed under."""


class Phrases:
    """A few phrases, any of which will do."""

    def __init__(self, *written: str) -> None:
        self._phrases = [phrase(one) for one in written]
        self._by_head: dict[str, list[Phrase]] = {}
        self._anywhere: list[Phrase] = []
        for one in self._phrases:
            filed = head(one.pieces[0])
            (self._by_head.setdefault(filed, []) if filed else self._anywhere).append(one)

    def said_in(self, words: str) -> bool:
        """Whether ``plain`` words say one of them."""
        looked_for = self._phrases if len(words) > SHORT else self._likely(words)
        return any(one.pieces[0] in words and spoken(one, words) for one in looked_for)

    def _likely(self, words: str) -> list[Phrase]:
        """Return the phrases whose first word may be among the words of a short text."""
        found = [one for filed in {word[:HEAD] for word in words.split()} for one in self._by_head.get(filed, ())]
        return found + self._anywhere


def head(piece: str) -> str:
    """Return what a phrase's first piece is filed under; empty for one that may stand anywhere in a word."""
    word = piece.strip().partition(" ")[0]
    whole = len(word) >= HEAD or piece.startswith(f" {word} ")
    return word[:HEAD] if piece.startswith(" ") and whole else ""
