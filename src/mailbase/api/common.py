"""What every resource of the keyed API uses: the scope guard, paging, strict parameters, answers in whole seconds.

A handler reads like this; what it declares is checked, documented and refused for it::

    @get("/things", guards=[scope("forms:read")], operation_id="list_things", tags=["Things"])
    async def list_things(db: NamedDependency[Connection], page: NamedDependency[Page], kind: FromQuery[str | None] = None) -> Listing[Thing]:
        found = await things.page(db, before=page.before, limit=page.take, kind=kind)
        return paged(page, found, total=await things.count(db) if page.include_total else None)

    @post("/things", guards=[scope("forms:write")], operation_id="create_thing", tags=["Things"])
    async def create_thing(db: NamedDependency[Connection], data: JSONBody[NewThing]) -> Thing: ...
"""

import hashlib
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Generic, TypeVar

import msgspec
from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import MultiDict, State
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter
from litestar.serialization import default_serializer
from litestar.types import Serializer
from msgspec import UNSET, UnsetType

from mailbase.api.bodies import StrictRequest
from mailbase.audience.keys import Bearer, Scope
from mailbase.errors import FieldError, Forbidden, Invalid, Malformed, NotFound
from mailbase.http import SLASH

LARGEST: Final = 2**63 - 1
"""The largest id PostgreSQL can hold."""
QUERY: Final = "query"
"""The key in a handler's ``opt`` under which app.py notes the query parameters it declares, and which of them are lists."""
BODILESS: Final = "bodiless"
"""The key in a handler's ``opt`` under which app.py notes that it takes no body."""

PAGING: Final = ("limit", "cursor", "include_total")
PAGE: Final = "mailbase_page"
MOST: Final = 200

T = TypeVar("T")
Connection = ASGIConnection[Any, Any, Bearer, State]


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """The base of every request body: unknown fields are refused. In a PATCH each field is ``X | UnsetType = UNSET``."""


class Scoped(msgspec.Struct, frozen=True):
    """A guard that asks for one scope; the OpenAPI document reads it too."""

    scope: Scope

    async def __call__(self, connection: Connection, _: BaseRouteHandler) -> None:
        """Let the request pass if its key carries the scope.

        Raises:
            Forbidden: it does not.

        """
        if not connection.auth.may(self.scope):
            raise Forbidden(f"This needs a key with the scope {self.scope}.")


def scope(name: Scope) -> Any:
    """Return the guard for a handler: ``guards=[scope("subscribers:read")]``."""
    return Scoped(name)


async def strict(connection: Connection, handler: BaseRouteHandler) -> None:
    """Refuse query parameters and fields nobody declared, and what PostgreSQL's text and bigint cannot hold.

    Raises:
        Malformed: an unknown parameter, a field where none is taken, a limit out of range, a cursor of another list or of none.
        Invalid: a NUL character.
        NotFound: a path that cannot name anything.

    """
    known: Mapping[str, bool] = handler.opt.get(QUERY, {})
    query = connection.query_params
    given = query.dict()
    unknown = [
        FieldError(name, "unknown_parameter", "There is no such query parameter.")
        for name in given
        if name not in known
    ]
    unknown += [
        FieldError(name, f"bad_{name}" if name in PAGING else "repeated_parameter", "This may be given once.")
        for name, values in given.items()
        if len(values) > 1 and not known.get(name, True)
    ]
    if unknown:
        raise Malformed("The query holds parameters this route does not have, or one twice.", errors=unknown)
    bad = [
        FieldError(name, "invalid_value", "Text may not contain the NUL character.")
        for name, value in query.multi_items()
        if "\0" in str(value)
    ]
    if bad:
        raise Invalid("The query holds values that cannot be accepted.", errors=bad)
    if handler.opt.get(BODILESS) and isinstance(connection, StrictRequest):
        await connection.nothing()
    if "cursor" in known:
        connection.scope["state"][PAGE] = _read_page(connection.scope["path"], query)
    for value in connection.path_params.values():
        if (isinstance(value, int) and abs(value) > LARGEST) or (isinstance(value, str) and "\0" in value):
            raise NotFound
    if SLASH in connection.scope["path"]:  # the router keeps its dictionary of parameters, so it gets a new one
        connection.scope["path_params"] = {
            name: value.replace(SLASH, "/") if isinstance(value, str) else value
            for name, value in connection.path_params.items()
        }


class Page(msgspec.Struct, frozen=True):
    """What part of a list is asked for: fetch ``take`` rows with ``id < before``, newest first, and hand them to :func:`paged`."""

    limit: int
    before: int
    include_total: bool
    path: str

    @property
    def take(self) -> int:
        """One row more than the page holds tells whether there is a next one."""
        return self.limit + 1


class Listing(msgspec.Struct, Generic[T]):
    """One page of a list."""

    data: list[T]
    next_cursor: str | None
    total: int | UnsetType = UNSET


async def provide_page(
    request: Request[Any, Any, State],
    limit: Annotated[int, QueryParameter(ge=1, le=200, description="How many at most.")] = 50,  # noqa: ARG001 (declared for the OpenAPI document)
    cursor: Annotated[str | None, QueryParameter(description="`next_cursor` of the page before.")] = None,  # noqa: ARG001
    include_total: Annotated[bool, QueryParameter(description="Count all that match, too.")] = False,  # noqa: ARG001
) -> Page:
    """Return what :func:`strict` has read."""
    page: Page = request.scope["state"][PAGE]
    return page


def _read_page(path: str, query: MultiDict[str]) -> Page:
    # Read in the guard: dependencies are resolved side by side, and one that fails would tear the transaction's start away.
    limit, cursor, total = query.get("limit", "50"), query.get("cursor"), query.get("include_total", "false")
    errors: list[FieldError] = []
    if not re.fullmatch(r"[0-9]{1,3}", limit) or not 1 <= int(limit) <= MOST:
        errors.append(FieldError("limit", "bad_limit", f"A whole number from 1 to {MOST} is needed."))
    if total not in {"true", "false"}:
        errors.append(FieldError("include_total", "bad_include_total", "true or false is needed."))
    before = LARGEST if cursor is None else _read_cursor(path, cursor)
    if before is None:
        errors.append(FieldError("cursor", "bad_cursor", "This is not a cursor of this list."))
    if errors or before is None:
        raise Malformed(errors=errors, code=errors[0].code)
    return Page(int(limit), before, total == "true", path)


def paged(
    page: Page, rows: Sequence[T], *, total: int | None = None, key: Callable[[T], int] | None = None
) -> Listing[T]:
    """Return the page and the cursor of the next; ``key`` names the id where the rows have no ``id``."""
    data = list(rows[: page.limit])
    cursor = None
    if len(rows) > page.limit:
        last: Any = data[-1]
        cursor = _cursor(page.path, key(last) if key else last.id)
    return Listing(data, cursor, UNSET if total is None else total)


def _mac(path: str, number: bytes) -> bytes:
    return hashlib.blake2s(number + path.encode(), digest_size=4, person=b"cursor").digest()


def _cursor(path: str, number: int) -> str:
    raw = number.to_bytes(8)
    return urlsafe_b64encode(raw + _mac(path, raw)).decode().rstrip("=")


def _read_cursor(path: str, text: str) -> int | None:
    try:
        raw = urlsafe_b64decode(text.encode("ascii"))
    except ValueError:
        return None
    if len(raw) != 12 or raw[8:] != _mac(path, raw[:8]):
        return None
    return int.from_bytes(raw[:8])


def seconds(value: Any) -> Any:
    """Return plain values, every time in UTC and whole seconds: ``2026-01-31T12:00:00Z``."""
    if isinstance(value, datetime):
        return value.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    if isinstance(value, dict):
        return {name: seconds(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [seconds(item) for item in value]
    return value


UNEVEN: Final = re.compile(rb"T\d\d:\d\d:\d\d(?!Z)")


def to_json(content: Any, enc_hook: Callable[[Any], Any] = default_serializer) -> bytes:
    """Return the JSON of an answer."""
    # Most answers hold whole seconds already: looking at the text is cheaper than walking through every value.
    encoded = msgspec.json.encode(content, enc_hook=enc_hook)
    if not UNEVEN.search(encoded):
        return encoded
    return msgspec.json.encode(seconds(msgspec.to_builtins(content, builtin_types=(datetime,), enc_hook=enc_hook)))


class Answer(Response[T]):
    """A response whose times are whole seconds."""

    def render(self, content: Any, media_type: str, enc_hook: Serializer = default_serializer) -> bytes:
        """Encode the body."""
        if "json" in media_type and not isinstance(content, (bytes, str)):
            return to_json(content, enc_hook)
        return super().render(content, media_type, enc_hook)
