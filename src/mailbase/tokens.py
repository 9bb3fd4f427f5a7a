"""Signed tokens: a purpose, a few numbers, and a MAC. Nothing is stored, nothing can be guessed, one purpose opens no other.

Shape (base64url, no padding): ``key id (1) | numbers (LEB128 each) | HMAC-SHA256 truncated to 12 bytes``. The MAC's key is derived
from the root secret *and* the purpose. The first secret signs, every listed one verifies (RFC 8058 links must outlive a rotation).
"""

import hmac
from base64 import urlsafe_b64decode
from binascii import b2a_base64
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from hashlib import _Hash

from mailbase.vault import derive, key_id

Purpose = Literal[
    "letter",
    "unsubscribe",
    "preferences",
    "view",
    "confirm",
    "form_time",
    "download",
    "address",
    "verp",
    "till",
    "more",
    "profile",
]
"""``letter`` is shared by ``/l`` and ``/o``; each public route that can change something has its own."""

MAC: Final = 12
LONGEST: Final = 128
TRAILING: Final = ").,:;!?>]'\""
"""What mail programs take for a part of the address in a plain-text letter; no token ends so."""

_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")


class Tokens:
    """Signs and reads tokens under the root secrets."""

    def __init__(self, secrets: Sequence[str]) -> None:
        self._roots: dict[bytes, str] = {}
        self._namesakes: dict[bytes, list[bytes]] = {}
        for secret in dict.fromkeys(secrets):  # one pair in 256 has the same byte: then both are tried
            kid = key_id(secret)[:1]
            same = self._namesakes.setdefault(kid, [])
            same.append(kid * (len(same) + 1))
            self._roots[same[-1]] = secret
        self._first = key_id(secrets[0])[:1]
        self._keys: dict[tuple[bytes, str], tuple[_Hash, _Hash]] = {}

    def _mac(self, kid: bytes, purpose: Purpose, payload: bytes | bytearray) -> bytes:
        """Return the truncated HMAC (RFC 2104), its key's two blocks hashed once: less than half the cost of ``hmac.digest``."""
        begun = self._keys.get((kid, purpose))
        if begun is None:
            key = derive(self._roots[kid], f"token:{purpose}").ljust(64, b"\0")
            begun = self._keys[kid, purpose] = (sha256(key.translate(_INNER)), sha256(key.translate(_OUTER)))
        inner, outer = begun[0].copy(), begun[1].copy()
        inner.update(payload)
        outer.update(inner.digest())
        return outer.digest()[:MAC]

    def sign(self, purpose: Purpose, *numbers: int) -> str:
        """Return the token of these numbers (each 0 … 2^63-1) for this purpose."""
        return _unpadded(self._signed(purpose, numbers))

    def sign_hex(self, purpose: Purpose, *numbers: int) -> str:
        """Return the same token where upper and lower case may be lost on the way: in the local part of an address."""
        return self._signed(purpose, numbers).hex()

    def _signed(self, purpose: Purpose, numbers: Sequence[int]) -> bytearray:
        payload = bytearray(self._first)
        for number in numbers:
            rest = number
            while rest > 0x7F:
                payload.append(rest & 0x7F | 0x80)
                rest >>= 7
            payload.append(rest)
        payload += self._mac(self._first, purpose, payload)
        return payload

    def read(self, purpose: Purpose, token: str, count: int) -> tuple[int, ...] | None:
        """Return the ``count`` numbers that were signed for this purpose, or None for anything else."""
        token = token.rstrip(TRAILING)
        if len(token) > LONGEST or not token.isascii():
            return None
        try:
            raw = urlsafe_b64decode(token + "=" * (-len(token) % 4))
        except ValueError:
            return None
        if _unpadded(raw) != token:
            return None
        return self._opened(purpose, raw, count)

    def read_hex(self, purpose: Purpose, token: str, count: int) -> tuple[int, ...] | None:
        """Return what ``sign_hex`` signed, in whatever case it comes back, or None for anything else."""
        try:
            raw = bytes.fromhex(token) if len(token) <= LONGEST and token.isalnum() else b""
        except ValueError:
            return None
        return self._opened(purpose, raw, count)

    def _opened(self, purpose: Purpose, raw: bytes, count: int) -> tuple[int, ...] | None:
        payload, mac = raw[:-MAC], raw[-MAC:]
        kid = payload[:1]
        if len(payload) < 1 + count:
            return None
        for name in self._namesakes.get(kid, ()):
            if hmac.compare_digest(self._mac(name, purpose, payload), mac):
                break
        else:
            return None
        numbers: list[int] = []
        value = shift = 0
        for byte in payload[1:]:
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                numbers.append(value)
                value = shift = 0
        return tuple(numbers) if len(numbers) == count and shift == 0 else None


def _unpadded(raw: bytes | bytearray) -> str:
    """Return base64url without padding (RFC 4648 § 5), in one pass over what ``binascii`` makes."""
    return b2a_base64(raw, newline=False).translate(_URL_SAFE, b"=").decode()
