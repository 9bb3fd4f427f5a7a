"""Signatures hold before two verifiers that share no code with us or with each other."""

import base64
import email.policy
import re
from email.message import EmailMessage
from functools import cache
from pathlib import Path

import dkim
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from dkim.canonicalization import Relaxed
from hypothesis import given, settings
from hypothesis import strategies as st

import mail_dkim
from dns_server import DnsServer
from mailbase.errors import Invalid
from mailbase.sending.signing import keys
from mailbase.sending.signing.dkim import OVERSIGNED, Signer, canonical_body

DOMAIN, SELECTOR = "news.example.org", "mb2026a"

made = cache(keys.generate)


def key(bits: int = 2048):
    return made(bits)


def zone(bits: int = 2048) -> dict:
    return {(f"{SELECTOR}._domainkey.{DOMAIN}", "TXT"): [keys.record(keys.public_key(key(bits)))]}


def split(message: bytes) -> tuple[list[tuple[bytes, bytes]], bytes]:
    head, _, body = message.partition(b"\r\n\r\n")
    lines = re.split(rb"\r\n(?![ \t])", head)
    return [tuple(line.split(b": ", 1)) for line in lines], body


def signed(message: bytes, *, canonical: bool = False, bits: int = 2048) -> bytes:
    headers, body = split(message)
    signer = Signer(DOMAIN, SELECTOR, key(bits))
    return signer.sign(headers, body, now=1_790_000_000, canonical=canonical) + b"\r\n" + message


def dkimpy_says(message: bytes, bits: int = 2048) -> bool:
    record = zone(bits)[(f"{SELECTOR}._domainkey.{DOMAIN}", "TXT")][0].encode()
    wanted = f"{SELECTOR}._domainkey.{DOMAIN}.".encode()
    return dkim.verify(message, dnsfunc=lambda name, **_: record if name == wanted else None)


async def perl_says(*messages: bytes) -> list[str]:
    async with DnsServer(zone()) as server:
        return await mail_dkim.verdicts(server.address, messages)


def letter(subject: str, body: bytes, *extra: tuple[bytes, bytes]) -> bytes:
    message = EmailMessage(policy=email.policy.SMTP)
    message["Subject"] = subject
    subject_line = message.as_bytes().split(b"\r\n\r\n")[0]
    headers = [
        b"From: Shop <news@news.example.org>",
        b"To: ann@example.com",
        subject_line,
        b"Date: Sun, 22 Nov 2026 06:40:33 +0000",
        b"Message-ID: <d7.1@news.example.org>",
        b"MIME-Version: 1.0",
        b"Content-Type: text/plain; charset=utf-8",
        b"Content-Transfer-Encoding: 8bit",
        b"List-Id: Shop <shop.news.example.org>",
        b"List-Unsubscribe: <https://news.example.org/u/abc>,\r\n <mailto:u-abc@news.example.org>",
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click",
        b"Feedback-ID: 7:shop:campaign:mailbase",
        *[name + b": " + value for name, value in extra],
    ]
    return b"\r\n".join(headers) + b"\r\n\r\n" + body


SCRIPTS = {
    "latin": "Crème brûlée für alle, señor",
    "cyrillic": "Здравствуйте, вот новости недели",
    "greek": "Καλημέρα σε όλους τους αναγνώστες",
    "arabic": "مرحبا بكم في رسالتنا الإخبارية",
    "chinese": "本周新闻：新的产品已经到货",
    "hindi": "नमस्ते, इस सप्ताह के समाचार",
}


def with_attachment() -> bytes:
    message = EmailMessage(policy=email.policy.SMTP)
    message["From"] = "news@news.example.org"
    message["To"] = "ann@example.com"
    message["Subject"] = "Your invoice"
    message.set_content("Attached.\r\n")
    message.add_alternative("<p>Attached.</p>\r\n", subtype="html")
    message.add_attachment(bytes(range(256)) * 400, maintype="application", subtype="pdf", filename="Rechnung März.pdf")
    return message.as_bytes()


LETTERS = {
    **{name: letter(text, (text + "\r\n").encode() * 40) for name, text in SCRIPTS.items()},
    "empty body": letter("Nothing", b""),
    "blank lines only": letter("Blank", b"\r\n\r\n\r\n"),
    "no last line end": letter("Cut", b"one\r\ntwo"),
    "trailing blank lines": letter("Tail", b"one\r\n\r\n\r\n\r\n"),
    "spaces": letter("Spaces", b"a  b\t\tc \r\n \t \r\n  indented\r\n" + b" " * 5000 + b"x\r\n"),
    "folded headers": letter(
        "Folded", b"x\r\n", (b"References", b"<" + b"a" * 60 + b"@x>\r\n\t<" + b"b" * 60 + b"@y>\r\n   <c@z>")
    ),
    "long subject": letter("очень длинная тема " * 12, b"x\r\n"),
    "twice the same header": letter("Twice", b"x\r\n", (b"List-Help", b"<https://a>"), (b"list-help", b"<https://b>")),
    "attachment": with_attachment(),
    "dots": letter("Dots", b".\r\n..\r\n.a\r\n"),
}


@pytest.mark.parametrize("name", LETTERS)
def test_every_kind_of_letter_verifies_with_dkimpy(name):
    """Dkimpy accepts the signature of each kind of letter."""
    assert dkimpy_says(signed(LETTERS[name]))


@pytest.mark.mailtools
async def test_every_kind_of_letter_verifies_with_mail_dkim():
    """Mail::DKIM, which looks the key up at a DNS server, accepts the same letters."""
    results = await perl_says(*[signed(message) for message in LETTERS.values()])
    assert dict(zip(LETTERS, results, strict=True)) == dict.fromkeys(LETTERS, "pass")


@pytest.mark.mailtools
async def test_both_verifiers_see_any_change():
    """A changed body, a changed subject, a second From and a foreign List-Unsubscribe-Post each break the signature."""
    good = signed(letter("Hello", b"Price: 10\r\n"))
    bare = signed(with_attachment())
    changed = [
        good.replace(b"Price: 10", b"Price: 11"),
        good.replace(b"Subject: Hello", b"Subject: Hallo"),
        b"From: Evil <evil@example.net>\r\n" + good,
        b"Subject: Other\r\n" + good,
        good + b"appended\r\n",
        b"List-Unsubscribe: <https://evil.example>\r\n" + bare,
        b"List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" + bare,
        b"Reply-To: evil@example.net\r\n" + bare,
    ]
    assert dkimpy_says(good)
    assert dkimpy_says(bare)
    assert [dkimpy_says(message) for message in changed] == [False] * len(changed)
    results = await perl_says(good, bare, *changed)
    assert results[:2] == ["pass", "pass"]
    assert all(result.startswith("fail") for result in results[2:]), results


@pytest.mark.parametrize("bits", [1024, 3072, 4096])
def test_other_key_sizes_verify(bits):
    """Keys from 1024 to 4096 bits sign."""
    assert dkimpy_says(signed(LETTERS["cyrillic"], bits=bits), bits)


def test_the_signature_says_what_it_must():
    """t= is there, l= is not, the algorithm is rsa-sha256, relaxed/relaxed, no line is longer than 78 bytes."""
    value = signed(letter("Hello", b"x\r\n")).split(b"\r\nFrom:")[0]
    tags = dict(tag.strip().split(b"=", 1) for tag in value.split(b": ", 1)[1].replace(b"\r\n", b"").split(b";"))
    assert (tags[b"a"], tags[b"c"], tags[b"d"], tags[b"s"], tags[b"t"]) == (
        b"rsa-sha256",
        b"relaxed/relaxed",
        DOMAIN.encode(),
        SELECTOR.encode(),
        b"1790000000",
    )
    assert b"l" not in tags
    listed = [name.strip() for name in tags[b"h"].split(b":")]
    assert {name: listed.count(name) for name in OVERSIGNED if name not in {b"cc", b"reply-to"}} == dict.fromkeys(
        [name for name in OVERSIGNED if name not in {b"cc", b"reply-to"}], 2
    )
    assert listed.count(b"cc") == listed.count(b"reply-to") == 1
    assert b"feedback-id" in listed
    assert max(len(line) for line in value.split(b"\r\n")) <= 78


def test_a_body_known_to_be_canonical_gives_the_same_signature():
    """The fast path and the general path agree where both apply."""
    message = letter("Hello", b"one\r\ntwo two\r\n")
    assert signed(message, canonical=True) == signed(message)


def test_one_signer_signs_letters_of_different_shapes():
    """What was worked out for one set of headers is not used for another."""
    signer = Signer(DOMAIN, SELECTOR, key())
    for message in (LETTERS["latin"], LETTERS["attachment"], LETTERS["twice the same header"], LETTERS["latin"]):
        headers, body = split(message)
        assert dkimpy_says(signer.sign(headers, body, now=1_790_000_000) + b"\r\n" + message)


@settings(max_examples=400)
@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b".", b"\xc3\xa9"]), max_size=40).map(b"".join))
def test_canonical_bodies_equal_dkimpys(body):
    """Relaxed body canonicalisation is dkimpy's for every mixture of blanks, line ends and text."""
    expected = Relaxed.canonicalize_body(body)
    ours = canonical_body(body)
    assert ours == (expected if body.endswith(b"\r\n") or not body else Relaxed.canonicalize_body(body + b"\r\n"))
    assert canonical_body(ours) == ours


def test_runs_of_blanks_cost_linear_time():
    """A megabyte of blanks is canonicalised at once."""
    assert canonical_body(b" " * 1_000_000 + b"x" + b" " * 1_000_000) == b" x\r\n"


def pem(private, encryption=None) -> str:
    form = serialization.PrivateFormat.PKCS8
    return private.private_bytes(serialization.Encoding.PEM, form, encryption or serialization.NoEncryption()).decode()


def test_a_brought_key_is_taken_as_it_is():
    """A 1024-bit PEM in the traditional form is read and survives storage."""
    text = key(1024).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    )
    brought = keys.bring(text.decode())
    again = keys.from_der(keys.to_der(brought))
    assert keys.public_key(again) == keys.public_key(key(1024))
    assert base64.b64decode(keys.public_key(again))


WEAK = Path(__file__).with_name("rsa768.pem")


def refused_keys() -> dict[str, str]:
    return {
        "weak_key": WEAK.read_text(),
        "encrypted_key": pem(key(1024), serialization.BestAvailableEncryption(b"secret")),
        "not_rsa": pem(ec.generate_private_key(ec.SECP256R1())),
        "invalid_key": "-----BEGIN PRIVATE KEY-----\nnonsense\n-----END PRIVATE KEY-----\n",
    }


@pytest.mark.parametrize("code", ["weak_key", "encrypted_key", "not_rsa", "invalid_key"])
def test_keys_that_cannot_be_used_are_refused_by_name(code):
    """Weak, encrypted, foreign and broken keys are refused, and the refusal repeats nothing of them."""
    text = refused_keys()[code]
    with pytest.raises(Invalid) as refusal:
        keys.bring(text)
    assert refusal.value.errors[0].code == code
    assert text.splitlines()[1] not in str(refusal.value)


def test_a_public_key_and_an_oversized_key_are_refused():
    """A public key is no private key, and 8192 bits are more than receivers need accept."""
    public = (
        key(1024).public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    with pytest.raises(Invalid, match="private key"):
        keys.bring(public.decode())
    with pytest.raises(Invalid, match="too long"):
        keys.bring("x" * 20_000)


def test_generated_keys_have_2048_bits():
    """A key made here is RSA-2048 with the usual exponent."""
    assert isinstance(key(), rsa.RSAPrivateKey)
    assert key().key_size == 2048
