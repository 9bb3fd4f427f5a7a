"""Returned mails a second through ``mailbase bounces explain``, start of the process included; the promise is 1,000.

Run: ``python bench/bounces.py``. Each file is one of the samples with a returned letter of 20 kB, and no two are alike.
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

MAILS = Path(__file__).parent.parent / "tests" / "reports" / "mails"
FILES = 2_000
LETTER = (
    b"\n--- Below this line is a copy of the message.\n\nReceived: from shop.example by relay.example.org\n"
    b"Date: Tue, 13 Jan 2026 10:00:00 +0000\nFrom: news@shop.example\nTo: bob@example.net\nMIME-Version: 1.0\n\n"
    + b"<p>A line of a newsletter.</p>\n"
    * 700
)
PROMISED = 1_000


def main() -> None:
    """Measure and print."""
    samples = [path.read_bytes() for path in sorted(MAILS.glob("*.eml"))]
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for n in range(FILES):
            file = Path(folder, f"{n}.eml")
            mail = samples[n % len(samples)].replace(b"bob", b"bob%d" % n)
            file.write_bytes(mail + LETTER)
            files.append(str(file))
        begun = time.perf_counter()
        ran = subprocess.run(
            [sys.executable, "-m", "mailbase", "bounces", "explain", *files], check=True, capture_output=True
        )
        took = time.perf_counter() - begun
    lines = len(ran.stdout.splitlines())
    assert lines >= FILES
    print(f"{FILES} returned mails explained in      {took:7.2f} s   {FILES / took:,.0f}/s (promised {PROMISED:,})")


if __name__ == "__main__":
    main()
