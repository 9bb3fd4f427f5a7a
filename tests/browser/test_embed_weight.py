"""What the embed weighs: files served as they are written."""

import gzip

import pytest

from mailbase import resources
from mailbase.web.embed import SCRIPTS

LOADER, PART = 5000, 4000


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_script_is_light(name):
    """The loader with inline forms is at most 5 kB compressed; what comes on demand at most 4 kB a file."""
    source = (resources.embed() / SCRIPTS[name]).read_bytes()

    assert len(gzip.compress(source, 9, mtime=0)) <= (LOADER if name == "v1.js" else PART)


def test_no_script_needs_what_a_strict_policy_forbids():
    """No evaluated text, no HTML from text, no style attribute, no cookie; storage in the popup's quiet period only."""
    for name in SCRIPTS.values():
        source = (resources.embed() / name).read_text("utf-8")
        for word in (
            "eval(",
            "new Function",
            "innerHTML",
            "insertAdjacentHTML",
            "document.write",
            "document.cookie",
            "sessionStorage",
        ):
            assert word not in source, name
        assert "localStorage" not in source or name == "popup.js"
