"""The letter that came back: what of its headers tells whose it was."""

import re
from itertools import islice

from mailbase.reports import automatic
from mailbase.reports.addresses import addresses
from mailbase.reports.judge import statuses
from mailbase.reports.mime import RETURNED, Part, headers, read
from mailbase.reports.wording import plain

LONGEST = 64_000
MOST_STARTS = 300
LONGEST_RESUMED = 400

_URL = re.compile(r"<\s*([a-zA-Z][a-zA-Z0-9+.\-]{1,20}:[^<>\s]{1,2000})\s*>")
_ID = re.compile(r"<([^<>\s]{3,990})>")
_QUOTED = r"[>|\t ]{0,8}"
_HEADER = re.compile(
    rf"^{_QUOTED}(?:received|return-path|message-id|mime-version|from|to|subject|date|content-type|dkim-signature|x-mailer|reply-to|sender|x-[\w\-]{{2,40}}|list-[\w\-]{{2,20}}):",
    re.IGNORECASE | re.MULTILINE,
)
_SURE = re.compile(
    rf"^{_QUOTED}(?:received:\s+(?:from|by|\()|return-path:\s*<|message-id:\s*<|mime-version:\s*1|dkim-signature:|date:\s+\w{{3}},)",
    re.IGNORECASE,
)
_MARK = re.compile(
    r"^[ \t>]*(?:-{2,80}|={2,80}|\*{2,80}|_{3,80})[^\n]{0,60}(?:original|copy of|below this line|returned|unsent|undelivered|message (?:headers?|text|follows)|included|ursprüngl|исходн|原)[^\n]{0,80}$"
    r"|^[ \t>]*(?:original (?:message|headers?)(?: (?:follows|headers?))?|message header follows|the (?:following is the |header of the )[^\n]{0,60})\s*:?\s*-*$",
    re.IGNORECASE | re.MULTILINE,
)


_REPORT_ITSELF = re.compile(
    r"^[>|\t ]{0,8}(?:from:[^\n]{0,200}(?:mailer-daemon|mail delivery s)|content-type:\s{0,80}multipart/report)",
    re.IGNORECASE | re.MULTILINE,
)
"""A report somebody forwarded: its headers are not the letter's."""


class Returned:
    """Headers of the letter that came back; empty when none did."""

    def __init__(self, fields: dict[str, list[str]]) -> None:
        self.part = Part(fields, b"")

    def __bool__(self) -> bool:
        return bool(self.part.fields)

    @property
    def recipients(self) -> list[str]:
        """To whom it was written."""
        return addresses(
            " , ".join(
                self.part.all("x-hmxmroriginalrecipient", "x-original-to", "envelope-to", "to", "cc", "x-receiver")
            )
        )

    @property
    def senders(self) -> list[str]:
        """Who wrote it: never who bounced."""
        return addresses(
            " , ".join(self.part.all("return-path", "from", "sender", "reply-to", "errors-to", "x-sender"))
        )

    @property
    def refs(self) -> tuple[str, ...]:
        """Our own mark."""
        return tuple(self.part.all("x-mailbase-ref"))

    @property
    def unsubscribe_urls(self) -> tuple[str, ...]:
        """``List-Unsubscribe``: https and mailto."""
        return tuple(url for value in self.part.all("list-unsubscribe") for url in _URL.findall(value.replace(" ", "")))

    @property
    def message_ids(self) -> tuple[str, ...]:
        """Its Message-ID without brackets."""
        return ids(self.part.all("message-id"))

    @property
    def feedback_ids(self) -> tuple[str, ...]:
        """``Feedback-ID`` values."""
        return tuple(self.part.all("feedback-id", "cfbl-feedback-id"))


def ids(values: list[str]) -> tuple[str, ...]:
    """Return the message ids in header values, without their brackets."""
    return tuple(dict.fromkeys(one for value in values for one in _ID.findall(value)))


def of_parts(parts: list[Part]) -> Returned:
    """Return the letter attached to a report."""
    for part in parts:
        if part.kind in RETURNED:
            found, _ = headers(part.content[:LONGEST].replace(b"\r\n", b"\n").lstrip())
            if found:
                return Returned(found)
    return Returned({})


def forwarded(mail: Part, parts: list[Part]) -> Part | None:
    """Return the report that somebody passed on as an attachment, where the mail is none itself."""
    if "report" in mail.type_line or any(part.kind.endswith(("-status", "-report")) for part in parts):
        return None
    for part in parts:
        if part.kind in {"message/rfc822", "message/global"} and b"multipart/report" in part.body[:LONGEST].lower():
            within = read(part.content)
            if within.kind == "multipart/report":
                return within
    for part in parts:
        if part.kind in {"message/rfc822", "message/global"}:
            within = Part(headers(part.content[:LONGEST].replace(b"\r\n", b"\n").lstrip())[0], b"")
            if automatic.from_machine(within) and automatic.failure(within):
                said = automatic.from_machine(mail) and _reports(parts)
                return None if said else read(part.content)
    return None


def _reports(parts: list[Part]) -> bool:
    """Whether a machine's letter says itself that something failed: then the attachment is what failed."""
    said = "\n".join(
        part.text[:2000] for part in parts if part.kind in {"text/plain", "text/html", ""} and not part.parts
    )
    return automatic.FAILURE.said_in(plain(said)) or bool(statuses(said))


def cut(text: str) -> tuple[str, Returned]:
    """Return (what the server wrote, the letter it quotes beneath) of a bounce that is one text."""
    start = _start(text)
    mark = next((found.start() for found in _MARK.finditer(text) if start < 0 or found.start() <= start), -1)
    if mark >= 0 and (start < 0 or 0 <= start - mark < 2000) and text[:mark].strip():
        notice = text[:mark]
    else:
        notice = text if start < 0 else text[:start]
    if start < 0:
        return notice, Returned({})
    notice += _resumed(notice, text[start : start + LONGEST])
    letter = text[start : start + LONGEST]
    quote = re.match(_QUOTED, letter)
    if quote and quote[0]:
        lead = quote[0]
        letter = "\n".join(line.removeprefix(lead) for line in letter.split("\n"))
    found, _ = headers(letter.encode("utf-8", "replace"))
    return notice, Returned(found)


def _resumed(before: str, quoted: str) -> str:
    """Return what a notice goes on to say behind header fields it only quotes to tell which letter it is about.

    ``This report relates to a message with the following header fields: … Your message cannot be delivered to: …``
    """
    if "@" in before or automatic.FAILURE.said_in(plain(before)):
        return ""
    rest = quoted.partition("\n\n")[2]
    if not automatic.FAILURE.said_in(plain(rest[:LONGEST_RESUMED])):
        return ""
    again = _start(rest)
    return "\n\n" + (rest if again < 0 else rest[:again])


def _start(text: str) -> int:
    """Where a block of headers begins that only a letter has; -1 when there is none."""
    passed = 0
    for found in islice(_HEADER.finditer(text), MOST_STARTS):
        at = found.start()
        if at < passed:
            continue
        window = text[at : at + 1500].split("\n\n", 1)[0]
        lines = _HEADER.findall(window)
        if len(lines) >= 3 and any(_SURE.match(line) for line in window.split("\n")):
            if not _REPORT_ITSELF.search(window):
                return at
            passed = at + len(window)
    return -1
