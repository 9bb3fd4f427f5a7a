"""What a letter is made of: the sender's content going in, one person's letter coming out.

Content ──compile──▶ Compiled ──fill(Person, Tokens)──▶ Letter

Everything here is plain data: no database, no network, no clock.
"""

from typing import Any

from msgspec import Struct, field


class Sender(Struct, frozen=True):
    """Who a letter is from. The domain of ``email`` is already in A-labels."""

    name: str
    email: str


class Content(Struct, frozen=True):
    """What the sender wrote. ``mjml`` or ``html`` or neither (a letter of text alone); all are MiniJinja templates."""

    subject: str
    preheader: str | None = None
    mjml: str | None = None
    html: str | None = None
    text: str | None = None


class Person(Struct, gc=False):
    """What ``{{ subscriber.* }}`` sees. A ``None`` is the same as a missing value: ``default(…)`` applies to both."""

    id: int
    email: str
    attributes: dict[str, Any] = field(default_factory=dict)
    interests: list[str] = field(default_factory=list)
    tags: list[str] = field(default_factory=list)
    locale: str | None = None
    timezone: str | None = None


class Tokens(Struct, frozen=True, gc=False):
    """One letter's tokens, URL-safe ASCII: ``letter`` stands behind ``/l/{n}/`` and ``/o/``, the others behind ``/u/ /p/ /v/``."""

    letter: str
    unsubscribe: str
    preferences: str
    view: str


class Letter(Struct, gc=False):
    """A finished letter without the headers of its envelope.

    ``headers``: Subject and the MIME headers, values without a trailing CRLF (folded ones hold ``CRLF SP``).
    ``pieces``: the body's final bytes, most of them the same objects in every letter of a campaign; together 7-bit, CRLF, lines of at most 76, no line that starts with a dot, already canonical under
    DKIM's relaxed body canonicalisation (RFC 6376 § 3.4.4).
    """

    subject: str
    headers: list[tuple[bytes, bytes]]
    pieces: tuple[bytes, ...]

    @property
    def body(self) -> bytes:
        """The body in one."""
        return b"".join(self.pieces)


class Compiled(Struct):
    """A campaign's content, frozen: MiniJinja sources in which every link is already rewritten.

    ``links[n - 1]`` is the URL of link ``n`` (a MiniJinja source too when it holds expressions). Serialisable by
    ``msgspec.msgpack``; a :class:`~mailbase.letters.fill.Filler` made from it fills letters in.
    """

    subject: str
    text: str
    html: str | None
    links: list[str]
    base_url: str


class Rendered(Struct):
    """A letter as plain strings, before MIME."""

    subject: str
    text: str
    html: str | None


class Attachment(Struct, frozen=True):
    """A file that travels with a transactional letter."""

    filename: str
    content_type: str
    content: bytes
