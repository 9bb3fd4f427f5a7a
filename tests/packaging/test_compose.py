"""The container files: valid, and made of commands that exist."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_compose_holds_to_its_schema():
    """compose.yaml is valid under the published Compose schema."""
    checked = subprocess.run(
        [
            Path(sys.executable).with_name("check-jsonschema"),
            "--builtin-schema",
            "vendor.compose-spec",
            ROOT / "compose.yaml",
        ],
        capture_output=True,
        text=True,
        check=False,
    )

    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("file", ["compose.yaml", "Dockerfile"])
def test_every_command_exists(file):
    """Each `mailbase` command the container files name is one the command line offers."""
    named = set(re.findall(r'"mailbase", "([a-z]+)"', (ROOT / file).read_text()))

    assert named
    for command in named:
        assert (
            subprocess.run(
                [sys.executable, "-m", "mailbase", command, "--help"], capture_output=True, check=False
            ).returncode
            == 0
        )


def test_the_lock_names_no_registry():
    """Dependencies are pinned with hashes, and no address of a registry stands in the files."""
    for name in ("requirements.txt", "requirements-dev.txt"):
        text = (ROOT / name).read_text()

        assert not re.search(r"https?://|--index-url|--extra-index-url|--find-links", text)
        for pinned in re.split(r"\n(?=[a-z0-9])", text):
            assert "==" in pinned, pinned
            assert "--hash=sha256:" in pinned, pinned
