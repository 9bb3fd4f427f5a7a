"""Where the files that ship with mailbase are: beside the package in a wheel, at the top level in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).parent


def _folder(name: str) -> Path:
    shipped = PACKAGE / f"_{name}"
    return shipped if shipped.is_dir() else PACKAGE.parent.parent / name


def migrations() -> Path:
    """Return the folder of the numbered ``.sql`` files."""
    return _folder("migrations")


def embed() -> Path:
    """Return the folder of the embed script and the demo page."""
    return _folder("embed")
