"""Verdicts: published worked examples, numbers worked by hand, and error rates that hold."""

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats as distributions
from statsmodels.stats.weightstats import ttost_paired

from reports.claims import Part, read
from reports.grounds import Sample
from reports.judge import (
    Finding,
    _adjusted,
    combined,
    deciding,
    outcome,
    tried,
)

INF = math.inf

# Student, "The probable error of a mean", Biometrika 6(1), 1908: hours of sleep gained by ten
# patients under one drug over another
SLEEP = (1.2, 2.4, 1.3, 1.3, 0.0, 1.0, 1.8, 0.8, 4.6, 1.4)


def part(low: float = 0.0, high: float = INF, weights=(1, -1), constant: float = 0.0) -> Part:
    return Part("", (), weights, constant, low, high, math.nan)


def seen(*values: float, low: float = 0.0, high: float = INF, **other):
    return outcome(part(low, high), [(str(n), v) for n, v in enumerate(values)], **other)


def test_students_sleep():
    found = seen(*SLEEP)
    assert found.mean == pytest.approx(1.58)
    assert (found.low, found.high) == pytest.approx((0.70, 2.46), abs=0.005)
    assert 2 * found.support == pytest.approx(0.002833, abs=1e-6)  # as printed by R's t.test
    assert found.refute == pytest.approx(1 - found.support)


@pytest.mark.parametrize("margin", [0.5, 0.69, 0.71, 1.58, 2.45, 2.47, 3.0])
def test_the_interval_and_the_tests_say_the_same(margin):
    found = seen(*SLEEP, low=margin)
    assert (found.support < 0.025) == (found.low > margin)
    assert (found.refute < 0.025) == (found.high < margin)


@pytest.mark.parametrize("margin", [1.0, 2.0, 2.4, 2.5, 3.0])
def test_within_a_margin_it_is_the_two_one_sided_tests(margin):
    found = seen(*SLEEP, low=-margin, high=margin)
    theirs = ttost_paired(np.array(SLEEP), np.zeros(10), -margin, margin)[0]
    assert found.support == pytest.approx(float(theirs), rel=1e-6)
    assert (found.support < 0.025) == (-margin < found.low and found.high < margin)


def test_more_seeds_for_four_in_five():
    # Cohen's d = 0.5 at 5 % two-sided and 80 %: 34 pairs, as G*Power has it
    spread = np.array([-1.0, 1.0]) * math.sqrt(0.5)  # sd 1 for n = 2
    found = seen(*(0.5 + spread))
    assert found.seeds == 34 - 2
    assert seen(*(-0.5 + spread)).seeds == 34 - 2  # as far on the other side
    assert seen(*(0.01 + spread)).seeds == INF
    assert seen(*SLEEP).seeds == 0


@pytest.mark.parametrize(
    ("values", "other", "seeds"),
    [((5.0,), {}, INF), ((5.0, 5.0), {}, INF), ((5.0, 5.1, 5.2), {"lost": True}, INF)],
)
def test_one_seed_no_spread_or_a_lost_seed_say_nothing(values, other, seeds):
    found = seen(*values, **other)
    assert (found.support, found.refute, found.seeds) == (1.0, 1.0, seeds)
    assert found.mean == pytest.approx(np.mean(values))


def test_points_need_no_seeds():
    sure = seen(0.257, low=-0.005, high=0.005, exact=True)
    assert (sure.support, sure.refute, sure.exact) == (1.0, 0.0, True)
    assert seen(0.001, low=-0.005, high=0.005, exact=True).support == 0.0
    assert not seen(0.1, 0.2, exact=True).exact  # two draws have a spread


def test_effects_are_paired_by_seed():
    first = Sample({"0": 60.0, "1": 61.0, "2": 70.0}, {"0": "a", "1": "b", "2": "c"}, (), False, "")
    other = Sample({"1": 58.0, "0": 59.0}, {"0": "d", "1": "e"}, (), False, "")
    found = tried(part(), [first, other])
    assert dict(found.effects) == {"0": 1.0, "1": 3.0}  # the third has no partner
    assert found.keys == ("a", "b", "d", "e")
    assert tried(part(constant=-0.5), [first, other]).mean == 1.5
    assert tried(part(), [first, None]).n == 0
    lost = replace(other, cells={"0": "d", "1": "e", "2": "f"}, lost=("2",))
    found = tried(part(), [first, lost])
    assert found.lost and found.support == 1.0 and "f" in found.keys


def test_several_settings_by_hand():
    support, refute = [0.001, 0.01, 0.5], [0.999, 0.99, 0.5]
    assert combined(support, refute, 3) == pytest.approx((0.5, 1.0))  # all: the largest p
    assert combined(support, refute, 2) == pytest.approx((2 * 0.01, 1.0))  # two of three
    assert combined(refute, support, 3)[1] == pytest.approx(3 * 0.001)  # one fails: Bonferroni
    assert combined(refute, support, 2)[1] == pytest.approx(2 * 0.01)  # two fail
    missing = [0.001, math.nan, math.nan]
    assert combined(missing, missing, 3) == (1.0, 0.001)  # two were not run: one test
    assert all(math.isnan(each) for each in combined([math.nan], [math.nan], 1))


def test_which_way_a_claim_would_go():
    assert deciding([(1, 0.0), (1, 5.0), (1, 2.0)], 3) == (1, 5.0)
    assert deciding([(1, 0.0), (-1, 5.0), (-1, 2.0)], 3) == (-1, 2.0)  # one failing is enough
    assert deciding([(1, 7.0), (-1, 5.0), (1, 2.0)], 2) == (1, 7.0)
    assert deciding([(1, 7.0), (0, INF)], 2) == (0, INF)
    assert deciding([(-1, 7.0), (0, INF)], 2) == (-1, 7.0)


def test_holm_worked_by_hand():
    claim = read()[0]
    raw = [0.01, 0.04, 0.03, 0.005, math.nan]
    blank = Finding(claim, (), (), None, "supported", "", None, 0.0, 0.0, 0.0, ())
    found = _adjusted([replace(blank, p=p) for p in raw])
    # sorted 0.005 · 4, 0.01 · 3, 0.03 · 2, 0.04 · 1, and never falling
    assert [each.holm for each in found[:4]] == pytest.approx([0.03, 0.06, 0.06, 0.02])
    told = ["supported", "undecided", "undecided", "supported", "supported"]
    assert [each.after for each in found] == told


@pytest.mark.parametrize("n", [2, 3, 5])
def test_wrong_verdicts_are_as_rare_as_claimed(n):
    """At the margin itself 2.5 % are wrongly supported and 2.5 % wrongly refuted."""
    generator = np.random.default_rng(0)
    effects = generator.normal(1.0, 2.0, (20_000, n))
    t = (effects.mean(1) - 1.0) / (effects.std(1, ddof=1) / math.sqrt(n))
    wrong = (distributions.t.sf(t, n - 1) < 0.025).mean()
    assert wrong == pytest.approx(0.025, abs=0.004)
    found = [seen(*row, low=1.0) for row in effects[:400]]
    reach = distributions.t.sf(t[:400], n - 1)
    assert [each.support for each in found] == pytest.approx(reach.tolist())
