"""The examination: everything looked at, one after the other; nothing is changed, and nothing that fails stops the rest."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime

import asyncpg
from msgspec import Struct, structs

from mailbase import db as database_module
from mailbase import resources, servers
from mailbase.config import Settings
from mailbase.db import Connection
from mailbase.doctor import database, domain, forms, machine, stops, way_out, web
from mailbase.doctor.findings import About, Finding, Report, report
from mailbase.errors import ConfigError, MailbaseError
from mailbase.sending.dns import DnsResolver
from mailbase.sending.relays import relays
from mailbase.vault import Vault

PATIENCE = 45.0
"""Seconds for one part of the examination."""


class Tools(Struct, frozen=True, kw_only=True):
    """What the examination looks with."""

    resolver: DnsResolver
    context: ssl.SSLContext
    """Certificate authorities."""
    now: Callable[[], datetime] = machine.utc_now
    time_server: tuple[str, int] | None = machine.TIME_SERVER
    """None: nobody outside is asked for the time."""


def tools(settings: Settings) -> Tools:
    """Return the tools of an installation."""
    return Tools(resolver=DnsResolver(settings.dns_servers), context=ssl.create_default_context())


async def from_environment(env: Mapping[str, str] | None = None, *, only: str | None = None) -> Report:
    """Examine the installation the environment describes; ``only``: one domain's name."""
    try:
        settings = Settings.from_env(env)
    except ConfigError as error:
        return report([About("settings").wrong("settings", error.message, "See docs/reference.md.")])
    return await examine(settings, tools(settings), only=only)


async def examine(settings: Settings, look: Tools, *, only: str | None = None) -> Report:
    """Look at everything; see the modules beside this one."""
    found = machine.files(settings.data_dir)
    if settings.data_dir.is_dir():
        found.append(machine.disk(settings.data_dir))
    connection: Connection | None = None
    try:
        settings = _completed(settings)
        connection = await database_module.connect(settings.database_url or "")
    except (MailbaseError, OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason = (str(error) or type(error).__name__).partition("\n")[0]
        advice = "Start `mailbase up`; with a database of your own, look at MAILBASE_DATABASE_URL."
        found.append(About("database").wrong("database", f"PostgreSQL does not answer: {reason}.", advice))
    try:
        found += await _of_database(connection, settings, look) if connection else []
        found += await _outside(settings, look)
        found += await _of_sending(connection, settings, look, only)
    finally:
        if connection is not None:
            await connection.close()
    return report(found)


def _completed(settings: Settings) -> Settings:
    """Do what ``home.complete`` does, but make nothing that is not there.

    Raises:
        ConfigError: there is no database yet.

    """
    kept = settings.data_dir / "secret.key"
    embedded = settings.database_url is None
    read = not settings.secret_keys and embedded and kept.exists()
    return structs.replace(
        settings,
        database_url=settings.database_url or servers.postgres_url(settings.data_dir),
        redis_url=settings.redis_url or servers.redis_url(settings.data_dir),
        secret_keys=(kept.read_text().strip(),) if read else settings.secret_keys,
    )


async def _of_database(db: Connection, settings: Settings, look: Tools) -> list[Finding]:
    async def clocks() -> list[Finding]:
        return [machine.clock("PostgreSQL's clock", await database.offset(db, look.now))]

    found = await _guarded("database", database.examine(db, settings, resources.migrations()))
    found += await _guarded("forms", forms.examine(db))
    return found + await _guarded("clock", clocks())


async def _outside(settings: Settings, look: Tools) -> list[Finding]:
    async def clock() -> list[Finding]:
        if look.time_server is None:
            return []
        offset = await machine.network_offset(look.time_server)
        whose = f"the clock of {look.time_server[0]}"
        return [machine.unknown_clock(whose) if offset is None else machine.clock(whose, offset)]

    async def redis() -> list[Finding]:
        return [await database.redis(settings.redis_url)] if settings.redis_url else []

    async def inbound() -> list[Finding]:
        return [await way_out.listens(settings.inbound_host, settings.inbound_port)] if settings.inbound_port else []

    parts = await asyncio.gather(
        _guarded("clock", clock()),
        _guarded("redis", redis()),
        _guarded(
            "public address",
            web.examine(settings.public_url, real=not settings.to_outbox, context=look.context, now=look.now()),
        ),
        _guarded("returned mail", inbound()),
    )
    return [one for part in parts for one in part]


async def _of_sending(db: Connection | None, settings: Settings, look: Tools, only: str | None) -> list[Finding]:
    vault = Vault(settings.secret_keys) if settings.secret_keys else None
    found = await _guarded("way out", _ways_out(db, vault, settings, look))
    if db is not None:
        found += await _guarded("stops", stops.examine(db, settings, only))
    domains: list[domain.Domain] = []

    async def load() -> list[Finding]:
        if db is not None and vault is not None:
            domains.extend(await domain.load(db, vault, only))
        if db is not None and vault is not None and not domains:
            about = About(only or "domains")
            return [about.warning("domains", "There is no such sending domain yet.", "Add one: POST /v1/domains.")]
        return []

    found += await _guarded("domains", load())
    for part in await asyncio.gather(
        *(_guarded(one.name, domain.examine(look.resolver, one, settings, look.now())) for one in domains)
    ):
        found += part
    return found


async def _ways_out(db: Connection | None, vault: Vault | None, settings: Settings, look: Tools) -> list[Finding]:
    found: list[Finding] = []
    ways = [("relay", settings.smtp)] if settings.smtp else []
    if db is not None and vault is not None:
        ways += [(f"relay {one.name}", one.smtp) for one in await relays.list_enabled(db, vault)]
    for name, to in ways:
        found += await way_out.relay(name, to, hostname=settings.hostname, context=look.context, now=look.now())
    if settings.mx is not None:
        found.append(await way_out.port_25(look.resolver, port=settings.mx.port))
        found += await way_out.names(look.resolver, settings.hostname, settings.mx.sources)
    if not ways and settings.mx is None:
        text = f"Letters are written to {settings.outbox_dir}, and reach nobody."
        advice = "Set MAILBASE_SMTP_URL to a relay (smtp://…) or to mx: when readers shall get them."
        found.append(About("way out").warning("outbox", text, advice))
    return found


async def _guarded(about: str, part: Awaitable[list[Finding]]) -> list[Finding]:
    """Return what a part found; one that fails says so and stops nothing."""
    try:
        async with asyncio.timeout(PATIENCE):
            return await part
    except TimeoutError:
        reason = f"it took longer than {PATIENCE:g} seconds"
    except Exception as error:  # noqa: BLE001  (whatever it is, the rest is worth knowing)
        reason = f"{type(error).__name__}: {error}".partition("\n")[0]
    return [
        About(about).warning("unseen", f"This could not be looked at ({reason}).", "Try again; if it stays, report it.")
    ]
