"""What the commands write to the log."""

import logging

from mailbase.cli import Plain
from mailbase.doctor.findings import Finding


def test_strangers_words_move_no_cursor():
    """A server's words stand on one line of the log, without control characters; an exception's lines stay lines."""
    record = logging.LogRecord(
        "x", logging.WARNING, "x.py", 1, "it said %s", ("554 \x1b[2J\r\nroot: fine\x9b1m",), None
    )
    assert Plain().format(record) == "it said 554  [2J  root: fine 1m"
    try:
        int("two")
    except ValueError as error:
        record.exc_info = (ValueError, error, error.__traceback__)
    assert Plain().format(record).count("\n") > 2


def test_the_doctor_neither():
    """What a relay answered is shown without control characters; the advice stands on a line of its own."""
    line = Finding(about="relay", check="relay", level="wrong", text="554 \x1b]0;x\x07", advice="Look\nthere.").line
    assert line == "wrong    relay: 554  ]0;x \n         → Look there."
