"""The loop against loops written by hand, and everything that must be so on the way."""

import copy
import math

import pytest
import torch
from torch import nn

from benchmark.backbones import build
from benchmark.planning.recipes import RECIPES
from benchmark.training import checkpoint
from benchmark.training.points import keeper
from benchmark.training.streams import beta, stream
from benchmark.training.train import (
    Diverged,
    Stopped,
    Trunk,
    Watch,
    cutmix,
    mix,
    optimizer,
    train,
)
from heads import HEADS
from heads.base import Clock, Head, Problem, Rate, Sweep

CLASSES, WIDTH = 3, 5


class Linear(nn.Module):
    """A backbone of one matrix."""

    width = WIDTH

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(1)
        self.weight = nn.Parameter(torch.randn(WIDTH, 4, generator=generator))

    def forward(self, images):
        return images @ self.weight.T


class Plain(Head):
    """Cross-entropy; notes every moment at which it is called."""

    def __init__(self, rates=None):
        super().__init__()
        self.dim = WIDTH
        generator = torch.Generator().manual_seed(2)
        self.weight = nn.Parameter(torch.randn(CLASSES, WIDTH, generator=generator))
        self.bias = nn.Parameter(torch.zeros(CLASSES))
        self.own = rates or {}
        self.moments = []

    def score(self, embedding):
        return embedding @ self.weight.T + self.bias

    def loss(self, embedding, labels):
        return nn.functional.cross_entropy(self.score(embedding), labels)

    def rates(self):
        return self.own

    def begin_epoch(self, clock, sweep=None):
        self.moments.append(("begin", clock, sweep))

    def after_step(self, embedding, labels, clock):
        assert not embedding.requires_grad
        self.moments.append(("after", clock, labels.clone()))

    def readings(self):
        return {"calls": float(len([m for m in self.moments if m[0] == "after"]))}


class Sets:
    """Batches of fixed random numbers, the same at every epoch's step."""

    def __init__(self, steps=4, batch=6):
        self.steps, self.batch = steps, batch

    def epoch(self, epoch, start=0):
        for step in range(start, self.steps):
            generator = torch.Generator().manual_seed(1000 * epoch + step)
            images = torch.randn(self.batch, 4, generator=generator)
            yield images, torch.randint(0, CLASSES, (self.batch,), generator=generator)


def trunk(backbone=None, before=(), frozen=False):
    return Trunk(backbone or Linear(), list(before), frozen=frozen, precision="float32")


def twin(recipe, batches, rate_of):
    """Naive training of the same model in float64; gradients worked by hand.

    rate_of  (name, epoch) -> learning rate and weight decay
    """
    head = Plain()
    weights = {"trunk": Linear().weight, "weight": head.weight, "bias": head.bias}
    weights = {name: value.detach().double() for name, value in weights.items()}
    velocity = {}
    for epoch in range(recipe.epochs):
        for images, labels in batches.epoch(epoch):
            x = images.double()
            z = x @ weights["trunk"].T
            error = (z @ weights["weight"].T + weights["bias"]).softmax(dim=1)
            for row, label in enumerate(labels):
                error[row, label] -= 1
            error /= len(labels)
            gradient = {
                "trunk": (error @ weights["weight"]).T @ x,
                "weight": error.T @ z,
                "bias": error.sum(dim=0),
            }
            for name in weights:
                lr, decay = rate_of(name, epoch)
                force = gradient[name] + decay * weights[name]
                before = velocity.get(name)
                velocity[name] = force if before is None else recipe.momentum * before + force
                ahead = force + recipe.momentum * velocity[name]
                weights[name] = weights[name] - lr * (ahead if recipe.nesterov else velocity[name])
    return weights


@pytest.mark.parametrize(
    "momentum, decay, nesterov",
    [(0.9, 0.05, False), (0.0, 0.05, False), (0.9, 0.0, False), (0.9, 0.05, True)],
)
def test_weights_are_those_of_a_naive_loop(recipe, momentum, decay, nesterov):
    own = recipe(
        **{"epochs": 6, "lr": 0.2, "momentum": momentum, "weight_decay": decay},
        **{"nesterov": nesterov, "schedule": "step", "milestones": (0.5,)},
        **{"warmup": 1 / 3, "warmup_stairs": 2},
    )
    rates = [0.1, 0.2, 0.2, 0.02, 0.02, 0.02]  # worked by hand: two stairs, then a tenth at half
    look, head = trunk(), Plain()
    now = train(look, head, Sets(), own, seed=0)
    want = twin(own, Sets(), lambda name, epoch: (rates[epoch], decay))
    found = {"trunk": look.backbone.weight, "weight": head.weight, "bias": head.bias}
    for name, value in found.items():
        torch.testing.assert_close(value.double(), want[name], atol=2e-5, rtol=2e-5)
    assert [row["lr"] for row in now.curves] == pytest.approx(rates)
    assert (now.step, now.seen) == (24, 144)


def test_a_heads_own_rates_are_absolute_and_follow_the_schedule(recipe):
    own = recipe(epochs=4, lr=0.2, weight_decay=0.05, schedule="step", milestones=(0.5,))
    look, head = trunk(), Plain({"weight": Rate(0.03, 0.4)})

    def rate_of(name, epoch):
        lr, decay = (0.03, 0.4) if name == "weight" else (0.2, 0.05)
        return lr * (0.1 if epoch >= 2 else 1), decay

    train(look, head, Sets(), own, seed=0)
    want = twin(own, Sets(), rate_of)
    found = {"trunk": look.backbone.weight, "weight": head.weight, "bias": head.bias}
    for name, value in found.items():
        torch.testing.assert_close(value.double(), want[name], atol=2e-5, rtol=2e-5)


def test_adamw_against_a_naive_loop(recipe):
    """Loshchilov and Hutter, arXiv:1711.05101, algorithm 2; the head's weight has its own rate."""
    own = recipe(
        **{"epochs": 3, "lr": 0.02, "weight_decay": 0.3, "optimizer": "adamw"},
        **{"schedule": "step", "milestones": (0.5,)},
    )
    look, head = trunk(), Plain({"weight": Rate(0.05, 0.1)})
    train(look, head, Sets(steps=2), own, seed=0)

    weights = {"trunk": Linear().weight, "weight": Plain().weight, "bias": Plain().bias}
    weights = {name: value.detach().double() for name, value in weights.items()}
    mean = {name: torch.zeros_like(value) for name, value in weights.items()}
    square = {name: torch.zeros_like(value) for name, value in weights.items()}
    for step in range(1, 7):
        epoch, within = divmod(step - 1, 2)
        ((images, labels),) = list(Sets(steps=within + 1).epoch(epoch, within))
        leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
        scores = images.double() @ leaves["trunk"].T @ leaves["weight"].T + leaves["bias"]
        nn.functional.cross_entropy(scores, labels).backward()
        for name, leaf in leaves.items():
            lr, decay = (0.05, 0.1) if name == "weight" else (0.02, 0.3)
            lr *= 0.1 if step > 3 else 1.0
            mean[name] = 0.9 * mean[name] + 0.1 * leaf.grad
            square[name] = 0.999 * square[name] + 0.001 * leaf.grad**2
            upright = mean[name] / (1 - 0.9**step)
            spread = (square[name] / (1 - 0.999**step)).sqrt()
            weights[name] = weights[name] * (1 - lr * decay) - lr * upright / (spread + 1e-8)
    found = {"trunk": look.backbone.weight, "weight": head.weight, "bias": head.bias}
    for name, value in found.items():
        torch.testing.assert_close(value.double(), weights[name], atol=1e-5, rtol=1e-5)


def test_adamws_first_step_by_hand(recipe):
    """The first mean over the first spread is the gradient's sign: lr after the decay."""
    own = recipe(
        epochs=1, lr=0.02, weight_decay=0.5, optimizer="adamw", schedule="constant", batch=6
    )
    look, head = trunk(), Plain()
    images, labels = next(Sets().epoch(0))
    head.loss(look(images), labels).backward()
    sign = look.backbone.weight.grad.sign()
    assert sign.abs().min() == 1
    want = (1 - 0.02 * 0.5) * Linear().weight - 0.02 * sign
    train(look, head, Sets(steps=1), own, seed=0)
    torch.testing.assert_close(look.backbone.weight, want, atol=1e-6, rtol=0)


def test_nothing_to_train_is_said(recipe):
    class Fixed(Plain):
        def __init__(self):
            super().__init__()
            self.requires_grad_(False)

    with pytest.raises(ValueError, match="nothing here has weights to train, got 2 epochs"):
        train(trunk(frozen=True), Fixed(), Sets(), recipe(), seed=0)
    now = train(trunk(frozen=True), Fixed(), Sets(), recipe(epochs=0), seed=0)
    assert now.step == 0


def test_no_epochs_is_the_head_as_built(recipe):
    beats = []
    look, head = trunk(Normed(), [NormedHead()]), Plain()
    before, own = state(look), state(head)
    watch = Watch(pulse=lambda *step: beats.append(step), epoch=beats.append)
    sweep = beats.append  # called without a word, it would raise
    now = train(look, head, Sets(), recipe(epochs=0), seed=0, watch=watch, sweep=sweep)
    assert unequal(before, look) == unequal(own, head) == set()
    assert now.readings == [{"step": 0.0, "calls": 0.0}]
    assert (now.step, now.seen, now.seconds, now.curves) == (0, 0, 0.0, [])
    assert head.moments == beats == []
    assert not look.training and not head.training


def test_a_head_that_rates_everything_on_a_frozen_trunk(recipe):
    """No common group is left: nothing but the head's own."""
    look, head = trunk(frozen=True), Plain({"weight": Rate(0.5, 0.0), "bias": Rate(0.0, 0.0)})
    before = head.weight.clone()
    train(look, head, Sets(), recipe(lr=0.1), seed=0)
    assert not torch.equal(head.weight, before) and not head.bias.any()


@pytest.mark.parametrize("name", ["long_tail_200", "balanced_250"])
def test_rates_of_the_protocols_epoch_by_epoch_as_trained(name):
    own = RECIPES[name].recipe.model_copy(update={"mixup": 0.0, "precision": "float32"})
    if name == "long_tail_200":
        want = [0.02, 0.04, 0.06, 0.08] + [0.1] * 156 + [0.01] * 20 + [0.001] * 20
    else:
        want = [0.01] * 100 + [0.001] * 100 + [0.0001] * 50
    found = []
    look = trunk()
    sgd = optimizer(look, Plain(), own)
    assert sgd.defaults["weight_decay"] == own.weight_decay and sgd.defaults["momentum"] == 0.9
    now = train(look, Plain(), Sets(steps=2, batch=2), own, seed=0)
    found = [row["lr"] for row in now.curves]
    assert found == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize(
    "epochs, steps, want",
    [
        (2, 4, range(9)),  # shorter than 50 steps: all of them
        (4, 25, range(0, 101, 2)),
        (10, 50, range(0, 501, 10)),
        (1, 50, range(51)),
        # 73 steps: due whenever ⌊50 t / 73⌋ rises
        (1, 73, [0, *sorted({math.ceil(73 * k / 50) for k in range(1, 51)})]),
    ],
)
def test_readings_at_the_start_the_end_and_fifty_even_steps(recipe, epochs, steps, want):
    own = recipe(epochs=epochs, lr=1e-3)
    now = train(trunk(), Plain(), Sets(steps=steps, batch=2), own, seed=0)
    assert [reading["step"] for reading in now.readings] == list(want)
    assert len(want) <= 51
    # taken after after_step: as many calls as steps
    assert all(reading["calls"] == reading["step"] for reading in now.readings)


def test_moments_and_clocks(recipe):
    sweeps = []

    def sweep():
        assert not look.training
        sweeps.append(Sweep(torch.zeros(1, WIDTH), torch.zeros(1)))
        return sweeps[-1]

    look, head = trunk(), Plain()
    train(look, head, Sets(steps=2), recipe(epochs=3), seed=0, sweep=sweep)
    found = [(kind, clock) for kind, clock, _ in head.moments]
    want = []
    for epoch in range(3):
        want.append(("begin", Clock(2 * epoch, epoch, 2, 3)))
        want += [("after", Clock(2 * epoch + step, epoch, 2, 3)) for step in range(2)]
    assert found == want
    assert [found[1].progress for found in head.moments if found[0] == "after"] == pytest.approx(
        [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6]
    )
    given = [moment[2] for moment in head.moments if moment[0] == "begin"]
    assert len(given) == 3 and all(a is b for a, b in zip(given, sweeps, strict=True))
    assert not look.training and not head.training


def test_no_sweep_where_none_is_asked_for(recipe):
    head = Plain()
    train(trunk(), head, Sets(steps=2), recipe(epochs=2), seed=0)
    assert [moment[2] for moment in head.moments if moment[0] == "begin"] == [None, None]


def test_pulse_and_rows(recipe):
    beats, rows = [], []

    def epoch(row):
        rows.append(dict(row))
        assert not look.training and not head.training  # ready to be evaluated
        return {"validation": 0.5 + row["epoch"]}

    look, head = trunk(), Plain()
    watch = Watch(epoch=epoch, pulse=lambda step, steps: beats.append((step, steps)))
    now = train(look, head, Sets(steps=3), recipe(epochs=2), seed=0, watch=watch)
    assert beats == [(step, 6) for step in range(1, 7)]
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 3), (2, 6)]
    assert now.curves == [{**row, "validation": 0.5 + row["epoch"]} for row in rows]
    assert now.seconds > 0


def test_the_epochs_loss_is_the_mean_of_its_steps(recipe):
    own = recipe(epochs=2, lr=1e-12, momentum=0.0, weight_decay=0.0)
    now = train(trunk(), Plain(), Sets(steps=3), own, seed=0)
    look, head = trunk(), Plain()
    for epoch, row in enumerate(now.curves):
        losses = [head.loss(look(x), y).item() for x, y in Sets(steps=3).epoch(epoch)]
        assert row["loss"] == pytest.approx(sum(losses) / 3)


@pytest.mark.parametrize("at", [0, 5, 7])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_diverged_carries_the_step(recipe, at, value):
    class Fragile(Plain):
        def loss(self, embedding, labels):
            done = len([moment for moment in self.moments if moment[0] == "after"])
            return super().loss(embedding, labels) * (value if done == at else 1)

    head = Fragile()
    with pytest.raises(Diverged, match=f"at step {at}") as caught:
        train(trunk(), head, Sets(steps=4), recipe(epochs=2), seed=0)
    assert caught.value.step == at


def test_a_rate_too_large_diverges(recipe):
    with pytest.raises(Diverged) as caught:
        train(trunk(), Plain(), Sets(), recipe(epochs=40, lr=1e30, schedule="constant"), seed=0)
    assert 0 < caught.value.step < 160


def pictures(count=7, height=4, width=4):
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(count, 2, height, width, generator=generator)
    return images, torch.randint(0, CLASSES, (count,), generator=generator)


def blended_by_hand(head, embedding, labels, partner, share):
    """Each example's cost for its own label, and for its partner's, one at a time."""
    total = 0.0
    for i in range(len(labels)):
        logs = head.score(embedding[i : i + 1]).log_softmax(dim=1)[0]
        total -= share * float(logs[labels[i]]) + (1 - share) * float(logs[labels[partner[i]]])
    return total / len(labels)


def scored(count):
    """A head and an embedding, float64."""
    generator = torch.Generator().manual_seed(4)
    head = Plain().double().requires_grad_(False)
    return head, torch.randn(count, WIDTH, generator=generator).double()


def test_mixup_against_a_naive_loop(recipe):
    images, labels = pictures()
    where = (1, 4, 19)
    mixed, own, blend = mix(images, labels, recipe(mixup=0.7), 5, where)
    share = beta(0.7, 5, "augment", "mixup", *where)
    partner = torch.randperm(7, generator=stream(5, "augment", "partner", *where)).tolist()
    assert 0 < share < 1 and partner != list(range(7))
    for i in range(7):
        want = share * images[i] + (1 - share) * images[partner[i]]
        torch.testing.assert_close(mixed[i], want)
    assert own is labels
    head, embedding = scored(7)
    want = blended_by_hand(head, embedding, labels, partner, share)
    assert float(blend(head, embedding)) == pytest.approx(want)


def test_mixups_draws_are_what_they_were(recipe):
    """Results that exist were trained with these: not one bit may change without a PROTOCOL."""
    images, labels = torch.eye(6), torch.arange(6)
    mixed, _, _ = mix(images, labels, recipe(mixup=1.0), 3, (0, 2, 17))
    share = 0.2638473553279718
    want = share * images + (1 - share) * images[[0, 3, 1, 4, 2, 5]]
    assert torch.equal(mixed, want)


def test_no_mixing_is_the_identity(recipe):
    images, labels = next(Sets().epoch(0))
    for own in (recipe(), recipe(hard_labels=True)):
        mixed, same, blend = mix(images, labels, own, 0, (0, 0, 0))
        assert mixed is images and same is labels
        embedding = torch.randn(6, WIDTH)
        assert torch.equal(blend(Plain(), embedding), Plain().loss(embedding, labels))


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_is_addressed_by_stage_epoch_and_step(recipe, kind):
    images, labels = pictures(9, 16, 16)
    own = recipe(**{kind: 1.0})
    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1)]
    found = [mix(images, labels, own, 0, where)[0] for where in places]
    found.append(mix(images, labels, own, 1, places[0])[0])
    assert torch.equal(found[0], mix(images, labels, own, 0, places[0])[0])
    for i, one in enumerate(found):
        assert not any(torch.equal(one, other) for other in found[i + 1 :])


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_mixing_of_views_mixes_images_not_views(recipe, kind):
    views = torch.randn(2, 6, 1, 8, 8)
    labels = torch.arange(6) % CLASSES
    mixed, _, _ = mix(views, labels, recipe(**{kind: 1.0}), 0, (0, 0, 0))
    assert not torch.equal(mixed, views)
    for view in range(2):
        alone, _, _ = mix(views[view], labels, recipe(**{kind: 1.0}), 0, (0, 0, 0))
        assert torch.equal(mixed[view], alone)


def cutmix_by_hand(images, partner, share, centre):
    """Pixel by pixel; arXiv:1905.04899, eq. 2: r_w = W √(1 − λ), r_h = H √(1 − λ)."""
    count, channels, height, width = images.shape
    mixed, theirs = torch.zeros_like(images), 0
    half_height = math.floor(height * math.sqrt(1 - share) / 2)
    half_width = math.floor(width * math.sqrt(1 - share) / 2)
    for row in range(height):
        for column in range(width):
            inside = -half_height <= row - centre[0] < half_height
            inside = inside and -half_width <= column - centre[1] < half_width
            theirs += inside
            for i in range(count):
                source = partner[i] if inside else i
                for channel in range(channels):
                    mixed[i, channel, row, column] = images[source, channel, row, column]
    return mixed, 1 - theirs / (height * width)


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999, 1.0])
@pytest.mark.parametrize("size", [(6, 9), (5, 5)])
def test_cutmix_against_a_naive_loop(share, size):
    images, _ = pictures(3, *size)
    partner = torch.tensor([2, 0, 1])
    shares = set()
    for number in range(12):  # boxes in the middle, and at the borders
        generator = torch.Generator().manual_seed(number)
        mixed, kept = cutmix(images, partner, share, generator)
        generator.manual_seed(number)
        centre = [int(torch.randint(extent, (), generator=generator)) for extent in size]
        want, stayed = cutmix_by_hand(images, partner.tolist(), share, centre)
        assert torch.equal(mixed, want) and kept == pytest.approx(stayed, abs=1e-12)
        shares.add(kept)
    assert (len(shares) > 1) == (share in (0.0, 0.1, 0.5))  # some were cut off at a border


def test_cutmix_by_hand():
    """λ = 3/4: half of each side. At row 0 of 4 one of two rows is cut off: an eighth, not a
    quarter, is the partner's.
    """
    images = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
    found = {}
    for number in range(100):
        generator = torch.Generator().manual_seed(number)
        row, column = (int(torch.randint(4, (), generator=generator)) for _ in range(2))
        generator.manual_seed(number)
        found[row, column] = cutmix(images, torch.tensor([1, 0]), 0.75, generator)
    mixed, share = found[0, 2]
    assert mixed[0, 0].tolist() == [[0, 1, 1, 0], [0] * 4, [0] * 4, [0] * 4] and share == 7 / 8
    assert torch.equal(mixed[1], 1 - mixed[0])
    mixed, share = found[2, 2]
    assert mixed[0, 0].tolist() == [[0] * 4, [0, 1, 1, 0], [0, 1, 1, 0], [0] * 4] and share == 3 / 4


def test_cutmix_in_training(recipe):
    """One box a batch, the loss by the exact area; the layout in memory stays."""
    images, labels = pictures(7, 8, 8)
    images = images.contiguous(memory_format=torch.channels_last)
    before = images.clone()
    where = (1, 4, 19)
    mixed, own, blend = mix(images, labels, recipe(cutmix=0.7), 5, where)
    assert mixed.is_contiguous(memory_format=torch.channels_last) and torch.equal(images, before)
    partner = torch.randperm(7, generator=stream(5, "augment", "partner", *where))
    drawn = beta(0.7, 5, "augment", "cutmix", *where)
    box = stream(5, "augment", "box", *where)
    centre = [int(torch.randint(8, (), generator=box)) for _ in range(2)]
    want, share = cutmix_by_hand(images, partner.tolist(), drawn, centre)
    assert torch.equal(mixed, want) and 0 < share < 1 and share != drawn
    assert own is labels
    head, embedding = scored(7)
    want = blended_by_hand(head, embedding, labels, partner, share)
    assert float(blend(head, embedding)) == pytest.approx(want)


def test_mixup_or_cutmix_at_even_odds(recipe):
    images, labels = pictures(5, 16, 16)
    both = recipe(mixup=0.7, cutmix=1.0)
    alone = (recipe(mixup=0.7), recipe(cutmix=1.0))
    cuts = 0
    for step in range(200):
        found = mix(images, labels, both, 0, (0, 0, step))[0]
        up, cut = (mix(images, labels, own, 0, (0, 0, step))[0] for own in alone)
        assert torch.equal(found, up) != torch.equal(found, cut)
        cuts += torch.equal(found, cut)
    assert abs(cuts - 100) < 4 * math.sqrt(50)  # four standard deviations of a fair coin


@pytest.mark.parametrize("kind", ["mixup", "cutmix"])
def test_hard_labels_are_those_of_the_larger_share(recipe, kind):
    images, labels = pictures(7, 8, 8)
    soft, hard = recipe(**{kind: 1.0}), recipe(**{kind: 1.0, "hard_labels": True})
    head, embedding = scored(7)
    sides = set()
    for step in range(60):
        where = (0, 0, step)
        mixed, own, blend = mix(images, labels, hard, 0, where)
        assert torch.equal(mixed, mix(images, labels, soft, 0, where)[0])  # images mix as ever
        share = beta(1.0, 0, "augment", kind, *where)
        partner = torch.randperm(7, generator=stream(0, "augment", "partner", *where))
        if kind == "cutmix":
            share = cutmix(images, partner, share, stream(0, "augment", "box", *where))[1]
        want = [labels[i if share >= 0.5 else partner[i]] for i in range(7)]
        assert own.tolist() == want
        assert torch.equal(blend(head, embedding), head.loss(embedding, own))
        sides.add(share >= 0.5)
    assert sides == {True, False}


@pytest.mark.parametrize("hard", [False, True])
def test_training_mixes_with_the_address_of_its_step(recipe, hard):
    """And credits a mixed image to the label that it goes by."""
    seen = []

    class Noting(Linear):
        def forward(self, images):
            seen.append(images.detach().clone())
            return super().forward(images)

    own = recipe(mixup=0.5, hard_labels=hard)
    head = Plain()
    train(trunk(Noting()), head, Sets(steps=2), own, seed=3, stage=1)
    want = []
    for epoch in range(2):
        for step, (images, labels) in enumerate(Sets(steps=2).epoch(epoch)):
            want.append(mix(images, labels, own, 3, (1, epoch, 2 * epoch + step)))
            assert hard or want[-1][1] is labels
    assert all(torch.equal(a, b) for a, (b, _, _) in zip(seen, want, strict=True))
    credited = [labels for kind, _, labels in head.moments if kind == "after"]
    assert all(torch.equal(a, b) for a, (_, b, _) in zip(credited, want, strict=True))


class Normed(Linear):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def forward(self, images):
        return self.norm(super().forward(images))


class NormedHead(Plain):
    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)

    def embed(self, features):
        return self.norm(features)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_batch_norm_moves_once_a_step(recipe, alpha):
    look, head = trunk(Normed()), NormedHead()
    train(look, head, Sets(steps=3), recipe(epochs=2, mixup=alpha), seed=0)
    assert look.backbone.norm.num_batches_tracked == 6
    assert head.norm.num_batches_tracked == 6


def state(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def unequal(before, module):
    return {name for name, value in module.state_dict().items() if not value.equal(before[name])}


def test_a_frozen_trunk_stays_to_the_bit(recipe):
    look = trunk(Normed(), [NormedHead()], frozen=True)
    before = state(look)
    head = Plain()
    own = state(head)
    train(look, head, Sets(), recipe(), seed=0)
    assert unequal(before, look) == set()
    assert unequal(own, head) == {"weight", "bias"}
    assert not any(parameter.requires_grad for parameter in look.parameters())
    look.train()
    assert not any(module.training for module in look.modules())


def test_a_drifting_trunk_moves_its_statistics_alone(recipe):
    """As released code has it: weights to the bit, statistics once a step, batches of their own."""
    parts = {"frozen": True, "precision": "float32", "drifting": True}
    look = Trunk(Normed(), [NormedHead()], **parts)
    assert not any(module.training for module in look.modules())  # until it is trained
    before = state(look)
    head = Plain()
    own = state(head)
    train(look, head, Sets(steps=3), recipe(epochs=2), seed=0)
    moved = {"norm.running_mean", "norm.running_var", "norm.num_batches_tracked"}
    assert unequal(before, look) == {
        f"{part}.{n}" for n in moved for part in ("backbone", "before.0")
    }
    assert look.backbone.norm.num_batches_tracked == 6
    assert unequal(own, head) == {"weight", "bias"}
    assert not any(module.training for module in look.modules())  # evaluated with what has moved
    # the features of a step are normalised by its own batch, and carry no gradient
    look.train()
    found = look.backbone(torch.randn(50, 4) + 7)
    torch.testing.assert_close(found.mean(dim=0), torch.zeros(WIDTH), atol=1e-5, rtol=0)
    assert not look(torch.randn(5, 4)).requires_grad


def test_an_open_trunk_moves_weights_and_statistics(recipe):
    look = trunk(Normed(), [NormedHead()])
    before = state(look)
    train(look, Plain(), Sets(), recipe(), seed=0)
    still = set(before) - unequal(before, look)
    # what the earlier head scored with is out of use
    assert still == {"before.0.weight", "before.0.bias"}


def test_a_trunk_embeds_with_the_heads_before_in_order():
    class Times(Plain):
        def embed(self, features):
            return 2 * features

    class Plus(Plain):
        dim = 9

        def embed(self, features):
            return features + 1

    images = torch.randn(3, 4)
    look = trunk(Linear(), [Times(), Plus()])
    torch.testing.assert_close(look(images), 2 * Linear()(images) + 1)
    assert look.width == look.before[-1].dim
    assert trunk().width == WIDTH


def test_views_pass_as_one_batch():
    backbone = build("small_cnn", {"channels": 2}, generator=torch.Generator().manual_seed(0))
    look = trunk(backbone).eval()
    images = torch.randn(2, 3, 3, 8, 8)
    found = look(images)
    assert found.shape == (2, 3, backbone.width)
    torch.testing.assert_close(found[1], look(images[1]))


def test_features_are_float32_whatever_the_precision():
    look = Trunk(Linear(), [], frozen=False, precision="bf16")
    images = torch.randn(3, 4)
    found = look(images)
    assert found.dtype == torch.float32
    exact = Linear()(images)
    assert not torch.equal(found, exact)  # it was computed in bf16
    assert torch.equal(found, found.bfloat16().float())
    torch.testing.assert_close(found, exact, atol=0.1, rtol=0.02)


def parts(name):
    """A small network with a head of the tree, and batches of images with few classes."""
    generator = torch.Generator().manual_seed(0)
    backbone = build("small_cnn", {"channels": 2}, image_channels=1, generator=generator)
    problem = Problem(
        width=4, counts=torch.tensor([20, 10, 5]), seed=3, points=keeper(3), names=("a", "b", "c")
    )
    options = {"dl2pa": {"updates_per_epoch": 2, "momentum": 0.5}}.get(name, {})
    head = HEADS[name](problem, **options)
    look = Trunk(backbone, [], frozen=False, precision="float32").to(
        memory_format=torch.channels_last
    )
    return look, head


class Pictures(Sets):
    def epoch(self, epoch, start=0):
        for images, labels in super().epoch(epoch, start):
            square = images.repeat(1, 4).reshape(len(images), 1, 4, 4)
            yield square.contiguous(memory_format=torch.channels_last), labels


def outcome(now, look, head):
    tensors = {**{f"l.{k}": v for k, v in look.state_dict().items()}, **head.state_dict()}
    readings = [  # times are no part of it
        {name: value for name, value in each.items() if not name.endswith("_seconds")}
        for each in now.readings
    ]
    return {k: v.clone() for k, v in tensors.items()}, now.curves, readings, now.seen


def equal(one, other):
    assert one[0].keys() == other[0].keys()
    assert [name for name, value in one[0].items() if not torch.equal(value, other[0][name])] == []
    assert one[1:] == other[1:]
    return True


ADAMW = {"optimizer": "adamw", "lr": 0.01, "cutmix": 1.0, "hard_labels": True}


@pytest.mark.parametrize(
    "name, changes", [("psc", {}), ("etf", {}), ("dl2pa", {}), ("psc", ADAMW)], ids=str
)
def test_resumed_from_any_step_the_same_bits(recipe, tmp_path, name, changes):
    usual = {"epochs": 3, "mixup": 1.0, "lr": 0.05, "schedule": "step", "milestones": (0.5,)}
    own = recipe(**{**usual, **changes})
    look, head = parts(name)
    whole = outcome(train(look, head, Pictures(), own, seed=0), look, head)
    assert len(whole[1]) == 3

    kept = []
    watch = Watch(save=lambda each: kept.append(copy.deepcopy(each)), every=0.0)
    look, head = parts(name)
    watched = outcome(train(look, head, Pictures(), own, seed=0, watch=watch), look, head)
    assert equal(whole, watched)  # saving disturbs nothing
    assert [each.note["step"] for each in kept] == list(range(1, 13))
    if name == "dl2pa":  # or the test would not see a lost assignment
        assert len({each.note["readings"][-1]["moves"] for each in kept}) > 2

    for each in kept:
        checkpoint.write(tmp_path, "key", each)
        found = checkpoint.read(tmp_path, "key")
        look, head = parts(name)
        torch.manual_seed(int(each.note["step"]))  # of no account
        now = train(look, head, Pictures(), own, seed=0, resume=found)
        assert equal(whole, outcome(now, look, head)), each.note["step"]


class Dropping(Linear):
    """Draws from the global generator, as torchvision's layers do."""

    def forward(self, images):
        return nn.functional.dropout(super().forward(images), 0.5, self.training)


def test_what_a_network_draws_has_an_address(recipe):
    """Whatever the global generator holds, resumed or not: the same; and it is left as it was."""
    own, kept, ends = recipe(epochs=2, lr=0.1), [], []
    for number in range(2):
        torch.manual_seed(number)
        before = torch.get_rng_state()
        look, head = trunk(Dropping()), Plain()
        watch = Watch(save=lambda each: kept.append(copy.deepcopy(each)), every=0.0)
        train(look, head, Sets(), own, seed=0, watch=watch)
        assert torch.equal(torch.get_rng_state(), before)
        ends.append(look.backbone.weight)
    for each in kept[:8]:
        look, head = trunk(Dropping()), Plain()
        train(look, head, Sets(), own, seed=0, resume=each)
        ends.append(look.backbone.weight)
    assert all(torch.equal(end, ends[0]) for end in ends)
    others = []
    for seed, stage, backbone in ((1, 0, Dropping()), (0, 1, Dropping()), (0, 0, Linear())):
        look = trunk(backbone)
        train(look, Plain(), Sets(), own, seed=seed, stage=stage)
        others.append(look.backbone.weight)
    assert not any(torch.equal(other, ends[0]) for other in others)


@pytest.mark.parametrize("at", [1, 3, 4, 8, 11, 12])
def test_stopped_and_gone_on_with(recipe, at):
    """Also where an epoch ends (4, 8), and after the very last step (12)."""
    own = recipe(epochs=3, mixup=1.0, lr=0.05)
    look, head = parts("dl2pa")
    rows = Watch(epoch=lambda row: {"validation": row["loss"] / 2})
    now = train(look, head, Pictures(), own, seed=0, watch=rows)
    whole = outcome(now, look, head)
    kept, steps = [], []
    watch = Watch(
        epoch=rows.epoch,
        pulse=lambda step, _: steps.append(step),
        stop=lambda: steps[-1] == at,
        save=kept.append,
    )
    look, head = parts("dl2pa")
    with pytest.raises(Stopped, match=f"after step {at} of 12"):
        train(look, head, Pictures(), own, seed=0, watch=watch)
    assert steps == list(range(1, at + 1)) and kept[-1].note["step"] == at  # finished, and saved
    look, head = parts("dl2pa")
    now = train(look, head, Pictures(), own, seed=0, watch=rows, resume=kept[-1])
    assert equal(whole, outcome(now, look, head))
    assert now.seconds > kept[-1].note["seconds"]


def test_stopped_twice(recipe):
    own = recipe(epochs=3, mixup=1.0, lr=0.05)
    look, head = parts("etf")
    whole = outcome(train(look, head, Pictures(), own, seed=0), look, head)
    resume, steps = None, []
    for at in (2, 7):
        kept = []
        watch = Watch(
            pulse=lambda step, _: steps.append(step),
            stop=lambda at=at: steps[-1] == at,
            save=kept.append,
        )
        look, head = parts("etf")
        with pytest.raises(Stopped):
            train(look, head, Pictures(), own, seed=0, watch=watch, resume=resume)
        resume = copy.deepcopy(kept[-1])
    look, head = parts("etf")
    now = train(look, head, Pictures(), own, seed=0, resume=resume)
    assert equal(whole, outcome(now, look, head))
    assert steps == list(range(1, 8))  # no step was taken twice


@pytest.mark.parametrize("at", range(1, 6))
def test_sweeps_and_clocks_across_a_resume(recipe, at):
    """Each epoch begins once: not again in its middle, and the next ones as ever."""
    kept = []
    watch = Watch(save=lambda each: kept.append(copy.deepcopy(each)), every=0.0)
    sweeps = [Sweep(torch.zeros(0), torch.zeros(0)) for _ in range(2)]
    own = recipe(epochs=3)
    look, head = trunk(), Plain()
    train(look, head, Sets(steps=2), own, seed=0, watch=watch, sweep=lambda: sweeps[0])
    whole = [(kind, clock) for kind, clock, _ in head.moments]
    look, head = trunk(), Plain()
    train(
        *(look, head, Sets(steps=2), own),
        **{"seed": 0, "sweep": lambda: sweeps[1], "resume": kept[at - 1]},
    )
    rest = [(kind, clock) for kind, clock, _ in head.moments]
    assert rest == [moment for moment in whole if moment[1].step >= at]
    assert all(moment[2] is sweeps[1] for moment in head.moments if moment[0] == "begin")


def test_saved_within_an_epoch_no_more_often_than_asked(recipe):
    kept = []
    train(trunk(), Plain(), Sets(4), recipe(), seed=0, watch=Watch(save=kept.append, every=3600))
    assert kept[0].note["step"] == 4 and all(each.note["step"] % 4 == 0 for each in kept)


def test_a_loss_lost_on_an_accelerator_is_found_at_the_epochs_end(recipe, monkeypatch):
    """There the loss is looked at once an epoch: the step is still the first bad one's."""
    from benchmark.training import train as module

    class Device:
        type = "elsewhere"

    original = module._Run.__init__

    def elsewhere(self, *values):
        original(self, *values)
        self.device = Device()

    class Fragile(Plain):
        def loss(self, embedding, labels):
            done = len([moment for moment in self.moments if moment[0] == "after"])
            return super().loss(embedding, labels) * (math.nan if done == 5 else 1)

    monkeypatch.setattr(module._Run, "__init__", elsewhere)
    head = Fragile()
    with pytest.raises(Diverged) as caught:
        train(trunk(), head, Sets(steps=4), recipe(epochs=3), seed=0)
    assert caught.value.step == 5
    assert len([moment for moment in head.moments if moment[0] == "after"]) == 8
