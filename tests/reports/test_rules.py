"""The table of rules: each is held to the sample beside it."""

from collections import Counter

import pytest

from mailbase.reports.judge import code_of, judge, status_of, weigh
from mailbase.reports.rules import read
from mailbase.reports.verdicts import CLASS_OF, VERDICTS
from mailbase.reports.wording import phrase, plain, spoken

RULES = list(read())


def test_every_rule_finds_its_sample():
    """The words of a rule stand in its sample, and the sample is judged as the rule says."""
    wrong = []
    for rule in RULES:
        wanted, words = phrase(rule.phrase), plain(rule.sample)
        found = wanted.pieces[0] in words and spoken(wanted, words)
        verdict = weigh(code_of(rule.sample), status_of(rule.sample), rule.sample, final=True)
        if not found or verdict != VERDICTS[rule.reason]:
            wrong.append((rule.reason, rule.phrase, words, verdict))
    assert wrong == []


def test_no_rule_stands_twice():
    """A phrase is in the table once, or nobody knows which reason counts."""
    phrases = [phrase(rule.phrase) for rule in RULES]
    assert [one for one, times in Counter(phrases).items() if times > 1] == []


def test_every_rule_says_where_its_sample_was_read():
    """A source stands beside every sample."""
    assert [rule for rule in RULES if not rule.source] == []


REPLIES = [
    # The order of evidence: what contradicts wins, a family of statuses never does.
    (550, "5.1.1", "mailbox is over quota", "soft"),
    (550, "5.1.1", "Not enough disk space", "soft"),
    (550, "5.1.1", "rejected due to policy reasons", "block"),
    (550, "5.1.1", "", "hard"),
    (550, "5.7.1", "<bob@example.net>: Recipient address rejected: User unknown", "hard"),
    (550, "5.7.1", "", "block"),
    (550, "5.7.1", "mailbox unavailable", "block"),
    (550, "5.7.26", "user unknown", "block"),
    (550, "5.5.0", "Requested action not taken: mailbox unavailable", "hard"),
    (550, "5.0.0", "no such user", "hard"),
    (550, "5.1.0", "Unknown address error 550-'5.7.1 blocked by SPF'", "block"),
    (550, "5.1.0", "Unknown address error 550-'5.1.1 user unknown'", "hard"),
    (550, "5.2.1", "the mailbox is disabled", "hard"),
    (550, "5.2.1", "try later", "soft"),
    (550, "5.2.2", "user unknown", "soft"),
    (550, "5.4.1", "Recipient address rejected: Access denied. AS(201806281)", "hard"),
    (550, "5.4.1", "no answer", "soft"),
    (550, "5.1.10", "RESOLVER.ADR.RecipientNotFound; Recipient not found by SMTP address lookup", "hard"),
    (556, "5.1.10", "Recipient address has null MX", "hard"),
    (550, "5.1.8", "domain not found", "block"),
    (550, None, "Sender address rejected: Domain not found", "block"),
    (550, None, "Sender verify failed: Unrouteable address", "block"),
    (550, None, "<bob@example.net>: Recipient address rejected: Please see http://www.openspf.net/Why", "block"),
    (550, None, "<bob@example.net>: Recipient address rejected: the moon is full", "soft"),
    (554, "5.7.1", "Client host rejected: cannot find your hostname, [192.0.2.1]", "block"),
    (554, None, "Helo command rejected: Host not found", "block"),
    (550, None, "Too many invalid recipients", "block"),
    (550, None, "Relay access denied", "block"),
    (552, None, "message too large", "soft"),
    (552, None, "", "soft"),
    (554, None, "infected with a virus", "block"),
    (421, "4.7.28", "unusual rate", "block"),
    (450, "4.1.1", "<bob@example.net>: Recipient address rejected: User unknown", "soft"),
    (450, "4.2.0", "greylisted, user unknown", "soft"),
    (550, None, "no", "soft"),
    # Names lie: only what is said counts.
    (550, None, "antispam.example.net said: user unknown <spam@blacklist.example.net>", "hard"),
    (550, None, "no such user, see https://example.net/spam/policy", "hard"),
    (554, None, "rejected, see https://www.spamhaus.org/query/ip/192.0.2.1", "block"),
]


@pytest.mark.parametrize(("code", "enhanced", "text", "cls"), REPLIES)
def test_evidence_is_weighed_in_order(code, enhanced, text, cls):
    """A status wins unless it says nothing or the words contradict; the sender's fault is never the reader's."""
    assert judge(code, enhanced, text).cls == cls


def test_a_temporary_reply_is_never_hard():
    """Whatever a 4xx says, the address stays."""
    for rule in RULES:
        assert judge(450, "4.0.0", rule.sample).cls != "hard" or status_of(rule.sample) is not None
        assert judge(450, None, rule.phrase).cls != "hard"


def test_given_up_on_an_unknown_user_is_hard():
    """When the other side has given up, "user unknown" counts though its code was temporary."""
    assert weigh(450, "4.1.1", "User unknown in local recipient table", final=True).cls == "hard"
    assert weigh(450, "4.2.1", "mailbox temporarily disabled", final=True).cls == "soft"
    assert weigh(450, "4.1.1", "Recipient address rejected: unverified address: user unknown", final=True).cls == "soft"


def test_every_reason_has_a_rule_or_a_status():
    """No reason is a word nobody can get."""
    reachable = {rule.reason for rule in RULES} | {"uncategorized", "mailbox_unavailable"}
    assert reachable == set(CLASS_OF)
