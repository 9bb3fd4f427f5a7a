"""A connection that is kept: the hot statements go without the pool's clean-up after each use; a broken one is replaced."""

import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg

from mailbase.db import CONNECTION_ERRORS, Connection, Pool


class Kept:
    """One connection of a pool for one task's statements, one after another."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self._db: asyncpg.pool.PoolConnectionProxy[asyncpg.Record] | None = None

    @asynccontextmanager
    async def connection(self) -> AsyncGenerator[Connection]:
        """Lend the connection; an error that says it is broken drops it."""
        if self._broken():
            await self.drop()
        if self._db is None:
            self._db = await self._pool.acquire()
        try:
            yield self._db
        except CONNECTION_ERRORS:
            await self.drop()
            raise

    def _broken(self) -> bool:
        try:
            return self._db is not None and self._db.is_closed()
        except asyncpg.InterfaceError:  # the pool has taken it back already
            return True

    async def drop(self) -> None:
        """Give the connection back."""
        db, self._db = self._db, None
        if db is not None:
            with contextlib.suppress(*CONNECTION_ERRORS, asyncpg.PostgresError):
                await self._pool.release(db)
