"""The documentation: every command in it is run, every setting, scope and option is in it."""

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailbase.config import Settings

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
MAKE = re.compile(r"^make ([a-z]+)", re.MULTILINE)


def blocks(page: Path) -> list[str]:
    """Return the page's commands: its fenced blocks marked ``sh``."""
    return re.findall(r"^```sh\n(.*?)^```$", page.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def instance() -> Iterator[dict[str, str]]:
    """A running ``mailbase up`` in a folder laid out as the reader's is: data beside the commands."""
    folder = Path(tempfile.mkdtemp(prefix="mailbase-docs-"))
    folder.chmod(0o755)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    clean = {name: value for name, value in os.environ.items() if not name.startswith("MAILBASE_")}
    environment = {
        **clean,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "MAILBASE_DATA_DIR": str(folder / "data"),
        "MAILBASE_PORT": port,
        "MAILBASE_WORKERS": "1",
    }
    log = (folder / "up.log").open("wb")
    process = subprocess.Popen(
        [sys.executable, "-m", "mailbase", "up"], env=environment, stdout=subprocess.PIPE, stderr=log, text=True
    )
    try:
        assert process.stdout
        assert any(line == "ready\n" for line in process.stdout), (folder / "up.log").read_text()
        yield {**environment, "FOLDER": str(folder)}
    finally:
        process.terminate()
        process.wait(30)
        process.stdout.close()
        log.close()
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.timeout(300)
@pytest.mark.commands
@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=pytest.mark.mailtools if "smtp-sink" in page.read_text("utf-8") else (), id=page.name)
        for page in PAGES
        if blocks(page)
    ],
)
def test_every_command_works(page, instance):
    """The commands of a page, run from top to bottom as a reader would, all succeed."""
    script = "\n".join(blocks(page))
    # `make up` is what runs already; the other targets are this very run's, or stand for one command of ours.
    script = re.sub(r"^make demo$", "mailbase demo", script, flags=re.MULTILINE)
    script = re.sub(r"^(make |git clone|cd ).*$", "", script, flags=re.MULTILINE)
    # `mailbase up` of a page is an instance of its own; everything else talks to the one that runs.
    script = script.replace("127.0.0.1:8000", f"127.0.0.1:{instance['MAILBASE_PORT']}")

    said = Path(instance["FOLDER"], "said.log")
    with said.open("wb") as log:
        process = subprocess.Popen(
            ["bash", "-eux", "-o", "pipefail", "-c", script],
            cwd=instance["FOLDER"],
            env=instance,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        try:
            code = process.wait(120)
        finally:
            with contextlib.suppress(ProcessLookupError):  # what a failed page left running
                os.killpg(process.pid, signal.SIGTERM)
            process.wait(30)

    assert code == 0, said.read_text()[-4000:]


def test_every_make_target_named_exists():
    """A `make` command in the documentation is a target of the Makefile, and every target is documented."""
    targets = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {target for page in PAGES for block in blocks(page) for target in MAKE.findall(block)}

    assert named <= targets
    assert {"up", "demo", "test", "bench"} <= named


def test_every_setting_is_documented():
    """The reference names each environment variable that is read."""
    reference = (ROOT / "docs" / "reference.md").read_text()
    special = {"smtp": "SMTP_URL", "mx": "SMTP_URL", "secret_keys": "SECRET_KEY"}
    missing = [
        name
        for field in Settings.__struct_fields__
        if f"MAILBASE_{(name := special.get(field, field.upper()))}`" not in reference
    ]

    assert missing == []


def test_every_command_is_documented():
    """The reference names each command that the command line offers."""
    listed = subprocess.run(
        [sys.executable, "-m", "mailbase", "--help"], capture_output=True, text=True, check=True
    ).stdout
    commands = re.findall(r"^    ([a-z]+)", listed, re.MULTILINE)
    reference = (ROOT / "docs" / "reference.md").read_text()

    assert commands
    assert [command for command in commands if f"`mailbase {command}" not in reference] == []


def test_every_link_between_pages_leads_somewhere():
    """A relative link in the documentation names a file that exists."""
    for page in (*PAGES, ROOT / "ARCHITECTURE.md", ROOT / "CHANGELOG.md"):
        for target in re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text("utf-8")):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
