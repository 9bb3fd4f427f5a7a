"""Whose fault a reply says it was: the same words of a sender and of a reader mean two things."""

import pytest

from mailbase.reports.examine import examine
from mailbase.reports.judge import code_of, status_of, weigh

SENDERS = (
    *(
        "sender",
        "sender address",
        "sender domain",
        "your domain",
        "your IP address",
        "client host",
        "sending host",
        "from address",
    ),
    *(
        "envelope sender",
        "return path",
        "your mail server",
        "MAIL FROM address",
        "originating IP",
        "from domain",
        "sending account",
    ),
)
READERS = (
    *(
        "user",
        "mailbox",
        "mail box",
        "account",
        "recipient",
        "recipient address",
        "e-mail address",
        "addressee",
        "username",
        "alias",
    ),
    *("destination mailbox", "intended recipient", "mail account", "inbox", "subscriber"),
)
ABSENT = (
    *(
        "{} unknown",
        "unknown {}",
        "{} not found",
        "{} was not found",
        "no such {}",
        "{} does not exist",
        "{} doesn't exist",
    ),
    *(
        "invalid {}",
        "the {} is unknown",
        "{} could not be found",
        "cannot find {}",
        "{} not recognized",
        "non-existent {}",
    ),
    *("{} is disabled", "{} has been suspended", "{} is inactive", "{} has been deleted", "{} has expired"),
)
BEFORE = (
    *("550 ", "550 5.7.1 ", "553 <news@shop.example>: ", "550 5.1.1 <bob@example.net>: "),
    "554 5.7.1 <bob@example.net>: Recipient address rejected: ",
)


def cls(reply):
    """Return the class of a final reply."""
    return weigh(code_of(reply), status_of(reply), reply, final=True).cls


@pytest.mark.parametrize("words", ABSENT)
def test_what_is_wrong_with_the_sender_costs_no_reader(words):
    """Whatever the sender's address, domain or host is said to be, whichever code and status stand before it."""
    said = [before + words.format(sender) for before in BEFORE for sender in SENDERS]
    assert [reply for reply in said if cls(reply) == "hard"] == []


@pytest.mark.parametrize("words", ABSENT)
def test_the_same_of_a_reader_means_that_nobody_is_there(words):
    """However a server calls whoever is written to."""
    said = [before + words.format(reader) for before in ("550 ", "") for reader in READERS]
    assert [reply for reply in said if cls(reply) != "hard"] == []


@pytest.mark.parametrize(
    "reply",
    [
        "550 Absender unbekannt",
        "550 Die Absenderadresse existiert nicht",
        "550 L'adresse de l'expéditeur est inconnue",
        "550 El dominio del remitente no existe",
        "550 Il mittente non esiste",
        "550 Remetente inválido: domínio não existe",
        "550 Отправитель не найден",
        "550 发件人不存在",
        "550 送信者アドレスが存在しません",
    ],
)
def test_the_sender_is_blamed_in_other_languages_too(reply):
    """Words for the sender beside words that nobody is there."""
    assert cls(reply) == "block"


@pytest.mark.parametrize(
    "reply",
    [
        "550 your message could not be delivered: user unknown",
        "550 your email to bob@example.net could not be delivered because the mailbox does not exist",
        "550 message returned to sender: no such user",
        "host mx.example.net [192.0.2.3]: 550 unknown user",
        "550 5.1.1 user unknown; please check your address book",
        "Response from host mx.example.net: 550 5.1.1 user unknown",
    ],
)
def test_a_sender_who_is_only_spoken_to_is_not_blamed(reply):
    """The words "your message" are in every notice."""
    assert cls(reply) == "hard"


def test_the_name_of_who_speaks_is_not_what_is_unknown():
    """Of a host that says "unknown command" nothing is unknown."""
    assert cls("host mx.example.net [192.0.2.3]: 550 5.5.1 unknown command") == "soft"


@pytest.mark.parametrize(
    "cause",
    [
        "message rejected as spam",
        "blocked by policy",
        "listed at zen.spamhaus.org",
        "SPF check failed",
        "DKIM signature invalid",
        "DMARC policy reject",
        "authentication required",
        "relay access denied",
        "rate limit exceeded",
        "message too large",
        "virus found",
        "no PTR record",
        "HELO rejected",
        "message headers malformed",
        "invalid message format",
        "bad MIME structure",
        "bare LF not allowed",
        "from address does not match authenticated user",
        "challenge required",
        "connection limit reached",
        "complaint rate too high",
        "profanity detected",
        "ARC validation failed",
        "rejected by milter",
        "prohibited by administrator",
        "sender not on whitelist",
        "group is closed to outside senders",
        "mail too big",
        "encrypted attachment refused",
        "you are blocked by this user",
    ],
)
@pytest.mark.parametrize("nobody", ["user unknown", "no such user", "invalid recipient", "mailbox not found"])
@pytest.mark.parametrize("form", ["550 5.1.1 {}: {}", "554 {}; {}", "550 5.7.1 {} ({})", "550-{}\n550 {}"])
def test_a_cause_that_is_the_sender_s_outweighs_any_word_about_the_reader(cause, nobody, form):
    """Servers mix texts: in doubt nobody is taken off a list."""
    for text in (form.format(cause, nobody), form.format(nobody, cause)):
        assert weigh(code_of(text), status_of(text), text, final=True).cls != "hard"


@pytest.mark.parametrize(
    "reply",
    [
        "host mx.example.net[192.0.2.1] said: 550 5.1.1 user unknown (in reply to MAIL FROM command)",
        "host mx.example.net[192.0.2.1] said: 550 No such user (in\n    reply to HELO command)",
        "SMTP error from remote mail server after MAIL FROM:<news@shop.example>: host mx.example.net [192.0.2.1]: 550 Domain does not exist",
        "SMTP error from remote mailer after initial connection: host mx.example.net: 550 unknown host",
        "192.0.2.1 does not like sender.\nRemote host said: 550 no such user",
        "553 illegal domain in MAIL FROM",
        "550 invalid address in MAIL command",
    ],
)
def test_who_was_not_asked_about_a_reader_says_nothing_of_it(reply):
    """Before RCPT a server knows the sender only, whatever it says."""
    assert weigh(code_of(reply), status_of(reply), reply, final=True).cls == "block"
    late = reply.replace("MAIL FROM command", "RCPT TO command")
    if late != reply:
        assert weigh(code_of(late), status_of(late), late, final=True).cls == "hard"


POSTFIX = """\
From: MAILER-DAEMON@relay.example (Mail Delivery System)
To: news@shop.example
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

<bob@example.net>: host mx.example.net[192.0.2.1] said: 550 5.1.1 Mailbox does
    not exist (in reply to {} command)

<eve@example.net>: host mx.example.net[192.0.2.1] said: 550 5.1.1 Mailbox does
    not exist (in reply to RCPT TO command)

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example

Final-Recipient: rfc822; bob@example.net
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 Mailbox does not exist

Final-Recipient: rfc822; eve@example.net
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 Mailbox does not exist

--b--
"""
SENDMAIL = """\
From: Mail Delivery Subsystem <MAILER-DAEMON@relay.example>
To: news@shop.example
Subject: Returned mail

   ----- The following addresses had permanent fatal errors -----
<bob@example.net>
    (reason: 550 5.1.1 no such user)

   ----- Transcript of session follows -----
... while talking to mx.example.net.:
>>> MAIL From:<news@shop.example>
<<< {}
"""


def test_the_stage_is_read_beside_the_status_part_too():
    """The diagnostic leaves the command out; the text above it names it, for each recipient."""

    def said(command):
        return [one.cls for one in examine(POSTFIX.format(command).encode()).findings]

    assert said("MAIL FROM") == ["block", "hard"]
    assert said("RCPT TO") == said("end of DATA") == ["hard", "hard"]


def test_a_session_that_ended_at_the_sender_blames_it():
    """Sendmail shows the session: without RCPT no recipient was refused."""
    early = examine(SENDMAIL.format("550 5.1.1 no such user").encode()).findings
    late = examine(
        SENDMAIL.format("250 ok\n>>> RCPT To:<bob@example.net>\n<<< 550 5.1.1 no such user").encode()
    ).findings
    assert [(one.recipient, one.cls) for one in early] == [("bob@example.net", "block")]
    assert [(one.recipient, one.cls) for one in late] == [("bob@example.net", "hard")]
