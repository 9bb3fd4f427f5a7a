"""How many connections, and how fast: rising with success, halved by trouble, never above the limits."""

from hypothesis import given
from hypothesis import strategies as st

from mailbase.sending.mx.mta_sts import Policy, read_policy, read_record
from mailbase.sending.smtp.concurrency import LETTERS, Bucket, Concurrency


@given(st.integers(1, 50), st.lists(st.sampled_from(["good", "bad"]), max_size=300))
def test_connections_stay_within_one_and_the_limit(limit, happenings):
    """Whatever happens, at least one connection is allowed and never more than the limit."""
    concurrency = Concurrency(limit)
    for at, what in enumerate(happenings):
        if what == "good":
            concurrency.success(concurrency.allowed)
        else:
            concurrency.setback(float(at))
        assert 1 <= concurrency.allowed <= limit


def test_success_adds_one_and_trouble_halves():
    """A few letters add one more; a refusal takes half away, several at once count as one; after it, more come slowly."""
    concurrency = Concurrency(10)
    assert concurrency.allowed == 2
    for _ in range(LETTERS):
        concurrency.success(concurrency.allowed)
    assert concurrency.allowed == 3
    for _ in range(100):
        concurrency.success(concurrency.allowed)
        concurrency.idle()  # a connection without a letter: more of them would not help
    assert concurrency.allowed == 3
    for _ in range(100):
        assert not concurrency.success(1)  # connections that nobody uses are no reason for more
    while concurrency.allowed < 10:
        concurrency.success(concurrency.allowed)
    concurrency.setback(100.0)
    concurrency.setback(100.5)
    assert concurrency.allowed == 5
    concurrency.setback(102.0)
    assert concurrency.allowed == 2
    for letter in range(1, 2 * LETTERS + 1):
        assert concurrency.success(concurrency.allowed) == (letter == 2 * LETTERS)
    assert concurrency.allowed == 3
    concurrency.limit = 1
    assert concurrency.allowed == 1


@given(st.floats(0.5, 600), st.integers(1, 5), st.lists(st.floats(0, 30), min_size=1, max_size=60).map(sorted))
def test_a_bucket_never_gives_more_than_its_pace(per_minute, burst, looks):
    """In any stretch of time no more tokens are taken than the pace allows, and the burst."""
    bucket = Bucket(per_minute, burst=burst)
    taken = []
    for now in looks:
        if bucket.wait(now) <= 0:
            bucket.take(now)
            taken.append(now)
    for i, start in enumerate(taken):
        for j, end in enumerate(taken[i:], 1):
            assert j <= burst + (end - start) * per_minute / 60 + 1e-6


def test_a_token_given_back_can_be_taken_again():
    """A letter that did not leave after all costs no pace."""
    bucket = Bucket(60)
    bucket.take(0.0)
    assert bucket.wait(0.0) == 1.0
    bucket.put_back()
    assert bucket.wait(0.0) == 0.0


@given(st.text(max_size=300))
def test_any_text_is_a_policy_or_is_refused(text):
    """Reading a policy ends in a policy or in one kind of error, whatever somebody serves."""
    try:
        found = read_policy(text, id="1", now=0.0)
    except ValueError:
        return
    assert found.mode in {"enforce", "testing", "none"}


def test_policies_as_the_standard_shows_them():
    """The record and the policy of RFC 8461 are read, with line ends of either kind; a star is one label."""
    text = "version: STSv1\nmode: enforce\nmx: mail.example.com\nmx: *.example.net\nmx: backupmx.example.com\nmax_age: 604800\n"
    for form in (text, text.replace("\n", "\r\n")):
        policy = read_policy(form, id="20160831085700Z", now=0.0)
        assert policy == Policy(
            "20160831085700Z", "enforce", ("mail.example.com", "*.example.net", "backupmx.example.com"), 604800.0
        )
        assert policy.allows("mail.example.com")
        assert policy.allows("mx1.example.net")
        assert not policy.allows("example.net")
        assert not policy.allows("a.b.example.net")
        assert not policy.allows("mail.example.com.evil.example")
    assert read_record(["v=STSv1; id=20160831085700Z;"]) == "20160831085700Z"
    assert read_record(["something else", "v=STSv1;id=a"]) == "a"
    assert read_record(["v=STSv1; id=1", "v=STSv1; id=2"]) is None
    assert read_record(["v=STSv1; id=not-alphanumeric"]) is None
    assert read_record(["v=STSv1"]) is None
