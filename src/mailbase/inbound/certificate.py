"""The certificate of the SMTP server: the owner's files, or one of our own making, kept in the data directory.

Mail servers that hand bounces over encrypt where they can and check nobody's name (RFC 7435), so a certificate nobody signed is as good
as none is bad. Files are read again when they have changed: whoever renews them need not tell us.
"""

import logging
import os
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailbase.config import Settings
from mailbase.errors import ConfigError

log = logging.getLogger(__name__)

FILE: Final = "inbound.pem"
VALID: Final = timedelta(days=3650)
SPARE: Final = timedelta(days=30)


class Certificate:
    """A certificate and its key, as files say now."""

    def __init__(self, cert: Path, key: Path) -> None:
        """Read them.

        Raises:
            ConfigError: they cannot be read, or do not belong together.

        """
        self._cert, self._key = cert, key
        self._seen = self._changed()
        try:
            self._context = _read(cert, key)
        except (OSError, ValueError) as error:
            raise ConfigError(f"MAILBASE_INBOUND_TLS_CERT, MAILBASE_INBOUND_TLS_KEY: {error}") from None

    @property
    def context(self) -> ssl.SSLContext:
        """What a connection begins TLS with. Half-written files leave the last one in use."""
        changed = self._changed()
        if changed != self._seen:
            try:
                self._context = _read(self._cert, self._key)
                self._seen = changed
            except (OSError, ValueError) as error:
                log.warning("the certificate for mail that comes in cannot be read: %s", error)
        return self._context

    def _changed(self) -> tuple[int, ...]:
        try:
            return tuple(file.stat().st_mtime_ns for file in (self._cert, self._key))
        except OSError:
            return ()


def of(settings: Settings) -> Certificate:
    """Return the certificate the settings name, else our own, made at the first call.

    Raises:
        ConfigError: the files cannot be read, or ours cannot be written.

    """
    if settings.inbound_tls_cert is not None and settings.inbound_tls_key is not None:
        return Certificate(settings.inbound_tls_cert, settings.inbound_tls_key)
    file = settings.data_dir / FILE
    try:
        if not _lasts(file):
            _make(file, settings.hostname)
    except OSError as error:
        raise ConfigError(f"MAILBASE_DATA_DIR: {error}") from None
    return Certificate(file, file)


def _read(cert: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def _lasts(file: Path) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(file.read_bytes())
    except (FileNotFoundError, ValueError):
        return False
    return certificate.not_valid_after_utc > datetime.now(UTC) + SPARE


def _make(file: Path, hostname: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, hostname[:64])])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(hostname)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    fresh = file.with_name(f"{file.name}.{os.getpid()}")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(certificate.public_bytes(Encoding.PEM))
        out.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    fresh.replace(file)
