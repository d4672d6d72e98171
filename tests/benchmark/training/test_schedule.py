"""The learning rate, epoch by epoch, against numbers computed here from the protocols' words."""

import math
from fractions import Fraction

import pytest

from benchmark.planning.recipes import RECIPES
from benchmark.training.schedule import factor

LONG_TAIL = RECIPES["long_tail_200"].recipe
BALANCED = RECIPES["balanced_250"].recipe
QUICK = RECIPES["quick"].recipe
STEPS = [1, 7, 75, 88, 97, 391]  # an epoch; 88 is CIFAR-10 at ratio 200, 391 balanced CIFAR


def long_tail_by_hand(epoch):
    """Rate with lr 0.1 in the released code, epoch 1 … 200."""
    if epoch <= 5:
        return 0.1 * epoch / 5
    if epoch > 180:
        return 0.1 * 0.01
    if epoch > 160:
        return 0.1 * 0.1
    return 0.1


def balanced_by_hand(epoch):
    """Rate with lr 0.01 in the released code, epoch 0 … 249."""
    lr = 0.01
    for border in (100, 200):
        if epoch >= border:
            lr *= 0.1
    return lr


def rates(recipe, epoch, steps_per_epoch, epochs):
    first = epoch * steps_per_epoch
    steps = range(first, first + steps_per_epoch)
    return {recipe.lr * factor(recipe, step, steps_per_epoch * epochs) for step in steps}


@pytest.mark.parametrize("steps", STEPS)
def test_long_tail_every_step_of_every_epoch(steps):
    assert (LONG_TAIL.lr, LONG_TAIL.epochs) == (0.1, 200)
    for epoch in range(200):
        (rate,) = rates(LONG_TAIL, epoch, steps, 200)  # one rate throughout an epoch
        assert rate == pytest.approx(long_tail_by_hand(epoch + 1), rel=1e-12), epoch


@pytest.mark.parametrize("steps", STEPS)
def test_balanced_every_step_of_every_epoch(steps):
    assert (BALANCED.lr, BALANCED.epochs) == (0.01, 250)
    for epoch in range(250):
        (rate,) = rates(BALANCED, epoch, steps, 250)
        assert rate == pytest.approx(balanced_by_hand(epoch), rel=1e-12), epoch


def test_the_released_variants_have_the_same_rates():
    for name in ("long_tail_200", "balanced_250"):
        usual, released = RECIPES[name].recipe, RECIPES[f"{name}_released"].recipe
        for step in range(1000):
            assert factor(usual, step, 1000) == factor(released, step, 1000)


@pytest.mark.parametrize("recipe", [LONG_TAIL, BALANCED, QUICK], ids=["lt", "balanced", "quick"])
@pytest.mark.parametrize("epochs, times", [(40, 5), (30, 7), (10, 20), (1, 200), (3, 83)])
def test_a_shortened_run_is_the_same_run_in_small(recipe, epochs, times):
    """At each step of the short run the rate is that of the long one at the same share of it."""
    for spe in (1, 13, 88):
        short = epochs * spe
        for step in range(short):
            want = factor(recipe, step * times, short * times)
            assert factor(recipe, step, short) == pytest.approx(want, rel=1e-12)


@pytest.mark.parametrize("steps", [1, 2, 3, 10, 11, 39, 40, 41, 4001])
def test_milestones_against_fractions(steps):
    """In runs of any length, also where no milestone falls on a step: exact arithmetic."""
    for step in range(steps):
        progress = Fraction(step, steps)
        if progress < Fraction(1, 40):
            want = (math.floor(progress * 200) + 1) / 5
        else:
            want = 0.1 ** sum(progress >= Fraction(part) for part in ("4/5", "9/10"))
        assert factor(LONG_TAIL, step, steps) == pytest.approx(want, rel=1e-12), step


def test_quick_climbs_three_stairs_and_falls_as_a_cosine():
    found = [factor(QUICK, step, 30) for step in range(30)]
    assert found[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    want = [(1 + math.cos(math.pi * step / 30)) / 2 for step in range(3, 30)]
    assert found[3:] == pytest.approx(want)


def test_constant(recipe):
    flat = recipe(schedule="constant")
    assert {factor(flat, step, 17) for step in range(17)} == {1.0}


@pytest.mark.parametrize("recipe", [LONG_TAIL, BALANCED, QUICK], ids=["lt", "balanced", "quick"])
def test_a_run_of_no_steps(recipe):
    assert factor(recipe, 0, 0) == factor(recipe, 0, 1000)


def test_imagenet_climbs_for_five_epochs_and_falls_as_a_cosine():
    own = RECIPES["imagenet_100"].recipe
    found = [own.lr * factor(own, step, 100) for step in range(100)]
    assert found[:5] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    assert found[5:] == pytest.approx(
        [0.5 * math.cos(math.pi * epoch / 200) ** 2 for epoch in range(5, 100)]
    )
    own = RECIPES["imagenet_100_released"].recipe
    assert [factor(own, step, 105) for step in range(6)] == pytest.approx(
        [0.2, 0.4, 0.6, 0.8, 1.0, math.cos(math.pi * 5 / 210) ** 2]
    )


def test_gamma_and_a_warm_up_of_one_stair(recipe):
    own = recipe(schedule="step", milestones=(0.5,), gamma=0.3, warmup=0.25, warmup_stairs=1)
    assert [factor(own, step, 4) for step in range(4)] == [1, 1, 0.3, 0.3]
