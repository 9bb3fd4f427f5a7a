"""A real DNS server on loopback, UDP and TCP, over a zone given as a dictionary.

``DnsServer({("example.org", "TXT"): ["v=spf1 -all"]})`` answers with records of the master-file form (TXT values may be given
unquoted); a name with no record of the type is NOERROR without data, a name that is not there at all is NXDOMAIN. A value may
be an rcode (``dns.rcode.SERVFAIL``), or ``None`` for silence. ``zone`` may be changed while it runs; ``asked`` keeps questions.
"""

import asyncio
import contextlib
import struct

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import dns.rdataclass
import dns.rdatatype
import dns.rrset

TTL = 60


def quoted(text: str) -> str:
    """Return a TXT value in master-file form, in strings of at most 255 bytes."""
    escaped = [
        part.replace("\\", "\\\\").replace('"', '\\"') for part in (text[i : i + 255] for i in range(0, len(text), 255))
    ]
    return " ".join(f'"{part}"' for part in escaped) or '""'


class DnsServer:
    """An async context manager; ``address`` is (host, port), the same port for UDP and TCP."""

    def __init__(self, zone: dict[tuple[str, str], list[str] | int | None] | None = None) -> None:
        self.zone = dict(zone or {})
        self.asked: list[tuple[str, str]] = []
        self.address = ("127.0.0.1", 0)
        self._writers: list[asyncio.StreamWriter] = []
        self._tasks: list[asyncio.Task] = []

    async def __aenter__(self):
        loop = asyncio.get_running_loop()
        self._tcp = await asyncio.start_server(self._serve_tcp, "127.0.0.1", 0)
        self.address = self._tcp.sockets[0].getsockname()
        self._udp, _ = await loop.create_datagram_endpoint(lambda: _Udp(self), local_addr=self.address)
        return self

    async def __aexit__(self, *_):
        self._udp.close()
        self._tcp.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._tcp.wait_closed()

    def answer(self, wire: bytes) -> bytes | None:
        query = dns.message.from_wire(wire)
        response = dns.message.make_response(query)
        response.flags |= dns.flags.AA | dns.flags.RA
        question = query.question[0]
        name = question.name.to_text(omit_final_dot=True).lower()
        kind = dns.rdatatype.to_text(question.rdtype)
        self.asked.append((name, kind))
        for _ in range(8):
            found = self.zone.get((name, kind), ())
            alias = self.zone.get((name, "CNAME")) if kind != "CNAME" else None
            if found is None:
                return None
            if isinstance(found, int):
                response.set_rcode(found)
                break
            if found or not isinstance(alias, list):
                self._add(response, name, kind, found)
                if not found and not any(known == name or known.endswith("." + name) for known, _ in self.zone):
                    response.set_rcode(dns.rcode.NXDOMAIN)
                break
            self._add(response, name, "CNAME", alias)
            name = alias[0].rstrip(".").lower()
        return response.to_wire(max_size=65535)

    @staticmethod
    def _add(response, name, kind, values) -> None:
        if not values:
            return
        texts = [quoted(value) if kind == "TXT" and not value.startswith('"') else value for value in values]
        if kind in {"CNAME", "MX"}:
            texts = [text if text.endswith(".") else text + "." for text in texts]
        response.answer.append(dns.rrset.from_text_list(dns.name.from_text(name), TTL, "IN", kind, texts))

    async def _serve_tcp(self, reader, writer) -> None:
        self._writers.append(writer)
        self._tasks.append(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                (size,) = struct.unpack("!H", await reader.readexactly(2))
                reply = self.answer(await reader.readexactly(size))
                if reply is None:
                    break
                writer.write(struct.pack("!H", len(reply)) + reply)
                await writer.drain()
        writer.close()


class _Udp(asyncio.DatagramProtocol):
    def __init__(self, server: DnsServer) -> None:
        self._server = server

    def connection_made(self, transport) -> None:
        self._transport = transport

    def datagram_received(self, data, addr) -> None:
        reply = self._server.answer(data)
        if reply is None:
            return
        if len(reply) > 1232:
            truncated = dns.message.make_response(dns.message.from_wire(data))
            truncated.flags |= dns.flags.TC
            reply = truncated.to_wire()
        self._transport.sendto(reply, addr)
