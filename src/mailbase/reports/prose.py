"""What a report says in words to people, and the beginning of it that may give a reason."""

import re
from functools import lru_cache

from mailbase.reports.judge import code_of, status_of
from mailbase.reports.mime import Part
from mailbase.reports.transcripts import refusals

LONGEST_NOTICE = 64_000
LONGEST_LEAD = 3000
LONGEST_SIGNATURE = 1500
LEAST_LINES = 16

_YOUR_LETTER = re.compile(
    r"^[ \t]*your (?:message|document)[ \t]*:[^\n@]{0,300}(?=\n+[ \t]*(?:was not|could not be|wasn't) delivered\b)",
    re.IGNORECASE | re.MULTILINE,
)
_TITLED = re.compile(
    r"\b(?:(?:en)?titled|subject(?: of| line)?|betreff|objet|asunto|oggetto)[:\s]{1,4}(?:\"[^\"\n]{1,200}\"|'[^'\n]{1,200}'(?!\w)|“[^”\n]{1,200}”)",
    re.IGNORECASE,
)
_SUBJECT_WORDS = "subject betreff objet sujet asunto oggetto assunto onderwerp ämne emne aihe temat předmět тема konu tárgy 主题 主題 主旨 件名 제목"
_SUBJECT = re.compile(
    rf"[ \t>*|]{{0,12}}(?:your |ihr )?(?:{'|'.join(_SUBJECT_WORDS.split())})[ \t]*(?:[:：]|(?<=[题題旨名목])[ \t])",
    re.IGNORECASE,
)
_SUBJECT_HEADS = ("your subject", "ihr betreff", *_SUBJECT_WORDS.split())
"""What the letter was called: "unlimited quota, no spam" says nothing of its delivery."""


def written(parts: list[Part]) -> str:
    """Return what is written for people: the plain texts, else the pages; without signatures and needless space."""
    notice = _without_signature(_texts(parts))
    if " \n" in notice or "\t\n" in notice or "\n>" in notice:
        lines = notice.split("\n")
        notice = "\n".join("" if line[:1] == ">" and not line.strip("> ") else line.rstrip(" \t") for line in lines)
    return _single_spaced(notice)


def _texts(parts: list[Part]) -> str:
    for kind in ("text/plain", "text/html"):
        texts = [
            part.text
            for part in parts
            if (part.kind or "text/plain") == kind
            and not part.parts
            and "attachment" not in part.first("content-disposition")
        ]
        if any(text.strip() for text in texts):
            return "\n".join(texts)[:LONGEST_NOTICE]
    loose = [
        part.text
        for part in parts
        if not part.parts
        and (part.kind.startswith(("text/", "multipart/")) or part.kind == "unknown/unknown" or not part.kind)
    ]
    return "\n".join(loose)[:LONGEST_NOTICE]


def _single_spaced(notice: str) -> str:
    """Return a text without the empty line that something on its way put behind every line."""
    lines = notice.count("\n")
    return notice.replace("\n\n", "\n") if lines > LEAST_LINES and 2.2 * notice.count("\n\n") > lines else notice


def _without_signature(notice: str) -> str:
    """Return a notice without what stands beneath it: whom to write to and that the mail was scanned for spam."""
    at = notice.rfind("\n-- \n")
    under = notice[at:] if at > 0 and len(notice) - at <= LONGEST_SIGNATURE else ""
    return notice[:at] if under and notice[:at].strip() and not (code_of(under) or status_of(under)) else notice


@lru_cache(maxsize=16)
def lead_of(notice: str) -> str:
    """Return the beginning of what a server wrote, without sessions and the letter's subject."""
    said = _TITLED.sub(" ", _YOUR_LETTER.sub("", refusals(notice[:LONGEST_NOTICE])[: 2 * LONGEST_LEAD]))
    lines = [
        line
        for line in said.split("\n")
        if not (line.lstrip(" \t>*|")[:16].lower().startswith(_SUBJECT_HEADS) and _SUBJECT.match(line))
    ]
    return "\n".join(lines)[:LONGEST_LEAD].strip()
