"""Signing keys: RSA private keys, and the text a domain publishes about them (RFC 6376 § 3.6.1, RFC 8301)."""

import base64

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from mailbase.errors import Invalid

GENERATED_BITS = 2048
SMALLEST_BITS = 1024  # RFC 8301 § 3.2: verifiers must refuse less
LARGEST_BITS = 4096  # … and need not accept more
LONGEST_PEM = 16_384

PrivateKey = rsa.RSAPrivateKey


def generate(bits: int = GENERATED_BITS) -> PrivateKey:
    """Return a new key. Takes up to a second of one core: call it in a thread."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def to_der(key: PrivateKey) -> bytes:
    """Return the key as PKCS#8 DER, unencrypted: for the vault only."""
    return key.private_bytes(
        serialization.Encoding.DER, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def from_der(der: bytes) -> PrivateKey:
    """Read a key that ``to_der`` wrote."""
    key = serialization.load_der_private_key(der, password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise TypeError("not an RSA key")
    return key


def bring(pem: str, *, field: str = "dkim_private_key") -> PrivateKey:
    """Read a key somebody brings; raise ``Invalid`` unless it is a plain RSA key of 1024 to 4096 bits.

    The refusal never repeats any part of what was sent.
    """
    if len(pem) > LONGEST_PEM:
        raise Invalid.field(field, "invalid_key", "This is too long for the PEM of an RSA key.")
    try:
        key = serialization.load_pem_private_key(pem.encode(), password=None)
    except TypeError:
        raise Invalid.field(
            field, "encrypted_key", "The key is protected by a pass phrase; bring it unencrypted."
        ) from None
    except UnsupportedAlgorithm:
        raise Invalid.field(field, "not_rsa", "Only RSA keys are supported.") from None
    except ValueError:
        raise Invalid.field(field, "invalid_key", "This is not the PEM of a private key.") from None
    if not isinstance(key, rsa.RSAPrivateKey):
        raise Invalid.field(field, "not_rsa", "Only RSA keys are supported.")
    if key.key_size < SMALLEST_BITS:
        raise Invalid.field(
            field, "weak_key", f"The key has {key.key_size} bits; receivers refuse less than {SMALLEST_BITS}."
        )
    if key.key_size > LARGEST_BITS:
        raise Invalid.field(
            field, "long_key", f"The key has {key.key_size} bits; receivers need not accept more than {LARGEST_BITS}."
        )
    return key


def public_key(key: PrivateKey) -> str:
    """Return what ``p=`` carries: base64 of the DER SubjectPublicKeyInfo, without line breaks."""
    der = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode("ascii")


def record(public: str) -> str:
    """Return the value of the TXT record at ``{selector}._domainkey.{domain}``, in one unquoted piece."""
    return f"v=DKIM1; k=rsa; p={public}"
