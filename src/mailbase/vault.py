"""Secrets at rest: AES-256-GCM under keys derived from ``MAILBASE_SECRET_KEY``.

A blob is ``key id (4) | nonce (12) | ciphertext and tag``. The key id is the first four bytes of a digest of the root secret,
so rotation needs no guessing: the first secret encrypts, every listed one decrypts. ``context`` (for example ``dkim:7``)
is authenticated with the blob: a ciphertext moved to another row does not open.
"""

import hashlib
import hmac
import os
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mailbase.db import Connection
from mailbase.errors import ConfigError

CANARY: Final = "canary"
ERASURE_KEY: Final = "erasure"


def derive(secret: str, purpose: str) -> bytes:
    """Return 32 bytes for one purpose (HMAC-SHA256 of the purpose under the root secret)."""
    return hmac.digest(secret.encode(), b"mailbase:" + purpose.encode(), "sha256")


def key_id(secret: str) -> bytes:
    """Return the four bytes that name a root secret without telling anything about it."""
    return derive(secret, "id")[:4]


class Vault:
    """Encrypts under the first secret, decrypts under any."""

    def __init__(self, secrets: Sequence[str]) -> None:
        if not secrets:
            raise ConfigError("MAILBASE_SECRET_KEY: at least one key is needed")
        self._ciphers = {key_id(secret): AESGCM(derive(secret, "vault")) for secret in secrets}
        self._first = key_id(secrets[0])

    def encrypt(self, plaintext: bytes, context: str) -> bytes:
        """Return a blob that only :meth:`decrypt` with the same context opens."""
        nonce = os.urandom(12)
        return self._first + nonce + self._ciphers[self._first].encrypt(nonce, plaintext, context.encode())

    def decrypt(self, blob: bytes, context: str) -> bytes:
        """Return the plaintext.

        Raises:
            ConfigError: none of the secret keys made this blob.

        """
        cipher = self._ciphers.get(blob[:4])
        if cipher is None:
            raise ConfigError("MAILBASE_SECRET_KEY: the stored secrets were encrypted under another key")
        try:
            return cipher.decrypt(blob[4:16], blob[16:], context.encode())
        except InvalidTag:
            raise ConfigError(f"a stored secret ({context}) is damaged or was moved") from None


KEEP = """
INSERT INTO secrets (name, wrapped) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING
"""

READ = """
SELECT wrapped FROM secrets WHERE name = $1
"""


async def open_secret(db: Connection, vault: Vault, name: str) -> bytes:
    """Return the stored random secret of that name (32 bytes), made at the first call.

    The erasure key is one: it must outlive every rotation of the root secret, or nobody would be remembered as erased.

    Raises:
        ConfigError: the secret was wrapped under a root secret that is not listed.

    """
    await db.execute(KEEP, name, vault.encrypt(os.urandom(32), f"secret:{name}"))
    return vault.decrypt(await db.fetchval(READ, name), f"secret:{name}")


def keyed_hash(key: bytes, text: str) -> bytes:
    """Return the 32-byte hash by which an erased address is still recognised."""
    return hashlib.blake2b(text.encode(), key=key, digest_size=32).digest()
