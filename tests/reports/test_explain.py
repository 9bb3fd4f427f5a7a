"""``mailbase bounces explain``: the command as it is called."""

import json
import os
import subprocess
import sys
from pathlib import Path

MAILS = Path(__file__).parent / "mails"
KEYS = ["file", "recipient", "class", "reason", "status", "reply", "suppress"]


def explain(*arguments, stdin=b""):
    # No setting and no home: the command needs neither database nor data directory.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAILBASE_")}
    return subprocess.run(
        [sys.executable, "-m", "mailbase", "bounces", "explain", *map(str, arguments)],
        check=False,
        capture_output=True,
        input=stdin,
        env=environment,
        timeout=60,
    )


def test_one_line_of_json_a_recipient():
    """Each line has exactly the promised keys, in order, for every recipient of every file."""
    two, other = MAILS / "postfix_two_recipients.eml", MAILS / "vacation_unix.eml"
    ran = explain(two, other)
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert ran.returncode == 0
    assert [list(line) for line in lines] == [KEYS] * 3
    assert lines[0] == {
        "file": str(two),
        "recipient": "bob@example.net",
        "class": "hard",
        "reason": "invalid_recipient",
        "status": "5.1.1",
        "reply": "550 5.1.1 <bob@example.net>: Recipient address rejected: User unknown in relay recipient table",
        "suppress": True,
    }
    assert [(line["file"], line["class"], line["suppress"]) for line in lines[1:]] == [
        (str(two), "hard", True),
        (str(other), "vacation", False),
    ]


def test_whatever_a_file_holds_the_command_ends_well(tmp_path):
    """Nothing, noise and a person's mail each give a line and exit 0."""
    empty, noise = tmp_path / "empty", tmp_path / "noise"
    empty.write_bytes(b"")
    noise.write_bytes(bytes(range(256)) * 100)
    ran = explain(empty, noise, MAILS / "person_writes.eml")
    assert ran.returncode == 0
    assert ran.stderr == b""
    assert [json.loads(line)["class"] for line in ran.stdout.splitlines()] == ["unknown"] * 3


def test_a_mail_may_come_on_standard_input():
    """``-`` reads one mail from the pipe."""
    ran = explain("-", stdin=(MAILS / "domino.eml").read_bytes())
    assert json.loads(ran.stdout)["class"] == "hard"
    assert json.loads(ran.stdout)["file"] == "-"


def test_a_file_that_is_not_there_is_said_and_the_others_are_read(tmp_path):
    """A line on standard error and exit 1; what can be read is."""
    ran = explain(tmp_path / "none.eml", MAILS / "domino.eml")
    assert ran.returncode == 1
    assert ran.stderr.decode() == f"mailbase: {tmp_path / 'none.eml'}: No such file or directory\n"
    assert len(ran.stdout.splitlines()) == 1


def test_without_a_file_the_use_is_wrong():
    """Exit 2, as for every wrong use."""
    assert explain().returncode == 2


def test_many_files_are_told_of_in_their_order(tmp_path):
    """More files than one process reads: every line as if each were read alone, one behind the other, and what is missing said."""
    mails = [
        MAILS / "domino.eml",
        tmp_path / "none.eml",
        MAILS / "postfix_two_recipients.eml",
        MAILS / "vacation_unix.eml",
    ]
    few, many = explain(*mails), explain(*(mails * 60))
    assert many.stdout == few.stdout * 60
    assert many.stderr.splitlines() == few.stderr.splitlines() * 60
    assert many.returncode == 1
