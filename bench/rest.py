"""What everything costs at rest: memory of all processes, the time of a second start, the weight of the embed script.

Limits: 400 MB (PSS, embedded servers included, two workers), 4 s, 5 kB gzip.
"""

import gzip
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from mailbase import resources

QUIET = 8.0


def start(home: Path, port: int) -> tuple[subprocess.Popen[str], float]:
    """Start ``mailbase up`` and return it with the seconds until it was ready."""
    environment = {**os.environ, "MAILBASE_DATA_DIR": str(home), "MAILBASE_PORT": str(port), "MAILBASE_WORKERS": "2"}
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "mailbase", "up"], env=environment, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert any(line == "ready\n" for line in process.stdout)
    return process, time.monotonic() - began


def main() -> None:
    """Print the three figures with their limits."""
    home = Path(tempfile.mkdtemp(prefix="mailbase-bench-"))
    home.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    try:
        first, cold = start(home / "data", port)
        first.terminate()
        first.wait()
        second, warm = start(home / "data", port)
        time.sleep(QUIET)
        family = [psutil.Process(second.pid), *psutil.Process(second.pid).children(recursive=True)]
        rows = [(one.memory_full_info().pss / 1e6, " ".join(one.cmdline())[-60:]) for one in family]
        began = time.monotonic()
        second.terminate()
        second.wait()
        stopped = time.monotonic() - began
    finally:
        shutil.rmtree(home, ignore_errors=True)
    for megabytes, name in sorted(rows, reverse=True)[:6]:
        print(f"  {megabytes:6.1f} MB  {name}")
    total = sum(megabytes for megabytes, _ in rows)
    script = len(gzip.compress((resources.embed() / "mailbase.js").read_bytes(), 9))
    print(f"memory at rest   {total:6.0f} MB PSS in {len(rows)} processes   {total / 400:.2f} x the limit of 400 MB")
    print(
        f"second start     {warm:6.1f} s (first {cold:.1f} s, stop {stopped:.1f} s)   {warm / 4:.2f} x the limit of 4 s"
    )
    print(f"embed script     {script / 1000:6.1f} kB gzip   {script / 5000:.2f} x the limit of 5 kB")


if __name__ == "__main__":
    main()
