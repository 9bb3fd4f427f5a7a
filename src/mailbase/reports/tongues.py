"""What refusals in other languages say, by classes of words: a person and "not there" beside each other mean one thing.

``languages.txt`` holds the classes of each language. A reply is read clause by clause; who is spoken of decides: the
sender, its domain or its server before anybody's mailbox, a full mailbox before a missing one.
"""

import re
from pathlib import Path
from typing import Final

from mailbase.reports.wording import plain, without_accents

FILE: Final = Path(__file__).parent / "languages.txt"
LONGEST: Final = 500
"""Longer texts are letters to people, which say all kinds of things of senders and addresses."""
NEAR: Final = 70
"""How many signs may stand between who is spoken of and what is said."""
NEXT: Final = 22
"""The same for a bare "no"."""
HEAD: Final = 4

_NAME = re.compile(
    r"(?:https?://|www\.)\S+|[^\s<>()\[\]{}\"',;:=]{1,128}@[^\s<>()\[\]{}\"',;:=]{1,128}"
    r"|(?<![\w.])(?:[a-z0-9-]{1,63}\.){1,9}[a-z][a-z0-9-]{1,23}(?![\w])|\d[\d.:/-]*\d"
)
_CLAUSES = re.compile(r"[.;:!?()\[\]。！？；：（），、\n]+")
_APART = re.compile(r"[^\w]+|_+")
_OTHERS = re.compile(r" (?:spf|dkim|dmarc|helo|ehlo|ptr|dns|rbl|relay\w*|spam\w*|tls|smtp auth|mail from) ")


SPACELESS: Final = frozenset({"ja", "zh", "ko", "th"})
YOUR_BEHIND: Final = frozenset({"ro", "el", "no", "vi", "id", "he", "th"})
READERS: Final = tuple(
    without_accents(
        "destinat empfang получател адресат отримувач одержувач adresat ontvang geadress mottag modtag mottak odbiorc prijemc"
        " primatel prejemnik cimzett alici vastaanott gavej sanemej adressaat 收件 宛先 受信 受取 수신 받는 παραληπτ"
    ).split()
)
"""Who is written to is nobody's of the sender's: "your recipient" is the reader."""
TELLING: Final = ("absent", "gone", "none", "refused", "full", "large")
"""Without a word of these classes a language has said nothing."""


class Language:
    """The classes of one language; each is made ready when it is first looked for."""

    def __init__(self, name: str, classes: dict[str, list[str]]) -> None:
        self.spaced: bool = name not in SPACELESS
        self.behind: bool = name in YOUR_BEHIND
        """Whether "your" follows what is yours."""
        self.before: bool = not self.behind or name == "no"
        self.classes: dict[str, list[str]] = classes
        self._ready: dict[str, re.Pattern[str]] = {}

    def __getitem__(self, name: str) -> re.Pattern[str]:
        """Return the pattern of a class."""
        found = self._ready.get(name)
        if found is None:
            found = self._ready[name] = _class(self.classes[name], spaced=self.spaced)
        return found


def _class(words: list[str], *, spaced: bool) -> re.Pattern[str]:
    if not spaced:
        return re.compile("|".join(re.escape(word.replace("_", " ")) for word in words))
    return re.compile(
        "(?<= )(?:" + "|".join(re.escape(word).replace(r"\*", r"\w*").replace("_", " ") for word in words) + ")(?= )"
    )


def read() -> dict[str, dict[str, list[str]]]:
    """Return the words of each class of each language, bare of accents.

    Raises:
        ValueError: a class stands before any language.
    """
    languages: dict[str, dict[str, list[str]]] = {}
    classes: dict[str, list[str]] | None = None
    for line in FILE.read_text("utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        if line.startswith("["):
            classes = languages.setdefault(line[1:-1], {})
            continue
        if classes is None:
            raise ValueError(line)
        name, *words = without_accents(line).split()
        classes[name] = words
    return languages


LANGUAGES: Final = [Language(name, classes) for name, classes in read().items()]
_SPACELESS: Final = [one for one in LANGUAGES if not one.spaced]
_TELLS: Final[dict[str, list[tuple[str, Language]]]] = {}
"""By how a word begins: what to look for, and in which language it tells."""
_SHORT_TELLS: Final[list[tuple[str, Language]]] = []
for _language in LANGUAGES:
    for _word in {one for name in TELLING for one in _language.classes.get(name, ())} if _language.spaced else ():
        _first = _word.partition("_")[0]
        _sought = f" {_word.rstrip('*')}{'' if _word.endswith('*') else ' '}".replace("_", " ")
        if _first.endswith("*") and len(_first) <= HEAD:
            _SHORT_TELLS.append((_sought, _language))
        else:
            _TELLS.setdefault(_first.rstrip("*")[:HEAD], []).append((_sought, _language))


def _told(words: str) -> list[Language]:
    """Return the languages that may have said something."""
    heads = _TELLS.keys() & {word[:HEAD] for word in words.split()}
    candidates = [one for head in heads for one in _TELLS[head]] + _SHORT_TELLS
    found = {id(language): language for sought, language in candidates if sought in words}
    return list(found.values())


def spoken_of(text: str) -> frozenset[str]:
    """Return the reasons a short text names in any of the languages."""
    if len(text) > LONGEST or not text:
        return frozenset()
    foreign = not text.isascii()
    told = _told(plain(text))
    if not told and not foreign:
        return frozenset()
    low = without_accents(text.lower()) if foreign else text.lower()
    low = _NAME.sub(" ", low).replace("e-mail", "email").replace("e-post", "epost")
    found: set[str] = set()
    for piece in _CLAUSES.split(low):
        clause = " " + " ".join(_APART.sub(" ", piece).split()) + " "
        for language in told:
            found |= _clause(language, clause)
        if foreign:
            # Vowel signs of Thai are no letters to the pattern that takes words apart.
            for language in _SPACELESS:
                found |= _clause(language, " ".join(piece.split()))
    return frozenset(found)


def _clause(words: Language, clause: str) -> set[str]:
    """Return what one clause says in one language."""
    has = {name for name in words.classes if words[name].search(clause) is not None}
    said = has & {"absent", "gone", "refused"}
    ours = "sender" in has or ("your" in has and _yours(words, clause))
    meant = [
        reason
        for reason, holds in (
            ("message_too_large", {"large", "message"} <= has),
            ("rate_limited", "sending" in has and (said or "full" in has)),
            ("invalid_sender", ours and said),
            ("spam_content", {"refused", "content"} <= has),
            ("quota_issues", "full" in has and has & {"space", "person"}),
            ("", "host" in has or _OTHERS.search(clause)),
            ("transient_failure", {"gone", "fornow", "person"} <= has),
            ("inactive_mailbox", "gone" in has and _near(words["gone"], words["person"], clause, NEAR)),
            ("invalid_recipient", "absent" in has and _near(words["absent"], words["person"], clause, NEAR)),
            (
                "invalid_recipient",
                "none" in has and _near(words["none"], words["person"], clause, NEXT if words.spaced else 4),
            ),
        )
        if holds
    ]
    return {meant[0]} - {""} if meant else set()


def _yours(words: Language, clause: str) -> bool:
    """Whether it is the sender's account, address or server that is spoken of: "your …", or "… your" where that follows."""
    for found in words["your"].finditer(clause):
        after, before = clause[found.end() : found.end() + 34], clause[max(0, found.start() - 30) : found.start()]
        for owned in (words["person"], words["host"]):
            behind = owned.search(after) if words.before else None
            if behind is not None and not behind[0].startswith(READERS):
                between = after[: behind.start()]
                if between.count(" ") <= 2 if words.spaced else len(between) <= 2:
                    return True
            ahead = list(owned.finditer(before)) if words.behind else []
            if ahead and len(before) - ahead[-1].end() <= 1 and not ahead[-1][0].startswith(READERS):
                return True
    return False


def _near(one: re.Pattern[str], other: re.Pattern[str], clause: str, far: int) -> bool:
    spans = [found.span() for found in one.finditer(clause)]
    return any(
        min(abs(begin - found.end()), abs(found.start() - end)) <= far
        for found in other.finditer(clause)
        for begin, end in spans
    )
