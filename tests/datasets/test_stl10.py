import hashlib

import numpy as np
import pytest
import torch

from datasets import DATASETS, MissingData
from datasets.imbalance import class_counts

STL10 = DATASETS["stl10"]


@pytest.mark.parametrize(
    "ratio, counts",
    [
        (200, (500, 277, 154, 85, 47, 26, 14, 8, 4, 2)),
        (100, (500, 299, 179, 107, 64, 38, 23, 13, 8, 5)),
        (50, (500, 323, 209, 135, 87, 56, 36, 23, 15, 10)),
    ],
)
def test_counts_of_the_literature(ratio, counts):
    assert class_counts(10, STL10.largest, ratio, "exponential") == counts
    assert sum(counts) == {200: 1117, 100: 1236, 50: 1394}[ratio]


@pytest.fixture
def original(tmp_path, monkeypatch):
    """A tiny STL-10 in torchvision's layout, with the checksums that belong to it."""
    from torchvision.datasets import STL10 as Original

    random = np.random.default_rng(1)
    place = tmp_path / "stl10_binary"
    place.mkdir()
    content = {}
    for part, each in (("train", 2), ("test", 1)):
        labels = random.permutation(np.repeat(np.arange(10), each))
        pixels = random.integers(0, 256, (len(labels), 3, 96, 96), dtype=np.uint8)
        pixels.transpose(0, 1, 3, 2).tofile(place / f"{part}_X.bin")  # column after column
        (labels + 1).astype(np.uint8).tofile(place / f"{part}_y.bin")
        sums = [
            [file.name, hashlib.md5(file.read_bytes()).hexdigest()]
            for file in sorted(place.glob(f"{part}_*"))
        ]
        monkeypatch.setattr(Original, f"{part}_list", sums)
        content[part] = pixels, labels
    return content


def test_original_layout(tmp_path, original):
    images = STL10.read(tmp_path)
    for part, split in (("train", images.train), ("test", images.test)):
        assert np.array_equal(split.images.numpy(), original[part][0])
        assert np.array_equal(split.labels.numpy(), original[part][1])
        assert split.images.is_contiguous() and split.labels.dtype == torch.int64
    assert STL10.load({"name": "stl10", "largest": 2}, tmp_path).counts == (2,) * 10


def test_class_folders(tmp_path, grow):
    names = STL10.names(tmp_path)
    assert names == tuple(sorted(names)) and len(names) == 10
    grow(tmp_path / "stl10", (1,) * 10, (1,) * 10, names, size=(96, 96))
    assert STL10.read(tmp_path).train.images.shape == (10, 3, 96, 96)


def test_sentences(tmp_path, original, monkeypatch):
    from torchvision.datasets import STL10 as Original

    with pytest.raises(MissingData, match="looked for .*stl10_binary and .*--download"):
        STL10.read(tmp_path / "elsewhere")
    file = tmp_path / "stl10_binary" / "test_X.bin"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(MissingData, match=r"test_X.bin is missing or damaged.*--download"):
        STL10.read(tmp_path)

    def offline(self):
        raise OSError("no route to host")

    monkeypatch.setattr(Original, "download", offline)
    with pytest.raises(MissingData, match=r"could not be fetched .*no route to host"):
        STL10.read(tmp_path / "elsewhere", download=True)
