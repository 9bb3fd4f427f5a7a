"""One SMTP connection that hands letters over as fast as the server answers.

    idle ─▶ MAIL ─▶ RCPT ─▶ DATA ─▶ content ─▶ (next letter: MAIL …)          each arrow is one reply
                             └─ 354 although the letter was refused ─▶ lone dot ─▶ RSET, next letter

With PIPELINING (RFC 2920) MAIL, RCPT and DATA travel together, and the next letter's travel behind the content of the one
before, so a letter costs one round trip. Each letter has exactly one outcome, at the reply that decides it. The end of the
content is the line between ``not_sent`` and ``unknown``; for large letters it is written only once the rest has left.
"""

from enum import IntEnum
from typing import Protocol

from mailbase.sending.outcomes import STALE, Envelope, Kind, Outcome, Phase, stale
from mailbase.sending.smtp.commands import flight, mail, rcpt, stuffed, unfit
from mailbase.sending.smtp.replies import Reply, outcome
from mailbase.sending.smtp.session import Extensions, SessionError, Timeouts
from mailbase.sending.smtp.wire import Wire

LARGE = 131_072  # bytes; from here on the dot waits until the content has left our buffer


class Step(IntEnum):
    """Which reply is awaited."""

    MAIL = 0
    RCPT = 1
    DATA = 2
    CONTENT = 3
    LONE_DOT = 4
    RSET = 5
    IDLE = 6
    QUIT = 7


MAIL, RCPT, DATA, CONTENT, LONE_DOT, RSET, IDLE, QUIT = Step
_PHASES: tuple[Phase, ...] = ("mail", "rcpt", "data", "content", "data", "mail", "mail", "mail")


class Batch(Protocol):
    """Whom to tell."""

    def report(self, outcome: Outcome) -> None:
        """Take one letter's outcome."""


class Job:
    """One letter on its way, and whom to tell."""

    __slots__ = ("batch", "envelope", "retried", "since")

    def __init__(self, envelope: Envelope, batch: Batch, since: float = 0.0) -> None:
        self.envelope = envelope
        self.batch = batch
        self.since = since
        self.retried = False

    def end(self, kind: Kind, phase: Phase, why: str) -> None:
        """Report an end that no reply made."""
        self.batch.report(Outcome(self.envelope.delivery_id, kind, 0, None, why, phase))


class Owner(Protocol):
    """The pool a connection belongs to."""

    slow: bool
    """Whether the server takes its time over a letter: the next one's commands do not travel ahead then."""

    def take(self) -> Job | None:
        """Return the next letter, if any waits."""

    def put_back(self, job: Job) -> None:
        """Take back a letter of which the server saw nothing that counts."""

    def rest(self, connection: "Connection") -> None:
        """Note that the connection has nothing to do."""

    def leave(self, connection: "Connection") -> None:
        """Note that the connection takes no more letters."""

    def gone(self, connection: "Connection", trouble: SessionError | None) -> None:
        """Forget a connection; ``trouble`` is set when it ended before it decided about any letter."""


class Connection(Wire):
    """See the module's docstring. Made by the pool, driven by the server's replies."""

    def __init__(self, owner: Owner, timeouts: Timeouts, most_letters: int) -> None:
        super().__init__()
        self._owner = owner
        self._left = most_letters
        self._patiences = (
            timeouts.mail,
            timeouts.rcpt,
            timeouts.data,
            timeouts.content,
            timeouts.data,
            timeouts.mail,
            timeouts.idle,
            timeouts.quit,
        )
        self._hold = timeouts.hold
        self._offers = Extensions()
        self._step = IDLE
        self._job: Job | None = None  # its commands were sent
        self._refusal: Outcome | None = None  # … and refused; the replies to the rest of them are still to come
        self._content: Job | None = None  # its content was sent
        self._end_waits = False  # … but for the dot
        self._carried = False
        self._dirty = False
        self._full = False
        self._spoilt = False  # commands were sent for a letter that went another way
        self._asked_at = 0.0
        self._trouble: SessionError | None = None

    # The pool's side.

    def ready(self, offers: Extensions) -> None:
        """Begin to take letters.

        Raises:
            SessionError: the server closed or said more than it was asked.

        """
        if self._lost or not self._replies.empty():
            raise SessionError("ehlo", self._why or "the server spoke out of turn")
        self._starting = False
        self._offers = offers
        self.wake()

    @property
    def leaving(self) -> bool:
        """Whether the connection takes no more letters."""
        return self._step == QUIT or self._why is not None

    @property
    def carried(self) -> bool:
        """Whether the server has decided about at least one letter here."""
        return self._carried

    def wake(self) -> None:
        """Take a letter if there is nothing to do."""
        if self._step == IDLE:
            self._next()

    def leave(self) -> None:
        """Say goodbye if idle."""
        if self._step == IDLE and not self.leaving:
            self._quit()

    def abort(self) -> None:
        """Drop the connection now; letters in hand get their outcome."""
        self._break("the connection was dropped on our side")

    # What the wire reports.

    def _on_reply(self, reply: Reply) -> None:
        job, step = self._job, self._step
        if step == CONTENT:
            self._on_verdict(reply)
        elif step == QUIT or job is None:
            # Nobody asked: 421 says that the server closes (RFC 5321 § 3.8); so does the answer to QUIT.
            self._break(f"the server closed the session: {reply.shown}")
        elif step == RSET:
            self._go(MAIL, mail(job.envelope, self._offers))
        elif step == MAIL:
            self._on_mail_reply(job, reply)
        elif step == RCPT:
            if not reply.good and self._refusal is None:
                self._refusal = outcome(job.envelope, reply, "rcpt")
            self._after(job, reply, DATA, b"DATA\r\n")
        elif step == DATA:
            self._on_data_reply(job, reply)
        else:
            self._refuse(job, reply.code)

    def _on_lost(self, why: str) -> None:
        phase = _PHASES[self._step]
        trouble = self._trouble
        if not self._carried and self._content is None and self._step in {MAIL, RSET}:
            trouble = SessionError(phase, why)
        content, self._content = self._content, None
        job, self._job = self._job, None
        if content is not None:
            content.end("not_sent" if self._end_waits else "unknown", "content", why)
            phase = "mail"
        if job is None:
            pass
        elif self._refusal is not None:
            job.batch.report(self._refusal)
        elif not job.retried and (self._carried or content is not None):
            job.retried = True
            self._owner.put_back(job)
        else:
            job.end("not_sent" if trouble is None else "relay", phase, why)
        self._owner.gone(self, trouble)

    def _patience(self) -> float:
        return self._hold if self._step == CONTENT and self._job is not None else self._patiences[self._step]

    def _follows(self) -> bool:
        """Whether a letter waits behind another one's verdict."""
        return self._step == CONTENT and self._job is not None

    def _on_silence(self) -> None:
        if self._step == IDLE:
            self._quit()
        elif self._follows() and self._job is not None:
            # Nothing of it has left but its commands, which cannot be taken back: the verdict is the last word here.
            job, self._job, self._spoilt = self._job, None, True
            self._owner.slow = True
            self._owner.put_back(job)
            self._owner.leave(self)
            self._arm()
        else:
            self._break(f"no answer within {self._patience():g} seconds")

    def pause_writing(self) -> None:
        self._full = True

    def resume_writing(self) -> None:
        self._full = False
        if self._end_waits:
            self._write_end()

    # The conversation about letters.

    def _go(self, step: Step, command: bytes) -> None:
        """Await the next reply; its command is already on the way where the server takes several together."""
        self._step = step
        if not self._offers.pipelining:
            self._write(command)
        self._arm()

    def _on_mail_reply(self, job: Job, reply: Reply) -> None:
        if reply.code == 421 and self._carried and not job.retried:
            # Enough letters for one session: this one goes through another.
            job.retried, self._job = True, None
            self._owner.put_back(job)
            self._break(f"the server closed the session: {reply.shown}")
            return
        if not reply.good:
            self._refusal = outcome(job.envelope, reply, "mail")
        self._after(job, reply, RCPT, rcpt(job.envelope))

    def _after(self, job: Job, reply: Reply, step: Step, command: bytes) -> None:
        """Go on to the letter's next command; a refusal ends it at once where the rest was not sent yet."""
        if reply.code == 421 or (self._refusal is not None and not self._offers.pipelining):
            self._refuse(job, reply.code)
        else:
            self._go(step, command)

    def _on_data_reply(self, job: Job, reply: Reply) -> None:
        if reply.code != 354:
            self._refusal = self._refusal or outcome(job.envelope, reply, "data")
            self._refuse(job, reply.code)
        elif self._refusal is None:
            self._write_content(job)
        else:
            # Refused, yet asked for the content: an empty one ends the transaction (RFC 2920 § 3.1).
            self._step = LONE_DOT
            self._write(b".\r\n")
            self._arm()

    def _refuse(self, job: Job, code: int) -> None:
        """Report the refusal of the letter in hand and go on with the next, on a clean slate."""
        refusal, self._refusal, self._job = self._refusal, None, None
        self._dirty = True
        if refusal is not None:
            if refusal.kind != "relay":
                self._carried = True
            elif code == 421 and not self._carried:
                self._trouble = SessionError(refusal.phase, refusal.reply, code)
            job.batch.report(refusal)
        self._step = IDLE
        if code == 421:
            self._break("the server closed the session")
        else:
            self._next()

    def _on_verdict(self, reply: Reply) -> None:
        job = self._content
        if job is None or self._end_waits:
            self._break(f"the server answered before the letter's end: {reply.shown}")
            return
        self._content = None
        self._carried = True
        self._owner.slow = self._loop.time() - self._asked_at > self._hold / 2
        job.batch.report(outcome(job.envelope, reply, "content"))
        self._step = IDLE if self._job is None else MAIL
        if reply.code == 421:
            self._break(f"the server closed the session: {reply.shown}")
        elif self._spoilt:
            self._break("it was asked about a letter that went another way")
        elif self._job is None:
            self._next()
        else:
            self._arm()

    def _next(self) -> None:
        """Start the next letter, or rest."""
        if self._why is not None:
            return
        job = self._take()
        if job is None:
            self._step = IDLE
            if self._left > 0:
                self._arm()
                self._owner.rest(self)
            else:
                self._quit()
            return
        self._job = job
        offers = self._offers
        reset, self._dirty = self._dirty, False
        self._step = RSET if reset else MAIL
        start = b"RSET\r\n" if reset else b""
        if offers.pipelining:
            self._write(start + flight(job.envelope, offers))
        else:
            self._write(start or mail(job.envelope, offers))
        self._arm()

    def _take(self) -> Job | None:
        while self._left > 0 and (job := self._owner.take()) is not None:
            refusal = unfit(job.envelope, self._offers)
            if refusal is None:
                self._left -= 1
                return job
            job.batch.report(refusal)
        return None

    def _write_content(self, job: Job) -> None:
        if not job.envelope.ours():
            self._job = None
            self._step = IDLE
            job.batch.report(stale(job.envelope))
            self._break(STALE)
            return
        content = stuffed(job.envelope)
        self._content, self._job = job, None
        self._step = CONTENT
        if sum(map(len, content)) < LARGE:
            self._write_end(content)
            return
        self._end_waits = True
        self._write(*content)
        if self._full:
            self._arm()
        else:
            self._write_end()

    def _write_end(self, content: tuple[bytes, ...] = ()) -> None:
        """Write the dot and, in the same flight, the next letter's commands."""
        if self._end_waits and self._content is not None and not self._content.envelope.ours():
            self._break(STALE)
            return
        self._end_waits = False
        if self._content is not None:
            self._content.envelope.begin()
        self._asked_at = self._loop.time()
        if self._offers.pipelining and not self._owner.slow and (following := self._take()) is not None:
            self._job = following
            self._write(*content, b".\r\n" + flight(following.envelope, self._offers))
        else:
            self._write(*content, b".\r\n")
        self._arm()

    def _quit(self) -> None:
        self._step = QUIT
        self._write(b"QUIT\r\n")
        self._arm()
        self._owner.leave(self)
