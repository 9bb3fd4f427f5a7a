"""``/healthz``, ``/readyz``, ``/metrics``: for whoever watches over the service."""

import asyncio
from typing import Any, Final, Literal

import msgspec
from litestar import Request, Response, get
from litestar.di import NamedDependency
from redis.asyncio import Redis
from redis.exceptions import RedisError

from mailbase import metrics
from mailbase.audience import keys
from mailbase.db import CONNECTION_ERRORS, Pool
from mailbase.errors import Forbidden, Unauthorized, Unavailable
from mailbase.http import header, is_local


class Health(msgspec.Struct):
    """How the service is."""

    status: Literal["ok", "degraded"]


@get("/healthz", operation_id="healthz", tags=["Health"])
async def healthz() -> Health:
    """Tell that this process runs."""
    return Health("ok")


@get("/readyz", operation_id="readyz", tags=["Health"])
async def readyz(pool: NamedDependency[Pool], redis: NamedDependency[Redis]) -> Health:
    """Tell whether requests can be answered: 503 without the database, ``degraded`` without Redis, which costs speed only."""
    try:
        async with asyncio.timeout(3):
            await pool.fetchval("SELECT 1")
    except (*CONNECTION_ERRORS, TimeoutError) as error:
        raise Unavailable("PostgreSQL does not answer.") from error
    try:
        async with asyncio.timeout(1):
            await redis.ping()
    except (OSError, RedisError, TimeoutError):
        return Health("degraded")
    return Health("ok")


@get("/metrics", operation_id="metrics", tags=["Health"], media_type="text/plain")
async def get_metrics(request: Request[Any, Any, Any], pool: NamedDependency[Pool]) -> Response[bytes]:
    """Return what Prometheus reads: from this machine without a key, from elsewhere with one that has `stats:read`."""
    async with pool.acquire(timeout=10) as db:
        if not is_local(request.scope):
            scheme, _, secret = header(request.scope, b"authorization").partition(" ")
            if scheme.lower() != "bearer":
                raise Unauthorized
            if not (await keys.authenticate(db, secret.strip())).may("stats:read"):
                raise Forbidden
        return Response(await metrics.exposition(db), media_type="text/plain; version=0.0.4")


ROUTES: Final = [healthz, readyz, get_metrics]
