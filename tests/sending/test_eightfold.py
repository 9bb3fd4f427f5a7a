"""Signatures eight at a time: the very bytes that OpenSSL makes, and never one that does not verify."""

import ctypes
from types import SimpleNamespace
from typing import Final

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from mailbase.sending.signing import eightfold, keys
from mailbase.sending.signing.dkim import Signer
from mailbase.sending.signing.eightfold import NOT_CALLED, Eightfold

TEXTS: Final = [b"from:ann@example.com\r\nsubject:%d" % number for number in range(21)]


def one_by_one(key, texts) -> list[bytes]:
    return [key.sign(text, PKCS1v15(), SHA256()) for text in texts]


@pytest.fixture(scope="module")
def key():
    return keys.generate()


@pytest.mark.parametrize("number", [0, 1, 3, 4, 7, 8, 9, 13, 16, 21])
def test_however_many_are_signed_together_each_signature_is_what_openssl_makes(key, number):
    """A row of any length gives, in its order, the bytes that signing one by one gives."""
    assert Signer("example.org", "s", key).raw_all(TEXTS[:number]) == one_by_one(key, TEXTS[:number])


@pytest.mark.parametrize(
    "key",
    [keys.generate(1024), rsa.generate_private_key(public_exponent=3, key_size=1024)],
    ids=["1024 bits", "exponent 3"],
)
def test_keys_that_somebody_brought_sign_as_well(key):
    """Whatever key a domain has, known to the library or not, its letters are signed."""
    assert Signer("example.org", "s", key).raw_all(TEXTS[:9]) == one_by_one(key, TEXTS[:9])


def library(spoil) -> SimpleNamespace:
    """Return a library that answers as libcrypto_mb does, and spoils what it gives."""

    def method() -> int:
        return 1

    return SimpleNamespace(
        mbx_RSA2K_private_crt_Method=method,
        mbx_RSA2K_pub65537_Method=method,
        mbx_RSA_Method_BufSize=lambda _: 8,
        mbx_rsa_private_crt_mb8=lambda *_: 0,
        mbx_rsa_public_mb8=spoil,
    )


@pytest.mark.parametrize("spoil", [lambda *_: 0, lambda *_: 4], ids=["another number", "an error"])
def test_a_signature_that_does_not_verify_never_leaves(key, spoil):
    """A fault in the arithmetic would give the key away: what is not proven right is signed again by OpenSSL."""
    faulty = Eightfold(library(spoil), key)
    assert faulty.sign(TEXTS[:8]) is None
    signer = Signer("example.org", "s", key)
    signer._eightfold = faulty
    assert signer.raw_all(TEXTS) == one_by_one(key, TEXTS)


@pytest.mark.parametrize("name", NOT_CALLED)
def test_the_linker_takes_an_empty_library_for_what_it_is_called(tmp_path, name):
    """What stands in for a library nobody calls is one the system's own linker loads, and it has no symbols."""
    path = tmp_path / "any"
    path.write_bytes(eightfold.empty(name))
    with pytest.raises(AttributeError, match="undefined symbol"):
        _ = ctypes.CDLL(str(path)).anything
