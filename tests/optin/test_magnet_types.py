"""What a file is, is said by its bytes; what it is called, can hurt nobody."""

import io
import re
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbase.api.uploads import plain_name
from mailbase.errors import Invalid
from mailbase.optin.magnet_types import HEAD, clean_name, disposition, kind_of


def zipped(*names, first=None):
    """Return a ZIP archive with these entries."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        if first:
            archive.writestr("mimetype", first)
        for name in names:
            archive.writestr(name, "x" * 40)
    return out.getvalue()


OFFICE = "application/vnd.openxmlformats-officedocument."
KINDS = [
    (b"%PDF-1.7\n%\xe2\xe3", "guide.pdf", "application/pdf"),
    (b"%PDF-1.7\n", "guide.bin", "application/pdf"),
    (b"\x89PNG\r\n\x1a\n\0\0", "a.png", "image/png"),
    (b"\xff\xd8\xff\xe0\0\x10JFIF", "a.jpg", "image/jpeg"),
    (b"GIF89a\x01", "a.gif", "image/gif"),
    (b"RIFF\x10\0\0\0WEBPVP8 ", "a.webp", "image/webp"),
    (b"ID3\x04\0\0", "a.mp3", "audio/mpeg"),
    (b"\xff\xfb\x90\x64", "a.mp3", "audio/mpeg"),
    (b"\0\0\0\x20ftypM4A \0\0", "a.m4a", "audio/mp4"),
    (b"\0\0\0\x20ftypisom\0\0", "a.mp4", "video/mp4"),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1\0", "a.xls", "application/vnd.ms-excel"),
    (b"name;price\nbread;3", "prices.csv", "text/csv"),
    ("Хлеб и соль\n".encode(), "recipe.txt", "text/plain"),
    (b"hello", "guide.pdf", "application/octet-stream"),
    (b"\0\x01\x02\x03nothing known", "a.dat", "application/octet-stream"),
    (zipped("OEBPS/a", first="application/epub+zip"), "a.epub", "application/epub+zip"),
    (zipped("a", first="application/vnd.oasis.opendocument.text"), "a.odt", "application/vnd.oasis.opendocument.text"),
    (zipped("[Content_Types].xml", "word/document.xml"), "a.docx", OFFICE + "wordprocessingml.document"),
    (zipped("[Content_Types].xml", "xl/workbook.xml"), "a.xlsx", OFFICE + "spreadsheetml.sheet"),
    (zipped("[Content_Types].xml", "ppt/presentation.xml"), "a.pptx", OFFICE + "presentationml.presentation"),
    (zipped("photo.jpg"), "photos.zip", "application/zip"),
]


@pytest.mark.parametrize(("content", "name", "kind"), KINDS)
def test_the_bytes_say_what_it_is(content, name, kind):
    """Whatever the name claims."""
    assert kind_of(content, content, name) == kind


UNSAFE = [
    (b"<!doctype html><script>alert(1)</script>", "guide.pdf"),
    (b"\xef\xbb\xbf \n<html>", "a.txt"),
    ("\ufeff<svg>".encode("utf-16-le"), "a.txt"),
    (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', "logo.png"),
    (b"MZ\x90\0", "setup.pdf"),
    (b"\x7fELF\x02", "a.pdf"),
    (b"#!/bin/sh\nrm -rf /", "a.txt"),
    (b"alert(1)", "a.js"),
    (b"hello", "a.HTML"),
    (b"%PDF-1.7", "guide.pdf.exe"),
    (zipped("META-INF/MANIFEST.MF", "A.class"), "a.zip"),
    (zipped("[Content_Types].xml", "word/vbaProject.bin"), "a.docx"),
]


@pytest.mark.parametrize(("content", "name"), UNSAFE)
def test_what_runs_or_renders_is_refused(content, name):
    """By its bytes or by its ending."""
    with pytest.raises(Invalid, match="given away") as refused:
        kind_of(content, content, name)
    assert refused.value.errors[0].code == "unsafe_file"


@given(st.binary(max_size=300), st.text(max_size=30))
def test_any_bytes_have_a_safe_kind_or_none(content, name):
    """No answer is a type that a browser runs or renders as a page."""
    try:
        kind = kind_of(content, content, clean_name(name))
    except Invalid:
        return
    assert not re.search("html|xml|svg|javascript|script", kind.replace("openxmlformats", ""))


def test_a_letter_cut_in_two_is_still_text():
    """The first 64 KiB may end in the middle of a character."""
    assert kind_of(("ж" * HEAD).encode()[1:][:HEAD][1:] + b"\xd0", b"", "a.txt") == "text/plain"


NAMES = [
    ("../../etc/passwd", "passwd"),
    ("C:\\Users\\ada\\guide.pdf", "guide.pdf"),
    ("guide\u202efdp.exe", "guidefdp.exe"),
    ("a\r\nSet-Cookie: x.pdf", "aSet-Cookie_ x.pdf"),
    ('say "hi"?.pdf', "say _hi__.pdf"),
    ("...", "download"),
    ("", "download"),
    ("x" * 300 + ".pdf", "x" * 146 + ".pdf"),
]


@pytest.mark.parametrize(("given_name", "kept"), NAMES)
def test_a_name_is_a_name_and_nothing_else(given_name, kept):
    """No folder, no line break, nothing that turns the reading direction."""
    assert clean_name(given_name) == kept


@given(st.text(max_size=200))
def test_a_download_is_named_in_one_line_of_ascii(name):
    """Whatever the owner called it, the header is one header."""
    said = disposition(clean_name(name))
    assert said.isascii()
    assert re.fullmatch(r"attachment; filename=\"[^\"\\%\r\n]+\"; filename\*=UTF-8''[A-Za-z0-9!#$&+.^_`|~%-]+", said)


def test_a_name_in_full_beside_one_in_ascii():
    """RFC 6266: old programs read the first, the others the second; a name without any Latin letter keeps its ending."""
    assert disposition("Хлеб.epub").startswith('attachment; filename="download.epub"; ')
    assert disposition("Пекарня Ü.pdf") == (
        "attachment; filename=\"U.pdf\"; filename*=UTF-8''%D0%9F%D0%B5%D0%BA%D0%B0%D1%80%D0%BD%D1%8F%20%C3%9C.pdf"
    )


@pytest.mark.parametrize(
    ("sent", "name"),
    [
        ("the %22best%22 guide.pdf", 'the "best" guide.pdf'),
        ("two%0d%0Alines.pdf", "twolines.pdf"),
        ("100%25 wool%41.pdf", "100%25 wool%41.pdf"),
        ("C:\\files\\..\\guide.pdf", "guide.pdf"),
        ("../../etc/pass\x00wd", "passwd"),
    ],
)
def test_an_uploaded_files_name_is_what_its_owner_calls_it(sent, name):
    """Of what browsers escape nothing is left, nor folders, nor what is no character of a line."""
    assert plain_name(sent) == name
