"""CSV reading: however the file is cut into slices, whatever the dialect, the cells come back with their line."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailbase.audience.csv_files import LONGEST, NOT_UTF8, OPEN_QUOTE, Records, detect, plain, safe

CELL = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.sampled_from(
    ['"', 'a"b', "a,b;c\td", "two\nlines", "cr\rhere", "\r\n", " x ", "é", "日本"]
)
ROWS = st.lists(st.lists(CELL, min_size=2, max_size=2).filter(any), min_size=1, max_size=12)


def read(data, sizes=()):
    records, found, start = Records(), [], 0
    for size in sizes:
        found += records.feed(data[start : start + size])
        start += size
    return found + records.feed(data[start:], final=True)


@given(
    ROWS,
    st.sampled_from([",", ";", "\t"]),
    st.sampled_from(["\n", "\r\n"]),
    st.booleans(),
    st.lists(st.integers(1, 40), max_size=30),
)
def test_what_was_written_is_read(rows, delimiter, line_end, bom, sizes):
    """Cells written in any of the dialects come back equal, in slices of any size, each with the number of its first line."""
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=delimiter, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(
        [["email", "city"], *rows]
    )
    data = (b"\xef\xbb\xbf" if bom else b"") + text.getvalue().encode()
    found = read(data, sizes)
    assert [cells for _, cells, _ in found] == [["email", "city"], *rows]
    lines = [line for line, _, _ in found]
    assert lines == sorted(set(lines))
    assert lines[:2] == [1, 2]


@given(st.binary(max_size=400), st.lists(st.integers(1, 60), max_size=10))
def test_any_bytes_are_read_without_an_error(data, sizes):
    """No file makes the reader raise; line numbers only rise."""
    lines = [line for line, _, _ in read(data, sizes)]
    assert lines == sorted(lines)


@given(
    st.sampled_from([",", ";", "\t"]),
    st.lists(st.from_regex(r"[A-Za-z ]{1,10}", fullmatch=True), min_size=2, max_size=6),
)
def test_the_delimiter_is_found(delimiter, names):
    """The header's delimiter is found, also when quoted names hold the others."""
    assert detect(delimiter.join(names)) == delimiter
    assert detect(delimiter.join(f'"{name},;,;\t"' for name in names)) == delimiter


def test_a_quote_that_never_ends_costs_one_stretch():
    """A stray quote swallows at most a stretch of the file; what comes after it is read."""
    filler = "".join(f"p{n}@example.com,x\n" for n in range(100_000))
    found = read(('email,note\na@example.com,"open\n' + filler + "last@example.com,x\n").encode(), [1 << 20] * 3)
    assert len(filler) > LONGEST
    assert found[-1][1] == ["last@example.com", "x"]
    assert any(wrong for _, _, wrong in found)
    assert found[-1][0] == 100_003


@pytest.mark.parametrize(
    "rest", ["", "\n", "\nb@example.com,x\nc@example.com,y", "\nb@example.com,x\n", ' ""\nb@example.com,']
)
def test_a_quote_open_at_the_end_is_marked(rest):
    """A record whose quote is open when the file ends is marked, so the lines it swallowed never pass as somebody's attribute."""
    found = read(f'email,note\nok@example.com,"fine"\na@example.com,"open{rest}'.encode())
    assert [(line, wrong) for line, _, wrong in found] == [(1, None), (2, None), (3, OPEN_QUOTE)]


@pytest.mark.parametrize("note", ['"closed"', '"clo\nsed"', '6" nails', '"odd" one', '""', '"""a"""', '"a""b"'])
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_last_line_with_quotes_is_read(note, end):
    """A last record whose quotes end, or that holds one inside a plain cell, is read like any other."""
    assert [wrong for _, _, wrong in read(f"email,note\na@example.com,{note}{end}".encode())] == [None, None]


def test_a_line_that_is_not_utf8_is_marked():
    """A line with bytes that are no UTF-8 is marked; its neighbours are not."""
    found = read(b"email\nok@example.com\ncaf\xe9@example.com\nfine@example.com\n")
    assert [wrong for _, _, wrong in found] == [None, None, NOT_UTF8, None]


@given(st.text(max_size=20) | st.text("'=+-@1a", max_size=6))
def test_a_file_of_ours_comes_back_as_it_was(cell):
    """An import takes away the apostrophe an export put before a cell, and no other: `--03-14` stays a birthday."""
    assert plain(safe(cell)) == cell


@given(st.text(max_size=20))
def test_no_cell_starts_a_formula(cell):
    """What a spreadsheet would run gets an apostrophe; plain numbers and telephone numbers do not."""
    assert not safe(cell).startswith(("=", "@", "\t", "\r"))
    assert safe("+351 912-345 (678)") == "+351 912-345 (678)"
    assert safe("-12.5") == "-12.5"
    assert safe("+cmd|' /C calc'!A0").startswith("'")
