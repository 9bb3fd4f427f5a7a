"""What the letters' tests share: people, tokens, and the standard library as the judge of what was built."""

import email
import email.policy
from email.message import EmailMessage

from mailbase.letters.content import Letter, Person, Tokens

TOKENS = Tokens("L-" + "l" * 40, "U_" + "u" * 86, "P" * 88, "V" * 88)
BASE = "https://news.example"


def person(**attributes):
    return Person(id=7, email="anna@example.com", attributes=attributes, interests=["news"], tags=[], locale="en")


def raw(letter: Letter) -> bytes:
    return b"".join(name + b": " + value + b"\r\n" for name, value in letter.headers) + b"\r\n" + letter.body


def parsed(letter: Letter) -> EmailMessage:
    return email.message_from_bytes(raw(letter), policy=email.policy.default)


def content(letter: Letter, kind: str) -> str | None:
    """The decoded text of a letter's plain or html part, with the line ends of Python."""
    part = parsed(letter).get_body((kind,))
    return None if part is None else part.get_content().replace("\r\n", "\n")


def assert_clean(letter: Letter) -> None:
    """Every rule of RFC 5322 and DKIM a finished letter promises."""
    body = letter.body
    assert body.endswith(b"\r\n")
    assert not body.endswith(b"\r\n\r\n")
    assert body.isascii()
    for line in body.split(b"\r\n"):
        assert len(line) <= 76, line
        assert not line.startswith((b".", b"From ")), line
        assert b"\r" not in line
        assert b"\n" not in line
    for name, value in letter.headers:
        assert b"\r\n" not in name
        first, *more = value.split(b"\r\n")
        assert len(name) + 2 + len(first) <= 76
        for line in more:
            assert line.startswith(b" ")
            assert line.strip()
            assert len(line) <= 76
        assert b"\r" not in value.replace(b"\r\n ", b"")
        assert b"\n" not in value.replace(b"\r\n ", b"")
        assert value.isascii()
