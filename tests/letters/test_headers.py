"""Headers and MIME: what the standard library reads is what was meant, and nothing can break out."""

import email
import email.policy
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.utils import unquote

import pytest
from dkim.canonicalization import Relaxed
from hypothesis import given, settings
from hypothesis import strategies as st

from letters.letters_kit import assert_clean, content, parsed, raw
from mailbase.errors import Invalid
from mailbase.letters.content import Attachment, Letter, Sender
from mailbase.letters.mime import HeaderPlan, address, assemble, check_attachments, check_headers, header, message_id

NOW = datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC)
WORDS = st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "S", "Zs"]), max_size=200)


def message(headers):
    return email.message_from_bytes(raw(Letter("", headers, (b"x\r\n",))), policy=email.policy.default)


@settings(max_examples=300, deadline=None)
@given(WORDS)
def test_any_subject_survives(value):
    """A subject of any script and length is read back as it was, from 7-bit lines of at most 76."""
    letter = Letter("", [header("Subject", value)], (b"x\r\n",))
    assert_clean(letter)
    decoded = message(letter.headers)["Subject"]
    assert " ".join(decoded.split()) == " ".join(value.split())


@pytest.mark.parametrize("value", ["a\r\nBcc: x@y.example", "a\nb", "a\x00b", "a\rb"])
def test_line_breaks_are_refused(value):
    """A header's value with CR, LF or NUL is refused."""
    with pytest.raises(Invalid):
        header("X-Test", value)


@pytest.mark.parametrize(
    "name",
    [
        "Shop",
        "The Shop, Inc.",
        'A "quoted" \\ name',
        "Магазин «Ромашка» на Невском проспекте, дом двадцать восемь",
        "花屋",
        "",
        "=?x?=",
        "a" * 200,
    ],
)
def test_a_display_name_in_any_script(name):
    """The reader's program shows the sender's name as it was written, and one address."""
    value = address(Sender(name, "news@shop.example"))
    assert_clean(Letter("", [(b"From", value)], (b"x\r\n",)))
    shown, _, rest = value.decode().replace("\r\n", "").rpartition("<") if name else ("", "", value.decode() + ">")
    assert rest == "news@shop.example>"
    decoded = str(make_header(decode_header(shown.strip())))
    assert (unquote(decoded) if decoded.startswith('"') else decoded) == name
    [mailbox] = message([(b"From", value)])["From"].addresses
    assert mailbox.addr_spec == "news@shop.example"


@pytest.mark.parametrize(
    "bad", ["a@b.example>", "a@b.example, c@d.example", "a b@c.example", "nobody", "a@b\r\nBcc: c@d.example"]
)
def test_an_address_cannot_break_out(bad):
    """What is not a bare address never becomes part of a header."""
    with pytest.raises(Invalid):
        address(Sender("x", bad))


def test_a_plan_carries_every_header_of_a_newsletter():
    """A newsletter has the headers mailbox providers ask for, each exactly once."""
    plan = HeaderPlan(
        Sender("Shop", "news@shop.example"), reply_to="hello@shop.example", list_id=("Новости", "news.shop.example"),
        feedback_id="7:news:campaign:mailbase", msgtype="campaign-7", bulk=True, extra={"X-Own": "1"},
    )  # fmt: skip
    headers = plan.fill(
        "anna@example.com", message_id(5, NOW, "shop.example"), NOW, "https://m.example/u/" + "t" * 90, "u@m.example", "ref",
    )  # fmt: skip
    made = message(headers)
    assert made["To"] == "anna@example.com"
    assert made["Date"] == "Sat, 31 Jan 2026 12:00:05 +0000"
    assert made["List-Id"].endswith("<news.shop.example>")
    assert "Новости" in made["List-Id"]
    assert made["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert made["List-Unsubscribe"] == f"<https://m.example/u/{'t' * 90}>, <mailto:u@m.example>"
    assert made["X-Mailru-Msgtype"] == "campaign7"
    assert made["Precedence"] == "bulk"
    assert made["Feedback-ID"] == "7:news:campaign:mailbase"
    assert made["X-Own"] == "1"
    names = [name.lower() for name, _ in headers]
    assert len(names) == len(set(names))


def test_a_message_id_is_the_deliverys_own():
    """The same delivery has the same Message-ID at every attempt, another one another."""
    assert message_id(1, NOW, "a.example") == message_id(1, NOW, "a.example") != message_id(2, NOW, "a.example")
    assert message_id(1, NOW, "a.example").endswith("@a.example>")


@pytest.mark.parametrize(
    ("headers", "code"),
    [({"DKIM-Signature": "x"}, "reserved_header"), ({"bcc": "x"}, "reserved_header"), ({"X-A": "a\nb"}, "invalid_header"),
     ({"X A": "a"}, "invalid_header"), ({"X-A": "1", "x-a": "2"}, "invalid_header"), ({"X-A": "a" * 999}, "invalid_header")],
)  # fmt: skip
def test_own_headers_are_checked(headers, code):
    """An owner's headers may not be mailbase's, nor hold what is no header."""
    with pytest.raises(Invalid) as error:
        check_headers(headers)
    assert error.value.code == code
    check_headers({"X-Shop": "Весна", "List-Help": "<https://x.example>"})


@settings(max_examples=60, deadline=None)
@given(
    st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=300),
    st.one_of(st.none(), st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=300)),
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", categories=["L", "N", "P", "Zs"]), min_size=1, max_size=120),
            st.binary(max_size=300),
        ),
        max_size=3,
    ),
)
def test_an_assembled_letter_reads_back(text, html, files):
    """Text, HTML and attachments of any name and content come back as they went in."""
    attachments = [Attachment(f"a{name[:100]}.pdf", "application/pdf", data) for name, data in files]
    attachments = [file for file in attachments if len(file.filename.encode()) <= 255]
    letter = assemble("Привет", text, html, attachments)
    assert_clean(letter)

    def normal(value):
        return value.replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")

    assert normal(content(letter, "plain")) == normal(text)
    if html is not None:
        assert normal(content(letter, "html")) == normal(html)
    parts = list(parsed(letter).iter_attachments())
    assert [part.get_content() for part in parts] == [file.content for file in attachments]
    expected = [file.filename.replace("/", "_").replace("\\", "_") for file in attachments]
    assert [part.get_filename() for part in parts] == expected
    assert assemble("Привет", text, html, attachments) == letter
    assert Relaxed.canonicalize_body(letter.body) == letter.body


def test_an_attachments_type_keeps_its_parameters():
    """A charset, or the method of an invitation, reaches the reader's program."""
    attachments = [
        Attachment("a.csv", "text/csv; charset=utf-8; header=present", "Ålesund".encode()),
        Attachment("b.ics", 'Text/Calendar;method=REQUEST ; name="x; charset=y"', b"BEGIN:VCALENDAR"),
    ]
    check_attachments(attachments)
    letter = assemble("s", "t", None, attachments)
    assert_clean(letter)
    table, invitation = parsed(letter).iter_attachments()
    assert table.get_content() == "Ålesund"
    assert dict(table["Content-Type"].params) == {"charset": "utf-8", "header": "present"}
    assert dict(invitation["Content-Type"].params) == {"method": "REQUEST", "name": "x; charset=y"}


@pytest.mark.parametrize(
    "content_type",
    [
        "csv",
        "text/",
        "text/csv;",
        "text/csv; charset",
        "text/csv; a=b c",
        "text/csv\r\nX: y",
        'text/csv; a="',
        "text/csv; a=ü",
        "multipart/mixed; boundary=x",
        "message/rfc822",
    ],
)
def test_what_is_no_media_type_is_refused(content_type):
    """422 on the field, before anything is stored."""
    with pytest.raises(Invalid) as refused:
        check_attachments([Attachment("a", content_type, b"x")])
    assert [error.field for error in refused.value.errors] == ["attachments.0.content_type"]
