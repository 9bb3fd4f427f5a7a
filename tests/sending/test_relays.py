"""Relays with names: whose a letter is, and credentials nobody sees."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET

from mailbase.errors import ConfigError, Conflict, Invalid, NotFound
from mailbase.sending.outcomes import Outcome
from mailbase.sending.relays import egress, relays
from mailbase.sending.relays.denials import ANYHOW, DOMAINS, LETTERS, Denials
from mailbase.sending.relays.relays import Change, read_url
from mailbase.sending.relays.shares import BELONGS, SLOTS, diverted, share, slot
from mailbase.vault import Vault

VAULT = Vault(["the secret key of the tests"])
NAMES = st.sampled_from(["a", "b", "c", "d", "e", "f"])
WEIGHTS = st.dictionaries(NAMES, st.integers(0, 1000), min_size=1)


def owner(shares, at):
    return [name for name, parts in shares.items() for low, high in parts if low <= at < high]


@given(WEIGHTS, st.sets(NAMES))
def test_every_letter_has_one_relay_while_there_is_any(weights, available):
    """As long as one enabled relay takes letters, each slot belongs to exactly one of those that do."""
    shares = share(weights, available)
    parts = sorted(part for own in shares.values() for part in own)
    if not available & weights.keys():
        assert shares == {}
        return
    assert shares.keys() == available & weights.keys()
    assert [low for low, _ in parts] == [0, *(high for _, high in parts[:-1])]
    assert parts[-1][1] == SLOTS


@given(WEIGHTS, st.sets(NAMES), st.integers(0, SLOTS - 1))
def test_a_letter_moves_only_while_its_own_relay_is_away(weights, available, at):
    """Whoever comes or goes, a letter stays with its own relay while that one takes letters."""
    home = owner(share(weights, weights), at)[0]
    now = share(weights, available)
    if home in available:
        assert owner(now, at) == [home]
    elif now:
        assert owner(now, at)[0] in available


@given(WEIGHTS, st.sets(NAMES), st.dictionaries(NAMES, st.sets(st.sampled_from(["google", "yahoo"]))))
def test_a_provider_suspended_over_a_relay_is_sent_to_over_the_others(weights, available, suspended):
    """Its letters are shared as if the relays over which it is suspended were away; nobody else's letters move."""
    there = available & weights.keys()
    found = diverted(weights, there, {name: suspended.get(name, ()) for name in there})
    for provider in ("google", "yahoo"):
        without = {name for name in there if provider in suspended.get(name, ())}
        assert (provider in found) == bool(without)
        if without:
            assert found[provider] == share(weights, there - without)


def denials(words):
    """Return after which of these the way out is stopped: ``a`` is a denial for that domain, upper case one that was taken."""
    heard = Denials()
    said = (
        Outcome(1, "sent", 250, None, "taken", "content")
        if word.isupper()
        else Outcome(1, "refused", 550, "5.7.1", "Relaying denied", "rcpt", "block", denied=True)
        for word in words
    )
    return [n for n, (word, one) in enumerate(zip(words, said, strict=True)) if heard.heard(f"p@{word}.example", one)]


def test_a_relay_that_denies_one_letter_after_the_other_is_stopped():
    """Five letters to three domains, nothing taken in between: that is us. Each further stop takes as many again."""
    assert (LETTERS, DOMAINS, ANYHOW) == (5, 3, 100)
    assert denials("abcde") == [4]
    assert denials("aaaabbbc") == [7]
    assert denials("abcabaaaaaaaa") == [4, 9]
    assert denials("abcdeXabcde") == [4, 10]
    assert denials("a" * 250) == [99, 199]


def test_recipients_a_relay_does_not_like_stop_nobody():
    """A domain's letters one after the other, or many that have some taken in between: the others go on."""
    assert denials("a" * 60 + "b" * 39) == []
    assert denials("abcdXefghXabcd") == []


def test_a_recipient_that_does_not_exist_says_nothing_about_us():
    """What a relay says of a mailbox neither makes up the number nor starts it over."""
    heard = Denials()
    denied = Outcome(1, "refused", 550, "5.7.1", "Relaying denied", "rcpt", "block", denied=True)
    unknown = Outcome(1, "refused", 550, "5.1.1", "unknown", "rcpt", "hard")
    said = [heard.heard(f"p@{domain}.example", denied) + heard.heard("q@f.example", unknown) for domain in "abcde"]
    assert said == [0, 0, 0, 0, 1]


@given(st.dictionaries(NAMES, st.integers(1, 1000), min_size=1), st.integers(0, 2**62))
def test_letters_are_shared_by_weight(weights, first):
    """Of any two thousand letters in a row each relay gets its part by weight, give or take a few."""
    shares = share(weights, weights)
    n = 2000
    counts = dict.fromkeys(weights, 0)
    for id in range(first, first + n):
        counts[owner(shares, slot(id))[0]] += 1
    for name, weight in weights.items():
        assert abs(counts[name] - n * weight / sum(weights.values())) <= 6


def test_a_weight_of_nothing_waits_for_an_emergency():
    """A relay of weight 0 gets letters only while no other takes any."""
    weights = {"first": 3, "second": 1, "last": 0}
    assert share(weights, weights)["last"] == ()
    assert share(weights, {"second", "last"})["last"] == ()
    assert share(weights, {"last"}) == {"last": ((0, SLOTS),)}


async def test_sql_agrees(db):
    """A lease that asks the database for one relay's letters gets those that are its own."""
    weights = {"first": 3, "second": 1}
    low, high = zip(*share(weights, weights)["second"], strict=True)
    rows = await db.fetch(
        f"SELECT id FROM generate_series(2147483648000::bigint, 2147483648999) AS ids (id) WHERE {BELONGS}",
        list(low), list(high),
    )  # fmt: skip
    ids = {row["id"] for row in rows}
    assert ids == {
        id for id in range(2147483648000, 2147483649000) if owner(share(weights, weights), slot(id)) == ["second"]
    }
    assert 240 <= len(ids) <= 260


def test_an_address_is_read():
    """User, password, port and options are taken from the address."""
    read = read_url("smtp://me%40shop.example:p%3Ass@smtp.example.com:2525?tls=none&connections=3")
    assert (read.host, read.port, read.user, read.password) == ("smtp.example.com", 2525, "me@shop.example", "p:ss")
    assert (read.tls, read.connections) == ("none", 3)
    assert read_url("smtp://relay.example").port == 587
    assert read_url("smtp://relay.example?tls=implicit").port == 465
    assert read_url("smtp://[2001:db8::1]:25?tls=none").host == "2001:db8::1"


@pytest.mark.parametrize(
    "url",
    [
        "http://me:hunter2@relay.example",
        "smtp://me:hunter2@",
        "smtp://me:hunter2@relay.example:0x19",
        "smtp://me:hunter2@relay.example?tls=maybe",
        "smtp://me:hunter2@relay.example?connections=0",
        "smtp://me:hunter2@relay.example?verify=no",
        "smtp://me:hunter2@relay.example/path",
        "smtp://me:hunter2@rel ay.example",
        "smtp://me:hunter2%0d%0a@relay.example",
        "mx:",
    ],
)
def test_a_wrong_address_is_refused_without_its_password(url):
    """What cannot be used is refused in words that repeat no password."""
    with pytest.raises(Invalid) as refused:
        read_url(url)
    assert refused.value.code == "invalid_url"
    assert "hunter2" not in str(refused.value)


async def test_credentials_are_encrypted_and_never_shown(db):
    """The password is in the vault alone: not in the row, in what is shown, or in any representation."""
    made = await relays.create(db, VAULT, name="second", url="smtp://me:hunter2@relay.example:2525?tls=none", weight=2)
    assert made.url == "smtp://me@relay.example:2525?tls=none"
    row = await db.fetchrow("SELECT *, password AS secret FROM relays")
    assert b"hunter2" not in bytes(row["secret"])
    (ready,) = await relays.list_enabled(db, VAULT)
    assert ready.smtp.password == "hunter2"
    assert "hunter2" not in repr(ready) + repr(made) + repr([ready])


async def test_a_password_opens_for_its_own_relay_only(db):
    """A stored password that was copied to another relay does not open."""
    await relays.create(db, VAULT, name="one", url="smtp://me:hunter2@one.example")
    await relays.create(db, VAULT, name="two", url="smtp://me:other@two.example")
    await db.execute("UPDATE relays SET password = (SELECT password FROM relays WHERE name = 'one') WHERE name = 'two'")
    with pytest.raises(ConfigError):
        await relays.list_enabled(db, VAULT)


async def test_another_address_forgets_the_password(db):
    """A new address without a password has none: the old one is never sent to another host."""
    made = await relays.create(db, VAULT, name="one", url="smtp://me:hunter2@one.example")
    await relays.update(db, VAULT, made.id, Change(weight=5))
    assert (await relays.list_enabled(db, VAULT))[0].smtp.password == "hunter2"
    await relays.update(db, VAULT, made.id, Change(url="smtp://me@elsewhere.example"))
    assert (await relays.list_enabled(db, VAULT))[0].smtp.password is None


async def test_connections_in_a_new_address_count(db):
    """What an address says about connections holds when it is changed, too; what is said beside it comes first, and without a word they stay."""
    relay = await relays.create(db, VAULT, name="second", url="smtp://relay.example?tls=none&connections=7")
    for url, beside, expected in (
        ("smtp://other.example?tls=none", UNSET, 7),
        ("smtp://other.example?tls=none&connections=5", UNSET, 5),
        ("smtp://other.example?tls=none&connections=9", 3, 3),
    ):
        changed = await relays.update(db, VAULT, relay.id, Change(url=url, connections=beside))
        assert changed.connections == expected


async def test_disabled_relays_are_left_out_and_names_are_unique(db):
    """Only enabled relays are in use; a name is taken once."""
    made = await relays.create(db, VAULT, name="one", url="smtp://one.example", enabled=False)
    assert await relays.list_enabled(db, VAULT) == []
    with pytest.raises(Conflict):
        await relays.create(db, VAULT, name="one", url="smtp://other.example")
    await relays.update(db, VAULT, made.id, Change(enabled=True))
    assert [relay.name for relay in await relays.list_enabled(db, VAULT)] == ["one"]


async def test_a_stopped_relay_says_why(db):
    """A relay that refused us shows until when it is left alone, and its words."""
    made = await relays.create(db, VAULT, name="one", url="smtp://one.example")
    await egress.stop(db, "one", "auth: 535 no")
    shown = await relays.get(db, made.id)
    assert shown.stopped_reason == "auth: 535 no"
    assert shown.stopped_until is not None


async def test_what_a_relay_said_goes_with_its_address(db):
    """A new address or password is tried at once, and a relay of the same name as one that is gone has said nothing yet."""
    made = await relays.create(db, VAULT, name="one", url="smtp://me:wrong@one.example")
    await egress.stop(db, "one", "auth: 535 no")
    assert (await relays.update(db, VAULT, made.id, Change(url="smtp://me:right@one.example"))).stopped_reason is None
    await egress.stop(db, "one", "auth: 535 no")
    await relays.delete(db, made.id)
    assert (await relays.create(db, VAULT, name="one", url="smtp://one.example")).stopped_reason is None
    with pytest.raises(NotFound):
        await relays.delete(db, made.id)
