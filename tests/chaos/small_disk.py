"""A small disk of its own for a test (root): tmpfs, filled and made larger at will."""

import contextlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path


def can_mount() -> bool:
    """Whether we may mount anything here."""
    if os.geteuid() or shutil.which("mount") is None:
        return False
    folder = Path(tempfile.mkdtemp(prefix="mailbase-mount-"))
    try:
        with small_disk(folder, "1m"):
            return True
    except subprocess.CalledProcessError:
        return False
    finally:
        folder.rmdir()


@contextlib.contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """Mount a disk of ``size`` over a folder until the block ends."""
    _run("mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "mailbase", str(folder))
    try:
        yield folder
    finally:
        _run("umount", "--lazy", str(folder))


def enlarge(folder: Path, size: str) -> None:
    """Give it more room."""
    _run("mount", "-o", f"remount,size={size}", str(folder))


def fill(file: Path, leave: int) -> None:
    """Let a file take all but ``leave`` bytes of its disk."""
    with file.open("ab") as ballast:
        while (room := shutil.disk_usage(file.parent).free - leave) > 0:
            ballast.write(bytes(min(room, 1 << 20)))
            ballast.flush()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
