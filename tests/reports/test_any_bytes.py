"""Whatever arrives: no bytes make the reading fail, none make it slow."""

import time
from pathlib import Path

from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailbase.reports.examine import Report, examine
from mailbase.reports.judge import judge
from mailbase.reports.verdicts import CLASS_OF

MAILS = [path.read_bytes() for path in sorted((Path(__file__).parent / "mails").glob("*.eml"))]

LINES = st.sampled_from(
    [
        b'Content-Type: multipart/report; boundary="b"',
        b"Content-Type: multipart/mixed; boundary=b",
        b"Content-Type: message/delivery-status",
        b"Content-Type: message/feedback-report",
        b"Content-Type: message/rfc822",
        b"Content-Type: text/html; charset=iso-2022-jp",
        b"Content-Type: text/plain; charset=utf-16",
        b"Content-Transfer-Encoding: base64",
        b"Content-Transfer-Encoding: quoted-printable",
        b"From: MAILER-DAEMON",
        b"Subject: =?utf-8?B?//8=?= =?x?Q?=zz?=",
        b"To: <a@b.example>, c@",
        b"X-Failed-Recipients: a@b.example, ,",
        b"Auto-Submitted: auto-replied",
        b"",
        b"--b",
        b"--b--",
        b"Final-Recipient: rfc822; a@b.example",
        b"Final-Recipient: utf-8; \\x{FFFFFF}@b",
        b"Original-Recipient: rfc822;a+40b@c.example",
        b"Action: failed",
        b"Action:",
        b"Status: 5.1.1",
        b"Status: 9.9.9 (",
        b"Diagnostic-Code: smtp; 550 5.1.1 user unknown",
        b"Diagnostic-Code:",
        b" folded",
        b"Feedback-Type: abuse",
        b"Original-Rcpt-To: <a@b.example>",
        b"<a@b.example>: 550 no such user",
        b"Received: from a by b",
        b"Message-ID: <1@a>",
        b"------ This is a copy of the message ------",
        b"\xff\xfe\x00\x1b$B!!",
        b"AAAA====",
    ]
)


def holds(report):
    """What is true of every report."""
    assert isinstance(report, Report)
    assert report.findings
    for found in report.findings:
        assert found.reason
        assert not (found.suppress and found.cls not in {"hard", "feedback"})
        assert found.cls != "hard" or CLASS_OF[found.reason] == "hard"
        assert found.reply is None or len(found.reply) <= 1000


@given(st.binary(max_size=4000))
@example(b"")
@example(b"\n\n--\n--")
@example(b"\r\r\r\n\0")
def test_random_bytes_are_read(data):
    """Any bytes are a mail that says something, if only that it says nothing."""
    holds(examine(data))


@given(st.lists(LINES, max_size=60), st.sampled_from([b"\n", b"\r\n", b"\r"]))
def test_random_mime_is_read(lines, end):
    """Headers, boundaries and fields in any order, with any line ends."""
    holds(examine(end.join(lines)))


@given(st.sampled_from(MAILS), st.data())
def test_a_mail_cut_anywhere_is_read(mail, data):
    """Half a report is still read, and cutting it never makes somebody else hard."""
    cut = data.draw(st.integers(0, len(mail)))
    report = examine(mail[:cut])
    holds(report)


@given(st.sampled_from(MAILS), st.data())
def test_a_mail_with_some_bytes_changed_is_read(mail, data):
    """Bytes that lost their way on the wire."""
    changed = bytearray(mail)
    for _ in range(data.draw(st.integers(1, 20))):
        changed[data.draw(st.integers(0, len(mail) - 1))] = data.draw(st.integers(0, 255))
    holds(examine(bytes(changed)))


@given(st.integers(0, 999), st.none() | st.from_regex(r"\A[245]\.\d{1,3}\.\d{1,3}\Z"), st.text(max_size=400))
def test_any_reply_is_judged(code, enhanced, text):
    """Any code, status and words have a class and a reason that belong together."""
    verdict = judge(code, enhanced, text)
    assert CLASS_OF[verdict.reason] == verdict.cls


HUGE = {
    "one line": b"Subject: failure notice\n\n" + b"a" * 1_500_000,
    "addresses": b"From: mailer-daemon@x\nSubject: failure notice\n\n" + b"a@b.example: 550 no such user\n" * 40_000,
    "headers": b"X-A: b\n" * 200_000,
    "boundaries": b"Content-Type: multipart/mixed; boundary=b\n\n" + b"--b\n" * 200_000,
    "nested": b"".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (n, n) for n in range(2000)),
    "statuses": b"Content-Type: message/delivery-status\n\n"
    + b"Final-Recipient: rfc822; a@b.example\nAction: failed\n\n" * 20_000,
    "brackets": b"From: mailer-daemon@x\nSubject: returned mail\n\n" + b"<" * 500_000,
    "at signs": b"From: mailer-daemon@x\nSubject: returned mail\n\n" + b"a@" * 300_000,
    "dots": b"From: mailer-daemon@x\nSubject: returned mail\n\n550 " + b"a." * 300_000,
    "dashes": b"From: mailer-daemon@x\nSubject: returned mail\n\n" + b"-" * 300_000 + b"\n" * 10_000,
    "html": b"From: mailer-daemon@x\nContent-Type: text/html\n\n" + b"<style <p " * 100_000,
    "encoded": b"Subject: " + b"=?utf-8?B?" * 50_000 + b"\n\n",
    "letters": b"From: mailer-daemon@x\nSubject: returned mail\n\n" + b"Received: from a\nTo: b\nX-Y: z\n" * 20_000,
    "spaces": b"From: mailer-daemon@x\nSubject: returned mail\n\n" + (b" " * 500 + b"\t\n") * 2_000,
}


@settings(deadline=None)
@given(st.sampled_from(sorted(HUGE)))
@example("one line")
def test_no_mail_takes_long(name):
    """Two megabytes of anything are read in well under a second of processor time."""
    begun = time.process_time()
    holds(examine(HUGE[name]))
    assert time.process_time() - begun < 1.0
