"""An SMTP server on loopback that misbehaves on demand.

``SmtpPeer({"RCPT": "550 5.1.1 no such user"})`` answers every step as a polite server would, except those named. An answer is a
text (lines joined by newline), bytes written as they are, ``DROP`` (close without a word), ``SILENCE``, or a function
``(peer, line) -> answer``. Steps: greeting, EHLO, HELO, STARTTLS, AUTH, MAIL, RCPT, DATA, DOT, RSET, QUIT, content (as its first
byte arrives). ``letters`` holds (from, to, content) of what was accepted, ``lines`` every command.
"""

import asyncio
import socket
import ssl

DROP = object()
SILENCE = object()
EHLO = "250-peer.example\n250-PIPELINING\n250-8BITMIME\n250-SMTPUTF8\n250-ENHANCEDSTATUSCODES\n250 SIZE 20000000"
POLITE = {
    "greeting": "220 peer.example ESMTP",
    "EHLO": EHLO,
    "HELO": "250 peer.example",
    "STARTTLS": "220 2.0.0 go ahead",
    "AUTH": "235 2.7.0 welcome",
    "MAIL": "250 2.1.0 ok",
    "RCPT": "250 2.1.5 ok",
    "DATA": "354 go on",
    "DOT": "250 2.0.0 queued",
    "RSET": "250 2.0.0 ok",
    "QUIT": "221 2.0.0 bye",
    "content": None,
}


class SmtpPeer:
    """An async context manager; ``port`` is where it listens."""

    def __init__(
        self,
        answers=None,
        *,
        context: ssl.SSLContext | None = None,
        implicit: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
        sock: socket.socket | None = None,
    ) -> None:
        self.host = host
        self.port = port
        self.sock = sock
        self.answers = {**POLITE, **(answers or {})}
        self.context = context
        self.implicit = implicit
        self.letters: list[tuple[str, str, bytes]] = []
        self.refused_contents: list[bytes] = []
        self.lines: list[str] = []
        self.connections = 0
        self.open = 0
        self.most_open = 0
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task] = set()

    async def __aenter__(self):
        self._ended = asyncio.Event()
        context = self.context if self.implicit else None
        where = {"sock": self.sock} if self.sock else {"host": self.host, "port": self.port}
        self._server = await asyncio.start_server(self._serve, **where, ssl=context, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self._server.close()
        for writer in list(self._writers):
            if writer.transport is not None:
                writer.transport.abort()
        self._ended.set()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()

    def seen(self, verb: str) -> int:
        """Return how often a command came."""
        return sum(line.upper().startswith(verb) for line in self.lines)

    async def _serve(self, reader, writer) -> None:
        plain = writer.transport
        self.connections += 1
        self.open += 1
        self.most_open = max(self.most_open, self.open)
        self._writers.add(writer)
        self._tasks.add(asyncio.current_task())
        try:
            await self._converse(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, TimeoutError):
            pass
        finally:
            self.open -= 1
            self._writers.discard(writer)
            plain.abort()
            if writer.transport is None:  # what asyncio leaves behind when a peer goes in the middle of a handshake
                writer._transport = plain
            writer.transport.abort()

    async def _say(self, writer, step: str, line: str = "") -> str:
        answer = self.answers[step]
        if callable(answer):
            answer = answer(self, line)
        if answer is None:
            return ""
        if answer is DROP:
            raise ConnectionError
        if answer is SILENCE:
            await self._ended.wait()
            raise ConnectionError
        data = answer if isinstance(answer, bytes) else answer.replace("\n", "\r\n").encode() + b"\r\n"
        writer.write(data)
        await writer.drain()
        text = data.decode("utf-8", "replace")
        if text.startswith("421"):
            raise ConnectionError
        return text

    async def _converse(self, reader, writer) -> None:  # noqa: C901, PLR0912
        await self._say(writer, "greeting")
        sender = recipient = ""
        named = False
        while line := (await reader.readline()).decode("utf-8", "replace").rstrip("\r\n"):
            self.lines.append(line)
            verb = line.split(" ")[0].upper()
            if verb == "DATA":
                if not (await self._say(writer, "DATA", line)).startswith("354"):
                    continue
                content = bytearray()
                if self.answers["content"] is not None:
                    await reader.readexactly(1)
                    await self._say(writer, "content", line)
                while (text := await reader.readline()) != b".\r\n":
                    if not text:
                        raise ConnectionError
                    content += text[1:] if text.startswith(b".") else text
                if not named:
                    writer.write(b"554 5.5.1 no valid recipients\r\n")
                    self.refused_contents.append(bytes(content))
                elif (await self._say(writer, "DOT", recipient)).startswith("2"):
                    self.letters.append((sender, recipient, bytes(content)))
            elif verb == "STARTTLS":
                if not (await self._say(writer, "STARTTLS", line)).startswith("220"):
                    continue
                await writer.start_tls(self.context)
            elif verb == "AUTH" and line.upper() == "AUTH LOGIN":
                for prompt in (b"334 VXNlcm5hbWU6\r\n", b"334 UGFzc3dvcmQ6\r\n"):
                    writer.write(prompt)
                    self.lines.append((await reader.readline()).decode().strip())
                await self._say(writer, "AUTH", line)
            else:
                if verb == "MAIL":
                    sender = line[line.index("<") + 1 : line.index(">")]
                elif verb == "RCPT":
                    recipient = line[line.index("<") + 1 : line.index(">")]
                said = await self._say(writer, verb if verb in self.answers else "QUIT", line)
                if verb in {"MAIL", "RCPT", "RSET"}:
                    named = verb == "RCPT" and said.startswith("2")
                if verb == "QUIT":
                    return
