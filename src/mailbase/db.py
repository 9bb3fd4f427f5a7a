"""PostgreSQL: one pool a process, JSON as JSON, and errors said once.

``Connection`` is what every noun takes first. Inside a request or a job it is already in a transaction.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
import msgspec

from mailbase.errors import Unavailable

if TYPE_CHECKING:
    Connection = asyncpg.Connection[asyncpg.Record] | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Connection = asyncpg.Connection
    Pool = asyncpg.Pool

CONNECTION_ERRORS = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.InsufficientResourcesError,
    asyncpg.PostgresSystemError,
)
"""What a restart of the server, a full disk of its, or our own freeze looks like from here: wait and try again."""


def _encode_json(value: Any) -> bytes:
    return b"\x01" + msgspec.json.encode(value)


def _decode_json(data: bytes) -> Any:
    return msgspec.json.decode(data[1:])


async def _prepare(connection: Connection) -> None:
    # Binary, because COPY takes no text codec.
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", format="binary", encoder=_encode_json, decoder=_decode_json
    )


async def _as_it_is(_connection: Connection) -> None:
    """Hand a connection on without asyncpg's reset query, a round trip each: a pool's user changes nothing of a session."""


async def connect(url: str) -> Connection:
    """Open one connection outside any pool (listeners, migrations)."""
    connection: Connection = await asyncpg.connect(
        url, timeout=10, server_settings={"application_name": "mailbase", "timezone": "UTC"}
    )
    await _prepare(connection)
    return connection


@asynccontextmanager
async def open_pool(
    url: str,
    *,
    size: int = 10,
    name: str = "mailbase",
    command_timeout: float | None = 60,
    by_index: bool = False,
    silence: float = 60,
) -> AsyncGenerator[Pool]:
    """Open the process's pool and close it again, letting running queries finish for up to five seconds.

    ``by_index``: never read a whole table where an index would do, whatever its statistics said when the plan was made; plan each
    statement once, not for its arguments anew.
    ``silence``: seconds after which PostgreSQL ends a transaction that asks for nothing. A process that is frozen in one holds
    rows that the others need.

    Raises:
        Unavailable: the server does not answer or refuses.

    """
    try:
        pool = await asyncpg.create_pool(
            url,
            min_size=1,
            max_size=size,
            timeout=10,
            command_timeout=command_timeout,
            init=_prepare,
            reset=_as_it_is,
            server_settings={
                "application_name": name,
                "timezone": "UTC",
                "jit": "off",
                "idle_in_transaction_session_timeout": str(int(silence * 1000)),
                **({"enable_seqscan": "off", "plan_cache_mode": "force_generic_plan"} if by_index else {}),
            },
        )
    except (OSError, asyncpg.PostgresError, TimeoutError) as error:
        raise Unavailable(f"PostgreSQL does not answer: {error}") from error
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), 5)
        except TimeoutError:
            pool.terminate()
