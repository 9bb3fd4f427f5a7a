"""The API's processes: granian inside our own event loop, one process or several on one port.

Several are forked before anything runs, so they share what is imported and are all called ``mailbase api``; the kernel spreads the
connections over them. The first one only watches: it passes SIGTERM on and starts a process that died again.
"""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import time
from typing import Final

import uvloop
from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from mailbase.app import create_app
from mailbase.config import Settings
from mailbase.errors import ConfigError
from mailbase.pages.words import with_files
from mailbase.servers import die_with_parent

GRACE: Final = 12.0
"""Seconds a request under way may still take after SIGTERM."""
PAUSE: Final = 1.0

logger = logging.getLogger(__name__)


def serve(settings: Settings) -> None:
    """Answer HTTP until SIGTERM or SIGINT. ``settings`` is complete.

    Raises:
        ConfigError: the port is taken or may not be used, or a language's file cannot be.

    """
    with_files(settings.data_dir / "locales")
    _probe(settings)
    if settings.api_workers == 1:
        uvloop.run(_run(settings))
    else:
        _watch(settings)


def _probe(settings: Settings) -> None:
    """Bind once as nobody else could: the workers' shared binding would join a stranger's port silently."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            raise ConfigError(
                f"MAILBASE_PORT: {settings.host}:{settings.port} cannot be listened on ({error.strerror or error})"
            ) from None


async def _run(settings: Settings) -> None:
    loop = asyncio.get_running_loop()
    app = create_app(settings)
    async with app.lifespan():
        # What is here now stays: the collector need not walk through all the modules while somebody waits.
        gc.collect()
        gc.freeze()
        server = Server(
            app,
            address=settings.host,
            port=settings.port,
            interface=Interfaces.ASGINL,
            backlog=2048,
            websockets=False,
            http1_settings=HTTP1Settings(header_read_timeout=20_000),
            log_enabled=False,
        )
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, server.stop)
        serving = asyncio.create_task(server.serve())
        interrupted: asyncio.Event = server.main_loop_interrupt  # type: ignore[assignment]  # the embedded server's is asyncio's
        stopped = asyncio.create_task(interrupted.wait())
        await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(serving, GRACE)
        if not server.interrupt_signal:
            raise ConfigError("the HTTP server ended by itself")


def _watch(settings: Settings) -> None:
    children: dict[int, float] = {}
    stopping = False

    def stop(*_: object) -> None:
        nonlocal stopping
        stopping = True
        for child in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGTERM)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    for _ in range(settings.api_workers):
        children[_fork(settings)] = time.monotonic()
    while children:
        try:
            child, status = os.wait()
        except ChildProcessError:
            break
        started = children.pop(child, 0.0)
        if not stopping:
            logger.error("an API process ended with %s", os.waitstatus_to_exitcode(status))
            time.sleep(max(0.0, PAUSE - (time.monotonic() - started)))
        if not stopping:
            children[_fork(settings)] = time.monotonic()


def _fork(settings: Settings) -> int:
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        die_with_parent(signal.SIGTERM)()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        uvloop.run(_run(settings))
        status = 0
    except ConfigError as error:
        sys.stderr.write(f"mailbase: {error.message}\n")
    except Exception:
        logger.exception("an API process failed")
    finally:
        sys.stderr.flush()
        os._exit(status)
