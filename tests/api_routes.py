"""What every test of the keyed API asks for."""

from collections.abc import Iterable

import httpx

from mailbase.api.common import QUERY, Scoped
from mailbase.app import Mailbase

PARAMETERS = {
    "int": "987654321",
    "str": "nobody@example.com",
    "uuid": "00000000-0000-0000-0000-000000000000",
    "path": "x",
}


class Route:
    """One method of one path, as the application itself declares it."""

    def __init__(self, method: str, path: str, handler, *, big: bool = False) -> None:
        self.method, self.template, self.handler = method, path, handler
        self.url = "".join(_pieces(path, big=big))

    @property
    def keyed(self) -> bool:
        return self.template.startswith("/v1/")

    @property
    def scope(self) -> str | None:
        return next((guard.scope for guard in self.handler.resolve_guards() if isinstance(guard, Scoped)), None)

    @property
    def listing(self) -> bool:
        return "cursor" in self.handler.opt.get(QUERY, ())

    @property
    def json_body(self) -> bool:
        field = self.handler.parsed_data_field
        return bool(
            field
            and field.kwarg_definition
            and "json" in str(getattr(field.kwarg_definition, "media_type", "json")).lower()
        )

    def __repr__(self) -> str:
        return f"{self.method} {self.template}"


def _pieces(path: str, *, big: bool) -> Iterable[str]:
    for part in path.split("/")[1:]:
        yield "/"
        if part.startswith("{"):
            kind = part.strip("{}").partition(":")[2] or "str"
            yield "9" * 25 if big and kind == "int" else PARAMETERS[kind]
        else:
            yield part


def routes(app: Mailbase) -> list[Route]:
    """Return every route of the application, straight from its table."""
    return [
        Route(method, route.path, handler)
        for route in app.routes
        for method, (handler, _) in getattr(route, "route_handler_map", {}).items()
        if method != "OPTIONS" and handler.resolve_include_in_schema()
    ]


def assert_problem(answer: httpx.Response, status: int, code: str | None = None) -> dict:
    """Hold an answer to RFC 9457 and to ours."""
    assert answer.status_code == status, (
        f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text}"
    )
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert (
        {"type", "title", "status", "detail", "code", "request_id"}
        <= problem.keys()
        <= {"type", "title", "status", "detail", "code", "request_id", "errors"}
    )
    assert problem["status"] == status
    assert problem["request_id"] == answer.headers["x-request-id"]
    assert problem["detail"]
    assert all(error.keys() == {"field", "code", "message"} for error in problem.get("errors", []))
    if code is not None:
        assert problem["code"] == code
    return problem
