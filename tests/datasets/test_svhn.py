import hashlib

import numpy as np
import pytest
import torch

from datasets import DATASETS, MissingData
from datasets.base import Options

RIGHT, RELEASED = DATASETS["svhn"], DATASETS["svhn_released"]

# images of each digit in the official files
TRAIN = (4948, 13861, 10585, 8497, 7458, 6882, 5727, 5595, 5045, 4659)
EXTRA = (45550, 90560, 74740, 60765, 50633, 53490, 41582, 43997, 35358, 34456)


def cut(data, ratio, **options):
    """True and given labels of the subset of an SVHN of full size, without its images."""
    random = np.random.default_rng(0)
    parts = [random.permutation(np.repeat(np.arange(10), counts)) for counts in (TRAIN, EXTRA)]
    labels = np.concatenate(parts)
    asked = Options(data.name, ratio=ratio, largest=data.largest, **options)
    kept, given = data.cut(labels, [len(part) for part in parts], asked, data.names(None))
    assert len(np.unique(kept)) == len(kept) == len(given)
    return labels[kept], given


def asked_by_hand(ratio):
    """How many images of each digit the released loader asks for, part by part."""
    return [[int(n / 10 * (1 / ratio) ** (k / 9)) for k in range(10)] for n in (73257, 531131)]


def test_sizes_of_the_parts():
    assert sum(TRAIN) == 73257 and sum(EXTRA) == 531131
    assert RIGHT.largest == 73257 // 10 + 531131 // 10


@pytest.mark.parametrize("ratio, total", [(200, 125506), (100, 140048), (50, 159278)])
def test_right_labels(ratio, total):
    true, given = cut(RIGHT, ratio)
    assert np.array_equal(true, given)
    want = np.sum(
        [np.minimum(n, a) for n, a in zip(asked_by_hand(ratio), (TRAIN, EXTRA), strict=True)],
        axis=0,
    )
    assert np.bincount(given).tolist() == want.tolist() and len(given) == total
    assert np.bincount(given)[0] == 4948 + 45550


@pytest.mark.parametrize(
    "ratio, total, wrong, right, majority",
    [
        (200, 125506, 0.327, (1, 0.70, 0.47, 0.15), "0112334444"),
        (100, 140048, 0.340, (1, 0.73, 0.54, 0.30), "0122344455"),
        (50, 159278, 0.349, (1, 0.75, 0.61, 0.42, 0.17), "0122345556"),
    ],
)
def test_released_labels(ratio, total, wrong, right, majority):
    true, given = cut(RELEASED, ratio)
    assert len(given) == total
    assert np.mean(true != given) == pytest.approx(wrong, abs=5e-4)
    shares = [np.mean(given[true == k] == k) for k in range(10)]
    assert shares == pytest.approx((*right, *[0] * (10 - len(right))), abs=6e-3)
    found = [np.bincount(given[true == k]).argmax() for k in range(10)]
    assert "".join(map(str, found)) == majority
    same, _ = cut(RIGHT, ratio)
    assert np.array_equal(true, same)  # the very images, other labels


def test_released_labels_are_those_of_the_naive_twin():
    _, given = cut(RELEASED, 100)
    want = []
    for asked, available in zip(asked_by_hand(100), (TRAIN, EXTRA), strict=True):
        written = [k for k in range(10) for _ in range(asked[k])]
        want += written[: sum(min(n, a) for n, a in zip(asked, available, strict=True))]
    assert given.tolist() == want


def test_each_part_is_drawn_as_if_alone():
    true, _ = cut(RIGHT, 100)
    first = sum(min(n, a) for n, a in zip(asked_by_hand(100)[0], TRAIN, strict=True))
    assert (np.diff(true[:first]) >= 0).all() and (np.diff(true[first:]) >= 0).all()
    assert true[first] == 0 and true[first - 1] == 9


def test_largest_scales():
    asked = Options("svhn", ratio=100, largest=RIGHT.largest // 2)
    labels = np.repeat(np.arange(10), 1000)
    kept, given = RIGHT.cut(labels, [10000], asked, RIGHT.names(None))
    assert np.bincount(given).tolist() == [int(500 * 0.01 ** (k / 9)) for k in range(10)]
    full, _ = RIGHT.cut(labels, [10000], Options("svhn", largest=604388), RIGHT.names(None))
    assert len(full) == 10000


def test_digits_without_a_label_in_the_released_subset():
    _, given = cut(RELEASED, 200)
    assert np.bincount(given, minlength=10)[5:].tolist() == [0] * 5


@pytest.fixture
def original(tmp_path, monkeypatch):
    """A tiny SVHN in torchvision's layout, with the checksums that belong to it."""
    from scipy.io import savemat
    from torchvision.datasets import SVHN as Original

    random = np.random.default_rng(1)
    (tmp_path / "svhn").mkdir()
    content, table = {}, {}
    for part, counts in (("train", (1, *(3,) * 9)), ("extra", (2, *(6,) * 9)), ("test", (1,) * 10)):
        file = tmp_path / "svhn" / f"{part}_32x32.mat"
        labels = random.permutation(np.repeat(np.arange(10), counts))
        pixels = random.integers(0, 256, (32, 32, 3, len(labels)), dtype=np.uint8)
        savemat(file, {"X": pixels, "y": np.where(labels == 0, 10, labels)[:, None]})
        table[part] = ["", file.name, hashlib.md5(file.read_bytes()).hexdigest()]
        content[part] = pixels.transpose(3, 2, 0, 1), labels
    monkeypatch.setattr(Original, "split_list", table)
    return content


def test_original_layout(tmp_path, original):
    images = RIGHT.read(tmp_path)
    assert images.parts == (28, 56)
    want = np.concatenate([original["train"][0], original["extra"][0]])
    assert np.array_equal(images.train.images.numpy(), want) and images.train.images.is_contiguous()
    labels = np.concatenate([original["train"][1], original["extra"][1]])
    assert np.array_equal(images.train.labels.numpy(), labels)
    assert np.array_equal(images.test.labels.numpy(), original["test"][1])


@pytest.mark.parametrize("data", [RIGHT, RELEASED])
def test_images_keep_their_pixels_whatever_the_label(tmp_path, original, data):
    material = data.load({"name": data.name}, tmp_path)
    # 28 / 10 and 56 / 10 of each are asked for, and there are fewer zeros
    available = [min(2, 1) + min(5, 2)] + [2 + 5] * 9
    assert len(material.train) == sum(available) == sum(material.counts)
    known = {
        bytes(image): int(label)
        for part in original.values()
        for image, label in zip(*part, strict=True)
    }
    true = [known[bytes(image.numpy())] for image in material.train.images]
    assert np.bincount(true).tolist() == available
    given = material.train.labels.tolist()
    assert tuple(np.bincount(given, minlength=10)) == material.counts
    if data is RIGHT:
        assert given == true
    else:
        # of two zeros asked for one is there: each digit's first image is called the one before
        part = [0, 0, *np.repeat(range(1, 10), 2)][:19]
        assert given[:19] == part and true[:19] == [0, *np.repeat(range(1, 10), 2)]
        assert material.counts[0] == 2 + 5 and material.counts[9] == 1 + 2
    assert len(material.test) == 10 and material.digest == RIGHT.read(tmp_path).digest


def test_class_folders(tmp_path, grow):
    grow(tmp_path / "svhn", (2, *(4,) * 9), (1,) * 10, RIGHT.names(None))
    images = RIGHT.read(tmp_path)
    assert images.parts == () and torch.bincount(images.train.labels).tolist() == [2] + [4] * 9
    assert RIGHT.load({"name": "svhn"}, tmp_path).counts == (2,) + (3,) * 9
    (tmp_path / "svhn" / "train" / "9").rename(tmp_path / "svhn" / "train" / "nine")
    with pytest.raises(ValueError, match="not those of SVHN: '9' is missing"):
        RIGHT.read(tmp_path)


def test_sentences(tmp_path, original):
    with pytest.raises(MissingData, match="looked for .*extra,test}_32x32.mat.*--download"):
        RIGHT.read(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="`classes` belongs to sphere, got 10 for svhn"):
        RIGHT.find(tmp_path, classes=10)
    (tmp_path / "svhn" / "extra_32x32.mat").unlink()
    with pytest.raises(MissingData, match="extra_32x32.mat is missing or damaged"):
        RELEASED.read(tmp_path)
    assert "shifted" in RELEASED.title


def test_download_is_asked_for_and_may_fail(tmp_path, monkeypatch):
    from torchvision.datasets import SVHN as Original

    def offline(self):
        raise OSError("no route to host")

    monkeypatch.setattr(Original, "download", offline)
    with pytest.raises(MissingData, match=r"could not be fetched .*no route to host"):
        RIGHT.read(tmp_path, download=True)
