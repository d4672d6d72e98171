"""Epochs of a sampler against loops written from the description, and numbers worked by hand."""

import math
import random
from collections import Counter

import pytest
import torch

from datasets import Split
from datasets.augment import Change
from datasets.loader import Batches, batches
from datasets.samplers import SAMPLERS, Sampler, epoch_length

COUNTS = (13, 6, 3, 1)


@pytest.fixture(scope="module")
def labels():
    """Classes in no order at all."""
    generator = torch.Generator().manual_seed(0)
    sorted_labels = torch.arange(4).repeat_interleave(torch.tensor(COUNTS))
    return sorted_labels[torch.randperm(23, generator=generator)]


def drawn(seed):
    return torch.Generator().manual_seed(seed)


def cycle(items):
    """Without end, shuffled whenever all have come."""
    items = list(items)
    while True:
        random.shuffle(items)
        yield from items


def class_aware_by_hand(labels, length):
    """The released class-aware sampler as a loop: four images of a class, then the next class."""
    classes = sorted(set(labels))
    images = {k: cycle([i for i, label in enumerate(labels) if label == k]) for k in classes}
    order = cycle(classes)
    shown = []
    while len(shown) < length:
        own = images[next(order)]
        shown += [next(own) for _ in range(4)]
    return shown[:length]


def is_class_aware(labels, shown):
    """Whether a sequence is one that the loop could have given, whatever its shuffles were."""
    counts = Counter(labels)
    by_class = {k: [] for k in counts}
    turns = []
    for start in range(0, len(shown), 4):
        block = shown[start : start + 4]
        own = {labels[i] for i in block}
        if len(own) != 1:
            return False
        turns += own
        by_class[labels[block[0]]] += block
    rounds = [turns[i : i + len(counts)] for i in range(0, len(turns), len(counts))]
    passes = [
        (own[i : i + counts[k]], counts[k])
        for k, own in by_class.items()
        for i in range(0, len(own), counts[k])
    ]
    return all(len(set(each)) == len(each) for each in rounds) and all(
        len(set(each)) == len(each) for each, _ in passes
    )


@pytest.mark.parametrize("epoch_images, length", [("natural", 23), ("largest", 52)])
def test_class_balanced_against_the_naive_twin(labels, epoch_images, length):
    sampler = Sampler(labels, "class_balanced", epoch_images)
    assert len(sampler) == length
    found = set()
    for seed in range(20):
        shown = sampler.epoch(drawn(seed)).tolist()
        assert len(shown) == length
        assert is_class_aware(labels.tolist(), shown)
        found.add(tuple(shown))
    assert len(found) == 20
    random.seed(0)
    twin = class_aware_by_hand(labels.tolist(), length)
    assert is_class_aware(labels.tolist(), twin)
    wrong = [*twin[:3], twin[4], twin[3], *twin[5:]]
    assert not is_class_aware(labels.tolist(), wrong)  # the judge can say no
    # 52 images are 13 turns: three rounds of four classes, and one class once more
    if epoch_images == "largest":
        for shown in found:
            times = Counter(labels[list(shown)].tolist())
            assert sorted(times.values()) == [12, 12, 12, 16]
            only = labels.tolist().index(3)
            assert Counter(shown)[only] == times[3]  # the one image of its class, every time


def test_every_class_has_every_place(labels):
    """The first class of an epoch, and the first image of a class, are any, equally often."""
    sampler = Sampler(labels, "class_balanced", "natural")
    runs = [sampler.epoch(drawn(seed)) for seed in range(1200)]
    first = torch.bincount(torch.stack([labels[run[0]] for run in runs]), minlength=4)
    assert (first - 300).abs().max() < 5 * math.sqrt(1200 * 3 / 16)
    own = (labels == 1).nonzero().flatten().tolist()
    begun = Counter(next(i for i in run.tolist() if i in own) for run in runs)
    assert set(begun) == set(own)
    assert max(abs(n - 200) for n in begun.values()) < 5 * math.sqrt(1200 * 5 / 36)


def test_square_root_against_the_formula(labels):
    sampler = Sampler(labels, "square_root")
    assert len(sampler) == 23
    shown = torch.cat([sampler.epoch(drawn(seed)) for seed in range(2000)])
    total = len(shown)
    roots = [math.sqrt(n) for n in COUNTS]  # 3.606, 2.449, 1.732, 1: 41, 28, 20 and 11 per cent
    seen = torch.bincount(shown, minlength=23)
    for k, count in enumerate(COUNTS):
        share = roots[k] / sum(roots)
        own = seen[labels == k]
        assert abs(own.sum() - total * share) < 5 * math.sqrt(total * share * (1 - share))
        each = total * share / count
        assert (own - each).abs().max() < 5 * math.sqrt(each)
    assert round(100 * roots[0] / sum(roots)) == 41


def test_instance_is_the_permutation_that_it_always_was(labels):
    shown = Sampler(labels).epoch(drawn(7))
    assert torch.equal(shown, torch.randperm(23, generator=drawn(7)))


@pytest.mark.parametrize("kind", SAMPLERS)
def test_an_epoch_depends_on_its_generator_alone(labels, kind):
    state = torch.get_rng_state()
    one = Sampler(labels, kind)
    first = [one.epoch(drawn(seed)) for seed in (1, 2)]
    other = Sampler(labels, kind)
    again = [other.epoch(drawn(seed)) for seed in (2, 1)][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(*first)
    assert torch.equal(torch.get_rng_state(), state)
    assert first[0].dtype == torch.int64 and 0 <= first[0].min() and first[0].max() < 23


def test_length_of_an_epoch():
    # CIFAR-100-LT: 782 steps of 64 at every ratio, in the code of the prototype classifiers
    assert epoch_length([500, *[5] * 99], "largest") == 50_000
    assert math.ceil(epoch_length([500, *[5] * 99], "largest") / 64) == 782
    assert epoch_length([500, *[5] * 99], "natural") == 995
    assert epoch_length([4, 0, 2], "largest") == 8  # a class without images has no turn


def test_classes_without_images():
    labels = torch.tensor([0, 0, 3, 3, 3])
    for kind in SAMPLERS:
        shown = [Sampler(labels, kind).epoch(drawn(seed)) for seed in range(30)]
        assert set(torch.cat(shown).tolist()) == set(range(5))


@pytest.mark.parametrize("policy", ["none", "trivial"])
@pytest.mark.parametrize("kind", ["class_balanced", "square_root"])
def test_batches_and_streams_show_what_the_sampler_says(labels, policy, kind):
    images = torch.arange(23, dtype=torch.uint8)[:, None, None, None].expand(23, 1, 8, 8)
    split = Split(images.contiguous(), labels)

    def made(**options):
        plain = {"batch": 8, "mean": (0.0,), "std": (1 / 255,)}
        return batches(
            split,
            Change(policy=policy, augment="crop"),
            order=lambda epoch: drawn(100 + epoch),
            augmentation=lambda epoch, step: drawn(1000 * epoch + step),
            sampler=kind,
            epoch_images="largest",
            **{**plain, **options},
        )

    loader = made()
    assert isinstance(loader, Batches) == (policy == "none")
    whole = list(loader.epoch(4))
    assert loader.steps == len(whole) == 7 and len(whole[-1][1]) == 52 - 6 * 8
    shown = Sampler(labels, kind, "largest").epoch(drawn(104))
    assert torch.equal(torch.cat([y for _, y in whole]), labels[shown])
    if policy == "none":
        brightest = torch.cat([x.amax((1, 2, 3)) for x, _ in whole])
        assert torch.equal(brightest.round().long(), shown)
    rest = list(loader.epoch(4, start=3))  # any step can be redone alone
    assert len(rest) == 4
    assert all(torch.equal(a[0], b[0]) for a, b in zip(whole[3:], rest, strict=True))
    dropping = made(drop_last=True)
    assert dropping.steps == 6 and len(list(dropping.epoch(0))) == 6
    assert made(batch=40, drop_last=True).steps == 1  # more than there are images


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("class_aware",), "unknown sampler 'class_aware'. Choose one of: instance, class_bal"),
        (("square_root", "long"), "unknown length of an epoch 'long'. Choose one of: natural"),
        (("instance", "largest"), "sampler 'instance' shows every image once, got epoch_images"),
    ],
)
def test_refusals(labels, arguments, sentence):
    with pytest.raises(ValueError, match=sentence):
        Sampler(labels, *arguments)
