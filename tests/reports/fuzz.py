"""Throws bytes at the reader of returned mails until one breaks it, or until the time is up.

pytest leaves it alone: it needs atheris, which is installed by hand, into an environment of its own.

    python3.11 -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris msgspec
    PYTHONPATH=src /tmp/fuzz/bin/python tests/reports/fuzz.py -max_total_time=600 CORPUS tests/reports/mails

``CORPUS`` is an empty folder for what it finds worth keeping.
"""

import sys

import atheris

with atheris.instrument_imports(include=["mailbase.reports"]):
    from mailbase.reports.examine import examine
    from mailbase.reports.verdicts import CLASS_OF


def one(data: bytes) -> None:
    """Read one mail; what must hold of every report is checked."""
    report = examine(data)
    assert report.findings
    for found in report.findings:
        assert found.cls != "hard" or CLASS_OF[found.reason] == "hard"
        assert not found.suppress or found.cls in {"hard", "feedback"}


atheris.Setup(sys.argv, one)
atheris.Fuzz()
