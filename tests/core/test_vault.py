"""Secrets at rest."""

import pytest

from mailbase.errors import ConfigError
from mailbase.vault import Vault, keyed_hash, open_secret

OLD, NEW = "an-old-secret-of-some-length", "a-new-secret-of-some-length"


def test_a_blob_opens_only_in_its_place():
    """What was encrypted for one row does not open for another, nor when a bit was changed."""
    blob = Vault([NEW]).encrypt(b"key", "dkim:1")

    assert Vault([NEW]).decrypt(blob, "dkim:1") == b"key"
    with pytest.raises(ConfigError):
        Vault([NEW]).decrypt(blob, "dkim:2")
    with pytest.raises(ConfigError):
        Vault([NEW]).decrypt(blob[:-1] + bytes([blob[-1] ^ 1]), "dkim:1")


def test_rotation_keeps_what_is_stored():
    """A listed older secret still decrypts; an unlisted one is refused by the setting's name."""
    blob = Vault([OLD]).encrypt(b"key", "dkim:1")

    assert Vault([NEW, OLD]).decrypt(blob, "dkim:1") == b"key"
    with pytest.raises(ConfigError, match="MAILBASE_SECRET_KEY"):
        Vault([NEW]).decrypt(blob, "dkim:1")


async def test_the_erasure_key_outlives_a_rotation(db):
    """The key that hashes erased addresses is made once and stays the same whatever secret wraps it."""
    made = await open_secret(db, Vault([OLD]), "erasure")

    assert await open_secret(db, Vault([NEW, OLD]), "erasure") == made
    assert keyed_hash(made, "a@example.com") != keyed_hash(b"other", "a@example.com")
