"""PostgreSQL and Redis on loopback ports, for a client in another root: prints both addresses and stays until it is told to stop."""

import signal
import socket
import sys
from pathlib import Path

import msgspec

from mailbase import servers


def free_port() -> int:
    """Return a port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Start both, say where, wait for a signal, stop both."""
    folder = Path(sys.argv[1])
    postgres, redis = servers.postgres(folder), servers.redis(folder)
    ports = free_port(), free_port()
    postgres.argv += ["-c", "listen_addresses=127.0.0.1", "-c", f"port={ports[0]}"]
    postgres = msgspec.structs.replace(
        postgres,
        socket=postgres.socket.with_name(f".s.PGSQL.{ports[0]}"),
        env={**postgres.env, "PGPORT": str(ports[0])},
    )
    redis.argv[redis.argv.index("--port") + 1] = str(ports[1])
    running = [(server, server.start()) for server in (postgres, redis)]
    for server, process in running:
        server.wait(process)
    password = (folder / "postgres.password").read_text().strip()
    print(
        f"postgresql://mailbase:{password}@127.0.0.1:{ports[0]}/postgres",
        f"redis://127.0.0.1:{ports[1]}/0",
        sep="\n",
        flush=True,
    )
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    for server, process in running:
        process.send_signal(server.stop_signal)
        process.wait(20)


if __name__ == "__main__":
    main()
