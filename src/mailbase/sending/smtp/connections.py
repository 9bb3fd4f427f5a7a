"""The relay: a bounded pool of SMTP connections that serve themselves from one queue of letters.

Connections are opened when letters wait and closed when they have been idle; how many, up to the relay's ``connections``, is
found out by trying (:mod:`~mailbase.sending.smtp.concurrency`). Each takes the next letter when it has room for it, so a slow one
holds nothing up. A session that cannot be opened, while no other works, answers for all waiting letters:
they come back as ``relay`` and the caller decides when to try again; nothing here retries by itself, except one letter whose
connection went before its content began. While a server says nothing at all, letters that wait for it are given back.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Sequence

from mailbase.config import Relay
from mailbase.sending.outcomes import Envelope, OnOutcome, Outcome, stale
from mailbase.sending.smtp.concurrency import Concurrency
from mailbase.sending.smtp.conversation import Connection, Job
from mailbase.sending.smtp.replies import denial
from mailbase.sending.smtp.session import SessionError, Timeouts, open_session

LETTERS_PER_CONNECTION = 500
SOON = 8  # connections' worth of letters are kept at hand even while there are fewer
REOPEN_AFTER = 2.0  # seconds to leave a server alone that refuses one more connection while others work


class Told:
    """One call of ``hand_over``: done when each of its letters has been reported."""

    def __init__(self, size: int, on_outcome: OnOutcome, note: Callable[[Outcome], Outcome]) -> None:
        """``note`` hears each outcome before the caller does, who gets what it makes of it."""
        self._left = size
        self._on_outcome = on_outcome
        self._note = note
        self._error: Exception | None = None
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def report(self, outcome: Outcome) -> None:
        noted = self._note(outcome)
        try:
            self._on_outcome(noted)
        except Exception as error:  # noqa: BLE001  (the caller's mistake must not end the connection; it is raised to the caller)
            self._error = self._error or error
        self._left -= 1
        if self._left == 0 and not self.done.done():
            if self._error is None:
                self.done.set_result(None)
            else:
                self.done.set_exception(self._error)


class SmtpTransport:
    """A :class:`~mailbase.sending.dispatch.transport.Transport` to one relay."""

    def __init__(
        self,
        relay: Relay,
        *,
        hostname: str,
        name: str = "relay",
        context: ssl.SSLContext | None = None,
        timeouts: Timeouts | None = None,
        letters_per_connection: int = LETTERS_PER_CONNECTION,
    ) -> None:
        """``hostname`` is our EHLO name; ``context`` verifies the server (default: the system's authorities)."""
        self.name = name
        self._relay = relay
        self._hostname = hostname
        self._context = context or ssl.create_default_context()
        self._timeouts = timeouts or Timeouts()
        self._letters_per_connection = letters_per_connection
        self._concurrency = Concurrency(relay.connections)
        self._waiting: deque[Job] = deque()
        self._connections: set[Connection] = set()
        self._idle: list[Connection] = []
        self._opening: set[asyncio.Task[None]] = set()
        self._not_before = 0.0
        self._heard = 0.0
        self._watch: asyncio.TimerHandle | None = None
        self._closed = False
        self.slow = False
        self._empty = asyncio.Event()

    @property
    def capacity(self) -> int:
        """Two a connection: one waits for its verdict, the next one's commands are on their way."""
        return max(self._concurrency.allowed, min(self._relay.connections, SOON)) * 2

    def full(self) -> frozenset[str]:
        """Return nobody: a relay takes the letters of all providers alike."""
        return frozenset()

    async def hand_over(self, batch: Sequence[Envelope], on_outcome: OnOutcome) -> None:
        """Send the batch; return once every letter has had its outcome.

        Cancelled, letters still waiting here are reported as ``not_sent``; those on a connection are reported later.
        """
        if not batch:
            return
        told = Told(len(batch), on_outcome, self._note)
        now = asyncio.get_running_loop().time()
        self._waiting.extend(Job(envelope, told, now) for envelope in batch)
        self._keep_watch()
        if self._closed:
            self._fail_waiting(SessionError("connect", "the connections are being closed"))
        self._serve()
        try:
            await told.done
        except asyncio.CancelledError:
            mine = [job for job in self._waiting if job.batch is told]
            self._waiting = deque(job for job in self._waiting if job.batch is not told)
            for job in mine:
                told.report(
                    Outcome(job.envelope.delivery_id, "not_sent", 0, None, "stopped before its turn came", "connect")
                )
            raise

    async def close(self) -> None:
        """Say goodbye on every connection; drop those that do not answer soon."""
        self._closed = True
        if self._watch is not None:
            self._watch.cancel()
        for task in self._opening:
            task.cancel()
        await asyncio.gather(*self._opening, return_exceptions=True)
        self._fail_waiting(SessionError("connect", "the connections are being closed"))
        for connection in list(self._connections):
            connection.leave()
        try:
            async with asyncio.timeout(self._timeouts.quit):
                while self._connections:
                    self._empty.clear()
                    await self._empty.wait()
        except TimeoutError:
            for connection in list(self._connections):
                connection.abort()
            await asyncio.sleep(0)

    def _keep_watch(self) -> None:
        if self._watch is None and not self._closed:
            self._watch = asyncio.get_running_loop().call_later(self._timeouts.hold / 2, self._look)

    def _look(self) -> None:
        """Give letters back that have waited while the server said nothing."""
        self._watch = None
        before = asyncio.get_running_loop().time() - self._timeouts.hold
        while self._waiting and max(self._heard, self._waiting[0].since) <= before:
            job = self._waiting.popleft()
            why = "the server says nothing, and no connection is free"
            job.batch.report(Outcome(job.envelope.delivery_id, "not_sent", 0, None, why, "connect", free=True))
        if self._waiting:
            self._keep_watch()

    def _note(self, outcome: Outcome) -> Outcome:
        if outcome.free:
            return outcome  # our own doing
        self._heard = asyncio.get_running_loop().time()
        if outcome.code == 421 or outcome.kind in {"relay", "not_sent", "unknown"}:
            self._concurrency.setback(asyncio.get_running_loop().time())
        elif self._concurrency.success(len(self._connections)) and self._waiting:
            self._serve()
        return outcome if outcome.kind == "sent" else denial(outcome)

    # What a connection asks of its pool.

    def take(self) -> Job | None:
        """Return the next letter that is still to go out; nobody asks about the others."""
        while self._waiting:
            job = self._waiting.popleft()
            if not job.envelope.revoked:
                return job
            job.batch.report(stale(job.envelope, "connect"))
        return None

    def put_back(self, job: Job) -> None:
        """Take a letter back to the front."""
        self._waiting.appendleft(job)
        self._keep_watch()

    def rest(self, connection: Connection) -> None:
        """Remember an idle connection."""
        self._idle.append(connection)
        self._concurrency.idle()
        if self._closed:
            connection.leave()

    def leave(self, connection: Connection) -> None:
        """Count a connection out; it is closing."""
        if connection in self._idle:
            self._idle.remove(connection)
        self._serve()

    def gone(self, connection: Connection, trouble: SessionError | None) -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if trouble is not None and not self._works():
            self._fail_waiting(trouble)
        if self._closed:
            self._fail_waiting(SessionError("connect", "the connections are being closed"))
        self._empty.set()
        self._serve()

    # Opening.

    def _works(self) -> bool:
        return any(connection.carried and not connection.leaving for connection in self._connections)

    def _serve(self) -> None:
        """Wake idle connections, then open as many as the waiting letters and the limit ask for."""
        while self._waiting and self._idle:
            self._idle.pop().wake()
        if not self._waiting or self._closed:
            return
        live = sum(not connection.leaving for connection in self._connections) + len(self._opening)
        if live and asyncio.get_running_loop().time() < self._not_before:
            return
        for _ in range(min(self._concurrency.allowed - live, len(self._waiting) - len(self._opening))):
            task = asyncio.create_task(self._open())
            self._opening.add(task)
            task.add_done_callback(self._opened)

    def _opened(self, task: asyncio.Task[None]) -> None:
        self._opening.discard(task)
        self._serve()

    async def _open(self) -> None:
        connection = Connection(self, self._timeouts, self._letters_per_connection)
        try:
            await self._connect(connection)
            extensions = await open_session(
                connection, self._relay, hostname=self._hostname, context=self._context, timeouts=self._timeouts
            )
            self._connections.add(connection)
            connection.ready(extensions)
        except SessionError as error:
            self._refused(connection, error)
        except OSError as error:  # TLS: certificates and handshakes
            self._refused(connection, SessionError("starttls", _words(error)))
        except asyncio.CancelledError:
            connection.abort()
            raise

    async def _connect(self, connection: Connection) -> None:
        relay = self._relay
        implicit = relay.tls == "implicit"
        where = f"{relay.host}:{relay.port}"
        try:
            async with asyncio.timeout(self._timeouts.connect):
                await asyncio.get_running_loop().create_connection(
                    lambda: connection,
                    relay.host,
                    relay.port,
                    ssl=self._context if implicit else None,
                    server_hostname=relay.host if implicit else None,
                )
        except TimeoutError:
            raise SessionError(
                "connect", f"{where} does not answer within {self._timeouts.connect:g} seconds"
            ) from None
        except OSError as error:
            raise SessionError("connect", f"cannot connect to {where}: {_words(error)}") from None

    def _refused(self, connection: Connection, trouble: SessionError) -> None:
        self._connections.discard(connection)
        connection.abort()
        task = asyncio.current_task()
        if task is not None:
            self._opening.discard(task)
        now = asyncio.get_running_loop().time()
        self._not_before = now + REOPEN_AFTER
        self._concurrency.setback(now)
        others = any(not other.leaving for other in self._connections) or self._opening
        if not others:
            self._fail_waiting(trouble)

    def _fail_waiting(self, trouble: SessionError) -> None:
        waiting, self._waiting = self._waiting, deque()
        for job in waiting:
            job.batch.report(trouble.outcome(job.envelope.delivery_id))


def _words(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate cannot be trusted: {error.verify_message}"
    return error.strerror or str(error) or type(error).__name__
