"""What kind of file a lead magnet is, by its first bytes, and what it may be called.

A name and a claimed type are only what somebody wrote; the bytes decide. What a double click would run or a browser would render as
a page is refused; what is not recognised is stored as bytes of no kind. Pure: no database, no network.
"""

import re
import unicodedata
from typing import Final
from urllib.parse import quote

from mailbase.errors import Invalid

HEAD: Final = 64 * 1024
TAIL: Final = 64 * 1024
LONGEST_NAME: Final = 150
UNKNOWN: Final = "application/octet-stream"

_ZIP: Final = b"PK\x03\x04"
_OLE: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
_STARTS: Final = (
    (b"%PDF-", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"GIF87a", "image/gif"),
    (b"GIF89a", "image/gif"),
    (b"ID3", "audio/mpeg"),
)
# What systems start: Windows, Linux, macOS (both byte orders, one or several architectures), Java, Android, WebAssembly, scripts,
# shortcuts, and the packages that install programs.
_PROGRAMS: Final = (
    b"MZ", b"\x7fELF", b"\xfe\xed\xfa\xce", b"\xfe\xed\xfa\xcf", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe",
    b"dex\n", b"\0asm", b"#!", b"L\0\0\0\x01\x14\x02\0", b"!<arch>\n", b"\xed\xab\xee\xdb", b"xar!", b"MSCF", b"ITSF",
)  # fmt: skip
_OFFICE: Final = (
    (b"word/", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
    (b"xl/", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
    (b"ppt/", "application/vnd.openxmlformats-officedocument.presentationml.presentation"),
)
_OLD_OFFICE: Final = {
    "doc": "application/msword",
    "xls": "application/vnd.ms-excel",
    "ppt": "application/vnd.ms-powerpoint",
}
_TEXTS: Final = {"txt": "text/plain", "md": "text/plain", "csv": "text/csv", "tsv": "text/plain"}
_ENDINGS: Final = (
    "exe com scr pif bat cmd ps1 psm1 vbs vbe js jse mjs cjs wsf wsh hta msi msp mst msix msixbundle appx appxbundle jar jnlp apk ipa "
    "dmg pkg deb rpm sh bash zsh fish run app lnk url website webloc desktop command action workflow reg inf scf cpl dll sys drv ocx "
    "html htm xhtml xht shtml mht mhtml svg svgz xml xsl xslt php phtml phar asp aspx jsp cgi pl py pyw rb docm dotm xlsm xltm xlam "
    "xlsb pptm potm ppam ppsm iso img vhd vhdx chm hlp gadget swf xap one library-ms search-ms settingcontent-ms"
)
"""What a double click runs, or a browser opens as a page."""
_RUN: Final = frozenset(_ENDINGS.split())


def kind_of(head: bytes, tail: bytes, filename: str) -> str:
    """Return the content type of a file by its first and last 64 KiB; ``filename`` only tells kinds of text apart.

    Raises:
        Invalid: ``unsafe_file``, a program, a script, or a page.

    """
    ending = filename.rpartition(".")[2].lower() if "." in filename else ""
    if ending in _RUN or head.startswith(_PROGRAMS):
        raise _unsafe()
    for start, kind in _STARTS:
        if head.startswith(start):
            return kind
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "image/webp"
    if head[4:8] == b"ftyp":
        return "audio/mp4" if head[8:11] in {b"M4A", b"M4B"} else "video/mp4"
    if len(head) > 2 and head[0] == 0xFF and head[1] & 0xE6 == 0xE2:  # MPEG audio, layer III (ISO 11172-3, 2.4.2.3)
        return "audio/mpeg"
    if head.startswith(_ZIP):
        return _zipped(head, tail)
    if head.startswith(_OLE):
        return _OLD_OFFICE.get(ending, UNKNOWN)
    return _text(head, ending)


def _zipped(head: bytes, tail: bytes) -> str:
    # EPUB and OpenDocument say what they are in a first entry that is stored as it is; the rest by the names in the directory.
    if head[30:38] == b"mimetype":
        said = re.match(rb"application/(?:epub\+zip|vnd\.oasis\.opendocument\.[a-z]+)", head[38:120])
        return said[0].decode() if said else "application/zip"
    if b"META-INF/MANIFEST.MF" in tail or b"AndroidManifest.xml" in tail or b"vbaProject.bin" in tail:
        raise _unsafe()
    if b"[Content_Types].xml" in tail:
        return next((kind for folder, kind in _OFFICE if folder in tail), "application/zip")
    return "application/zip"


def _text(head: bytes, ending: str) -> str:
    bare = head.removeprefix(b"\xef\xbb\xbf").lstrip(b" \t\r\n\f")
    # All that a browser would take for HTML, SVG or XML begins so (WHATWG MIME Sniffing, 7.1); no plain text of ours needs to.
    if bare.startswith(b"<") or bare.replace(b"\0", b"").removeprefix(b"\xff\xfe").removeprefix(b"\xfe\xff").startswith(
        b"<"
    ):
        raise _unsafe()
    try:
        text = head.decode("utf-8-sig") if len(head) < HEAD else head[:-4].decode("utf-8-sig", "ignore")
    except UnicodeDecodeError:
        return UNKNOWN
    if re.search(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]", text):
        return UNKNOWN
    return _TEXTS.get(ending, UNKNOWN if ending else "text/plain")


def _unsafe() -> Invalid:
    return Invalid.field(
        "file",
        "unsafe_file",
        "Programs, scripts, pages (HTML, SVG, XML) and documents with macros are not given away; "
        "a PDF, EPUB, office document, picture, sound, film, text or ZIP archive is.",
    )


def clean_name(given: str) -> str:
    """Return a file's name without folders, control and direction characters, or what a file system minds."""
    name = unicodedata.normalize("NFC", re.split(r"[/\\]", given)[-1])
    name = "".join(char for char in name if unicodedata.category(char)[0] != "C" and char != "\ufffd")
    name = re.sub(r"\s+", " ", re.sub(r'[<>:"|?*]', "_", name)).strip(" .")
    if len(name) > LONGEST_NAME:
        stem, dot, ending = name.rpartition(".")
        name = (
            f"{stem[: LONGEST_NAME - len(ending) - 1]}.{ending}" if dot and len(ending) <= 10 else name[:LONGEST_NAME]
        )
    return name or "download"


def disposition(filename: str) -> str:
    """Return ``Content-Disposition`` for a download (RFC 6266; the name in full by RFC 8187)."""
    stem, dot, ending = filename.rpartition(".") if "." in filename else (filename, "", "")
    plain = f"{_ascii(stem) or 'download'}{dot and '.'}{_ascii(ending)}".rstrip(".")
    full = quote(filename, safe="!#$&+-.^_`|~")
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{full}"


def _ascii(text: str) -> str:
    plain = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    return re.sub(r'["\\%;]', "_", plain).strip(" .")
