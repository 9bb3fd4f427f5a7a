"""Mails as whole systems lay them out: whoever failed is named once, and nobody else."""

import base64
import re
from pathlib import Path

import pytest

from mailbase.reports.examine import examine

FILE = Path(__file__).parent / "layouts.txt"

LETTER = """\
Return-Path: <bounce-77@shop.example>
Received: from out.shop.example (out.shop.example [192.0.2.10])
\tby mx.relay.example with ESMTP id 4A1B2C3D
\tfor <@@>; Tue,  5 Mar 2019 09:00:00 +0000 (UTC)
Date: Tue, 5 Mar 2019 09:00:00 +0000
From: "Shop Example" <news@shop.example>
Reply-To: service@shop.example
To: "Reader" <@@>
Subject: Your mailbox is full of offers
Message-ID: <77.1551776400@shop.example>
List-Unsubscribe: <mailto:leave@shop.example>
MIME-Version: 1.0
Content-Type: text/plain; charset=us-ascii

Dear reader, is your friend's mailbox full, or a user unknown? Write to
partner@elsewhere.example about spam. 550 5.1.1 no such user.
"""
"""What stands in it must not be taken for a reason, nor anybody in it for a recipient."""

_CHARSET = re.compile(r"^%charset (\S+)\n", re.MULTILINE)
_BASE64 = re.compile(r"^%b64 (\S+)\n(.*?)^%end\n", re.MULTILINE | re.DOTALL)
_LETTER = re.compile(r"^%letter (\S+)\n?", re.MULTILINE)


def layouts():
    """Return name → (what it says of whom, the mail)."""
    found = {}
    for case in FILE.read_text("utf-8").split("\n=== ")[1:]:
        head, _, rest = case.partition("\n")
        said = []
        while rest.startswith("--- "):
            line, _, rest = rest.partition("\n")
            who, cls = line[4:].rsplit(" ", 1)
            said.append((None if who == "-" else who.casefold(), cls))
        charset = _CHARSET.search(rest)
        mail = _CHARSET.sub("", rest.rstrip("\n") + "\n")
        mail = _BASE64.sub(lambda part: base64.encodebytes(part[2].encode(part[1])).decode(), mail)
        mail = _LETTER.sub(lambda to: LETTER.replace("@@", to[1]), mail)
        name = head.partition(" | ")[0]
        assert name not in found, name
        found[name] = (said, mail.encode(charset[1] if charset else "utf-8"))
    return found


LAYOUTS = layouts()


def lines(findings):
    return [(found.recipient and found.recipient.casefold(), found.cls) for found in findings]


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_system_is_read(name):
    """One line for each recipient the mail reports on, with its class; only what is hard or a complaint suppresses."""
    said, mail = LAYOUTS[name]
    findings = examine(mail).findings
    assert sorted(lines(findings), key=str) == sorted(said, key=str)
    assert all(found.suppress == (found.cls in {"hard", "feedback"}) for found in findings)


def beneath(mail, footer):
    """Put a footer beneath what the server wrote, or None where that has no place of its own."""
    head, _, body = mail.partition(b"\n\n")
    boundary = re.search(rb'boundary="?([^"\s;]+)', head)
    if not boundary:
        return None
    parts = body.split(b"\n--" + boundary[1])
    at = 0 if body.startswith(b"--") else 1
    if at >= len(parts) or any(
        word in parts[at] for word in (b"base64", b"html", b"boundary", b"rfc822", b"<bounce-77@")
    ):
        return None
    parts[at] += footer
    return head + b"\n\n" + (b"\n--" + boundary[1]).join(parts)


def of_one_text(change):
    """Return a change of the body alone, for mails that are one text."""

    def changed(mail):
        head, _, body = mail.partition(b"\n\n")
        if any(word in head.lower() for word in (b"multipart", b"html", b"base64", b"quoted")):
            return None
        return change(head, body)

    return changed


def page(head, body):
    """Make a page of a text."""
    text = body.replace(b"&", b"&amp;").replace(b"<", b"&lt;").replace(b">", b"&gt;").replace(b"\n", b"<br>\n")
    head = re.sub(rb"\nContent-Type:[^\n]*", b"", head, flags=re.IGNORECASE)
    return head + b"\nContent-Type: text/html\n\n<html><body>" + text + b"</body></html>\n"


CHANGES = {
    "a page": of_one_text(lambda head, body: page(head, body) if body.isascii() and b"\x1b" not in body else None),
    "empty lines between": of_one_text(lambda head, body: head + b"\n\n" + body.replace(b"\n", b"\n\n")),
    "quoted": of_one_text(lambda head, body: head + b"\n\n> " + body.replace(b"\n", b"\n> ")),
    "line ends": lambda mail: mail.replace(b"\n", b"\r\n"),
    "case": lambda mail: re.sub(rb"\b(?:bob|eve|carol)@[a-z0-9.]+", lambda one: one[0].upper(), mail),
    "spaces at line ends": lambda mail: mail if b"base64" in mail else mail.replace(b"\n", b" \n"),
    "no last boundary": lambda mail: re.sub(rb"\n--[^\n]+--\s*\Z", b"\n", mail),
    "a disclaimer": lambda mail: beneath(
        mail,
        b"\n\n-- \nIf you are not the intended recipient, please notify privacy@corp-legal.example.\n"
        b"Visit http://www.corp-legal.example or mail office@corp-legal.example\n",
    ),
    "an office": lambda mail: beneath(
        mail,
        b"\n\nBei Fragen wenden Sie sich bitte an kundendienst@provider.example, E-Mail: kontakt@provider.example\n",
    ),
    "an advertisement": lambda mail: beneath(
        mail, b"\n\n_____\nScanned by MailGuard. Report spam to spamreport@guard.example\n"
    ),
}


@pytest.mark.parametrize("how", CHANGES)
def test_what_happens_to_mails_on_their_way_changes_nothing(how):
    """Line ends, another case, a footer with addresses of its own: the same recipients, the same classes."""
    wrong = []
    for name, (said, mail) in LAYOUTS.items():
        changed = CHANGES[how](mail)
        found = said if changed is None else lines(examine(changed).findings)
        if sorted(found, key=str) != sorted(said, key=str):
            wrong.append((name, said, found))
    assert wrong == []
