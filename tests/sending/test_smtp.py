"""The relay: every letter gets exactly one outcome, whatever the other side does."""

import asyncio
import base64
import contextlib
import itertools
import socket
import ssl
from collections import Counter

import pytest
import trustme
from aiosmtpd.smtp import SMTP
from hypothesis import given, settings
from hypothesis import strategies as st

from mailbase.config import Relay
from mailbase.sending.outcomes import Envelope, Outcome
from mailbase.sending.smtp.connections import SmtpTransport
from mailbase.sending.smtp.replies import wait_seconds
from mailbase.sending.smtp.session import Timeouts
from smtp_peer import DROP, EHLO, SILENCE, SmtpPeer

QUICK = Timeouts(
    connect=5,
    greeting=0.3,
    ehlo=0.3,
    starttls=0.3,
    auth=0.3,
    mail=0.3,
    rcpt=0.3,
    data=0.3,
    content=0.3,
    idle=5,
    quit=0.5,
)
PATIENT = Timeouts(greeting=10, ehlo=10, mail=10, rcpt=10, data=10, content=20, idle=5, quit=1)
BODY = b"Subject: Hello\r\n\r\nHello.\r\n.a line with a dot\r\n..\r\nBye.\r\n"
_ids = itertools.count(1)


def envelope(rcpt: str = "ann@example.com", data: bytes = BODY, sender: str = "news@example.org", **kw) -> Envelope:
    return Envelope(next(_ids), sender, rcpt, data, **kw)


@contextlib.asynccontextmanager
async def relay(port: int, *, timeouts: Timeouts = QUICK, host: str = "127.0.0.1", **kw):
    settings = {
        "user": None,
        "password": None,
        "tls": "none",
        "connections": 1,
        **{k: kw.pop(k) for k in list(kw) if k in {"user", "password", "tls", "connections"}},
    }
    transport = SmtpTransport(
        Relay(host=host, port=port, **settings), hostname="mail.example.org", timeouts=timeouts, **kw
    )
    try:
        yield transport
    finally:
        await transport.close()


async def until(condition) -> None:
    """Wait until something that happens elsewhere is so; five seconds at most."""
    deadline = asyncio.get_running_loop().time() + 5
    while not condition():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.005)


async def send(transport, *letters: Envelope) -> list[Outcome]:
    """Hand over and return the outcomes in the letters' order; more or fewer than one each is a failure."""
    outcomes: list[Outcome] = []
    async with asyncio.timeout(20):
        await transport.hand_over(letters, outcomes.append)
    by_id = {outcome.delivery_id: outcome for outcome in outcomes}
    assert len(outcomes) == len(by_id) == len(letters)
    return [by_id[letter.delivery_id] for letter in letters]


async def against(answers, *letters: Envelope, **kw) -> tuple[SmtpPeer, list[Outcome]]:
    async with SmtpPeer(answers) as peer, relay(peer.port, **kw) as transport:
        outcomes = await send(transport, *letters)
    return peer, outcomes


NO_PIPELINING = "250-peer.example\n250-8BITMIME\n250 SMTPUTF8"


@pytest.mark.parametrize("ehlo", [EHLO, NO_PIPELINING], ids=["pipelining", "one by one"])
async def test_letters_arrive_as_they_are(ehlo):
    """Content and envelope arrive unchanged, dots at line starts included, over one connection."""
    letters = [envelope(f"user{n}@example.com", BODY + b"%d\r\n" % n) for n in range(50)]
    peer, outcomes = await against({"EHLO": ehlo}, *letters)
    assert {outcome.kind for outcome in outcomes} == {"sent"}
    assert peer.letters == [(letter.mail_from, letter.rcpt_to, letter.data) for letter in letters]
    assert (peer.connections, peer.seen("RSET")) == (1, 0)


async def test_a_letter_costs_one_round_trip():
    """The next letter's commands are on the wire before the verdict about the last one is given."""
    waiting: list[int] = []

    def verdict(peer, _):
        waiting.append(peer.seen("MAIL"))
        return "250 ok"

    class Watching(SmtpPeer):
        async def _say(self, writer, step, line=""):
            if step == "DOT":
                await asyncio.sleep(0.05)
                reader_buffer.append(bytes(readers[0]._buffer))
            return await super()._say(writer, step, line)

        async def _serve(self, reader, writer):
            readers.append(reader)
            await super()._serve(reader, writer)

    readers, reader_buffer = [], []
    async with Watching({"DOT": verdict}) as peer, relay(peer.port) as transport:
        await send(transport, envelope("a@example.com"), envelope("b@example.com"))
    assert reader_buffer[0] == b"MAIL FROM:<news@example.org> SIZE=%d\r\nRCPT TO:<b@example.com>\r\nDATA\r\n" % len(
        BODY
    )


async def test_letters_that_need_no_stuffing_are_written_as_given():
    """A letter promised to be clean is passed on byte for byte."""
    data = b"Subject: x\r\n\r\nclean\r\n"
    peer, outcomes = await against({}, envelope(data=data, clean=True))
    assert outcomes[0].kind == "sent"
    assert peer.letters[0][2] == data


@settings(max_examples=25)
@given(st.lists(st.sampled_from([b".", b"..", b"a", b"\r\n", b"\r\n.\r\n", b"x" * 100]), max_size=30).map(b"".join))
def test_no_content_ends_a_letter_early(content):
    """Whatever dots and line ends a letter holds, it arrives whole and as one letter."""

    async def run():
        return await against(
            {}, envelope(data=b"S: x\r\n\r\n" + content + b"\r\n"), envelope(data=b"S: y\r\n\r\nsecond\r\n")
        )

    peer, _ = asyncio.run(run())
    assert [letter[2] for letter in peer.letters] == [b"S: x\r\n\r\n" + content + b"\r\n", b"S: y\r\n\r\nsecond\r\n"]


async def test_a_lone_line_feed_is_refused_here():
    """A bare LF never reaches a server, where it could end the letter for one and not for the next."""
    peer, outcomes = await against({}, envelope(data=b"S: x\r\n\r\na\n.\nMAIL FROM:<evil@example.net>\r\n"))
    assert (outcomes[0].kind, outcomes[0].enhanced, peer.letters) == ("refused", "5.6.0", [])


@pytest.mark.parametrize(
    "address", ["a@b.example>\r\nRCPT TO:<c@d.example", "a b@example.com", "nobody", "a@b\x00.example", "<a@b.example>"]
)
async def test_an_address_cannot_carry_commands(address):
    """An envelope address with line ends, blanks or brackets is refused before anything is written."""
    peer, outcomes = await against({}, envelope(address), envelope("fine@example.com"))
    assert (outcomes[0].kind, outcomes[0].bounce_class, outcomes[1].kind) == ("refused", "hard", "sent")
    assert peer.seen("RCPT") == 1


REFUSALS = [
    ("550 5.1.1 <x>: Recipient address rejected: User unknown", "refused", "hard"),
    ("550 No such user here", "refused", "hard"),
    ("550-5.1.1 The email account that you tried to reach\n550 5.1.1 does not exist", "refused", "hard"),
    ("550 5.4.1 Recipient address rejected: Access denied", "refused", "hard"),
    ("550 5.2.1 The mailbox is disabled", "refused", "hard"),
    ("552 5.2.2 Mailbox full", "refused", "soft"),
    ("550 5.1.1 mailbox is over quota", "refused", "soft"),
    ("550 5.7.1 Service unavailable; client blocked using Spamhaus", "refused", "block"),
    ("554 5.7.26 unauthenticated mail", "refused", "block"),
    ("550 5.1.8 sender domain does not exist", "refused", "block"),
    ("553 5.7.1 [BL21] Connections will not be accepted", "refused", "block"),
    ("550 no", "refused", "soft"),
    ("450 4.2.0 greylisted, try again in 5 minutes", "deferred", None),
    ("421 4.7.28 unusual rate", "deferred", None),
    ("530 5.7.0 Authentication required", "refused", "block"),
]


@pytest.mark.parametrize("ehlo", [EHLO, NO_PIPELINING], ids=["pipelining", "one by one"])
@pytest.mark.parametrize(("reply", "kind", "bounce_class"), REFUSALS)
async def test_a_refused_recipient_leaves_the_others_alone(reply, kind, bounce_class, ehlo):
    """A refusal at RCPT is this letter's alone: it gets the reply's words and class, those before and after are sent."""
    peer, outcomes = await against(
        {"EHLO": ehlo, "RCPT": lambda _, line: reply if "bad" in line else "250 ok"},
        envelope("one@example.com"),
        envelope("bad@example.com"),
        envelope("two@example.com"),
    )
    assert [outcome.kind for outcome in outcomes] == ["sent", kind, "sent"]
    assert outcomes[1].bounce_class == bounce_class
    assert outcomes[1].phase == "rcpt"
    assert outcomes[1].code == int(reply[:3])
    assert outcomes[1].reply == " ".join(line[4:] for line in reply.split("\n"))
    assert [letter[1] for letter in peer.letters] == ["one@example.com", "two@example.com"]


DENIALS = [
    "550 5.7.1 Relaying denied",
    "554 5.7.1 <bad@example.com>: Relay access denied",
    "454 4.7.1 <bad@example.com>: Relay access denied",
    "550 5.7.64 TenantAttribution; Relay Access Denied",
    "553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)",
    "550 Authentication required",
    "550 5.7.1 SMTP AUTH is required for message submission on port 587",
    "530 5.7.0 Must be authenticated",
    "554 5.7.1 <mail.example[192.0.2.1]>: Client host rejected: Access denied",
    "553 5.7.1 <news@example.org>: Sender address rejected: not logged in",
    "550 relaying requires authentication",
    "550 5.7.1 <bad@example.com>... Relaying denied. IP name lookup failed [192.0.2.1]",
    "451 4.7.1 Relaying temporarily denied",
    "550 5.7.0 Your IP address is not allowed to send mail through this server",
]


@pytest.mark.parametrize(
    ("reply", "denied"),
    [
        *((reply, True) for reply in DENIALS),
        ("550 5.1.1 <bad@example.com>: User unknown", False),
        ("550 5.4.1 Recipient address rejected: Access denied", False),
        ("552 5.2.2 Mailbox full", False),
        ("554 5.7.26 DMARC authentication required", False),
        ("450 4.7.1 Client host rejected: Greylisted", False),
        ("450 4.1.1 Recipient address rejected: unverified address", False),
        ("550 5.7.1 Recipient is not authorized to accept external mail", False),
        ("550 5.7.1 You are not allowed to send to this group", False),
        ("250 2.1.5 Relaying denied never", False),
    ],
)
async def test_a_relay_that_denies_means_us(reply, denied):
    """A relay that will not relay, or wants a login, at RCPT denies the letter: refused or deferred, a block, and no word about its reader."""
    _, outcomes = await against(
        {"RCPT": lambda _, line: reply if "bad" in line else "250 ok"},
        envelope("bad@example.com"),
        envelope("good@example.com"),
    )
    assert [outcome.denied for outcome in outcomes] == [denied, False]
    if denied:
        expected = ("deferred", None) if reply.startswith("4") else ("refused", "block")
        assert (outcomes[0].kind, outcomes[0].bounce_class) == expected
        assert outcomes[0].reason == "relay_denied"


async def test_354_after_a_refused_recipient_sends_no_content():
    """A pipelining server that asks for the content of a refused letter gets a lone dot; nothing of the letter leaves."""
    peer, outcomes = await against(
        {"RCPT": lambda _, line: "550 5.1.1 unknown" if "bad" in line else "250 ok"},
        envelope("bad@example.com"),
        envelope("good@example.com"),
        envelope("bad@example.com"),
    )
    assert [outcome.kind for outcome in outcomes] == ["refused", "sent", "refused"]
    assert peer.refused_contents == [b"", b""]
    assert [letter[1] for letter in peer.letters] == ["good@example.com"]
    assert peer.seen("RSET") == 1


@pytest.mark.parametrize(
    ("step", "reply", "kind", "bounce_class", "retry_after"),
    [
        ("DOT", "554 5.7.1 this looks like spam", "refused", "block", None),
        ("DOT", "554 rejected", "refused", "block", None),
        ("DOT", "550 5.1.1 user unknown", "refused", "hard", None),
        ("DOT", "552 5.3.4 too big", "refused", "soft", None),
        ("DOT", "451 4.3.0 try again after 90 seconds", "deferred", None, 90),
        ("DATA", "451 4.3.0 try again in 2 hours", "deferred", None, 7200),
        ("RCPT", "450 4.7.1 your message may be accepted within 4 hours", "deferred", None, None),
        ("DATA", "554 5.5.1 no", "refused", "soft", None),
        ("MAIL", "550 5.7.1 sender not allowed", "sender", "block", None),
        ("MAIL", "553 5.7.1 <x>: Sender address rejected: not owned by user shop", "sender", "block", None),
        ("MAIL", "550 5.1.8 domain does not exist", "sender", "block", None),
        ("MAIL", "550 5.7.26 unauthenticated", "sender", "block", None),
        ("MAIL", "450 4.1.8 Sender address rejected: Domain not found", "deferred", None, None),
        ("MAIL", "550 5.7.1 sender IP is on our blocklist", "relay", None, None),
        ("MAIL", "554 5.7.1 your account is suspended", "relay", None, None),
        ("MAIL", "451 4.7.0 wait for 10 minutes", "relay", None, 600),
        ("MAIL", "552 5.3.4 too big for us", "refused", "soft", None),
        ("greeting", "554 5.7.1 no service", "relay", None, None),
        ("greeting", "421 too busy", "relay", None, None),
        ("DOT", "399 what", "unknown", None, None),
    ],
)
async def test_each_step_decides_as_it_should(step, reply, kind, bounce_class, retry_after):
    """What a refusal means depends on where it comes: before the recipient it is ours, after it the letter's."""
    _, (outcome,) = await against({step: reply}, envelope())
    assert (outcome.kind, outcome.bounce_class, outcome.retry_after) == (kind, bounce_class, retry_after)
    assert (outcome.code, outcome.reply) == (int(reply[:3]), reply[4:])


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("4.7.1 Greylisting in action, please come back in 00:29:59", 1799),
        ("Greylisted, please try again in 300 seconds", 300),
        ("greylisted, try again in 4 min, 59 sec", 299),
        ("try again in 1 hour and 30 minutes", 5400),
        ("try again in about 10 minutes", 600),
        ("4.3.0 Milter timeout after 30 s", None),
        ("4.4.2 timed out after 5 seconds", None),
        ("4.3.0 no answer for 60 seconds from the scanner", None),
    ],
)
def test_a_pause_is_what_they_ask_for(text, seconds):
    """Hours and minutes are read in the forms in use; how long something took before it failed asks for no pause."""
    assert wait_seconds(text) == seconds


CODES = (421, 451, 452, 550, 554)
AT_EACH_STEP = [
    ("greeting", ["relay"] * 5),
    ("EHLO", ["relay", "relay", "relay", "sent", "relay"]),  # 550: it is asked again with HELO
    ("STARTTLS", ["relay"] * 5),
    ("AUTH", ["relay"] * 5),
    ("MAIL", ["relay"] * 5),
    ("RCPT", ["deferred", "deferred", "deferred", "refused", "refused"]),
    ("DATA", ["deferred", "deferred", "deferred", "refused", "refused"]),
    ("DOT", ["deferred", "deferred", "deferred", "refused", "refused"]),
    ("QUIT", ["sent"] * 5),
]


@pytest.mark.parametrize("ehlo", [EHLO, NO_PIPELINING], ids=["pipelining", "one by one"])
@pytest.mark.parametrize(("step", "kinds"), AT_EACH_STEP, ids=[step for step, _ in AT_EACH_STEP])
async def test_each_refusal_at_each_step_leaves_each_letter_one_outcome(step, kinds, ehlo):
    """421, 451, 452, 550, 554, without any enhanced code: every letter has one outcome, and what is said of it is what arrived."""
    more = {"STARTTLS": {"tls": "starttls"}, "AUTH": {"user": "shop", "password": "secret"}}.get(step, {})
    offered = ehlo.replace("\n", "\n250-AUTH PLAIN\n250-STARTTLS\n", 1) if more else ehlo
    for code, kind in zip(CODES, kinds, strict=True):
        letters = [envelope(f"u{n}@example.com") for n in range(3)]
        peer, outcomes = await against({"EHLO": offered, step: f"{code} no"}, *letters, **more)
        assert {outcome.kind for outcome in outcomes} == {kind}, code
        assert [to for _, to, content in peer.letters if content] == (
            [one.rcpt_to for one in letters] if kind == "sent" else []
        )


async def test_a_server_that_takes_less_in_its_next_session_is_believed():
    """SIZE is what the present session says: a letter that the last one would have taken is refused here, the small ones go on."""
    sizes = itertools.chain([20_000], itertools.repeat(100))
    answers = {"EHLO": lambda *_: f"250-peer\n250-PIPELINING\n250 SIZE {next(sizes)}"}
    big = b"Subject: x\r\n\r\n" + b"y" * 200 + b"\r\n"
    async with SmtpPeer(answers) as peer, relay(peer.port, letters_per_connection=1) as transport:
        first = await send(transport, envelope(data=big))
        rest = await send(transport, envelope(data=big), envelope())
    assert [outcome.kind for outcome in (*first, *rest)] == ["sent", "refused", "sent"]
    assert rest[0].enhanced == "5.3.4"


async def test_ehlo_refused_falls_back_to_helo():
    """A server from before ESMTP still gets its letters, one command at a time."""
    peer, outcomes = await against({"EHLO": "502 what"}, envelope("a@example.com"), envelope("b@example.com"))
    assert [outcome.kind for outcome in outcomes] == ["sent", "sent"]
    assert peer.lines[:2] == ["EHLO mail.example.org", "HELO mail.example.org"]
    assert peer.lines[2] == "MAIL FROM:<news@example.org>"


BEFORE = ["greeting", "EHLO", "MAIL", "RCPT", "DATA"]


@pytest.mark.parametrize("step", BEFORE)
@pytest.mark.parametrize(
    "answer",
    [
        DROP,
        SILENCE,
        b"\x00\xff garbage\r\n",
        b"x" * 10_000,
        b"250-a\r\n550 b\r\n",
        b"250-x\r\n" * 500,
        "421 4.3.2 bye",
        b"\r\n",
        b"999 no\r\n",
    ],
    ids=[
        "drop",
        "silence",
        "garbage",
        "endless line",
        "two codes",
        "endless reply",
        "421",
        "empty line",
        "unknown code",
    ],
)
async def test_nothing_is_lost_before_the_content(step, answer):
    """Whatever goes wrong before the content, the letter may be sent again, and the reason is said."""
    _, (outcome,) = await against({step: answer}, envelope())
    assert outcome.kind in (
        {"deferred"} if answer == "421 4.3.2 bye" and step in {"RCPT", "DATA"} else {"relay", "not_sent"}
    )
    assert outcome.reply
    assert outcome.bounce_class is None


@pytest.mark.parametrize(
    "answer",
    [DROP, SILENCE, b"\x00\xff garbage\r\n", b"x" * 10_000, b"250-x\r\n" * 500],
    ids=["drop", "silence", "garbage", "endless line", "endless reply"],
)
async def test_a_letter_without_a_verdict_is_unknown(answer):
    """After the final dot and without a reply nobody can tell, and that letter alone is in doubt."""
    first = itertools.count()
    peer, outcomes = await against(
        {"DOT": lambda *_: answer if next(first) == 1 else "250 ok"},
        envelope("a@example.com"),
        envelope("b@example.com"),
        envelope("c@example.com"),
    )
    assert [outcome.kind for outcome in outcomes] == ["sent", "unknown", "sent"]
    assert outcomes[1].reply
    assert [letter[1] for letter in peer.letters if letter[1] != "b@example.com"] == ["a@example.com", "c@example.com"]


async def test_421_after_the_content_is_a_refusal_for_now():
    """A 421 as the verdict defers that letter; the next goes over a new connection."""
    first = itertools.count()
    peer, outcomes = await against(
        {"DOT": lambda *_: "421 4.3.2 closing" if next(first) == 0 else "250 ok"}, envelope(), envelope()
    )
    assert [outcome.kind for outcome in outcomes] == ["deferred", "sent"]
    assert peer.connections == 2


async def test_a_large_letter_dropped_half_way_was_not_sent():
    """The end of a large letter is held back until the rest has left, so a drop in its middle leaves no doubt."""
    big = envelope(data=b"Subject: big\r\n\r\n" + b"x" * 70 + b"\r\n" * 1 + (b"y" * 70 + b"\r\n") * 200_000)
    _, (outcome,) = await against({"content": DROP}, big)
    assert (outcome.kind, outcome.phase) == ("not_sent", "content")


async def test_a_large_letter_arrives_whole():
    """Ten megabytes arrive unchanged, and the letter behind them too."""
    data = b"Subject: big\r\n\r\n" + (b"y" * 70 + b"\r\n") * 140_000
    peer, outcomes = await against({}, envelope(data=data, clean=True), envelope("b@example.com"), timeouts=PATIENT)
    assert [outcome.kind for outcome in outcomes] == ["sent", "sent"]
    assert [len(letter[2]) for letter in peer.letters] == [len(data), len(BODY)]


async def test_a_server_that_takes_few_letters_a_session_gets_them_all():
    """421 at MAIL after some letters, or a plain close, costs a new connection and no letter."""
    for answer in ("421 4.7.0 too many messages in this session", DROP):
        mails: Counter[int] = Counter()

        def mail(peer, _, mails=mails, answer=answer):
            mails[peer.connections] += 1
            return answer if mails[peer.connections] > 3 else "250 ok"

        letters = [envelope(f"u{n}@example.com") for n in range(12)]
        peer, outcomes = await against({"MAIL": mail}, *letters)
        assert {outcome.kind for outcome in outcomes} == {"sent"}
        assert sorted(letter[1] for letter in peer.letters) == sorted(letter.rcpt_to for letter in letters)
        assert peer.connections == 4


async def test_our_own_limit_of_letters_a_connection_is_kept():
    """A connection says QUIT after its share of letters, and another one goes on."""
    async with SmtpPeer() as peer, relay(peer.port, letters_per_connection=4) as transport:
        outcomes = await send(transport, *[envelope() for _ in range(10)])
        assert {outcome.kind for outcome in outcomes} == {"sent"}
    assert peer.connections == 3
    assert peer.seen("QUIT") == 3


async def test_the_pool_opens_lazily_and_stays_within_its_bound():
    """One letter opens one connection, many letters at most ``connections``; a second batch opens none."""
    async with SmtpPeer({"DOT": "250 ok"}) as peer, relay(peer.port, connections=3) as transport:
        await send(transport, envelope())
        assert peer.connections == 1
        await asyncio.gather(*[send(transport, *[envelope() for _ in range(40)]) for _ in range(4)])
        assert peer.most_open <= 3
        opened = peer.connections
        await send(transport, *[envelope() for _ in range(5)])
        assert peer.connections == opened
        assert len(peer.letters) == 166


async def test_a_slow_relay_is_kept_full_and_a_troubled_one_is_not():
    """Connections rise to the limit while a slow server takes letters, and fall when it refuses more of them."""

    class Slow(SmtpPeer):
        async def _say(self, writer, step, line=""):
            if step == "DOT":
                await asyncio.sleep(0.01)
            return await super()._say(writer, step, line)

    async with Slow() as peer, relay(peer.port, connections=6, timeouts=PATIENT) as transport:
        await send(transport, *[envelope() for _ in range(300)])
        assert peer.most_open == 6
        assert transport._concurrency.allowed == 6
    greetings = {"greeting": lambda peer, _: "220 hi" if peer.open <= 2 else "421 4.7.0 too many connections"}
    async with Slow(greetings) as peer, relay(peer.port, connections=6, timeouts=PATIENT) as transport:
        outcomes = await send(transport, *[envelope() for _ in range(100)])
        assert {outcome.kind for outcome in outcomes} == {"sent"}
        assert transport._concurrency.allowed <= 3


async def test_an_idle_connection_says_goodbye():
    """After its idle time a connection is closed with QUIT; the next letter opens a new one."""
    idle = Timeouts(idle=0.05, quit=0.5)
    async with SmtpPeer() as peer, relay(peer.port, timeouts=idle) as transport:
        await send(transport, envelope())
        await until(lambda: not peer.open)
        assert (peer.open, peer.seen("QUIT")) == (0, 1)
        assert (await send(transport, envelope()))[0].kind == "sent"
        assert peer.connections == 2


async def test_a_connection_closed_while_idle_costs_no_letter():
    """A server that closes idle sessions is reconnected without anybody noticing."""
    async with SmtpPeer() as peer, relay(peer.port) as transport:
        await send(transport, envelope())
        for writer in list(peer._writers):
            writer.write(b"421 4.4.2 idle for too long\r\n")
            writer.close()
        assert (await send(transport, envelope()))[0].kind == "sent"


async def test_a_dead_relay_answers_for_all_waiting_letters():
    """Nobody there: every letter comes back as the relay's fault, with the reason in words, and at once."""
    async with SmtpPeer() as peer:
        port = peer.port
    async with relay(port, connections=5) as transport:
        outcomes = await send(transport, *[envelope() for _ in range(100)])
    assert {(outcome.kind, outcome.phase) for outcome in outcomes} == {("relay", "connect")}
    assert f"cannot connect to 127.0.0.1:{port}" in outcomes[0].reply


async def test_a_relay_that_comes_back_is_used_again():
    """A refusal at the greeting is not remembered: the next batch tries anew."""
    greetings = iter(["421 not yet", "220 now"])
    async with SmtpPeer({"greeting": lambda *_: next(greetings)}) as peer, relay(peer.port) as transport:
        assert (await send(transport, envelope()))[0].kind == "relay"
        assert (await send(transport, envelope()))[0].kind == "sent"


async def test_one_connection_refused_while_another_works_is_no_trouble():
    """A server that allows one session only gets all letters through that one."""
    answers = {"greeting": lambda peer, _: "220 hi" if peer.connections == 1 else "421 4.7.0 too many connections"}
    async with SmtpPeer(answers) as peer, relay(peer.port, connections=4) as transport:
        outcomes = await send(transport, *[envelope() for _ in range(30)])
    assert {outcome.kind for outcome in outcomes} == {"sent"}


async def test_an_address_beyond_ascii_needs_smtputf8():
    """With SMTPUTF8 the address goes out as it is; without it the letter is refused for good, in words."""
    peer, outcomes = await against({}, envelope("пётр@example.com"))
    assert outcomes[0].kind == "sent"
    assert peer.lines[1].endswith(" SMTPUTF8")
    _, outcomes = await against({"EHLO": "250-peer\n250 PIPELINING"}, envelope("пётр@example.com"))
    assert (outcomes[0].kind, outcomes[0].bounce_class) == ("refused", "hard")
    assert outcomes[0].reply.startswith("smtputf8_unsupported")


async def test_eight_bit_content_is_announced():
    """Raw 8-bit content says BODY=8BITMIME, and is refused here when the server takes seven bits only."""
    data = "Subject: x\r\n\r\nПривет\r\n".encode()
    peer, outcomes = await against({}, envelope(data=data))
    assert outcomes[0].kind == "sent"
    assert "BODY=8BITMIME" in peer.lines[1]
    _, outcomes = await against({"EHLO": "250-peer\n250 PIPELINING"}, envelope(data=data))
    assert (outcomes[0].kind, outcomes[0].enhanced) == ("refused", "5.6.3")


async def test_a_letter_above_the_servers_size_is_not_offered():
    """SIZE is believed: too large a letter is refused here, the next one is sent."""
    peer, outcomes = await against(
        {"EHLO": "250-peer\n250-PIPELINING\n250 SIZE 100"}, envelope(data=b"x" * 200 + b"\r\n"), envelope()
    )
    assert (outcomes[0].kind, outcomes[0].enhanced, outcomes[0].bounce_class) == ("refused", "5.3.4", "soft")
    assert outcomes[1].kind == "sent"
    assert peer.lines[1] == f"MAIL FROM:<news@example.org> SIZE={len(BODY)}"


async def test_a_cancelled_batch_leaves_no_letter_without_an_outcome():
    """Letters that waited come back as not sent; the one on the wire gets the server's verdict."""
    gate = asyncio.Event()

    class Slow(SmtpPeer):
        async def _say(self, writer, step, line=""):
            if step == "DOT":
                await gate.wait()
            return await super()._say(writer, step, line)

    outcomes: list[Outcome] = []
    async with Slow() as peer, relay(peer.port, timeouts=PATIENT) as transport:
        task = asyncio.create_task(transport.hand_over([envelope() for _ in range(5)], outcomes.append))  # noqa: RUF006  (awaited below)
        await until(lambda: peer.seen("DATA"))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        gate.set()
        await until(lambda: len(outcomes) == 5)
    kinds = Counter(outcome.kind for outcome in outcomes)
    assert kinds["not_sent"] >= 3
    assert kinds["sent"] == len(peer.letters) == 5 - kinds["not_sent"]


async def test_letters_that_wait_for_a_silent_server_are_given_back():
    """A server that takes connections and says nothing has no letter: they go back to the queue as if never tried, long before the silence ends."""
    for step in ("greeting", "MAIL"):
        patient = Timeouts(hold=0.05, quit=0.1)
        async with SmtpPeer({step: SILENCE}) as peer, relay(peer.port, connections=2, timeouts=patient) as transport:
            outcomes: list[Outcome] = []
            task = asyncio.create_task(transport.hand_over([envelope() for _ in range(10)], outcomes.append))  # noqa: RUF006  (awaited below)
            await until(lambda outcomes=outcomes: len(outcomes) >= 8)
            assert {(outcome.kind, outcome.free) for outcome in outcomes} == {("not_sent", True)}
            assert transport._concurrency.allowed == 2
            await transport.close()
            await task


async def test_a_letter_behind_a_silent_verdict_goes_over_another_connection():
    """Its commands have left, its content has not: the next letter does not wait for the verdict about the one before it."""
    first = itertools.count()
    answers = {"DOT": lambda *_: SILENCE if next(first) == 0 else "250 ok"}
    patient = Timeouts(hold=0.05, quit=0.1)
    async with SmtpPeer(answers) as peer, relay(peer.port, connections=2, timeouts=patient) as transport:
        outcomes: list[Outcome] = []
        letters = [envelope(f"u{n}@example.com") for n in range(3)]
        task = asyncio.create_task(transport.hand_over(letters, outcomes.append))
        await until(lambda: len(outcomes) == 2)
        assert {outcome.kind for outcome in outcomes} <= {"sent", "not_sent"}
        await transport.close()
        await task
    assert Counter(outcome.kind for outcome in outcomes)["unknown"] == 1
    assert len(peer.letters) == sum(outcome.kind == "sent" for outcome in outcomes)


async def test_what_followed_a_slow_verdict_arrives_once():
    """A verdict that comes late after all counts; the letter whose commands had travelled behind it arrives once, as do all others."""
    gate = asyncio.Event()

    class Slow(SmtpPeer):
        async def _say(self, writer, step, line=""):
            if step == "DOT":
                await gate.wait()
            return await super()._say(writer, step, line)

    patient = Timeouts(hold=0.05, quit=0.5)
    async with Slow() as peer, relay(peer.port, connections=1, timeouts=patient) as transport:
        outcomes: list[Outcome] = []
        letters = [envelope(f"u{n}@example.com") for n in range(4)]
        task = asyncio.create_task(transport.hand_over(letters, outcomes.append))
        await until(lambda: len(outcomes) == 3)
        gate.set()
        await task
        assert transport.slow
        assert (await send(transport, envelope("last@example.com")))[0].kind == "sent"
    assert Counter(outcome.kind for outcome in outcomes) == {"sent": 1, "not_sent": 3}
    assert [letter[1] for letter in peer.letters] == ["u0@example.com", "last@example.com"]


async def test_closing_ends_every_letter():
    """close() in the middle of a silent server gives every letter its outcome."""
    async with SmtpPeer({"DOT": SILENCE}) as peer, relay(peer.port, timeouts=Timeouts(quit=0.1)) as transport:
        outcomes: list[Outcome] = []
        task = asyncio.create_task(transport.hand_over([envelope() for _ in range(4)], outcomes.append))  # noqa: RUF006  (awaited below)
        await until(lambda: peer.seen("DATA"))
        await transport.close()
        await task
    assert Counter(outcome.kind for outcome in outcomes)["unknown"] == 1
    assert {outcome.kind for outcome in outcomes} <= {"unknown", "relay", "not_sent"}


async def test_a_mistake_of_the_caller_reaches_the_caller():
    """An exception in the outcome's receiver is raised to whoever handed over, and the connection goes on."""

    def broken(_):
        raise LookupError("mine")

    async with SmtpPeer() as peer, relay(peer.port) as transport:
        with pytest.raises(LookupError, match="mine"):
            await transport.hand_over([envelope(), envelope()], broken)
        assert (await send(transport, envelope()))[0].kind == "sent"
        assert peer.connections == 1


# TLS and AUTH


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


@pytest.fixture
def server_tls(authority):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context


@pytest.fixture
def client_tls(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


TLS_EHLO = "250-peer.example\n250-PIPELINING\n250-STARTTLS\n250 AUTH PLAIN LOGIN"


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
async def test_letters_go_out_over_verified_tls(tls, server_tls, client_tls):
    """With a certificate that verifies, letters of any size go out, and the login travels inside TLS only."""
    big = b"Subject: big\r\n\r\n" + (b"y" * 70 + b"\r\n") * 20_000
    async with (
        SmtpPeer({"EHLO": TLS_EHLO}, context=server_tls, implicit=tls == "implicit") as peer,
        relay(
            peer.port, host="localhost", tls=tls, context=client_tls, user="shop", password="p:ss", timeouts=PATIENT
        ) as transport,
    ):
        outcomes = await send(transport, envelope(), envelope(data=big), envelope())
    assert [outcome.kind for outcome in outcomes] == ["sent"] * 3
    assert [len(letter[2]) for letter in peer.letters] == [len(BODY), len(big), len(BODY)]
    login = peer.lines.index("AUTH PLAIN " + base64.b64encode(b"\0shop\0p:ss").decode())
    assert login > (peer.lines.index("STARTTLS") if tls == "starttls" else -1)
    assert peer.seen("EHLO") == (2 if tls == "starttls" else 1)


@pytest.mark.parametrize("tls", ["starttls", "implicit"])
@pytest.mark.parametrize("fault", ["unknown authority", "other name"])
async def test_a_certificate_that_does_not_verify_stops_the_relay(tls, fault, server_tls, client_tls):
    """An unknown authority or another host's name: no letter, no login, and the reason in words."""
    async with (
        SmtpPeer({"EHLO": TLS_EHLO}, context=server_tls, implicit=tls == "implicit") as peer,
        relay(
            peer.port,
            host="localhost" if fault == "unknown authority" else "127.0.0.1",
            tls=tls,
            context=None if fault == "unknown authority" else client_tls,
            user="shop",
            password="secret",
        ) as transport,
    ):
        outcomes = await send(transport, envelope())
    assert (outcomes[0].kind, peer.seen("AUTH"), peer.letters) == ("relay", 0, [])
    assert "certificate" in outcomes[0].reply


async def test_no_tls_offered_means_no_letter():
    """With tls=starttls a server that hides STARTTLS gets neither login nor letter."""
    peer, outcomes = await against(
        {"EHLO": "250-peer\n250 AUTH PLAIN"}, envelope(), tls="starttls", user="shop", password="secret"
    )
    assert (outcomes[0].kind, outcomes[0].phase) == ("relay", "starttls")
    assert (peer.seen("AUTH"), peer.seen("MAIL")) == (0, 0)


@pytest.mark.parametrize("injected", [b"220 go\r\n250 injected\r\n", b"220 go\r\n250 half", b"220 go\r\n250-a\r\n"])
async def test_words_smuggled_in_before_tls_are_never_read(injected, server_tls, client_tls):
    """What follows the 220 of STARTTLS in clear text ends the session."""
    async with (
        SmtpPeer({"EHLO": TLS_EHLO, "STARTTLS": injected}, context=server_tls) as peer,
        relay(peer.port, host="localhost", tls="starttls", context=client_tls) as transport,
    ):
        outcomes = await send(transport, envelope())
    assert (outcomes[0].kind, outcomes[0].phase, peer.letters) == ("relay", "starttls", [])
    assert "before TLS" in outcomes[0].reply


async def test_login_falls_back_to_auth_login():
    """A server that knows LOGIN only is logged in to with LOGIN."""
    peer, outcomes = await against({"EHLO": "250-peer\n250 AUTH LOGIN"}, envelope(), user="shop", password="secret")
    assert outcomes[0].kind == "sent"
    assert peer.lines[1:4] == ["AUTH LOGIN", base64.b64encode(b"shop").decode(), base64.b64encode(b"secret").decode()]


@pytest.mark.parametrize(
    ("ehlo", "auth", "words"),
    [
        ("250-peer\n250 AUTH PLAIN", "535 5.7.8 bad credentials", "bad credentials"),
        ("250-peer\n250 AUTH CRAM-MD5", "235 ok", "CRAM-MD5"),
        ("250 peer", "235 ok", "none"),
    ],
)
async def test_a_login_that_fails_stops_the_relay(ehlo, auth, words):
    """A refused or impossible login sends nothing, says why, and never repeats the password."""
    peer, outcomes = await against({"EHLO": ehlo, "AUTH": auth}, envelope(), user="shop", password="hunter2")
    assert (outcomes[0].kind, outcomes[0].phase, peer.seen("MAIL")) == ("relay", "auth", 0)
    assert words in outcomes[0].reply
    assert "hunter2" not in outcomes[0].reply


# Servers that are not ours


async def test_aiosmtpd_takes_our_letters(server_tls, client_tls):
    """aiosmtpd, which does not pipeline and requires STARTTLS, receives letters in order."""

    class Keep:
        def __init__(self):
            self.got = []

        async def handle_DATA(self, _server, _session, received):  # noqa: N802
            self.got.append((received.mail_from, received.rcpt_tos, received.content))
            return "250 2.0.0 kept"

    keep = Keep()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: SMTP(
            keep, hostname="127.0.0.1", tls_context=server_tls, require_starttls=True, enable_SMTPUTF8=True, loop=loop
        ),
        "127.0.0.1",
        0,
    )
    port = server.sockets[0].getsockname()[1]
    async with server, relay(port, host="localhost", tls="starttls", context=client_tls, timeouts=PATIENT) as transport:
        outcomes = await send(transport, *[envelope(f"u{n}@example.com") for n in range(5)])
    assert {outcome.kind for outcome in outcomes} == {"sent"}
    assert keep.got == [("news@example.org", [f"u{n}@example.com"], BODY) for n in range(5)]


@contextlib.asynccontextmanager
async def smtp_sink(*options: str):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sink = await asyncio.create_subprocess_exec(
        "/usr/sbin/smtp-sink",
        "-u",
        "nobody",
        *options,
        f"127.0.0.1:{port}",
        "128",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(10):
            while True:
                try:
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                except OSError:
                    await asyncio.sleep(0.02)
                else:
                    writer.close()
                    await writer.wait_closed()
                    break
        yield port, sink
    finally:
        with contextlib.suppress(ProcessLookupError):
            sink.kill()
        await sink.communicate()


@pytest.mark.mailtools
async def test_postfix_sink_takes_two_thousand_letters():
    """Postfix's smtp-sink takes 2,000 letters over five connections, each with one outcome."""
    async with (
        smtp_sink() as (port, _),
        relay(port, connections=5, timeouts=PATIENT, letters_per_connection=50) as transport,
    ):
        outcomes = await send(transport, *[envelope(f"u{n}@example.com") for n in range(2000)])
    assert Counter(outcome.kind for outcome in outcomes) == {"sent": 2000}


@pytest.mark.mailtools
@pytest.mark.parametrize(
    ("options", "kind"),
    [
        (["-f", "MAIL"], "relay"),
        (["-r", "RCPT"], "deferred"),
        (["-f", "RCPT"], "refused"),
        (["-f", "DATA"], "refused"),
        (["-f", "."], "refused"),
        (["-r", "."], "deferred"),
        (["-q", "MAIL"], "relay"),
        (["-q", "RCPT"], "not_sent"),
        (["-q", "DATA"], "not_sent"),
        (["-q", "."], "unknown"),
        (["-f", "EHLO"], "sent"),
        (["-p"], "sent"),
    ],
)
async def test_postfix_sink_misbehaving(options, kind):
    """smtp-sink told to refuse (-f, -r) or hang up (-q) at a step gives every letter the outcome of that step."""
    async with smtp_sink(*options) as (port, _), relay(port, timeouts=PATIENT) as transport:
        outcomes = await send(transport, *[envelope() for _ in range(3)])
    assert {outcome.kind for outcome in outcomes} == {kind}
