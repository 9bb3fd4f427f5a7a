"""Two forms compared: the arithmetic, and what is said about it."""

import random

import pytest

from mailbase.audience.form_comparison import compare, side


def of(one, other):
    """Compare (wins, views) with (wins, views)."""
    sides = [side(n, name, views=views, wins=wins) for n, name, (wins, views) in ((1, "A", one), (2, "B", other))]
    return compare(*sides, by="confirmed")


def test_a_known_example():
    """120 of 1,000 against 80 of 1,000: z = 2.981, p = 0.0029, worked out by hand."""
    found = of((80, 1000), (120, 1000))
    assert found.p_value == pytest.approx(0.0029, abs=0.0001)
    assert (found.verdict, found.better, found.difference) == ("likely", 2, 0.04)
    assert found.interval[0] < 0.04 < found.interval[1]
    assert found.interval[0] > 0
    assert "“B” is probably better" in found.said


def test_a_small_difference_may_be_chance():
    """And is called so."""
    found = of((100, 1000), (106, 1000))
    assert (found.verdict, found.better) == ("unclear", None)
    assert found.interval[0] < 0 < found.interval[1]
    assert "chance" in found.said


@pytest.mark.parametrize(
    ("one", "other"),
    [((0, 0), (0, 0)), ((1, 10), (3, 10)), ((0, 100), (0, 100)), ((5, 5), (5, 5)), ((0, 0), (50, 1000))],
)
def test_too_few_prove_nothing(one, other):
    """Nobody seen, nobody won, everybody won: no verdict, no division by zero."""
    found = of(one, other)
    assert (found.verdict, found.p_value, found.better) == ("too_few", None, None)
    assert all(-1 <= end <= 1 for end in found.interval)


def test_more_wins_than_views_are_cut():
    """Submissions of programs have no view; nothing is won above all of them."""
    assert side(1, "A", views=10, wins=15).rate == 1.0


def test_equal_forms_are_seldom_told_apart():
    """Of 400 pairs of equal forms about one in twenty is called different, never one in ten."""
    dice = random.Random(7)
    pairs = [tuple((sum(dice.random() < 0.1 for _ in range(400)), 400) for _ in range(2)) for _ in range(400)]
    told = sum(of(*pair).verdict == "likely" for pair in pairs)
    assert told < 40
