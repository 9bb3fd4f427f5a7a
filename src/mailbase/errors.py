"""What can be refused, and in which words.

The tree below is the whole of it. Nouns raise these; ``app.py`` alone knows which HTTP status each one becomes.

* MailbaseError
  x Invalid            a value that cannot be accepted; every bad field is named       (422, or 400 for ``malformed``)
    - Malformed        not parseable, wrong type, unknown field or parameter           (400)
  x NotFound           there is no such thing (or the asker may not know)              (404)
  x Gone               there was such a thing; its time is over                        (410)
  x Conflict           the state or a uniqueness forbids it                            (409)
  x TooLarge           more bytes than the route takes                                 (413)
  x RateLimited        later; ``retry_after`` says when                                (429)
  x Unauthorized       no key, or not one of ours                                      (401)
  x Forbidden          the key lacks the scope                                         (403)
  x Unavailable        something below is down; nothing was changed                    (503)
  x ConfigError        a setting stops the start; one line names it                    (no HTTP)
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import msgspec


class FieldError(msgspec.Struct, frozen=True):
    """One bad field: a dotted path into the body (``consents.0.text``), a stable word, and a sentence."""

    field: str
    code: str
    message: str


class MailbaseError(Exception):
    """Something was refused. ``code`` is a stable machine word, the message a sentence for people."""

    code = "error"

    def __init__(self, message: str | None = None, *, code: str | None = None) -> None:
        self.message = message or (self.__doc__ or "").strip()
        if code is not None:
            self.code = code
        super().__init__(self.message)


class Invalid(MailbaseError):
    """A value cannot be accepted."""

    code = "invalid"

    def __init__(
        self, message: str | None = None, *, code: str | None = None, errors: Sequence[FieldError] = ()
    ) -> None:
        super().__init__(message or (errors[0].message if errors else None), code=code)
        self.errors = tuple(errors)

    @classmethod
    def field(cls, field: str, code: str, message: str) -> "Invalid":
        """Return the refusal of a single field; the problem carries the field's own code."""
        return cls(message, code=code, errors=[FieldError(field, code, message)])


@contextmanager
def gathered(errors: list[FieldError]) -> Iterator[None]:
    """Keep a refusal in ``errors`` instead of raising it, so that all of them are said at once."""
    try:
        yield
    except Invalid as error:
        errors.extend(error.errors or [FieldError("", error.code, error.message)])


class Malformed(Invalid):
    """The request cannot be read."""

    code = "malformed"


class NotFound(MailbaseError):
    """There is nothing here."""

    code = "not_found"


class Gone(MailbaseError):
    """This is no longer valid."""

    code = "gone"


class Conflict(MailbaseError):
    """The present state does not allow this."""

    code = "conflict"


class TooLarge(MailbaseError):
    """The request body is too large."""

    code = "too_large"


class RateLimited(MailbaseError):
    """Too many requests."""

    code = "rate_limited"

    def __init__(self, message: str | None = None, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unauthorized(MailbaseError):
    """A valid API key is needed."""

    code = "unauthorized"


class Forbidden(MailbaseError):
    """The API key does not carry the scope this needs."""

    code = "forbidden"


class Unavailable(MailbaseError):
    """Something this needs is not reachable just now; nothing was changed."""

    code = "unavailable"


class ConfigError(MailbaseError):
    """A setting is wrong."""

    code = "config"


CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def harmless(text: str) -> str:
    """Return strangers' words as they may stand in a log or on a terminal: on one line, moving no cursor."""
    return CONTROL.sub(" ", text)
