"""Every setting, read once from the environment.

``Settings.from_env`` is called in the composition roots only; everything else is handed the finished object.
A value that cannot be used raises :class:`~mailbase.errors.ConfigError` with one line that names the variable.
"""

import os
import re
import socket
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Literal
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

import msgspec

from mailbase.errors import ConfigError

Checks = Literal["strict", "warn"]
Tls = Literal["starttls", "implicit", "none"]
if TYPE_CHECKING:
    Network = IPv4Network | IPv6Network
else:
    Network = object  # msgspec, through which handlers are given their Settings, knows no union of two foreign types


class Relay(msgspec.Struct, frozen=True):
    """An SMTP relay, read from ``smtp://user:pass@host:port?tls=…&connections=…``."""

    host: str
    port: int
    user: str | None
    password: str | None
    tls: Tls
    connections: int

    def __repr__(self) -> str:
        """Show no credentials, wherever it is printed."""
        return f"Relay({self.host}:{self.port}, tls={self.tls}, connections={self.connections})"


class Mx(msgspec.Struct, frozen=True):
    """Straight to the recipients' servers, read from ``mx:?source=192.0.2.1&source=…``."""

    sources: tuple[str, ...] = ()
    """Our addresses to send from, each a way out of its own; empty: whichever the system takes."""
    port: int = 25
    """Where mail servers listen. Another one is for tests, and lets letters go to private addresses too."""


class Imap(msgspec.Struct, frozen=True):
    """A mailbox, read from ``imaps://user:pass@host:port/FOLDER?done=…`` or ``imap://…?tls=starttls|none``."""

    host: str
    port: int
    user: str
    password: str
    folder: str
    tls: Tls
    done: Literal["keep", "delete"]
    """What becomes of a mail that is stored."""

    @property
    def name(self) -> str:
        """Return what it is called in logs and tables, without the password."""
        return f"{self.user}@{self.host}/{self.folder}"


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """The whole configuration; each field is one environment variable (``MAILBASE_`` + the name in capitals)."""

    data_dir: Path
    """Embedded servers, outbox and generated secrets live here."""
    host: str = "127.0.0.1"
    """Where the API listens."""
    port: int = 8000
    """Where the API listens."""
    public_url: str = "http://127.0.0.1:8000"
    """The origin of every link in every letter and form; no trailing slash."""
    admin_key: str | None = None
    """The first admin key; None: generated and kept in ``DATA_DIR/admin.key``."""
    secret_keys: tuple[str, ...] = ()
    """Root secrets: the first signs and encrypts, all verify and decrypt; empty: generated and kept in the data directory."""
    database_url: str | None = None
    """None: the embedded PostgreSQL."""
    redis_url: str | None = None
    """None: the embedded Redis."""
    smtp: Relay | None = None
    """The relay letters go to; None, and ``mx`` too: they go to the outbox."""
    mx: Mx | None = None
    """Letters go straight to the recipients' servers."""
    sending_checks: Checks = "warn"
    """``strict``: a campaign from a domain whose DNS is not verified is refused."""
    dns_servers: tuple[tuple[str, int], ...] = ()
    """Resolvers as (host, port); empty: the system's."""
    inbound_host: str = "127.0.0.1"
    """Where SMTP comes in."""
    inbound_port: int = 0
    """Where SMTP comes in; 0: off."""
    inbound_tls_cert: Path | None = None
    """The certificate mail comes in under, with its chain; None: one of our own making."""
    inbound_tls_key: Path | None = None
    """Its key."""
    inbound_imap_url: Imap | None = None
    """A mailbox whose mails are read as if they had come in."""
    hostname: str = "127.0.0.1"
    """The EHLO name and the target of the bounce MX."""
    workers: int = 1
    """Worker processes."""
    api_workers: int = 1
    """API processes."""
    trusted_proxies: tuple[Network, ...] = ()
    """Whose ``X-Forwarded-For`` counts."""
    form_limits: bool = True
    """False lifts the rate limits on public forms, for load tests."""
    outgoing_private: bool = False
    """True lets mailbase fetch from private addresses, for peers on the operator's own network."""

    @property
    def outbox_dir(self) -> Path:
        """Where letters land while no SMTP target is set."""
        return self.data_dir / "outbox"

    @property
    def to_outbox(self) -> bool:
        """Whether letters are written to files instead of handed to a server."""
        return self.smtp is None and self.mx is None

    @classmethod
    def from_env(cls, env: Mapping[str, str] | None = None) -> "Settings":
        """Read and check every variable.

        Raises:
            ConfigError: the first value that cannot be used, by the variable's name.

        """
        read = _Reader(os.environ if env is None else env)
        host = read.hostname("HOST", "127.0.0.1")
        port = read.integer("PORT", 8000, 1, 65535)
        shown = f"[{host}]" if ":" in host else host
        public_url = read.origin("PUBLIC_URL", f"http://{shown}:{port}")
        mx = read.mx("SMTP_URL")
        smtp = read.smtp("SMTP_URL") if mx is None else None
        tls_cert, tls_key = read.pair("INBOUND_TLS_CERT", "INBOUND_TLS_KEY")
        return cls(
            data_dir=Path(read.text("DATA_DIR", "./data")).expanduser().absolute(),
            host=host,
            port=port,
            public_url=public_url,
            admin_key=read.admin_key("ADMIN_KEY"),
            secret_keys=read.secret_keys("SECRET_KEY"),
            database_url=read.url("DATABASE_URL", ("postgresql", "postgres")),
            redis_url=read.url("REDIS_URL", ("redis", "rediss", "unix")),
            smtp=smtp,
            mx=mx,
            sending_checks=read.choice("SENDING_CHECKS", "warn" if smtp is None and mx is None else "strict"),
            dns_servers=read.servers("DNS_SERVERS"),
            inbound_host=read.text("INBOUND_HOST", "127.0.0.1"),
            inbound_port=read.integer("INBOUND_PORT", 0, 0, 65535),
            inbound_tls_cert=tls_cert,
            inbound_tls_key=tls_key,
            inbound_imap_url=read.imap("INBOUND_IMAP_URL"),
            hostname=read.hostname("HOSTNAME", urlsplit(public_url).hostname or host),
            workers=read.integer("WORKERS", os.cpu_count() or 1, 1, 256),
            api_workers=read.integer("API_WORKERS", 1, 1, 256),
            trusted_proxies=read.networks("TRUSTED_PROXIES"),
            form_limits=read.switch("FORM_LIMITS", default=True),
            outgoing_private=read.switch("OUTGOING_PRIVATE", default=False),
        )


class _Reader:
    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env

    def _get(self, name: str) -> str | None:
        value = self._env.get(f"MAILBASE_{name}", "").strip()
        return value or None

    @staticmethod
    def _refuse(name: str, why: str) -> ConfigError:
        return ConfigError(f"MAILBASE_{name}: {why}")

    def text(self, name: str, default: str) -> str:
        return self._get(name) or default

    def pair(self, one: str, other: str) -> tuple[Path | None, Path | None]:
        """Return two files that go together."""
        first, second = self._get(one), self._get(other)
        if (first is None) != (second is None):
            raise self._refuse(
                one if first is None else other, f"is needed with MAILBASE_{other if first is None else one}"
            )
        return (Path(first) if first else None, Path(second) if second else None)

    def integer(self, name: str, default: int, low: int, high: int) -> int:
        value = self._get(name)
        if value is None:
            return default
        if not re.fullmatch(r"[0-9]{1,9}", value) or not low <= int(value) <= high:
            raise self._refuse(name, f"a whole number from {low} to {high} is needed, not {value!r}")
        return int(value)

    def switch(self, name: str, *, default: bool) -> bool:
        value = self._get(name)
        if value is None:
            return default
        if value not in {"on", "off"}:
            raise self._refuse(name, f"on or off, not {value!r}")
        return value == "on"

    def choice(self, name: str, default: Checks) -> Checks:
        value = self._get(name)
        if value is None:
            return default
        if value == "strict":
            return "strict"
        if value == "warn":
            return "warn"
        raise self._refuse(name, f"strict or warn, not {value!r}")

    def _split(self, name: str, value: str) -> SplitResult:
        try:
            parts = urlsplit(value)
            parts.port  # noqa: B018  (the property raises on a bad port)
        except ValueError as error:
            raise self._refuse(name, f"not a URL ({error})") from None
        return parts

    def origin(self, name: str, default: str) -> str:
        value = (self._get(name) or default).rstrip("/")
        parts = self._split(name, value)
        if (
            parts.scheme not in {"http", "https"}
            or not parts.hostname
            or parts.path
            or parts.query
            or parts.fragment
            or parts.username
        ):
            raise self._refuse(name, f"an address such as https://news.example.com is needed, not {value!r}")
        return value

    def url(self, name: str, schemes: tuple[str, ...]) -> str | None:
        value = self._get(name)
        if value is not None and self._split(name, value).scheme not in schemes:
            raise self._refuse(name, f"an address that starts with {schemes[0]}:// is needed")
        return value

    def admin_key(self, name: str) -> str | None:
        value = self._get(name)
        if value is not None and not re.fullmatch(r"mb_[\x21-\x7e]{16,253}", value):
            raise self._refuse(name, "mb_ and at least 16 printable characters are needed")
        return value

    def secret_keys(self, name: str) -> tuple[str, ...]:
        value = self._get(name)
        keys = tuple(key.strip() for key in value.split(",") if key.strip()) if value else ()
        if any(len(key) < 16 for key in keys):
            raise self._refuse(name, "each key needs at least 16 characters")
        return keys

    def mx(self, name: str) -> Mx | None:
        value = self._get(name)
        if value is None or not value.startswith("mx:"):
            return None
        parts = self._split(name, value)
        query = parse_qsl(parts.query, keep_blank_values=True)
        options = dict(query)
        unknown = options.keys() - {"source", "port"}
        if parts.netloc or parts.path or parts.fragment or unknown:
            raise self._refuse(name, "mx:, or mx:?source=192.0.2.1&source=2001:db8::1; source and port are known")
        port = options.get("port", "25")
        if not re.fullmatch(r"[0-9]{1,5}", port) or not 1 <= int(port) <= 65535:
            raise self._refuse(name, f"port is a number from 1 to 65535, not {port!r}")
        try:
            sources = [str(ip_address(text)) for key, text in query if key == "source"]
        except ValueError:
            raise self._refuse(name, "source is one of this machine's own addresses, such as 192.0.2.1") from None
        return Mx(tuple(dict.fromkeys(sources)), int(port))

    def smtp(self, name: str) -> Relay | None:
        value = self._get(name)
        if value is None:
            return None
        parts = self._split(name, value)
        query = dict(parse_qsl(parts.query))
        tls = query.pop("tls", "implicit" if parts.port == 465 else "starttls")
        connections = query.pop("connections", "100")
        if parts.scheme != "smtp" or not parts.hostname:
            raise self._refuse(
                name, "smtp://user:password@host:port?tls=starttls|implicit|none&connections=100 is needed"
            )
        if query:
            raise self._refuse(name, f"unknown option {next(iter(query))!r}; tls and connections are known")
        if tls not in {"starttls", "implicit", "none"}:
            raise self._refuse(name, f"tls is starttls, implicit or none, not {tls!r}")
        if not re.fullmatch(r"[0-9]{1,4}", connections) or not 1 <= int(connections) <= 1000:
            raise self._refuse(name, f"connections is a number from 1 to 1000, not {connections!r}")
        return Relay(
            host=parts.hostname,
            port=parts.port or (465 if tls == "implicit" else 587),
            user=unquote(parts.username) if parts.username else None,
            password=unquote(parts.password) if parts.password else None,
            tls=msgspec.convert(tls, Tls),
            connections=int(connections),
        )

    def imap(self, name: str) -> Imap | None:
        value = self._get(name)
        if value is None:
            return None
        parts = self._split(name, value)
        query = dict(parse_qsl(parts.query))
        tls = "implicit" if parts.scheme == "imaps" else query.pop("tls", "starttls")
        done = query.pop("done", "keep")
        if parts.scheme not in {"imap", "imaps"} or not parts.hostname or not parts.username or not parts.password:
            raise self._refuse(name, "imaps://user:password@host:port/INBOX?done=keep|delete is needed")
        if query:
            raise self._refuse(name, f"unknown option {next(iter(query))!r}; done is known, and tls with imap://")
        if tls not in {"implicit", "starttls", "none"}:
            raise self._refuse(name, f"tls is starttls or none, not {tls!r}")
        if done not in {"keep", "delete"}:
            raise self._refuse(name, f"done is keep or delete, not {done!r}")
        return Imap(
            host=parts.hostname,
            port=parts.port or (993 if tls == "implicit" else 143),
            user=unquote(parts.username),
            password=unquote(parts.password),
            folder=unquote(parts.path.lstrip("/")) or "INBOX",
            tls=msgspec.convert(tls, Tls),
            done="delete" if done == "delete" else "keep",
        )

    def servers(self, name: str) -> tuple[tuple[str, int], ...]:
        value = self._get(name)
        found: list[tuple[str, int]] = []
        for item in value.split(",") if value else ():
            text = item.strip()
            match = re.fullmatch(
                r"\[([0-9a-fA-F:]+)\](?::([0-9]{1,5}))?|([0-9a-fA-F]*:[0-9a-fA-F]*:[0-9a-fA-F:]*)|([A-Za-z0-9][A-Za-z0-9.-]*)(?::([0-9]{1,5}))?",
                text,
            )
            host, port = (match[1] or match[3] or match[4], int(match[2] or match[5] or 53)) if match else ("", 0)
            address = _address(host) if 1 <= port <= 65535 else None
            if address is None:
                raise self._refuse(
                    name, f"hosts such as 9.9.9.9, 127.0.0.1:5353 or a name this machine knows are needed, not {text!r}"
                )
            found.append((address, port))
        return tuple(found)

    def hostname(self, name: str, default: str) -> str:
        value = self._get(name) or default
        if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?|::1", value):
            raise self._refuse(name, f"a host name is needed, not {value!r}")
        return value.lower()

    def networks(self, name: str) -> tuple[IPv4Network | IPv6Network, ...]:
        value = self._get(name)
        try:
            return tuple(ip_network(item.strip(), strict=False) for item in value.split(",")) if value else ()
        except ValueError as error:
            raise self._refuse(name, str(error)) from None


def _address(host: str) -> str | None:
    """Return a host's address; a name is looked up by the system, once (a container's neighbour, say)."""
    try:
        return str(ip_address(host))
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_DGRAM) if not host.replace(".", "").isdigit() else []
    except (OSError, UnicodeError):
        return None
    # A resolver on this machine listens on 127.0.0.1 more often than on ::1.
    return str(min(found, key=lambda one: one[0] != socket.AF_INET)[4][0]) if found else None
