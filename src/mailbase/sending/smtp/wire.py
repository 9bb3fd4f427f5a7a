"""The bytes of an SMTP connection: lines in, lines out, TLS, and the patience a server gets.

Before the session is ready a coroutine asks and awaits (``greeting``, ``command``, ``upgrade``); from then on every reply goes
straight to ``_on_reply`` of the class above. Limits: a line of 4 kB, 128 lines a reply, nothing unasked.
"""

import asyncio
import ssl
from abc import abstractmethod
from typing import cast

from mailbase.sending.outcomes import Phase
from mailbase.sending.smtp.replies import LONGEST_LINE, MOST_LINES, Reply, split_line
from mailbase.sending.smtp.session import SessionError


class Wire(asyncio.Protocol):
    """A connection that is not ready for letters yet."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._secured = False
        self._starting = True
        self._reading = self._rearm = False
        self._lost = False
        self._why: str | None = None
        self._tail = b""
        self._lines: list[str] = []
        self._code = 0
        self._replies: asyncio.Queue[tuple[Reply, list[str]] | SessionError] = asyncio.Queue()
        self._asked: Phase = "greeting"
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None

    # The session's side: one command, one reply.

    async def greeting(self, timeout: float) -> Reply:
        """Return the server's first words."""
        return (await self._answer("greeting", timeout))[0]

    async def command(self, line: bytes, phase: Phase, timeout: float) -> tuple[Reply, list[str]]:
        """Send one line (without CRLF) and return the reply and its lines."""
        self._write(line + b"\r\n")
        return await self._answer(phase, timeout)

    async def _answer(self, phase: Phase, timeout: float) -> tuple[Reply, list[str]]:
        self._asked = phase
        try:
            async with asyncio.timeout(timeout):
                answer = await self._replies.get()
        except TimeoutError:
            raise SessionError(phase, f"no answer within {timeout:g} seconds") from None
        if isinstance(answer, SessionError):
            raise SessionError(phase, answer.text)
        return answer

    async def upgrade(self, context: ssl.SSLContext, host: str, timeout: float) -> None:
        """Start TLS on the connection.

        Raises:
            SessionError: something came before TLS began: it was never encrypted, and must not be read as if it had been.

        """
        if self._tail or self._lines or not self._replies.empty():
            raise SessionError("starttls", "the server sent something before TLS began; somebody may be in between")
        self._asked = "starttls"
        if self._transport is None or self._lost:
            raise SessionError("starttls", self._why or "the connection was closed")
        upgraded = await self._loop.start_tls(
            self._transport, self, context, server_hostname=host, ssl_handshake_timeout=timeout
        )
        if upgraded is None:
            raise SessionError("starttls", "the connection was closed")
        self.connection_made(upgraded)

    # asyncio's side.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._secured = transport.get_extra_info("sslcontext") is not None
        self._transport.set_write_buffer_limits(high=65_536, low=0)

    def data_received(self, data: bytes) -> None:
        lines = (self._tail + data if self._tail else data).split(b"\n")
        self._tail = lines.pop()
        if len(self._tail) > LONGEST_LINE:
            self._break("the server's reply has a line without an end")
            return
        self._reading = True
        for line in lines:
            if self._lost or self._why is not None:
                break
            parsed = split_line(line) if len(line) <= LONGEST_LINE else None
            if parsed is None or (self._lines and parsed[0].code != self._code) or len(self._lines) >= MOST_LINES:
                self._break("the server does not speak SMTP: " + line[:80].decode("ascii", "replace").strip())
                break
            reply, more = parsed
            if more:
                self._code = reply.code
                self._lines.append(reply.text)
            else:
                self._hear(reply)
        self._reading = False
        if self._rearm and not self._lost:
            self._arm()

    def _hear(self, reply: Reply) -> None:
        """Take a reply whose last line has come."""
        said = [reply.text]
        if self._lines:
            said = [*self._lines, reply.text]
            reply = Reply(reply.code, " ".join(said))
            self._lines = []
        if not self._starting:
            self._on_reply(reply)
        elif self._replies.qsize() > 2:
            self._break("the server spoke out of turn")
        else:
            self._replies.put_nowait((reply, said))

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if self._lost:
            return
        self._lost = True
        if self._timer is not None:
            self._timer.cancel()
        self._why = self._why or f"the connection was lost{f' ({exc})' if exc and str(exc) else ''}"
        if self._starting:
            self._replies.put_nowait(SessionError(self._asked, self._why))
        else:
            self._on_lost(self._why)

    @abstractmethod
    def _on_reply(self, reply: Reply) -> None:
        """Take a reply to a letter's command."""

    @abstractmethod
    def _on_lost(self, why: str) -> None:
        """Take the end of a connection that was ready."""

    @abstractmethod
    def _patience(self) -> float:
        """Return how many seconds the server may take for the present step."""

    @abstractmethod
    def _on_silence(self) -> None:
        """Take the end of the server's time."""

    # What the class above uses.

    def _write(self, *pieces: bytes) -> None:
        if self._transport is None:
            return
        if self._secured:
            # Each piece would be a TLS record of its own.
            self._transport.write(b"".join(pieces))
        else:
            self._transport.writelines(pieces)

    def _drop(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _break(self, why: str) -> None:
        """End the connection and say why."""
        self._why = self._why or why
        self._drop()

    def _arm(self) -> None:
        """Start the server's time for the present step: once for all replies that came together, behind the last of them."""
        self._rearm = self._reading
        if self._reading:
            return
        self._deadline = self._loop.time() + self._patience()
        # One timer for the connection's life: re-made when it fires early, replaced only when it would fire late.
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._tick)
        elif self._timer.when() > self._deadline + 1:
            self._timer.cancel()
            self._timer = self._loop.call_at(self._deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._lost:
            return
        if self._loop.time() < self._deadline - 0.01:
            self._timer = self._loop.call_at(self._deadline, self._tick)
        else:
            self._on_silence()
