"""The demo's letters, as the rest of the world sees them."""

import asyncio
import email
import email.policy
import re
import sys
from pathlib import Path

import dkim
import httpx
import pytest

import mail_dkim
from dns_server import DnsServer

pytestmark = [pytest.mark.timeout(240), pytest.mark.mailtools]


async def test_the_demos_letters_verify_and_their_links_change_nothing(start):
    """With every record published as given the domain is verified, two verifiers accept every letter, and a GET of each of their links changes nobody."""
    async with DnsServer({("mail.example.net", "A"): ["192.0.2.7"]}) as dns:
        up = start(MAILBASE_DNS_SERVERS=f"127.0.0.1:{dns.address[1]}", MAILBASE_HOSTNAME="mail.example.net")
        await asyncio.to_thread(up.ready)
        demo = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "mailbase", "demo", env=up.environment, stdout=asyncio.subprocess.PIPE
        )
        said, _ = await demo.communicate()
        assert demo.returncode == 0, said.decode()
        key = (up.home / "data" / "admin.key").read_text().strip()
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{up.port}", timeout=30) as client:
            keyed = {"Authorization": f"Bearer {key}"}
            domain = (await client.get("/v1/domains", headers=keyed)).json()["data"][0]
            for record in domain["dns"]:
                dns.zone.setdefault((record["name"].rstrip("."), record["type"]), []).append(record["value"])
            verified = (await client.post(f"/v1/domains/{domain['id']}/verify", headers=keyed)).json()
            assert verified["status"] == "verified", verified["dns"]

            letters = [strip(file) for file in sorted((up.home / "data" / "outbox").glob("*.eml"))]
            assert len(letters) == 6
            assert await mail_dkim.verdicts(dns.address, letters) == ["pass"] * 6
            texts = {name: value for (name, kind), (value, *_) in dns.zone.items() if kind == "TXT"}
            assert all(
                dkim.verify(letter, dnsfunc=lambda name, **_: texts[name.decode().rstrip(".")].encode())
                for letter in letters
            )

            async def people() -> list:
                everyone = (await client.get("/v1/subscribers", headers=keyed)).json()["data"]
                consents = [
                    (await client.get(f"/v1/subscribers/{one['id']}/consents", headers=keyed)).json()
                    for one in everyone
                ]
                return [
                    {name: value for name, value in one.items() if name != "engaged_at"} for one in everyone
                ] + consents

            before = await people()
            links = {link for letter in letters for link in links_of(letter)}
            kinds = {httpx.URL(link).path[1] for link in links}
            assert kinds == set("cuplov")
            for link in sorted(links):
                for method in ("GET", "HEAD"):
                    answer = await client.request(method, httpx.URL(link).path)
                    assert answer.status_code in {200, 302, 410}, (link, answer.status_code)
            assert await people() == before


def strip(file: Path) -> bytes:
    """Return the letter as a server would have got it: without the envelope's two lines."""
    first, second, letter = (
        file.read_bytes().split(b"\r\n", 2) if b"\r\n" in file.read_bytes()[:60] else file.read_bytes().split(b"\n", 2)
    )
    assert first.startswith(b"X-Mailbase-From: ")
    assert second.startswith(b"X-Mailbase-To: ")
    return letter


def links_of(letter: bytes) -> set[str]:
    """Return every address of our own in a letter's parts and headers."""
    message = email.message_from_bytes(letter, policy=email.policy.default)
    words = [str(message.get("List-Unsubscribe", ""))]
    words += [part.get_content() for part in message.walk() if part.get_content_maintype() == "text"]
    return {link for text in words for link in re.findall(r"http://127\.0\.0\.1:\d+/[cuplov]/[\w/-]+", text)}
