"""The HTTP application: every door, and what surrounds each request.

``create_app(settings)`` is the whole of it. A request passes through: its id, HEAD and encoded slashes, the transaction (``Mailbase``)
→ routing → the key and ``Idempotency-Key`` (``/v1``) → guards → the handler. Whatever is raised becomes a problem here, in ``refuse``.
"""

import asyncio
import logging
import re
import secrets
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote

import asyncpg
import msgspec
from litestar import Litestar, Request, Response, Router
from litestar.di import Provide
from litestar.exceptions import HTTPException, ValidationException
from redis.asyncio import Redis

from mailbase import metrics
from mailbase.api import openapi
from mailbase.api.bodies import SHAPE, StrictRequest, refusal
from mailbase.api.common import BODILESS, QUERY, Answer, provide_page, strict
from mailbase.api.idempotency import Authenticate, Idempotency
from mailbase.audience import keys
from mailbase.audience.form_tally import Tally
from mailbase.audience.gathering import running
from mailbase.audience.known_forms import KnownForms
from mailbase.config import Settings
from mailbase.db import Connection, Pool, open_pool
from mailbase.doors import KEYED, PUBLIC
from mailbase.errors import (
    ConfigError,
    Conflict,
    FieldError,
    Forbidden,
    Gone,
    Invalid,
    MailbaseError,
    Malformed,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthorized,
    Unavailable,
)
from mailbase.http import (
    HEAD,
    PROBLEM,
    REQUEST_ID,
    SLASH,
    WORK,
    Problem,
    Work,
    preferred,
    request_id,
    work_of,
)
from mailbase.optin.intake import Intake
from mailbase.optin.mail_hosts import MailHosts
from mailbase.optin.protection import Guard
from mailbase.outgoing import Outgoing
from mailbase.pages.words import with_files
from mailbase.queue import Wake
from mailbase.sending.providers.lookup import DnsHosts
from mailbase.signals.record import early, recorder
from mailbase.tokens import Tokens
from mailbase.vault import CANARY, ERASURE_KEY, Vault, open_secret
from mailbase.web import (
    track,
)
from mailbase.web.common import dress, refusal_page
from mailbase.web.waking import waking

logger = logging.getLogger(__name__)

BODY_LIMIT: Final = 1024 * 1024
POOL_SIZE: Final = 10

STATUS: Final[dict[type[BaseException], int]] = {
    Malformed: 400,
    Invalid: 422,
    NotFound: 404,
    Gone: 410,
    Conflict: 409,
    TooLarge: 413,
    RateLimited: 429,
    Unauthorized: 401,
    Forbidden: 403,
    Unavailable: 503,
    asyncpg.DataError: 422,
    asyncpg.PostgresConnectionError: 503,
    asyncpg.InterfaceError: 503,
    asyncpg.OperatorInterventionError: 503,
    asyncpg.TransactionRollbackError: 503,  # a deadlock, and this was the one to give way
    asyncpg.InsufficientResourcesError: 503,
    ConnectionError: 503,
    TimeoutError: 503,
}
"""Which status each refusal becomes; anything else is a 500."""

CODES: Final = {
    400: "malformed",
    401: "unauthorized",
    403: "forbidden",
    404: "not_found",
    405: "method_not_allowed",
    413: "too_large",
    415: "unsupported_media_type",
    422: "invalid",
    503: "unavailable",
}
DETAILS: Final = {
    404: "There is nothing here.",
    413: "The request body is too large.",
    422: "A value cannot be stored: a number out of range, or text with characters PostgreSQL does not hold.",
    503: "Something this needs is not reachable just now; nothing was changed. Try again.",
}


class _Later(Wake):
    """Wakes a job once the request's transaction has committed."""

    def __init__(self, wake: Wake, work: Work) -> None:
        self._wake = wake
        self._work = work

    async def job(self, job_id: int) -> None:
        """Remember the job until then."""
        self._work.after_commit(partial(self._wake.job, job_id))


class Mailbase(Litestar):
    """Litestar with what must happen before routing and after the last handler."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Serve one connection."""
        if scope["type"] != "http":
            await super().__call__(scope, receive, send)
        elif door := track.DOORS.get(scope["path"][:3]):
            await self._track(door, scope, receive, send)
        else:
            await self._serve(super().__call__, scope, receive, send)

    async def _track(self, door: track.Door, scope: Any, receive: Any, send: Any) -> None:
        started = time.perf_counter()
        try:
            status, headers, body = await door.answer(self.state, scope)
        except Exception as error:  # noqa: BLE001 — refused like everybody's
            await self._serve(partial(_refused, error), scope, receive, send)
            return
        headers = [*headers, (b"x-request-id", secrets.token_hex(8).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        body = b"" if scope["method"] == "HEAD" else body
        await send({"type": "http.response.body", "body": body, "more_body": False})
        metrics.answered(scope["method"], door.name, status, time.perf_counter() - started)

    async def _serve(self, inner: Any, scope: Any, receive: Any, send: Any) -> None:
        started = time.perf_counter()
        work = Work(self.state.pool)
        scope["app"] = scope["litestar_app"] = self  # for refusals that come before routing, too
        method = scope["method"]
        head = method == "HEAD"
        scope["state"] = {**scope.get("state", {}), WORK: work, REQUEST_ID: secrets.token_hex(8), HEAD: head}
        if head:
            scope["method"] = "GET"
        raw_path = (scope.get("raw_path") or b"").partition(b"?")[0]
        if b"%2f" in raw_path.lower():
            scope["path"] = unquote(re.sub("(?i)%2f", SLASH, raw_path.decode("latin-1")))
        status = 0

        async def leave(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                await work.finish(commit=message["status"] < 400)
                status = message["status"]
                _add_headers(scope, message, self.state.methods)
            elif head:
                message = {**message, "body": b""}
            await send(message)

        try:
            await inner(scope, receive, leave)
        except Exception as error:
            if status:
                logger.exception("request %s broke off", request_id(scope))
                raise
            cause = (
                error.__cause__
                if type(error).__name__ == "LitestarException" and isinstance(error.__cause__, Exception)
                else error
            )
            await work.finish(commit=False)
            request: Request[Any, Any, Any] = Request(scope)
            response = refuse(request, cause).to_asgi_response(app=None, request=request)
            await response(scope, receive, leave)
        finally:
            await work.finish(commit=False)
            seconds = time.perf_counter() - started
            route = scope.get("path_template", "none")
            metrics.answered(method, route, status, seconds)
            logger.debug("%s %s %d %.1f ms", method, route, status, seconds * 1000)


async def _refused(error: Exception, *_: Any) -> None:
    raise error


def _add_headers(scope: Any, message: Any, methods: Mapping[str, str]) -> None:
    if scope["method"] == "OPTIONS":  # Litestar's own answer knows the first handler of a path only
        allowed = methods.get(scope.get("path_template", ""), "")
        message["headers"] = [
            (name, allowed.encode() if name == b"allow" and allowed else value) for name, value in message["headers"]
        ]
    present = {name.lower() for name, _ in message["headers"]}
    wanted = [(b"x-request-id", request_id(scope).encode()), (b"x-content-type-options", b"nosniff")]
    if scope["path"].startswith("/v1/"):
        wanted.append((b"cache-control", b"no-store"))
    message["headers"] = [*message["headers"], *(pair for pair in wanted if pair[0] not in present)]


def refuse(request: Request[Any, Any, Any], error: Exception) -> Response[Any]:
    """Turn whatever was raised into a problem; what nobody expected is logged once, by the request's id."""
    scope = request.scope
    headers: dict[str, str] = {}
    errors: tuple[FieldError, ...] = ()
    detail = code = ""
    if isinstance(error, ValidationException):
        error = _from_litestar(error)
    if isinstance(error, HTTPException):
        status = error.status_code
        headers.update(error.headers or {})
        detail = error.detail if status in {400, 415} else ""
    else:
        status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    if isinstance(error, MailbaseError) and status != 500:
        detail, code = error.message, error.code
    if isinstance(error, Invalid):
        errors = error.errors
    if isinstance(error, RateLimited):
        headers["Retry-After"] = str(error.retry_after)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    if status == 413:  # the rest of the body stays unread, so no second request can follow on this connection
        headers["Connection"] = "close"
    if status >= 500:
        logger.error(
            "request %s: %s", request_id(scope), type(error).__name__, exc_info=error if status == 500 else None
        )
    phrase = HTTPStatus(status).phrase
    code = code or CODES.get(status, "error")
    problem = Problem(
        type="about:blank",
        title=phrase,
        status=status,
        detail=detail or DETAILS.get(status, f"{phrase}."),
        code=code if status != 500 else "internal",
        request_id=request_id(scope),
        errors=errors,
    )
    if not scope["path"].startswith("/v1/") and preferred(scope) == "html":
        return refusal_page(request, status, headers=headers)
    return Response(msgspec.json.encode(problem), status_code=status, headers=headers, media_type=PROBLEM)


def _from_litestar(error: ValidationException) -> Invalid:
    # A handler's argument is `class_` where the parameter's name is a word of Python.
    found = [
        refusal(str(item.get("key", "body")).removesuffix("_"), str(item["message"]))
        for item in error.extra or []
        if isinstance(item, dict)
    ]
    if any(one.field == "data" for one in found):
        return Malformed("This needs a JSON body.")
    if not found:
        return Malformed(error.detail)
    shape = [one for one in found if one.code in SHAPE]
    if shape:
        return Malformed(errors=shape)
    return Invalid("The query holds values that cannot be accepted.", errors=found)


async def _db(request: Request[Any, Any, Any]) -> Connection:
    return await work_of(request.scope).connection()


async def _wake(request: Request[Any, Any, Any]) -> Wake:
    return _Later(request.app.state.wake, work_of(request.scope))


def _state(name: str) -> Provide:
    async def provide(request: Request[Any, Any, Any]) -> Any:
        return request.app.state[name]

    return Provide(provide)


def create_app(settings: Settings) -> Mailbase:
    """Return the application; its lifespan opens the pool and proves the secret key.

    ``settings`` is complete: it names a database and at least one secret key.

    Raises:
        ConfigError: a language's file cannot be used.

    """
    tables = with_files(settings.data_dir / "locales")

    @asynccontextmanager
    async def lifespan(app: Litestar) -> AsyncGenerator[None]:
        state = app.state
        state.settings = settings
        state.tables, state.look = tables, None
        state.forms = KnownForms()
        state.tokens = Tokens(settings.secret_keys)
        state.vault = Vault(settings.secret_keys)
        state.wake = Wake(settings.redis_url)
        state.outgoing = Outgoing(allow_private=settings.outgoing_private)
        state.redis = Redis.from_url(
            settings.redis_url or "redis://127.0.0.1:1", socket_connect_timeout=0.5, socket_timeout=0.5
        )
        state.idempotent = asyncio.Semaphore(POOL_SIZE // 2)
        if settings.database_url is None:
            raise ConfigError("MAILBASE_DATABASE_URL: no database is named")
        try:
            async with (
                open_pool(settings.database_url, size=POOL_SIZE, name="mailbase api") as pool,
                open_pool(settings.database_url, size=2, name="mailbase api", by_index=True) as by_index,
            ):
                state.pool, state.intake, state.tally = pool, Intake(by_index), Tally(by_index)
                await _prepare(pool, settings, state)
                state.guard = Guard(
                    redis=state.redis,
                    tokens=state.tokens,
                    secrets=settings.secret_keys,
                    erasure_key=state.erasure_key,
                    # Letters to the outbox reach nobody, so nobody's DNS is asked.
                    hosts=None if settings.to_outbox else MailHosts(DnsHosts(settings.dns_servers)),
                    counting=settings.form_limits,
                )
                async with (
                    recorder(pool, early=early(settings)) as state.recorder,
                    waking(pool) as state.waking,
                    running(state.intake, state.tally),
                ):
                    yield
        finally:
            await state.wake.close()
            await state.redis.aclose()

    keyed = Router(
        "/v1",
        route_handlers=[handler for door in KEYED for handler in door.ROUTES],
        middleware=[Authenticate(), Idempotency()],
        guards=[strict],
        request_class=StrictRequest,
        dependencies={"page": Provide(provide_page)},
    )
    app = Mailbase(
        route_handlers=[keyed, *(handler for door in PUBLIC for handler in door.ROUTES)],
        lifespan=[lifespan],
        before_request=dress,
        dependencies={
            "db": Provide(_db),
            "wake": Provide(_wake),
            **{name: _state(name) for name in ("pool", "settings", "tokens", "vault", "erasure_key", "redis")},
        },
        exception_handlers={Exception: refuse, 500: refuse},
        response_class=Answer,
        request_max_body_size=BODY_LIMIT,
        logging_config=None,
        openapi_config=openapi.config(),
    )
    app.state.methods = {route.path_format: ", ".join(sorted(route.methods)) for route in app.routes}
    for route in app.routes:
        for handler, model in getattr(route, "route_handler_map", {}).values():
            handler.opt[QUERY] = {one.field_alias: one.is_sequence for one in model.expected_query_params}
            reads = {"data", "request"} & handler.parsed_fn_signature.parameters.keys()
            handler.opt[BODILESS] = not reads and bool({"POST", "PATCH", "PUT"} & handler.http_methods)
    return app


async def _prepare(pool: Pool, settings: Settings, state: Any) -> None:
    async with pool.acquire() as db, db.transaction():
        await open_secret(db, state.vault, CANARY)
        state.erasure_key = await open_secret(db, state.vault, ERASURE_KEY)
        if settings.admin_key:
            await keys.ensure_admin_key(db, settings.admin_key)
