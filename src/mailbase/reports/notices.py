"""Bounces written for people: whom the text names, and which words go with whom."""

import re

from mailbase.reports.addresses import ADDRESS, DAEMONS, MACHINES, addresses, inward
from mailbase.reports.automatic import FAILURE, from_machine
from mailbase.reports.judge import code_of, status_of, weigh
from mailbase.reports.mime import Part
from mailbase.reports.returned import Returned
from mailbase.reports.wording import plain

MOST_RECIPIENTS = 200
LONGEST_NOTICE = 32_000
LONGEST_LINE = 1_000
MOST_PARAGRAPHS = 4

_A = ADDRESS.pattern


def _named(sign: str) -> str:
    """Return a pattern of an address that follows a word for a recipient and a sign."""
    return rf"(?:(?<![^\W_])(?:RCPT[ \t]+TO:?|generated[ \t]+from|(?:final|original|failed|intended|envelope|mail|addressed)?[\s\-]*(?:recipients?|addressees?|empf[äa]nger\w*|destinataires?|destinatarios?|destinatario|destinat[áa]rio|ontvangers?|mottagare|mottaker|modtager|vastaanottaja|odbiorc[ay]|adresat\w*|příjemce|címzett|alıcı|παραλήπτης|адресат\w*|получател\w*|user|mailbox|account|address|to)(?:[\s\-]*(?:e-?mail|address(?:es)?|name|smtp address))?)|收件人|收信人|宛先|받는 ?사람|수신자)[ \t]*(?:\(s\))?{sign}[\"'\[(]*(?:rfc822;)?[ \t]*<?(?:smtp:|mailto:)?({_A})"


_STANDS_OUT = (
    re.compile(
        rf"^[ \t>*\[(]*[\"']?(?:<(?:smtp:|mailto:)?({_A})>|({_A}))[\"'\])]?[ \t]*(?:\(.{{0,200}}\))?[ \t]*(?::|\.\.\.|$|[ \t]-[ \t]|;|,?[ \t]+on[ \t]|[ \t]{{2,}}|[ \t]*=>|[ \t]*\|)",
        re.IGNORECASE | re.MULTILINE | re.UNICODE,
    ),
    re.compile(_named(r"[ \t]*[:=：][ \t]*"), re.IGNORECASE | re.UNICODE),
    re.compile(_named(r"(?:[ \t]*[:=：][ \t]*|[ \t]+|(?=[\"'\[(<]))"), re.IGNORECASE | re.UNICODE),
    re.compile(rf"^[ \t>]*[45]\d\d[ \-](?:[45]\.\d\.\d{{1,3}} )?<?({_A})>?(?:\.\.\.|:)", re.MULTILINE | re.UNICODE),
)
"""Alone on its line; after a label and its colon; after a word for a recipient; in front of a server's words.

The first that finds anybody counts.
"""
_LABELLED, _LOOSELY = _STANDS_OUT[1], _STANDS_OUT[2]
_REASONED = re.compile(
    rf"^[ \t>]*([^\n:@<>]{{4,60}}):[ \t]*<?({_A})>?[ \t]*$",
    re.MULTILINE | re.UNICODE,
)
"""A line that says why and then who: ``User mailbox exceeds allowed size: bob@example.net``."""
_SENDING = re.compile(
    r"(?:mail[ \t]+from|from|sender|absender|de|von|reply-to|return-path|contact|e-?mail us at|write to|send (?:an )?e-?mail to|message-id|helo|ehlo|mailto:|in-reply-to|wenden sie sich(?: bitte)? an|kontaktieren sie|contactez|écrivez à|contacte(?: con| a)?|contacto con|contattare|contact op met|skontaktuj się z|пишите(?: на)?|по адресу|联系|联络|отправител\w*|от)[ \t:=]*[\"'<\[(]*$",
    re.IGNORECASE,
)


_ADVICE = re.compile(
    r"(?:report (?:this|it|the|details|any|problems?|abuse|spam)|forward (?:this|the|it|your|a)|writ(?:e|ing)|submit|complain|appeal|assistance|quer(?:y|ies)|questions?|enquir\w*|send (?:this|it|them|an?|the|your)|(?:reply|contact)[ \t]*$)[^\n.:;]{0,40}$",
    re.IGNORECASE,
)
_IN_VAIN = re.compile(r"unable|\bnot\b|n['’]t\b|fail|\btr(?:y|ied|ying)\b|attempt|impossible", re.IGNORECASE)
_SENTENCE = re.compile(r"[.!?;][ \t]|\n")


_MORE = re.compile(
    rf"[>\"')\]]{{0,3}}[ \t]?[,;][ \t]{{0,4}}[<\"'(\[]{{0,2}}(?:smtp:|mailto:)?({_A})", re.IGNORECASE | re.UNICODE
)
"""The next of a list of addresses."""
_TO = re.compile(r"[>|\t ]{0,8}(?:to|cc)[ \t]*:", re.IGNORECASE)
_OF_A_LETTER = re.compile(
    r"[>|\t ]{0,8}(?:list-[a-z\-]{2,20}|reply-to|return-path|errors-to|sender|message-id|in-reply-to|references|received|feedback-id|dkim-signature|mail from)[ \t]*:",
    re.IGNORECASE,
)
"""Lines out of a letter's head, wherever they stand: nobody in them is whom it could not be sent to."""
_PASSED_ON = re.compile(
    r"^[>|\t ]{0,8}From:[^\n]{0,200}(?:mailer-daemon|mail delivery|postmaster)[^\n]{0,200}(?:\n[^\n]{3,300}){1,8}",
    re.IGNORECASE | re.MULTILINE,
)
"""The head of a notice somebody passed on in his own letter: whom that was sent to is not whom it is about."""


def _advised(before: str) -> bool:
    """Whether what is named after these words is an office to write to, whatever it is called."""
    sentence = _SENTENCE.split(before)[-1]
    return _ADVICE.search(sentence) is not None and not _IN_VAIN.search(sentence)


def recipients(mail: Part, notice: str, letter: Returned) -> list[str]:
    """Return whom a notice is about, each once in whatever case: as the headers say, as the text sets them apart, as the letter was addressed."""
    named = addresses(" , ".join(mail.all("x-failed-recipients"))) or _named_in(mail, notice, letter)
    return list({one.casefold(): one for one in reversed(named)}.values())[::-1][:MOST_RECIPIENTS]


def _named_in(mail: Part, notice: str, letter: Returned) -> list[str]:
    not_them = _ours(mail, notice) | {one.casefold() for one in letter.senders}
    written_to = [one for one in letter.recipients if one.casefold() not in not_them]
    # Neither pattern looks beyond its line, and few lines have an address.
    text = "\n".join(
        line[:LONGEST_LINE]
        for line in notice[:LONGEST_NOTICE].split("\n")
        if "@" in line and not _OF_A_LETTER.match(line)
    )
    if text:
        people, offices = _set_apart(text, not_them)
        if people or (offices and not written_to):
            return _whole(people or offices)
        known = {one.casefold() for one in written_to}
        every = [found for found in ADDRESS.finditer(text) if found[0].strip(".").casefold() not in not_them]
        mentioned = [one for found in every if (one := found[0].strip(".")).casefold() in known]
        if mentioned:
            return mentioned
        likely = [
            found[0].strip(".")
            for found in every
            if not _SENDING.search(text[max(0, found.start() - 40) : found.start()])
            and not _advised(text[max(0, found.start() - 80) : found.start()])
            and not MACHINES.match(found[0])
        ]
        telling = [one for one in likely if _speaks_of(one, text)]
        if telling and (not written_to or from_machine(mail)):
            return telling[:1]
        if likely and not written_to:
            return likely[:1]
    return written_to if len(written_to) <= 10 else []


def _speaks_of(address: str, text: str) -> bool:
    """Whether a line that names an address says that something failed; a footer does not."""
    at = text.find(address)
    line = text[text.rfind("\n", 0, at) + 1 : at + len(address) + 200].partition("\n")[0]
    return (
        FAILURE.said_in(plain(line))
        or weigh(code_of(line), status_of(line), line, final=True).reason != "uncategorized"
    )


def _ours(mail: Part, notice: str) -> set[str]:
    """Return who sent or got the notice itself, in lower case."""
    heads = mail.all("to", "delivered-to", "x-original-to", "envelope-to", "return-path", "from", "cc", "x-envelope-to")
    if "From:" in notice:
        heads += _PASSED_ON.findall(notice[:LONGEST_NOTICE])
    return {one.casefold() for one in addresses(" , ".join(heads))}


def _set_apart(text: str, not_them: set[str]) -> tuple[list[str], list[str]]:
    """Return (people, offices) a text sets apart, by the first pattern that finds people."""
    offices: list[str] = []
    for pattern in _STANDS_OUT:
        found = [
            one.strip(".")
            for match in pattern.finditer(text)
            for one in (*match.groups(), *_beside(text, match.end()))
            if one and not one.strip(".").startswith("@")
            if pattern is not _LOOSELY or not _advised(text[max(0, match.start() - 80) : match.start()])
        ]
        if pattern is _LABELLED:
            found += _blamed(text)
        found = [one for one in dict.fromkeys(found) if one.casefold() not in not_them]
        people = [one for one in found if not MACHINES.match(one)]
        if people:
            return [one for one in people if not inward(one)] or people, offices
        offices = offices or [one for one in found if not DAEMONS.match(one)]
    return [], offices


def _beside(text: str, at: int) -> list[str]:
    """Return whom a list names that goes on behind an address on its line."""
    if _TO.match(text, text.rfind("\n", 0, at) + 1):
        # To whom it was written, not who failed.
        return []
    # The pattern before may have taken the sign that parts them.
    at -= text[max(at - 1, 0) : at] in {",", ";"}
    found: list[str] = []
    while len(found) < MOST_RECIPIENTS and (more := _MORE.match(text, at)):
        found.append(more[1])
        at = more.end()
    return found


def _blamed(text: str) -> list[str]:
    """Return whom lines name behind a reason."""
    return [
        address.strip(".")
        for why, address in _REASONED.findall(text)
        if weigh(0, None, why, final=True).reason != "uncategorized"
    ]


def about(recipient: str | None, everyone: list[str], notice: str) -> str:
    """Return the lines that go with one recipient: from where it is named to where the next one is."""
    text = notice[:LONGEST_NOTICE]
    if recipient is None or len(everyone) <= 1:
        return text
    low = text.lower()
    said: list[str] = []
    others = [other.lower() for other in everyone if other.lower() != recipient.lower()]
    mine = recipient.lower()
    at = low.find(mine)
    while at >= 0 and len(said) < 4:
        begin = low.rfind("\n", 0, at) + 1
        ends = [low.find(other, at + len(mine)) for other in others[:50]]
        end = min((low.rfind("\n", 0, one) for one in ends if one >= 0), default=len(low))
        end = max(end, at + len(mine))
        said.append(text[begin:end])
        at = low.find(mine, end)
    return "\n".join(said) or ("" if any(other in low for other in others) else text)


def paragraph(recipient: str | None, everyone: list[str], notice: str) -> str:
    """Return the lines from the one that first names a recipient to an empty one, or to the next recipient's."""
    return next(iter(paragraphs(recipient, everyone, notice)), "")


def paragraphs(recipient: str | None, everyone: list[str], notice: str) -> list[str]:
    """Return the paragraphs that name a recipient, each from the line that does; the first may be a list of all recipients."""
    found: list[str] = []
    low = notice.lower()
    mine = recipient.lower() if recipient else ""
    others = [other for one in everyone[:50] if (other := one.lower()) != mine]
    at = low.find(mine) if mine else -1
    while at >= 0 and len(found) < MOST_PARAGRAPHS:
        begin = _with_reply(low, low.rfind("\n", 0, at) + 1)
        after = at + len(mine)
        ends = [low.find(other, after) for other in others]
        ends = [line for one in ends if one >= 0 and (line := low.rfind("\n", 0, one)) > at]
        empty = low.find("\n\n", at)
        end = min([*ends, empty if empty >= 0 else len(low)])
        found.append(notice[begin:end])
        at = low.find(mine, max(end, after))
    return found


def _with_reply(text: str, begin: int) -> int:
    """Return where the server's reply begins that a transcript quotes right above a line."""
    while begin > 0:
        above = text.rfind("\n", 0, begin - 1) + 1
        if not text[above : above + 20].lstrip(" \t>").startswith("<<<"):
            break
        begin = above
    return begin


def _whole(found: list[str]) -> list[str]:
    """Drop what is only the tail of another address."""
    return [one for one in found if not any(other != one and other.endswith(one) for other in found)]
