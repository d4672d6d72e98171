from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import DATASETS

DIGITS = DATASETS["digits"]
NOWHERE = Path("/nowhere")


def load(**options):
    return DIGITS.load({"name": "digits", **options}, NOWHERE)


def test_as_found():
    images = DIGITS.read(NOWHERE)
    assert images.train.images.shape == (1297, *DIGITS.shape)
    assert images.train.images.dtype == torch.uint8 and images.train.labels.dtype == torch.int64
    assert images.train.images.max() == 240 and (images.train.images % 15 == 0).all()
    assert torch.bincount(images.test.labels).tolist() == [50] * 10
    assert torch.bincount(images.train.labels).min() == DIGITS.largest
    # the split decides what is test: it must never move
    assert images.digest == "b5370cbd335eb41c4bcc38724a2dc7885055b9b3cb8448d02ea85776fa31dff4"


def test_constants_are_measured():
    pixels = DIGITS.read(NOWHERE).train.images.double() / 255
    assert DIGITS.mean == (round(pixels.mean().item(), 4),)
    assert DIGITS.std == (round(pixels.std(unbiased=False).item(), 4),)


def test_material():
    material = load()
    assert material.counts == (124,) * 10
    assert material.validation is None and material.superclasses is None
    assert material.names[0] == "zero" and len(material.names) == 10
    assert set(material.groups) == {"many"}
    assert len(material.test) == 500
    assert material.train.labels.tolist() == np.repeat(np.arange(10), 124).tolist()
    assert material.digest == DIGITS.read(NOWHERE).digest


def test_long_tail_and_carve():
    material = load(ratio=20, validation=0.1)
    # 124 less a tenth is 111; 111 / 20 = 5.55
    assert material.counts[0] == 111 and material.counts[-1] == 5
    assert torch.bincount(material.train.labels).tolist() == list(material.counts)
    found = torch.bincount(DIGITS.read(NOWHERE).train.labels)
    assert torch.bincount(material.validation.labels).tolist() == (found // 10).tolist()
    assert load(ratio=20).digest == material.digest

    # no image is in both
    def rows(split):
        return {bytes(image.numpy()) for image in split.images}

    assert not rows(material.train) & rows(material.validation)
    assert not rows(material.train) & rows(material.test)


def test_subset():
    first, other = (load(ratio=10, subset=which) for which in ("first", "canonical"))
    assert first.counts == other.counts
    assert not torch.equal(first.train.images, other.train.images)
    everything = DATASETS["digits"].read(Path("nowhere")).train
    for k, count in enumerate(first.counts):
        own = everything.images[everything.labels == k][:count]
        assert torch.equal(first.train.images[first.train.labels == k], own)
    later = load(ratio=10, subset="released_pair")  # the material of all stages but the first
    assert torch.equal(later.train.images, other.train.images)
    assert torch.equal(
        load(ratio=10, subset="first", subset_seed=5).train.images, first.train.images
    )


def test_subset_seed():
    first, same, other = load(ratio=10), load(ratio=10), load(ratio=10, subset_seed=1)
    assert torch.equal(first.train.images, same.train.images)
    assert not torch.equal(first.train.images, other.train.images)
    assert first.counts == other.counts


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"largest": 125}, r"digits at ratio 1: class 8 \(eight\) has 124 images and needs 125"),
        ({"largest": 0}, "largest is a number of images"),
        ({"largest": True}, "largest is a number of images"),
        ({"ratio": 0.01}, "Write 100, not 0.01"),
        ({"ratio": "many"}, "at least 1, got 'many'"),
        ({"ratio": 1000}, "would keep no image"),
        ({"profile": "steps"}, "Did you mean 'step'"),
        ({"validation": 1}, r"in \[0, 1\), got 1"),
        ({"subset_seed": -1}, "subset_seed is a whole number"),
        ({"subset": "frist"}, "unknown subset 'frist'. Did you mean 'first'"),
        ({"groups": "dl2pa"}, "Did you mean 'dl2pa_index'"),
        ({"ration": 3}, "unknown data option 'ration'. Did you mean 'ratio'"),
        ({"name": "cifar10"}, "these options are for 'cifar10', this data set is 'digits'"),
        ({"folder": "x"}, "`folder` belongs to image_folder"),
    ],
)
def test_refusals(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        load(**options)


def test_table_of_contents():
    for name, dataset in DATASETS.items():
        assert dataset.name == name and dataset.title and dataset.source
        if dataset.shape is not None:
            assert len(dataset.mean) == len(dataset.std) == dataset.shape[0]
