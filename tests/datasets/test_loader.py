import pytest
import torch

from datasets import Split
from datasets.augment import erase
from datasets.loader import Batches, flipped, passes, shifted

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


def order(epoch):
    return torch.Generator().manual_seed(100 + epoch)


def augmentation(epoch, step):
    return torch.Generator().manual_seed(1000 * epoch + step)


@pytest.fixture(scope="module")
def split():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (23, 3, 6, 5), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(23) % 4)


def batches(split, **options):
    options = {"batch": 8, "mean": MEAN, "std": STD, **options}
    return Batches(split, order=order, augmentation=augmentation, **options)


def normalised(image):
    """Torchvision's ToTensor and Normalize, one image."""
    mean = torch.tensor(MEAN, dtype=torch.float64).reshape(3, 1, 1)
    std = torch.tensor(STD, dtype=torch.float64).reshape(3, 1, 1)
    return ((image.double() / 255 - mean) / std).float()


def augmented_by_hand(image, offset, mirrored, padding):
    """One image, one pixel at a time: black margin, crop, mirror."""
    _, height, width = image.shape
    result = torch.zeros_like(image)
    for i in range(height):
        for j in range(width):
            row = i + int(offset[0]) - padding
            column = (width - 1 - j if mirrored else j) + int(offset[1]) - padding
            if 0 <= row < height and 0 <= column < width:
                result[:, i, j] = image[:, row, column]
    return result


@pytest.mark.parametrize("augment", ["none", "crop", "crop_flip"])
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("cutout", [0, 3])
def test_against_the_naive_twin(split, augment, views, channels_last, cutout):
    padding = 2
    options = {"augment": augment, "views": views, "padding": padding, "cutout": cutout}
    loader = batches(split, channels_last=channels_last, **options)
    permutation = torch.randperm(len(split), generator=order(3))
    seen = 0
    for step, (images, labels) in enumerate(loader.epoch(3)):
        chosen = permutation[step * 8 : (step + 1) * 8]
        assert torch.equal(labels, split.labels[chosen])
        assert images.dtype == torch.float32
        offsets, mirrored, boxes = loader.draw(3, step)
        copies = images if views > 1 else images[None]
        assert copies.shape == (views, len(chosen), 3, 6, 5)
        for v in range(views):
            if channels_last:
                assert copies[v].is_contiguous(memory_format=torch.channels_last)
            for k, index in enumerate(chosen):
                image, at = split.images[index], v * len(chosen) + k
                if augment != "none":
                    flip = augment == "crop_flip" and bool(mirrored[at])
                    image = augmented_by_hand(image, offsets[at], flip, padding)
                if cutout:
                    image = image.clone()
                    erase(image[None], boxes[at][None])
                torch.testing.assert_close(copies[v, k], normalised(image), atol=2e-6, rtol=1e-6)
        seen += len(labels)
    assert seen == 23 and step + 1 == loader.steps == 3


def test_against_torchvision():
    """Black margin before normalisation, and the crop at the place drawn, as on PIL images."""
    from torchvision.transforms import functional

    image = torch.randint(1, 256, (1, 3, 8, 8), dtype=torch.uint8)
    for top, left in ((0, 0), (3, 8), (8, 5), (4, 4)):
        ours = shifted(image, torch.tensor([[top, left]]), 4)
        pil = functional.pad(functional.to_pil_image(image[0]), 4)
        theirs = functional.pil_to_tensor(functional.crop(pil, top, left, 8, 8))
        assert torch.equal(ours[0], theirs)
    mirrored = flipped(image, torch.tensor([True]))
    theirs = functional.pil_to_tensor(functional.hflip(functional.to_pil_image(image[0])))
    assert torch.equal(mirrored[0], theirs)


def test_draws_are_uniform_and_per_image():
    split = Split(torch.zeros(9000, 1, 2, 2, dtype=torch.uint8), torch.zeros(9000).long())
    loader = batches(split, batch=9000, mean=(0.5,), std=(0.5,), augment="crop_flip", padding=4)
    offsets, mirrored, _ = loader.draw(0, 0)
    assert offsets.shape == (9000, 2) and mirrored.shape == (9000,)
    for axis in range(2):
        counts = torch.bincount(offsets[:, axis], minlength=9)
        assert len(counts) == 9
        # binomial with mean 1000 and deviation √(9000 · 1/9 · 8/9) = 29.8
        assert (counts - 1000).abs().max() < 5 * 29.8
    joint = torch.bincount(offsets[:, 0] * 9 + offsets[:, 1], minlength=81)
    assert joint.min() > 0
    assert abs(mirrored.sum().item() - 4500) < 5 * 47.4


def test_a_hole_moves_nothing_else(split):
    """Who cuts no holes draws what was drawn before there were any."""
    plain, cut = batches(split, augment="crop_flip"), batches(split, augment="crop_flip", cutout=4)
    for step in range(3):
        first, second = plain.draw(1, step), cut.draw(1, step)
        assert torch.equal(first[0], second[0]) and torch.equal(first[1], second[1])
    black = torch.tensor([-m / s for m, s in zip(MEAN, STD, strict=True)])[:, None]
    for (a, _), (b, _) in zip(plain.epoch(1), cut.epoch(1), strict=True):
        other = (a != b).any(dim=1)
        assert other.any() and not other.all()
        torch.testing.assert_close(
            b.permute(1, 0, 2, 3)[:, other], black.expand(3, int(other.sum()))
        )


def test_a_resumed_epoch_goes_on_with_the_same_images(split):
    loader = batches(split, augment="crop_flip")
    whole = list(loader.epoch(5))
    rest = list(loader.epoch(5, start=1))
    assert len(rest) == len(whole) - 1
    for (a, b), (c, d) in zip(whole[1:], rest, strict=True):
        assert torch.equal(a, c) and torch.equal(b, d)
    assert list(loader.epoch(5, start=3)) == []
    other = next(loader.epoch(6))
    assert not torch.equal(other[0], whole[0][0])


def test_every_image_once_an_epoch(split):
    marked = Split(split.images, torch.arange(23))
    labels = torch.cat([labels for _, labels in batches(marked).epoch(0)])
    assert sorted(labels.tolist()) == list(range(23))


def test_last_batch(split):
    assert [len(y) for _, y in batches(split).epoch(0)] == [8, 8, 7]
    dropping = batches(split, drop_last=True)
    assert [len(y) for _, y in dropping.epoch(0)] == [8, 8] and dropping.steps == 2
    assert [len(y) for _, y in batches(split, batch=22, augment="crop").epoch(0)] == [22, 1]


def test_the_global_generator_stays(split):
    state = torch.get_rng_state()
    list(batches(split, augment="crop_flip", views=2).epoch(0))
    assert torch.equal(torch.get_rng_state(), state)


def test_the_split_stays(split):
    before = split.images.clone()
    for images, _ in batches(split).epoch(0):
        images.zero_()
    for images, _ in passes(split, batch=10, mean=MEAN, std=STD):
        images.zero_()
    assert torch.equal(split.images, before)


@pytest.mark.parametrize("channels_last", [True, False])
def test_passes(split, channels_last):
    found = list(passes(split, batch=10, mean=MEAN, std=STD, channels_last=channels_last))
    assert [len(labels) for _, labels in found] == [10, 10, 3]
    images = torch.cat([images for images, _ in found])
    want = torch.stack([normalised(image) for image in split.images])
    torch.testing.assert_close(images, want, atol=2e-6, rtol=1e-6)
    assert torch.equal(torch.cat([labels for _, labels in found]), split.labels)
    form = torch.channels_last if channels_last else torch.contiguous_format
    assert found[0][0].is_contiguous(memory_format=form)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"augment": "flip"}, "unknown augmentation 'flip'. Choose one of: none, crop, crop_flip"),
        ({"batch": 0}, "no batch can be made of 23 images with batch 0"),
        ({"batch": 24, "drop_last": True}, "Lower `batch`"),
        ({"views": 0}, "views 0"),
    ],
)
def test_refusals(split, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        batches(split, **options)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_on_an_accelerator_the_same_and_without_waiting(split):
    here = list(batches(split, augment="crop_flip", views=2).epoch(0))
    loader = batches(split, augment="crop_flip", views=2, device="cuda")
    torch.cuda.set_sync_debug_mode("error")
    try:
        there = list(loader.epoch(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    for (a, b), (c, d) in zip(here, there, strict=True):
        torch.testing.assert_close(a, c.cpu(), atol=2e-6, rtol=1e-6)
        assert torch.equal(b, d.cpu())


@pytest.mark.parametrize("views", [1, 2])
def test_a_part_of_each_batch_is_as_in_the_whole(split, views):
    options = {"augment": "crop_flip", "padding": 2, "cutout": 3, "views": views}
    whole = list(batches(split, **options).epoch(1))
    part = list(batches(split, part=lambda n: slice(n // 3, n // 2), **options).epoch(1))
    for (images, labels), (own, same) in zip(whole, part, strict=True):
        assert torch.equal(labels, same)
        rows = slice(len(labels) // 3, len(labels) // 2)
        assert torch.equal(images[:, rows] if views > 1 else images[rows], own)
