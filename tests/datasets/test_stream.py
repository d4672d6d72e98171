import multiprocessing
from dataclasses import fields

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import Split
from datasets.augment import VIEWS, Augment, Change, erase
from datasets.base import Files
from datasets.loader import Batches, Stream, batches, passes

MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
ALL = {"augment": "resized_crop_flip", "policy": "trivial", "jitter": 0.4, "erasing": 0.5}


def order(epoch):
    return torch.Generator().manual_seed(100 + epoch)


def augmentation(epoch, step):
    return torch.Generator().manual_seed(1000 * epoch + step)


@pytest.fixture(scope="module")
def memory():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (23, 3, 12, 10), dtype=torch.uint8, generator=generator)
    return Split(images, torch.arange(23) % 4)


@pytest.fixture(scope="module")
def disk(memory, tmp_path_factory):
    """The same images, as files."""
    folder = tmp_path_factory.mktemp("disk")
    for k, image in enumerate(memory.images):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{k:02}.png")
    paths = np.array([f"{k:02}.png".encode() for k in range(23)])
    return Split(Files(folder, paths, (12, 10)), memory.labels)


def made(split, **options):
    options = {"batch": 8, "mean": MEAN, "std": STD, **options}
    own = {each.name: options.pop(each.name) for each in fields(Change) if each.name in options}
    return batches(split, Change(**own), order=order, augmentation=augmentation, **options)


def same(first, second):
    first, second = list(first), list(second)
    return len(first) == len(second) and all(
        torch.equal(a, c) and torch.equal(b, d)
        for (a, b), (c, d) in zip(first, second, strict=True)
    )


def test_which_way(memory, disk):
    for options in ({}, {"augment": "crop"}, {"augment": "crop_flip", "padding": 2}):
        assert isinstance(made(memory, **options), Batches)
        assert isinstance(made(disk, **options), Stream)
    for options in (
        {"augment": "resized_crop_flip"},
        {"policy": "trivial"},
        {"jitter": 0.1},
        {"erasing": 0.1},
        {"rotation": 15.0},
        {"size": 8, "resize": 9},
        {"resize": 12},
    ):
        assert isinstance(made(memory, **options), Stream)


def test_batches_are_what_they_were(memory):
    options = {"batch": 8, "mean": MEAN, "std": STD, "augment": "crop_flip", "views": 2}
    old = Batches(memory, order=order, augmentation=augmentation, **options)
    assert same(made(memory, **options).epoch(2), old.epoch(2))


@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("channels_last", [True, False])
def test_against_the_naive_twin(memory, disk, views, channels_last):
    loader = made(disk, **ALL, views=views, channels_last=channels_last)
    change = Augment(Change(**ALL), size=(12, 10))
    mean = torch.tensor(MEAN, dtype=torch.float64).reshape(3, 1, 1)
    std = torch.tensor(STD, dtype=torch.float64).reshape(3, 1, 1)
    permutation = torch.randperm(23, generator=order(3))
    boxes = 0
    for step, (images, labels) in enumerate(loader.epoch(3)):
        chosen = permutation[step * 8 : (step + 1) * 8]
        assert torch.equal(labels, memory.labels[chosen]) and images.dtype == torch.float32
        shape = (views, len(chosen), 3, 12, 10)
        seeds = torch.randint(2**63 - 1, shape[:2], generator=augmentation(3, step))
        copies = images if views > 1 else images[None]
        assert copies.shape == shape
        for v in range(views):
            if channels_last:
                assert copies[v].is_contiguous(memory_format=torch.channels_last)
            for k, index in enumerate(chosen):
                image, box = change(memory.images[index], int(seeds[v, k]))
                want = ((image.double() / 255 - mean) / std).float()
                erase(want[None], box[None])
                torch.testing.assert_close(copies[v, k], want, atol=2e-6, rtol=1e-6)
                boxes += bool(box.any())
    assert step + 1 == loader.steps == 3 and boxes > 3


@pytest.mark.parametrize("workers", [0, 2])
def test_a_second_view_of_its_own(memory, disk, workers):
    own = {"augment": "crop_flip", "cutout": 4}
    plain = list(made(memory, **own, views=1, policy="trivial").epoch(2))
    loader = made(
        disk, **own, policy="trivial", views=2, second_view="contrastive", workers=workers
    )
    other = Augment(VIEWS["contrastive"], size=(12, 10))
    permutation = torch.randperm(23, generator=order(2))
    mean = torch.tensor(MEAN).reshape(3, 1, 1)
    std = torch.tensor(STD).reshape(3, 1, 1)
    for step, (images, _) in enumerate(loader.epoch(2)):
        chosen = permutation[step * 8 : (step + 1) * 8]
        assert images.shape == (2, len(chosen), 3, 12, 10)
        assert torch.equal(images[0], plain[step][0])  # the first is as it is alone
        seeds = torch.randint(2**63 - 1, (2, len(chosen)), generator=augmentation(2, step))
        for k, index in enumerate(chosen):
            image, _ = other(memory.images[index], int(seeds[1, k]))
            want = (image / 255 - mean) / std
            torch.testing.assert_close(images[1, k], want, atol=2e-6, rtol=1e-6)


def test_a_second_view_only_where_there_is_one(memory):
    assert isinstance(made(memory, augment="crop", second_view="contrastive"), Batches)
    assert isinstance(made(memory, augment="crop", second_view="contrastive", views=2), Stream)
    assert isinstance(made(memory, augment="crop", second_view="same", views=2), Batches)


def test_from_memory_and_from_disk_the_same(memory, disk):
    assert same(made(memory, **ALL).epoch(1), made(disk, **ALL).epoch(1))
    assert same(
        passes(memory, batch=9, mean=MEAN, std=STD, size=7, resize=8),
        passes(disk, batch=9, mean=MEAN, std=STD, size=7, resize=8),
    )


def test_streamed_without_augmentation_is_what_lies_in_memory(memory, disk):
    assert same(made(disk).epoch(4), made(memory).epoch(4))
    constants = {"batch": 10, "mean": MEAN, "std": STD}
    assert same(passes(disk, **constants), passes(memory, **constants))


def test_the_number_of_workers_is_of_no_account(disk, memory):
    alone = list(made(disk, **ALL, views=2).epoch(1))
    assert same(made(disk, **ALL, views=2, workers=1).epoch(1), alone)
    assert same(made(disk, **ALL, views=2, workers=2).epoch(1), alone)
    assert same(made(memory, **ALL, views=2, workers=2).epoch(1, start=1), alone[1:])
    constants = {"batch": 5, "mean": MEAN, "std": STD}
    assert same(passes(disk, **constants, workers=2), passes(disk, **constants))


def test_any_step_can_be_redone_alone(disk):
    whole = list(made(disk, **ALL).epoch(5))
    assert same(made(disk, **ALL).epoch(5, start=1), whole[1:])
    assert same(made(disk, **ALL).epoch(5, start=3), [])
    assert not same(made(disk, **ALL).epoch(6), whole)


def test_every_image_once_an_epoch_and_drop_last(disk):
    marked = Split(disk.images, torch.arange(23))
    labels = torch.cat([labels for _, labels in made(marked, **ALL).epoch(0)])
    assert sorted(labels.tolist()) == list(range(23))
    dropping = made(disk, drop_last=True)
    assert [len(y) for _, y in dropping.epoch(0)] == [8, 8] and dropping.steps == 2


@pytest.mark.parametrize("workers", [0, 1])
def test_the_global_generator_stays(disk, workers):
    state = torch.get_rng_state()
    list(made(disk, **ALL, workers=workers).epoch(0))
    list(passes(disk, batch=9, mean=MEAN, std=STD, workers=workers))
    assert torch.equal(torch.get_rng_state(), state)


def test_memory_stays_bounded(disk, monkeypatch):
    """Images are read when a step is due, not before."""
    import datasets.stream as stream

    files = []
    original = stream.decode
    monkeypatch.setattr(stream, "decode", lambda path: files.append(path) or original(path))
    for step, _ in enumerate(made(disk).epoch(0)):
        assert len(files) == min(23, 8 * (step + 1))


def test_an_abandoned_epoch_ends_its_workers(disk):
    before = set(multiprocessing.active_children())
    steps = made(disk, batch=1, workers=2).epoch(0)
    next(steps)
    assert len(set(multiprocessing.active_children()) - before) == 2
    steps.close()
    assert not set(multiprocessing.active_children()) - before


@pytest.mark.parametrize("workers", [0, 2])
def test_a_damaged_file_is_one_sentence(disk, tmp_path, workers):
    (tmp_path / "00.png").write_bytes(b"no image")
    broken = Split(Files(tmp_path, disk.images.paths[:1], (12, 10)), disk.labels[:1])
    with pytest.raises(ValueError, match="00.png cannot be decoded .* restore it") as error:
        list(made(broken, workers=workers).epoch(0))
    assert "\n" not in str(error.value)


def test_sizes(memory, disk):
    images, _ = next(made(disk, augment="resized_crop_flip", size=16, resize=16).epoch(0))
    assert images.shape == (8, 3, 16, 16)
    images, _ = next(made(memory, augment="crop_flip", size=6, resize=8).epoch(0))
    assert images.shape == (8, 3, 6, 6)
    for options in ({"size": 16}, {"size": 16, "resize": 15}, {"size": 6}):
        for split in (memory, disk):
            with pytest.raises(ValueError, match="Set `resize` in the recipe to at least"):
                made(split, augment="resized_crop_flip", **options)


@pytest.mark.parametrize(
    "options, sentence",
    [
        ({"augment": "flip"}, "unknown augmentation 'flip'. Choose one of: none, crop, crop_flip"),
        ({"policy": "random"}, "unknown policy 'random'"),
        ({"second_view": "other"}, "unknown second view 'other'. Choose one of: same, contrast"),
        ({"batch": 0}, "no batch can be made of 23 images with batch 0"),
        ({"batch": 24, "drop_last": True}, "Lower `batch`"),
    ],
)
def test_refusals(memory, disk, options, sentence):
    for split in (memory, disk):
        with pytest.raises(ValueError, match=sentence):
            made(split, **options)


def test_a_process_that_may_have_no_children_reads_by_itself(disk, monkeypatch):
    before = set(multiprocessing.active_children())
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)
    steps = made(disk, **ALL, workers=2).epoch(1)
    next(steps)
    assert not set(multiprocessing.active_children()) - before


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("workers", [0, 2])
def test_on_an_accelerator_the_same_and_without_waiting(disk, workers):
    here = list(made(disk, **ALL, views=2).epoch(0))
    loader = made(disk, **ALL, views=2, workers=workers, device="cuda")
    state = torch.cuda.get_rng_state()
    torch.cuda.set_sync_debug_mode("error")
    try:
        there = list(loader.epoch(0))
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert torch.equal(torch.cuda.get_rng_state(), state)
    for (a, b), (c, d) in zip(here, there, strict=True):
        torch.testing.assert_close(a, c.cpu(), atol=2e-6, rtol=1e-6)
        assert torch.equal(b, d.cpu())


@pytest.mark.parametrize("views", [1, 2])
def test_a_part_of_each_batch_is_as_in_the_whole(disk, views):
    whole = list(made(disk, views=views, **ALL).epoch(1))
    part = list(made(disk, views=views, part=lambda n: slice(n // 3, n // 2), **ALL).epoch(1))
    for (images, labels), (own, same) in zip(whole, part, strict=True):
        assert torch.equal(labels, same)
        rows = slice(len(labels) // 3, len(labels) // 2)
        assert torch.equal(images[:, rows] if views > 1 else images[rows], own)
