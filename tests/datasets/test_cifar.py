import hashlib
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from datasets import DATASETS, MissingData, cache
from datasets.cifar import CIFAR10_NAMES, CIFAR100_NAMES, CIFAR100_TREE

CIFAR10, CIFAR100 = DATASETS["cifar10"], DATASETS["cifar100"]


@pytest.fixture
def original(tmp_path, monkeypatch):
    """A tiny CIFAR-10 in torchvision's layout, with the checksums that belong to it."""
    from torchvision.datasets import CIFAR10 as Original

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(1)
    content = {}
    for file, count in (("data_batch_1", 30), ("test_batch", 20)):
        data = random.integers(0, 256, (count, 3072), dtype=np.uint8)
        content[file] = {"data": data, "labels": [k % 10 for k in range(count)]}
    sums = {}
    for file, value in {**content, "batches.meta": {"label_names": list(CIFAR10_NAMES)}}.items():
        raw = pickle.dumps(value)
        (folder / file).write_bytes(raw)
        sums[file] = hashlib.md5(raw).hexdigest()
    monkeypatch.setattr(Original, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(Original, "test_list", [["test_batch", sums["test_batch"]]])
    meta = {"filename": "batches.meta", "key": "label_names", "md5": sums["batches.meta"]}
    monkeypatch.setattr(Original, "meta", meta)
    return content


def test_names():
    assert len(CIFAR10_NAMES) == 10 and tuple(sorted(CIFAR10_NAMES)) == CIFAR10_NAMES
    assert len(CIFAR100_NAMES) == len(set(CIFAR100_NAMES)) == 100
    # labels that everybody knows
    known = {0: "apple", 1: "aquarium_fish", 8: "bicycle", 41: "lawn_mower", 99: "worm"}
    assert all(CIFAR100_NAMES[k] == name for k, name in known.items())
    assert len(CIFAR100_TREE) == 20 and all(len(fine) == 5 for fine in CIFAR100_TREE.values())
    superclasses = CIFAR100.superclasses()
    assert superclasses[0] == "fruit_and_vegetables"
    assert superclasses[99] == "non-insect_invertebrates"
    assert CIFAR10.superclasses() is None
    assert CIFAR10.names(Path("/nowhere")) == CIFAR10_NAMES


def test_original_layout(tmp_path, original):
    assert CIFAR10.find(tmp_path) == tmp_path / "cifar-10-batches-py"
    images = CIFAR10.read(tmp_path)
    assert images.train.images.shape == (30, 3, 32, 32) and images.train.images.is_contiguous()
    rows = images.train.images.flatten(1).numpy()
    assert np.array_equal(rows, original["data_batch_1"]["data"])
    assert images.train.labels.tolist() == original["data_batch_1"]["labels"]
    assert len(images.test) == 20
    material = CIFAR10.load({"name": "cifar10", "largest": 2}, tmp_path)
    assert material.counts == (2,) * 10


def test_original_layout_is_preferred(tmp_path, original, grow):
    grow(tmp_path / "cifar10", (1,) * 10, (1,) * 10, CIFAR10_NAMES)
    assert len(CIFAR10.read(tmp_path).train) == 30


def test_damaged_original_is_a_sentence(tmp_path, original):
    file = tmp_path / "cifar-10-batches-py" / "data_batch_1"
    file.write_bytes(file.read_bytes() + b"x")
    with pytest.raises(MissingData, match="checksums are not those of CIFAR-10.*--download"):
        CIFAR10.read(tmp_path)


def test_class_folders(tmp_path, grow):
    pixels = grow(tmp_path / "cifar10", (3,) + (2,) * 9, (1,) * 10, CIFAR10_NAMES)
    assert CIFAR10.find(tmp_path) == tmp_path / "cifar10"
    images = CIFAR10.read(tmp_path)
    assert torch.bincount(images.train.labels).tolist() == [3] + [2] * 9
    cat = images.train.images[images.train.labels == 3]
    assert np.array_equal(cat[1].numpy(), pixels["train", "cat", 1].transpose(2, 0, 1))
    with pytest.raises(ValueError, match=r"class 0 \(airplane\) has 3 images and needs 5000"):
        CIFAR10.load({"name": "cifar10", "ratio": 100}, tmp_path)


def test_the_same_images_have_the_same_digest_in_both_layouts(tmp_path, grow):
    from datasets.base import Split, fingerprint

    pixels = grow(tmp_path / "cifar10", (2,) * 10, (1,) * 10, CIFAR10_NAMES)
    splits = []
    for split, count in (("train", 2), ("test", 1)):
        stack = [image for (part, _, _), image in pixels.items() if part == split]
        images = torch.from_numpy(np.stack(stack)).permute(0, 3, 1, 2)
        splits.append(Split(images, torch.arange(10).repeat_interleave(count)))
    assert CIFAR10.read(tmp_path).digest == fingerprint(*splits)


def test_foreign_class_names_are_refused(tmp_path, grow):
    grow(tmp_path / "cifar10", (1,) * 10, (1,) * 10, ("aeroplane", *CIFAR10_NAMES[1:]))
    with pytest.raises(ValueError, match="not those of CIFAR-10: 'aeroplane' is unknown"):
        CIFAR10.read(tmp_path)


def test_other_sizes_are_refused(tmp_path, grow):
    grow(tmp_path / "cifar10", (1,) * 10, (1,) * 10, CIFAR10_NAMES, size=(28, 28))
    with pytest.raises(ValueError, match="is 28 x 28 pixels .* expected 32 x 32"):
        CIFAR10.read(tmp_path)


def test_nothing_there_is_a_sentence_and_fetches_nothing(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR100 as Original

    def never(self):
        raise AssertionError("fetched without being asked")

    monkeypatch.setattr(Original, "download", never)
    with pytest.raises(
        MissingData, match="no images of cifar100: looked for .*--download"
    ) as error:
        CIFAR100.load({"name": "cifar100"}, tmp_path)
    assert str(tmp_path) in str(error.value)


def test_failed_download_is_a_sentence(tmp_path, monkeypatch):
    from torchvision.datasets import CIFAR100 as Original

    def offline(self):
        raise OSError("no route to host")

    monkeypatch.setattr(Original, "download", offline)
    with pytest.raises(MissingData, match=r"could not be fetched .*no route to host.*network"):
        CIFAR100.read(tmp_path, download=True)


def test_forbidden_root_is_a_sentence(tmp_path, monkeypatch):
    def refuse(path, *arguments, **options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "stat", refuse)
    with pytest.raises(MissingData, match="may not be read by this user.*--data-root"):
        CIFAR10.find(Path("/secret"))


def test_folder_option_is_refused(tmp_path):
    with pytest.raises(ValueError, match="`folder` belongs to image_folder"):
        CIFAR10.find(tmp_path, "x")


REAL = pytest.mark.skipif(
    "BENCHMARK_TEST_DATA" not in os.environ, reason="BENCHMARK_TEST_DATA names no root"
)


@pytest.fixture(scope="module")
def shared_cache(tmp_path_factory):
    return tmp_path_factory.mktemp("shared-cache")


@pytest.fixture
def root(monkeypatch, shared_cache):
    """The real images, with one cache for all tests below."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(shared_cache))
    return Path(os.environ["BENCHMARK_TEST_DATA"])


@pytest.mark.data
@REAL
def test_real_counts(root):
    for dataset, classes in ((CIFAR10, 10), (CIFAR100, 100)):
        images = dataset.read(root)
        assert torch.bincount(images.test.labels).tolist() == [10000 // classes] * classes
        assert images.train.images.shape[1:] == dataset.shape
    assert torch.bincount(images.train.labels).tolist() == [500] * 100
    pixels = images.train.images.float().div(255).transpose(0, 1).flatten(1)
    assert pixels.mean(1).tolist() == pytest.approx(CIFAR100.mean, abs=1e-3)
    assert pixels.std(1).tolist() == pytest.approx(CIFAR100.std, abs=1e-3)


@pytest.mark.data
@REAL
@pytest.mark.parametrize("name, total", [("cifar10", 12406), ("cifar100", 10847)])
def test_real_long_tail(root, name, total):
    material = DATASETS[name].load({"name": name, "ratio": 100}, root)
    assert len(material.train) == sum(material.counts) == total
    assert len(material.test) == 10000
    if name == "cifar100":
        groups = [material.groups.count(g) for g in ("many", "medium", "few")]
        assert groups == [35, 35, 30]


@pytest.mark.data
@REAL
def test_real_thinned_cifar10_is_refused_balanced(root):
    with pytest.raises(ValueError, match=r"class 1 \(automobile\) has \d+ images and needs 5000"):
        CIFAR10.load({"name": "cifar10"}, root)


@pytest.mark.data
@REAL
def test_real_images_are_decoded_once(root, monkeypatch):
    first = CIFAR100.read(root).digest

    def never(*arguments):
        raise AssertionError("decoded or read again")

    monkeypatch.setattr(cache, "decode", never)
    monkeypatch.setattr(cache, "_content", never)
    assert CIFAR100.read(root).digest == first
