"""Whole mails: every format there is a server for, written after its documentation."""

from pathlib import Path

import pytest

from mailbase.reports.examine import examine

MAILS = Path(__file__).parent / "mails"

EXPECTED = {
    "activehunter": [("bob@example.net", "hard", "invalid_recipient")],
    "amavis_spam": [("bob@mx.example", "block", "spam_content")],
    "aol_old": [("bob@aol.example", "hard", "invalid_recipient")],
    "arf_abuse": [("bob@yahoo.example", "feedback", "abuse"), ("eve@yahoo.example", "feedback", "abuse")],
    "arf_not_spam_mixed": [("bob@provider.example", "feedback", "not-spam")],
    "arf_opt_out": [("bob@provider.example", "feedback", "opt-out")],
    "au_mobile": [("bob@ezweb.example", "hard", "inactive_mailbox")],
    "base64_status": [("bob@example.net", "hard", "invalid_recipient")],
    "biglobe": [(None, "soft", "quota_issues")],
    "broken_boundary": [("bob@example.net", "hard", "invalid_recipient")],
    "challenge": [("bob@example.net", "vacation", "challenge")],
    "compuserve": [("bob@compuserve.example", "hard", "invalid_recipient")],
    "courier_text": [("bob@example.net", "hard", "invalid_recipient")],
    "cpanel": [("bob@example.con", "hard", "bad_domain")],
    "docomo_filtered": [("bob@docomo.ne.jp", "soft", "mailbox_unavailable")],
    "domino": [("bob@corp.example", "hard", "invalid_recipient")],
    "exchange2000": [("bob@corp.example", "hard", "invalid_recipient")],
    "exchange2003": [("bob@corp.example", "hard", "invalid_recipient")],
    "exchange2007_text_only": [("bob@corp.example", "soft", "quota_issues")],
    "exchange2010_de": [("bob@corp.example", "hard", "invalid_recipient")],
    "exchange55": [("testuser@corp.example", "hard", "invalid_recipient")],
    "exchange_antispam": [(None, "block", "spam_content")],
    "exim_delayed": [("bob@example.net", "unknown", "delayed")],
    "exim_quota_and_unknown": [
        ("bob@example.net", "hard", "invalid_recipient"),
        ("eve@example.net", "soft", "quota_issues"),
    ],
    "exim_unrouteable": [("bob@example.con", "hard", "bad_domain")],
    "ezmlm_warn": [(None, "unknown", "no_report")],
    "fields_in_plain_text": [("bob@example.net", "hard", "inactive_mailbox")],
    "french_orange": [
        ("bob@orange.example", "hard", "invalid_recipient"),
        ("eve@orange.example", "block", "policy_related"),
    ],
    "french_text": [("bob@example.fr", "hard", "invalid_recipient")],
    "gmail_delay": [("bob@example.net", "unknown", "delayed")],
    "gmail_not_found": [("bob@gmail.com", "hard", "invalid_recipient")],
    "gmail_old_text": [("bob@example.net", "hard", "invalid_recipient")],
    "gmx_text": [("bob@example.net", "hard", "invalid_recipient")],
    "googlegroups": [("group@example.net", "block", "policy_related")],
    "groupwise": [("bob@gw.example", "hard", "invalid_recipient")],
    "hotmail_old": [("bob@hotmail.com", "hard", "invalid_recipient")],
    "imail": [("bob@imail.example", "hard", "invalid_recipient")],
    "intermail_full": [("bob@im.example", "soft", "quota_issues")],
    "intermail_timeout": [("bob@example.net", "soft", "message_expired")],
    "interscan": [("bob@example.net", "hard", "invalid_recipient")],
    "ionos_size": [("bob@example.net", "soft", "message_too_large")],
    "ironport_inner_code": [("bob@example.net", "block", "authentication_failed")],
    "iso2022": [("bob@example.jp", "hard", "invalid_recipient")],
    "james": [("bob@example.net", "hard", "invalid_recipient")],
    "japanese_unknown": [("bob@example.jp", "hard", "invalid_recipient")],
    "jmrp": [("bob@hotmail.example", "feedback", "abuse")],
    "kddi_full": [("bob@au.example", "soft", "quota_issues")],
    "kerio": [("bob@kerio.example", "hard", "invalid_recipient")],
    "list_reject": [("foo@lists.example", "block", "policy_related")],
    "mailmarshal": [("dummyuser@blabla.example", "hard", "invalid_recipient")],
    "mailru_unknown": [("bob@list.ru", "hard", "invalid_recipient")],
    "mailto_unsubscribe": [("bob@example.net", "feedback", "opt-out")],
    "mcafee": [("bob@example.net", "hard", "invalid_recipient")],
    "merak": [("bob@merak.example", "hard", "invalid_recipient")],
    "mercury": [("bob@host.example", "hard", "invalid_recipient")],
    "messagelabs": [("bob@example.net", "hard", "invalid_recipient")],
    "messaging_server": [("bob@example.net", "hard", "invalid_recipient")],
    "messaging_server_relayed": [("bob@example.net", "delivered", "delivered")],
    "mmdf": [("bob@host.example", "hard", "invalid_recipient")],
    "notes_text": [("bob@corp.example", "hard", "invalid_recipient")],
    "novell_gwia": [("eve@gw.example", "hard", "invalid_recipient")],
    "o365_access_denied": [("bob@corp.example", "hard", "invalid_recipient")],
    "opensmtpd": [("bob@example.net", "soft", "quota_issues"), ("eve@example.net", "hard", "invalid_recipient")],
    "person_writes": [(None, "unknown", "no_report")],
    "pmdf": [("bob@pmdf.example", "hard", "bad_domain")],
    "postfix_expired": [("bob@example.net", "soft", "no_answer_from_host")],
    "postfix_two_recipients": [
        ("bob@example.net", "hard", "invalid_recipient"),
        ("eve@example.con", "hard", "bad_domain"),
    ],
    "powermta_category": [("bob@example.net", "hard", "invalid_recipient")],
    "qmail_queue_too_long": [("bob@example.net", "soft", "no_answer_from_host")],
    "qmail_three": [
        ("bob@example.net", "hard", "invalid_recipient"),
        ("eve@example.com", "hard", "bad_domain"),
        ("mallory@example.org", "block", "spam_block"),
    ],
    "read_receipt": [("bob@example.net", "delivered", "displayed")],
    "rfc6533": [("ユーザ@example.jp", "hard", "invalid_recipient")],
    "russian_text": [("bob@example.ru", "hard", "invalid_recipient")],
    "sendmail_dsn_generic_status": [("bob@gmail.example", "block", "prohibited_attachment")],
    "sendmail_old": [("bob@example.net", "hard", "invalid_recipient")],
    "ses_suppressed": [("bob@example.net", "block", "policy_related")],
    "smail3": [("bob@host.example", "hard", "invalid_recipient")],
    "softbank": [("bob@softbank.example", "hard", "invalid_recipient")],
    "spanish_full": [("bob@correo.example", "soft", "quota_issues")],
    "status_says_unknown_words_say_full": [("bob@corp.example", "soft", "quota_issues")],
    "status_says_unknown_words_say_policy": [("bob@corp.example", "block", "policy_related")],
    "surfcontrol": [("bob@example.net", "hard", "invalid_recipient")],
    "t_online": [("bob@t-online.example", "hard", "invalid_recipient")],
    "to_header_only": [("bob@odd.example", "hard", "invalid_recipient")],
    "user_gone_autoreply": [("bob@example.net", "vacation", "automatic_answer")],
    "vacation_outlook_de": [("bob@example.net", "vacation", "automatic_answer")],
    "vacation_unix": [("bob@example.net", "vacation", "automatic_answer")],
    "verizon_mobile": [("5551234567@vtext.example", "hard", "invalid_recipient")],
    "x400": [("bob@x400.example", "hard", "invalid_recipient")],
    "x400_gateway_text": [("bob@attmail.example", "hard", "invalid_recipient")],
    "yahoo_no_account": [("testing123@yahoo.com", "hard", "invalid_recipient")],
    "yale": [("bob@yale.example", "hard", "invalid_recipient")],
    "yandex_spam": [("bob@example.net", "block", "spam_content")],
    "zoho": [("bob@example.net", "hard", "invalid_recipient")],
    "cut_status_part": [("bob@example.net", "hard", "invalid_recipient")],
    "qmail_two_reasons": [
        ("bob@example.net", "hard", "invalid_recipient"),
        ("ann@example.com", "block", "policy_related"),
    ],
    "attached_by_a_person": [("bob@example.net", "soft", "bad_connection")],
    "utf16": [("bob@example.net", "hard", "invalid_recipient")],
    "before_mime": [("bob@example.net", "hard", "invalid_recipient")],
    "exchange_online_ja": [("bob@example.net", "block", "policy_related")],
}


def report(name):
    return examine((MAILS / f"{name}.eml").read_bytes())


def test_every_mail_in_the_folder_is_expected():
    """No sample lies there unread."""
    assert {path.stem for path in MAILS.glob("*.eml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_a_mail_says_what_it_says(name):
    """Recipient, class and reason of each recipient, in order."""
    assert [(found.recipient, found.cls, found.reason) for found in report(name).findings] == EXPECTED[name]


@pytest.mark.parametrize("name", EXPECTED)
def test_line_ends_and_an_mbox_line_change_nothing(name):
    """CRLF, bare LF and a "From " line on top read alike."""
    data = (MAILS / f"{name}.eml").read_bytes()
    crlf = data.replace(b"\n", b"\r\n")
    mbox = b"From MAILER-DAEMON Thu Jan  1 00:00:00 2026\n" + data
    plain = examine(data)
    assert examine(crlf) == plain
    assert examine(mbox) == plain


@pytest.mark.parametrize("name", EXPECTED)
def test_only_hard_bounces_and_complaints_suppress(name):
    """Nothing else ends a subscription."""
    for found in report(name).findings:
        complaint = found.cls == "feedback" and found.reason in {"abuse", "opt-out"}
        assert found.suppress == (found.cls == "hard" or complaint)


def test_a_returned_letter_tells_whose_it_was():
    """Reference, links, ids and every address that may be VERP come out of the letter that came back."""
    found = report("postfix_two_recipients")
    assert found.addresses == ("b.abc@bounces.shop.example", "news@shop.example")
    assert found.refs == ("ref1",)
    assert found.unsubscribe_urls == ("https://shop.example/u/abc", "mailto:unsubscribe+abc@shop.example")
    assert found.message_ids == ("1.2@shop.example",)
    assert found.feedback_ids == ("12:7:campaign:shop",)
    assert found.original_recipients == ("bob@example.net", "eve@example.con")
    assert {one.reporting_mta for one in found.findings} == {"relay.example.org"}


def test_a_letter_quoted_in_a_text_tells_too():
    """Qmail and Exim quote the letter in their text: its headers are read, its words are not the server's."""
    assert report("qmail_three").message_ids == ("77@shop.example",)
    assert report("exim_quota_and_unknown").addresses == ("b.abc@bounces.shop.example", "news@shop.example")


def test_a_complaint_carries_its_type_and_the_letter():
    """ARF, JMRP and opt-out mails name their type; the attached letter is read through its encoding."""
    found = report("arf_abuse")
    assert (found.feedback_type, found.refs, found.unsubscribe_urls) == (
        "abuse",
        ("ref7",),
        ("https://shop.example/u/a",),
    )
    assert "b.abc@bounces.shop.example" in found.addresses
    assert found.original_recipients == ("bob@yahoo.example", "eve@yahoo.example")
    assert report("jmrp").feedback_type == "abuse"
    assert report("jmrp").refs == ("ref7",)
    assert report("arf_not_spam_mixed").feedback_type == "not-spam"
    assert report("arf_opt_out").feedback_type == "opt-out"
    assert report("postfix_expired").feedback_type is None


MACHINE = "From: Mailer-Daemon@isp.example\nTo: news@shop.example\nSubject: Undeliverable mail\n\n"


@pytest.mark.parametrize(
    "text",
    [
        "Your mail to bob@example.net was not delivered.\n550 spam. Report details to complaints@isp.example",
        "Your mail to bob@example.net was not delivered.\n550 spam. Please forward this email to delistme@isp.example",
        "Your mail to bob@example.net was not delivered.\n550 blocked (Contact tosa@isp.example for exceptions)",
        "Failed to send an e-mail to bob@example.net: spam. In doubt write to helpers@isp.example",
        "The user bob@example.net does not exist. Questions to postmasters@isp.example",
        "Ihre Mail an bob@example.net kam nicht an. Bitte wenden Sie sich an hilfe.mail@isp.example",
        "收件人 bob@example.net\n550 blocked, forward this mail to abuse_rbl@isp.example",
    ],
)
def test_an_office_to_write_to_is_no_recipient(text):
    """What the text advises to write to is nobody the letter was for."""
    assert [one.recipient for one in examine((MACHINE + text).encode()).findings] == ["bob@example.net"]


@pytest.mark.parametrize(
    "text",
    [
        "Unable to send your message to bob@example.net: user unknown",
        "We could not forward this message to bob@example.net because the user is unknown.",
        "We tried to reply to bob@example.net, no such user",
        "mailbox<bob@example.net> not found",
        "宛先: bob@example.net\nユーザーが見つかりません",
    ],
)
def test_whom_a_letter_could_not_be_sent_to_is_a_recipient(text):
    """The same words say whom the letter did not reach."""
    assert [(one.recipient, one.cls) for one in examine((MACHINE + text).encode()).findings] == [
        ("bob@example.net", "hard")
    ]
