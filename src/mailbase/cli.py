"""The command line. Each command imports what it needs when it is called, so that the supervisor stays small.

Exit codes: 0 done, 1 refused with one line on standard error, 2 wrong use.
"""

import argparse
import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Never, TypeVar, get_args

from mailbase import __version__
from mailbase.config import Settings
from mailbase.errors import Invalid, MailbaseError, Unavailable, harmless

if TYPE_CHECKING:
    from mailbase.db import Connection

T = TypeVar("T")


class Plain(logging.Formatter):
    """A message on a line: what mail servers and visitors sent may be in it."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  (logging's name)
        """Return the message without control characters."""
        return harmless(super().formatMessage(record))


def main(argv: Sequence[str] | None = None) -> Never:
    """Run one command and exit."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(Plain())
    arguments = _parser().parse_args(argv)
    try:
        arguments.run(arguments)
    except MailbaseError as error:
        print(f"mailbase: {harmless(error.message)}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(0)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="mailbase",
        description="Subscription forms and email newsletters, headless and self-hosted. Settings come from the environment: MAILBASE_….",
    )
    parser.add_argument("--version", action="version", version=f"mailbase {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    def command(name: str, does: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=does, description=does)

    command(
        "up", "Run everything on this machine: embedded servers where no address is given, API, workers."
    ).set_defaults(run=_up)
    command("api", "Run the HTTP API and the public pages.").set_defaults(run=_api)
    command("worker", "Run one worker: sending, imports, timers.").set_defaults(run=_worker)
    inbound = command("inbound", "Take in bounces, complaints and unsubscribing mails.")
    inbound.set_defaults(run=_inbound)
    pipe = inbound.add_subparsers(title="commands", metavar="COMMAND").add_parser(
        "pipe",
        help="store one mail from standard input; exits 75 when it should be tried again later",
        description="Store one mail from standard input. Exits 0 stored, 65 not a mail that is taken, 75 try again later.",
    )
    pipe.add_argument("--from", dest="mail_from", metavar="ADDRESS", help="the envelope's sender; empty for bounces")
    pipe.add_argument(
        "--to",
        dest="recipients",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="an envelope's recipient; may be repeated",
    )
    pipe.set_defaults(run=_inbound_pipe)
    migrate = command("migrate", "Bring the database to this version's schema.")
    migrate.add_argument("--quiet", action="store_true", help="say nothing when all is well")
    migrate.set_defaults(run=_migrate)
    command("demo", "Play the main job against the running instance and leave it to be looked at.").set_defaults(
        run=_demo
    )

    bounces = command("bounces", "Read mails that came back.").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    explain = bounces.add_parser("explain", help="print one JSON line for each recipient that files report on")
    explain.add_argument("files", nargs="+", metavar="FILE", help="a mail as it came; - is standard input")
    explain.set_defaults(run=_bounces_explain)

    doctor = command(
        "doctor", "Say what is wrong with DNS, ports, TLS, clock, disk and database; exit 1 if anything is."
    )
    doctor.add_argument("domain", nargs="?", metavar="DOMAIN", help="look at this sending domain only")
    doctor.add_argument("--json", action="store_true", help="print one JSON object")
    doctor.set_defaults(run=_doctor)

    warmup = command("warmup", "Plan how a domain earns its name.").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    plan = warmup.add_parser("plan", help="print day by day what a preset makes of so many letters")
    plan.add_argument("--preset", required=True, choices=("cautious", "standard", "fast", "custom", "none"))
    whom = plan.add_mutually_exclusive_group(required=True)
    whom.add_argument("--recipients", type=_number, metavar="N")
    whom.add_argument("--list", type=Path, metavar="CSV", help="a file of addresses: its providers are counted, by MX")
    plan.add_argument("--mix", type=_mix, default={}, metavar="SHARES", help="for example google=0.6,yahoo=0.2")
    plan.add_argument(
        "--schedule", type=_schedule, metavar="CAPS", help="with custom: letters a day, such as 50,80,120"
    )
    plan.set_defaults(run=_warmup_plan)

    keys = command("keys", "Create, list and revoke API keys.").add_subparsers(
        title="commands", required=True, metavar="COMMAND"
    )
    create = keys.add_parser("create", help="create a key and print its secret, once")
    create.add_argument("name", metavar="NAME")
    create.add_argument(
        "--scope",
        action="append",
        required=True,
        metavar="SCOPE",
        help="for example subscribers:write; may be repeated",
    )
    create.add_argument("--expires-at", type=_moment, metavar="TIME", help="for example 2027-01-31T12:00:00Z")
    create.set_defaults(run=_keys_create)
    keys.add_parser("list", help="list the keys").set_defaults(run=_keys_list)
    revoke = keys.add_parser("revoke", help="revoke a key at once")
    revoke.add_argument("id", type=int, metavar="ID")
    revoke.set_defaults(run=_keys_revoke)
    return parser


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError("a time with its zone is needed, for example 2027-01-31T12:00:00Z")
    return moment


def _number(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 1_000_000_000:
        raise argparse.ArgumentTypeError("a number from 1 to 1,000,000,000 is needed")
    return number


def _schedule(text: str) -> list[int]:
    return [_number(part) for part in text.split(",")]


def _mix(text: str) -> dict[str, float]:
    shares = {}
    for part in text.split(","):
        provider, _, share = part.partition("=")
        if not provider.strip() or not 0 <= (number := float(share)) <= 1:
            raise argparse.ArgumentTypeError("shares are needed, for example google=0.6,yahoo=0.2")
        shares[provider.strip()] = number
    if sum(shares.values()) > 1 + 1e-9:
        raise argparse.ArgumentTypeError("the shares are more than the whole")
    return shares


def _settings() -> Settings:
    from mailbase.home import complete

    return complete(Settings.from_env())


def _up(_arguments: argparse.Namespace) -> None:
    from mailbase.up import up

    up(Settings.from_env())


def _api(_arguments: argparse.Namespace) -> None:
    from mailbase.listen import serve

    serve(_settings())


def _worker(_arguments: argparse.Namespace) -> None:
    import uvloop

    from mailbase.worker import run

    uvloop.run(run(_settings()))


def _inbound(_arguments: argparse.Namespace) -> None:
    import asyncio

    from mailbase.inbound.serve import run

    # aiosmtpd's STARTTLS puts asyncio's own TLS on the connection, which uvloop's transports do not bear.
    asyncio.run(run(_settings()))


def _inbound_pipe(arguments: argparse.Namespace) -> None:
    from mailbase.inbound.pipe import pipe

    sys.exit(pipe(_settings, sys.stdin.buffer, mail_from=arguments.mail_from, recipients=arguments.recipients))


def _demo(_arguments: argparse.Namespace) -> None:
    from mailbase.demo import demo

    demo(_settings())


def _doctor(arguments: argparse.Namespace) -> None:
    import msgspec

    from mailbase.doctor.examination import from_environment

    report = asyncio.run(from_environment(only=arguments.domain))
    if arguments.json:
        print(msgspec.json.encode(report).decode())
    else:
        print("\n".join(one.line for one in report.findings))
        counts = [sum(one.level == level for one in report.findings) for level in ("wrong", "warning", "ok")]
        print(f"\n{counts[0]} wrong, {counts[1]} to look at, {counts[2]} well")
    if report.status == "wrong":
        sys.exit(1)


def _migrate(arguments: argparse.Namespace) -> None:
    from mailbase import resources
    from mailbase.migrate import migrate
    from mailbase.vault import CANARY, Vault, open_secret

    settings = _settings()

    async def run() -> list[str]:
        connection = await _connect(settings)
        try:
            applied = await migrate(connection, resources.migrations())
            # A wrong secret key must be said here, before anything is encrypted under it.
            await open_secret(connection, Vault(settings.secret_keys), CANARY)
            return applied
        finally:
            await connection.close()

    applied = asyncio.run(run())
    if not arguments.quiet:
        print("\n".join(f"applied {name}" for name in applied) or "nothing to apply")


def _bounces_explain(arguments: argparse.Namespace) -> None:
    from mailbase.reports.explain import explain

    failed = explain(arguments.files, sys.stdout.buffer)
    if failed:
        print("\n".join(f"mailbase: {reason}" for reason in failed), file=sys.stderr)
        sys.exit(1)


def _warmup_plan(arguments: argparse.Namespace) -> None:
    from mailbase.sending.warmup import report as warmup_report
    from mailbase.sending.warmup import warmup

    warmup.check(arguments.preset, arguments.schedule)
    if arguments.list is None:
        demand = warmup_report.demand_of(arguments.recipients, arguments.mix)
    else:
        demand = _list_mix(arguments.list)
    for line in warmup_report.lines(arguments.preset, demand, arguments.schedule):
        print(line)


def _list_mix(path: Path) -> dict[str, int]:
    from mailbase.campaigns import list_mix
    from mailbase.sending.warmup import report as warmup_report

    try:
        mix = asyncio.run(list_mix.read(path))
    except OSError as error:
        raise Invalid(f"{path} cannot be read: {error.strerror}.", code="unreadable") from None
    if not mix.demand:
        raise Invalid(f"{path} holds no address.", code="no_addresses")
    print(f"{sum(mix.demand.values()):,} addresses: {warmup_report.shared(mix.demand)}.")
    if mix.passed_over:
        print(f"Lines without an address, passed over: {mix.passed_over:,}.")
    if mix.unanswered:
        print(f"DNS did not say who takes mail for {mix.unanswered:,} of them (other): the total alone holds those.")
    print()
    return mix.demand


def _keys_create(arguments: argparse.Namespace) -> None:
    from mailbase.audience import keys

    scopes = get_args(keys.Scope)
    for unknown in set(arguments.scope).difference(scopes):
        print(f"mailbase: {unknown!r} is not a scope; there are {', '.join(scopes)}", file=sys.stderr)
        sys.exit(2)
    made = _with_database(lambda db: keys.create(db, arguments.name, arguments.scope, expires_at=arguments.expires_at))
    print(made.secret)


def _keys_list(_arguments: argparse.Namespace) -> None:
    from mailbase.audience import keys

    for key in _with_database(lambda db: keys.page(db, before=2**63 - 1, limit=1000)):
        print(f"{key.id}\t{key.name}\t{','.join(key.scopes)}\t{key.expires_at or 'no end'}")


def _keys_revoke(arguments: argparse.Namespace) -> None:
    from mailbase.audience import keys

    _with_database(lambda db: keys.delete(db, arguments.id))


async def _connect(settings: Settings) -> "Connection":
    import asyncpg

    from mailbase import db

    try:
        return await db.connect(settings.database_url or "")
    except (OSError, TimeoutError, ValueError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        reason, _, _detail = (str(error) or type(error).__name__).partition("\n")
        raise Unavailable(f"PostgreSQL does not answer: {reason}") from error


def _with_database(act: "Callable[[Connection], Awaitable[T]]") -> "T":
    settings = _settings()

    async def run() -> "T":
        connection = await _connect(settings)
        try:
            async with connection.transaction():
                return await act(connection)
        finally:
            await connection.close()

    return asyncio.run(run())
