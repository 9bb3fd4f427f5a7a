"""Reading what a public form sends: urlencoded, multipart or JSON, always as name → list of values."""

from typing import Any, Final
from urllib.parse import parse_qs

import msgspec
from litestar.exceptions import ClientException, HTTPException

from mailbase.errors import Malformed, TooLarge
from mailbase.web.common import AnyRequest

LARGEST: Final = 128 * 1024
MOST_FIELDS: Final = 500

URLENCODED: Final = "application/x-www-form-urlencoded"
MULTIPART: Final = "multipart/form-data"

Values = dict[str, list[Any]]


async def read(request: AnyRequest) -> Values:
    """Return the fields of a request; files are left out.

    Raises:
        HTTPException: 415, another content type.
        Malformed: not what its content type says.
        TooLarge: more than 128 kB.

    """
    body = await request.body()
    if len(body) > LARGEST:
        raise TooLarge(f"A form sends at most {LARGEST // 1024} kB.")
    kind = request.content_type[0].lower()
    if kind == "application/json":
        return json_values(body)
    if kind == URLENCODED:
        return _urlencoded(body)
    if kind == MULTIPART:
        return await _multipart(request)
    if not body and not kind:
        return {}
    raise HTTPException(status_code=415, detail="Send a form, urlencoded or multipart, or JSON.")


def json_values(body: bytes) -> Values:
    """Return the members of a JSON object.

    Raises:
        Malformed: anything else.

    """
    try:
        found = msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, RecursionError):
        raise Malformed("The body is not a JSON object.") from None
    return {name: value if isinstance(value, list) else [value] for name, value in found.items()}


def _urlencoded(body: bytes) -> Values:
    try:
        return dict(parse_qs(body.decode(), keep_blank_values=True, max_num_fields=MOST_FIELDS, errors="strict"))
    except ValueError:
        raise Malformed("The body is not an urlencoded form in UTF-8.") from None


async def _multipart(request: AnyRequest) -> Values:
    try:
        form = await request.form()
    except (ClientException, ValueError, KeyError):
        raise Malformed("The body is not a multipart form.") from None
    values: Values = {}
    for name, value in form.multi_items():
        if isinstance(value, str):
            values.setdefault(name, []).append(value)
    return values
