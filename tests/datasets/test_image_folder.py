import pytest
import torch

from datasets import DATASETS, MissingData

FOLDERS = DATASETS["image_folder"]
NAMES = ("ant", "bee", "cow")


@pytest.fixture
def root(tmp_path, grow):
    grow(tmp_path / "mine", (10, 6, 3), (2, 2, 2), NAMES, size=(7, 9), suffix="webp")
    return tmp_path


def load(root, **options):
    return FOLDERS.load({"name": "image_folder", "folder": "mine", **options}, root)


def test_as_found(root):
    material = load(root)
    assert material.names == FOLDERS.names(root, "mine") == NAMES
    assert material.counts == (10, 6, 3)
    assert material.train.images.shape == (19, 3, 7, 9)
    assert material.groups == ("few",) * 3
    assert material.mean == (0.485, 0.456, 0.406)
    images = FOLDERS.read(root, "mine")
    assert torch.equal(images.train.images, material.train.images)
    assert images.digest == material.digest


def test_carve_without_a_profile(root):
    material = load(root, validation=0.5)
    assert material.counts == (5, 3, 2)
    assert torch.bincount(material.train.labels).tolist() == [5, 3, 2]
    assert torch.bincount(material.validation.labels).tolist() == [5, 3, 1]


def test_profile(root):
    assert load(root, largest=10, ratio=5).counts == (10, 4, 2)
    assert load(root, largest=3).counts == (3, 3, 3)
    with pytest.raises(ValueError, match="image_folder has no canonical class size.*Set `largest`"):
        load(root, ratio=5)
    with pytest.raises(ValueError, match=r"class 1 \(bee\) has 6 images and needs 7"):
        load(root, largest=7)


@pytest.mark.parametrize("folder", ["/etc", "../mine", ""])
def test_place_must_be_below_the_root(root, folder):
    with pytest.raises(ValueError, match="`folder` is a name under the data root"):
        FOLDERS.find(root, folder)


def test_place_must_be_given_and_there(root):
    with pytest.raises(ValueError, match="needs the option `folder`, got none"):
        FOLDERS.load({"name": "image_folder"}, root)
    with pytest.raises(MissingData, match="looked for .*yours/.*--data-root"):
        FOLDERS.find(root, "yours")
    assert FOLDERS.find(root, "mine") == root / "mine"
