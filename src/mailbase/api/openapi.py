"""The OpenAPI document: what Litestar derives from the handlers, and what it cannot know.

Added to every operation: the key and scope it needs, every error it may answer (a problem), and an example of each body.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from litestar import Litestar
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import OpenAPIRenderPlugin
from litestar.openapi.spec import Tag
from litestar.serialization import default_serializer

from mailbase import __version__
from mailbase.api.common import Scoped
from mailbase.http import PROBLEM

WORDS: Final = {
    400: "Not readable: bad JSON, a wrong type, a missing or unknown field or parameter, a bad cursor or limit.",
    401: "No key, or not a valid one.",
    403: "The key lacks the scope.",
    404: "There is no such thing.",
    409: "The state or a uniqueness forbids it; or the Idempotency-Key is in use or was used for something else.",
    410: "It is no longer valid.",
    413: "The body is too large.",
    415: "The body is of another content type.",
    422: "Right shape, unacceptable values; `errors` names every one.",
    429: "Too many requests; see `Retry-After`.",
    503: "The database is not reachable just now; nothing was changed.",
}
KEYED: Final = (400, 401, 403, 404, 409, 413, 415, 422, 429, 503)
PUBLIC: Final = (400, 404, 410, 413, 415, 422, 429, 503)
DESCRIPTION: Final = """Subscription forms and email newsletters, headless and self-hosted.

Send `Authorization: Bearer mb_…` with every request under `/v1`. Errors are problems (RFC 9457) with a stable `code`. Lists are
paged: `limit`, then `cursor` with the `next_cursor` of the page before. Any POST under `/v1` may carry an `Idempotency-Key`; asked again within
24 hours, it gets the stored answer. Times are UTC: `2026-01-31T12:00:00Z`."""
PROBLEM_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Problem",
    "required": ["type", "title", "status", "detail", "code", "request_id"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "code": {"type": "string", "description": "A stable word for programs."},
        "request_id": {"type": "string"},
        "errors": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["field", "code", "message"],
                "properties": {"field": {"type": "string"}, "code": {"type": "string"}, "message": {"type": "string"}},
            },
        },
    },
}
SAMPLES: Final = {
    "email": "ada@example.com",
    "name": "Ada",
    "subject": "Fresh bread on Saturday",
    "domain": "example.com",
    "slug": "bread",
    "locale": "en",
    "timezone": "Europe/Berlin",
    "url": "https://example.com/",
    "policy_url": "https://example.com/privacy",
    "text": "I want to receive the newsletter.",
    "purpose": "newsletter",
    "html": "<p>Hello</p>",
    "mjml": "<mjml><mj-body><mj-section><mj-column><mj-text>Hello</mj-text></mj-column></mj-section></mj-body></mjml>",
    "status": "queued",
}


MULTIPART: Final[dict[str, dict[str, Any]]] = {
    "create_import": {
        "file": {"type": "string", "format": "binary", "description": "The CSV file."},
        "options": {
            "type": "string",
            "contentMediaType": "application/json",
            "description": "What to do with it.",
            "examples": ['{"consent": {"purpose": "newsletter", "text": "I want to receive the newsletter."}}'],
        },
    },
    "put_lead_magnet": {
        "file": {"type": "string", "format": "binary", "description": "The file, at most 25 MB."},
    },
}
"""Bodies that are streamed by hand, which Litestar does not see."""

WHOLE: Final = {"create_inbound": "message/rfc822", "put_logo": "image/png"}
"""Bodies that are taken as they are, by their content type."""


class JsonPlugin(OpenAPIRenderPlugin):
    """Serves the finished document."""

    def __init__(self) -> None:
        super().__init__(path="/openapi.json", media_type="application/json")  # type: ignore[arg-type]

    def render(self, request: Any, _: Mapping[str, Any]) -> bytes:
        """Return the document's JSON."""
        return msgspec.json.encode(document(request.app))


def config() -> OpenAPIConfig:
    """Return what Litestar needs to know."""
    tags = "Subscribers Interests Imports Suppressions Forms Submissions Campaigns Messages Domains Statistics Signals Jobs Settings Keys Public Outbox Health"
    return OpenAPIConfig(
        title="mailbase",
        version=__version__,
        description=DESCRIPTION,
        path="/schema",
        use_handler_docstrings=True,
        render_plugins=[JsonPlugin()],
        tags=[Tag(name=name) for name in tags.split()],
    )


def document(app: Litestar) -> dict[str, Any]:
    """Return the document, made once a process."""
    made: dict[str, Any] | None = getattr(app.state, "openapi", None)
    if made is None:
        made = app.state.openapi = _complete(app)
    return made


def _complete(app: Litestar) -> dict[str, Any]:
    raw = msgspec.json.encode(app.openapi_schema.to_schema(), enc_hook=default_serializer)
    schema: dict[str, Any] = msgspec.json.decode(raw)
    components = schema.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    schemas["Problem"] = PROBLEM_SCHEMA
    components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer", "description": "An API key: mb_…"}}
    scopes = {
        handler.operation_id: _scope(handler)
        for route in app.routes
        for handler, _ in getattr(route, "route_handler_map", {}).values()
    }
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            if method in {"get", "post", "put", "patch", "delete"}:
                _describe(path, method, operation, scopes.get(operation.get("operationId")), schemas)
    return schema


def _scope(handler: Any) -> str | None:
    return next((guard.scope for guard in handler.resolve_guards() if isinstance(guard, Scoped)), None)


def _describe(path: str, method: str, operation: dict[str, Any], scope: str | None, schemas: Mapping[str, Any]) -> None:
    keyed = path.startswith("/v1/")
    operation["summary"] = operation.get("operationId", "").replace("_", " ").capitalize()
    for parameter in operation.get("parameters", []):
        _present(parameter)
    if parts := MULTIPART.get(operation.get("operationId", "")):
        schema = {"type": "object", "required": list(parts), "properties": parts}
        operation["requestBody"] = {"required": True, "content": {"multipart/form-data": {"schema": schema}}}
    if whole := WHOLE.get(operation.get("operationId", "")):
        content = {whole: {"schema": {"type": "string", "contentMediaType": whole, "minLength": 1}}}
        operation["requestBody"] = {"required": True, "content": content}
    responses = operation.setdefault("responses", {})
    if method == "put" and "200" in responses:  # an upsert that creates says so
        responses.setdefault("201", {**responses["200"], "description": "Created."})
    _refusals(path, method, operation, keyed=keyed)
    if keyed:
        _needs_key(method, operation, scope, schemas)
    bodies = [
        operation.get("requestBody", {}),
        *(answer for status, answer in responses.items() if status.startswith("2")),
    ]
    for body in bodies:
        media = body.get("content", {}).get("application/json")
        if media and media.get("schema") == {"type": "string"}:
            media["schema"] = {"type": "object"}  # rendered by the handler itself
        if media and "schema" in media and "example" not in media and "examples" not in media:
            media["example"] = example(media["schema"], schemas)


def _refusals(path: str, method: str, operation: dict[str, Any], *, keyed: bool) -> None:
    responses = operation["responses"]
    for status in _statuses(path, method, operation, keyed=keyed):
        content = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}
        if not keyed:
            content["text/html"] = {"schema": {"type": "string"}}
        if str(status) in responses and PROBLEM not in responses[str(status)].get("content", {}) and status != 400:
            responses[str(status)].setdefault("content", {}).update(content)
        else:
            responses[str(status)] = {"description": WORDS[status], "content": content}


def _needs_key(method: str, operation: dict[str, Any], scope: str | None, schemas: Mapping[str, Any]) -> None:
    _close(operation.get("requestBody", {}), schemas)
    operation["security"] = [{"key": []}]
    if scope:
        operation["x-scope"] = scope
        operation["description"] = f"{operation.get('description', '')}\n\nScope: `{scope}`.".strip()
    if method == "post":
        key = {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"}
        header = {"name": "Idempotency-Key", "in": "header", "required": False, "schema": key}
        operation.setdefault("parameters", []).append(header)


def _close(node: Any, schemas: Mapping[str, Any]) -> None:
    """Say of every object in a body that it takes no other fields."""
    if isinstance(node, list):
        for item in node:
            _close(item, schemas)
    elif isinstance(node, dict):
        if reference := node.get("$ref"):
            _close(schemas[reference.rpartition("/")[2]], schemas)
        elif "properties" in node:
            if "additionalProperties" in node:
                return  # seen already
            node["additionalProperties"] = False
        for item in node.values():
            _close(item, schemas)


def _present(parameter: dict[str, Any]) -> None:
    """A parameter in a URL is there or not there; it is never null."""
    schema = parameter.get("schema", {})
    choices = [one for one in schema.get("oneOf", ()) if one.get("type") != "null"]
    if len(choices) == 1:
        parameter["schema"] = {
            **choices[0],
            **{key: value for key, value in schema.items() if key not in {"oneOf", "description"}},
        }


def _statuses(path: str, method: str, operation: Mapping[str, Any], *, keyed: bool) -> list[int]:
    wanted = set(KEYED if keyed else PUBLIC)
    if method in {"get", "delete"}:
        wanted -= {413, 415}
        if not operation.get("parameters"):
            wanted -= {422}
    if keyed and method == "get":
        wanted -= {409, 429}
    if "{" not in path:
        wanted -= {404, 410} if method == "get" or not keyed else {410}
    if path in {"/healthz", "/docs"}:
        wanted = {503} & wanted
    elif path == "/metrics":
        wanted = {401, 403, 503}
    return sorted(wanted)


def example(schema: Mapping[str, Any], schemas: Mapping[str, Any], *, name: str = "", depth: int = 0) -> Any:
    """Return a plausible value of a schema, short: required fields, and those that bring an example."""
    if reference := schema.get("$ref"):
        return example(schemas[reference.rpartition("/")[2]], schemas, name=name, depth=depth + 1)
    for key in ("examples", "example", "default", "const", "enum"):
        if key in schema:
            found = schema[key]
            return (
                found[0]
                if key in {"examples", "enum"} and isinstance(found, Sequence) and not isinstance(found, str)
                else found
            )
    for key in ("oneOf", "anyOf", "allOf"):
        if schema.get(key):
            choices = [one for one in schema[key] if one.get("type") != "null"]
            return example(choices[0], schemas, name=name, depth=depth) if choices else None
    kinds = schema.get("type", "object")
    kind = next((one for one in kinds if one != "null"), "null") if isinstance(kinds, list) else kinds
    if kind == "object":
        required = set(schema.get("required", ()))
        fields = schema.get("properties", {})
        return {
            field: example(inner, schemas, name=field, depth=depth + 1)
            for field, inner in fields.items()
            if depth < 8 and (field in required or "examples" in inner)
        }
    if kind == "array":
        items = schema.get("items")
        return [example(items, schemas, name=name.removesuffix("s"), depth=depth + 1)] if items and depth < 8 else []
    if kind == "string":
        formats = {
            "date-time": "2026-01-31T12:00:00Z",
            "date": "2026-01-31",
            "email": SAMPLES["email"],
            "uri": SAMPLES["url"],
        }
        return formats.get(schema.get("format", "")) or SAMPLES.get(name) or "text"
    return {"integer": max(1, int(schema.get("minimum", 1))), "number": 1.5, "boolean": True}.get(kind)
