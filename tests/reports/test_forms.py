"""One refusal in the forms of many servers: what a report says does not depend on who wrote it."""

import re
from functools import cache

import pytest

from mailbase.reports.examine import examine
from mailbase.reports.judge import code_of, status_of, weigh
from mailbase.reports.rules import read
from mailbase.reports.verdicts import CLASS_OF

BOB = "bob@example.net"
LETTER = f"""\
From: news@shop.example
To: {BOB}
Subject: Spring letter, no spam
Date: Tue, 5 Mar 2019 09:00:00 +0000
Message-ID: <1@shop.example>
MIME-Version: 1.0

full of quota and policy, user unknown
"""


def report(human, status, reply):
    """A delivery report (RFC 3464)."""
    return (
        "From: Mail Delivery System <MAILER-DAEMON@mx.example>\nTo: news@shop.example\nSubject: Undelivered mail\n"
        f"Content-Type: multipart/report; report-type=delivery-status; boundary=bd\n\n--bd\n\n{human}\n\n--bd\n"
        f"Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx.example\n\nFinal-Recipient: rfc822; {BOB}\n"
        f"Action: failed\nStatus: {status or '5.0.0'}\nDiagnostic-Code: smtp; {reply}\n\n--bd\n"
        f"Content-Type: message/rfc822\n\n{LETTER}\n--bd--\n"
    )


def notice(subject, text, mark="", headers=""):
    """A bounce that is one text."""
    back = f"{mark}\n\nReturn-Path: <news@shop.example>\nReceived: from a by b with esmtp\n{LETTER}" if mark else ""
    return f"From: MAILER-DAEMON@mx.example\nTo: news@shop.example\nSubject: {subject}\n{headers}\n{text}\n\n{back}"


FORMS = {
    "qmail": lambda reply, _: notice(
        "failure notice",
        "Hi. This is the qmail-send program at mx.example.\nI'm afraid I wasn't able to deliver your message to the"
        f" following addresses.\n\n<{BOB}>:\n192.0.2.7 does not like recipient.\nRemote host said: {reply}\n"
        "Giving up on 192.0.2.7.",
        "--- Below this line is a copy of the message.",
    ),
    "exim": lambda reply, _: notice(
        "Mail delivery failed: returning message to sender",
        "A message that you sent could not be delivered to one or more of its\nrecipients. This is a permanent error."
        f" The following address(es) failed:\n\n  {BOB}\n    host mx.example.net [192.0.2.3]\n"
        f"    SMTP error from remote mail server after RCPT TO:<{BOB}>:\n    {reply}",
        "------ This is a copy of the message, including all the headers. ------",
        f"X-Failed-Recipients: {BOB}\n",
    ),
    "postfix": lambda reply, status: report(
        "This is the mail system at host mx.example.\n\nI'm sorry to have to inform you that your message could not\n"
        f"be delivered.\n\n<{BOB}>: host mx.example.net[192.0.2.3] said: {reply} (in reply to RCPT TO command)",
        status,
        reply,
    ),
    "sendmail": lambda reply, status: report(
        f"   ----- The following addresses had permanent fatal errors -----\n<{BOB}>\n    (reason: {reply})\n\n"
        "   ----- Transcript of session follows -----\n... while talking to mx.example.net.:\n>>> DATA\n"
        f"<<< {reply}\n<<< 503 5.0.0 Need RCPT (recipient)",
        status,
        reply,
    ),
    "domino": lambda reply, _: notice(
        f"DELIVERY FAILURE: {reply}",
        f"Your message\n\n  Subject: Spring letter\n\nwas not delivered to:\n\n  {BOB}\n\nbecause:\n\n  {reply}",
    ),
    "courier": lambda reply, _: report(
        f"                UNDELIVERABLE MAIL\n\n<{BOB}>:\n    mx.example.net [192.0.2.3]:\n>>> RCPT TO:<{BOB}>\n<<< {reply}",
        None,
        reply,
    ),
    "gmail": lambda reply, _: notice(
        "Delivery Status Notification (Failure)",
        f"Delivery to the following recipient failed permanently:\n\n     {BOB}\n\nTechnical details of permanent"
        " failure:\nGoogle tried to deliver your message, but it was rejected by the server for the recipient domain.\n"
        f"The error that the other server returned was:\n{reply}",
        "----- Original message -----",
        f"X-Failed-Recipients: {BOB}\n",
    ),
    "mdaemon": lambda reply, _: notice(
        "Permanent Delivery Failure",
        f"The following addresses did NOT receive a copy of your message:\n\n> {BOB}\n\n--- Session Transcript ---\n"
        " Tue 2019-03-05 09:00:00: <-- 220 mx.example.net ESMTP no spam please\n"
        " Tue 2019-03-05 09:00:00: --> EHLO mx.example\n Tue 2019-03-05 09:00:00: <-- 250-mx.example.net Hello\n"
        f" Tue 2019-03-05 09:00:00: --> RCPT To:<{BOB}>\n Tue 2019-03-05 09:00:00: <-- {reply}\n--- End Transcript ---",
    ),
    "exchange": lambda reply, status: report(
        f"Delivery has failed to these recipients or groups:\n\n{BOB}\nA problem occurred during the delivery of this"
        f" message.\n\nDiagnostic information for administrators:\n\n{BOB}\nmx.example.net #{reply} ##",
        status,
        reply,
    ),
    "plain": lambda reply, _: notice(
        "Message could not be delivered",
        f"Your message could not be delivered to the following recipient:\n\nRecipient: {BOB}\nReason: {reply}",
        "The headers of your message follow:",
    ),
}


@cache
def refusals():
    """Return (reply, status, class) of the samples that mean alone what their rules mean."""
    return tuple(_refusals())


def _refusals():
    for rule in read():
        reply = rule.sample if re.match(r"[45]\d\d", rule.sample) else f"550 {rule.sample}"
        if not rule.weak and weigh(code_of(reply), status_of(reply), reply, final=True).cls == CLASS_OF[rule.reason]:
            yield reply, status_of(reply), CLASS_OF[rule.reason]


@pytest.mark.parametrize("form", FORMS)
def test_a_refusal_means_the_same_in_every_form(form):
    """Recipient and class come out as they went in, whatever words stand around them."""
    turn = list(FORMS).index(form)
    wrong = []
    for reply, status, cls in refusals()[turn :: len(FORMS)]:
        found = [(one.recipient, one.cls) for one in examine(FORMS[form](reply, status).encode()).findings]
        if found != [(BOB, cls)]:
            wrong.append((reply, found))
    assert wrong == []


@pytest.mark.parametrize("form", FORMS)
def test_what_stands_around_a_refusal_gives_no_reason(form):
    """A reply that says nothing is not explained by what every report of that server says, nor by the letter's subject."""
    found = examine(FORMS[form]("554 zzz", None).replace("no spam", "no spam, mailbox full, policy").encode()).findings
    assert [(one.recipient, one.reason) for one in found] == [(BOB, "uncategorized")]


MANGLED = {
    "CRLF": lambda mail: mail.replace(b"\n", b"\r\n"),
    "CR": lambda mail: mail.replace(b"\n", b"\r"),
    "CR CR LF": lambda mail: mail.replace(b"\n", b"\r\r\n"),
    "an mbox line first": lambda mail: b"From MAILER-DAEMON Tue Jan  1 00:00:00 2019\n" + mail,
    "a stray line first": lambda mail: b"hello there\n" + mail,
    "another boundary": lambda mail: mail.replace(b"boundary=bd", b"boundary=other"),
    "no Content-Type": lambda mail: re.sub(rb"Content-Type: multipart[^\n]*\n", b"", mail),
    "no empty line before the fields": lambda mail: mail.replace(b"delivery-status\n\n", b"delivery-status\n"),
    "fields as text": lambda mail: mail.replace(b"message/delivery-status", b"text/plain"),
    "quoted": lambda mail: b"From: a@b.example\nSubject: Fwd: Undelivered mail\n\n> " + mail.replace(b"\n", b"\n> "),
    "forwarded": lambda mail: b"From: a@b.example\nSubject: Fwd: x\nContent-Type: message/rfc822\n\n" + mail,
}


@pytest.mark.parametrize("how", MANGLED)
def test_a_mangled_report_says_the_same(how):
    """Line ends, boundaries and forwarding change nothing."""
    mail = FORMS["postfix"]("550 5.1.1 Recipient address rejected: User unknown", "5.1.1").encode()
    assert [(found.recipient, found.cls) for found in examine(MANGLED[how](mail)).findings] == [(BOB, "hard")]


def test_a_made_up_status_counts_less_than_the_words():
    """Sendmail makes 5.1.1 of any 550 after RCPT; the reply says whose fault it was."""
    for reply, cls in (
        ("550 Access denied", "block"),
        ("550 Requested action aborted: local error in processing", "soft"),
        ("550 5.1.1 Access denied", "hard"),
        ("550 no", "hard"),
    ):
        found = examine(FORMS["sendmail"](reply, "5.1.1").encode()).findings
        assert [one.cls for one in found] == [cls], reply
    assert weigh(0, "4.4.1", "connect to mx.example.net[192.0.2.1]:25: Connection refused", final=True).cls == "soft"


NOBODY = {
    "gb18030": "您发给对方的邮件被退回,原因:该邮箱地址不存在",
    "euc-kr": "해당 사용자를 찾을 수 없습니다",
    "euc-jp": "該当するユーザーが存在しないため配信できませんでした",
    "shift_jis": "該当するユーザーが存在しないため配信できませんでした",
    "iso-2022-jp": "該当するユーザーが存在しないため配信できませんでした",
    "koi8-r": "Письмо не доставлено: такой почтовый ящик не существует",
    "windows-1251": "Письмо не доставлено: такой почтовый ящик не существует",
    "iso-8859-1": "Nicht zugestellt: der Empfänger ist unbekannt",
    "utf-8": "Сообщение не доставлено: пользователь не найден",
    "utf-7": "Nicht zugestellt: der Empfänger ist unbekannt",
}


@pytest.mark.parametrize("said", ["", "us-ascii", "iso-8859-1", "right"])
@pytest.mark.parametrize("charset", NOBODY)
def test_words_are_read_whatever_the_charset_says(charset, said):
    """Nobody is there in any charset, be it named, not named or named wrongly."""
    said = charset if said == "right" or charset == "utf-7" else said
    head = f"Content-Type: text/plain; charset={said}\n" if said else ""
    mail = notice("Undeliverable", f"{BOB}\n@@", headers=head).encode().replace(b"@@", NOBODY[charset].encode(charset))
    assert [(found.recipient, found.cls) for found in examine(mail).findings] == [(BOB, "hard")]
