import hashlib
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import DATASETS, Files, MissingData
from datasets.inaturalist import LISTS
from datasets.loader import passes

DATA = DATASETS["inaturalist18"]
PLACES = ("Plantae/0", "Plantae/1", "Insecta/2")
TRAIN = ((1, "b"), (0, "a"), (2, "f"), (0, "c"), (0, "d"), (1, "e"), (2, "g"))
TEST = ((2, "x"), (0, "y"), (1, "z"))


def text(entries):
    return "".join(f"train_val2018/{PLACES[k]}/{name}.jpg {k}\n" for k, name in entries)


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Three species, three images of the first and two of the others, and one of each for test."""
    random = np.random.default_rng(0)
    for k, name in (*TRAIN, *TEST):
        path = tmp_path / "inaturalist18" / "train_val2018" / PLACES[k] / f"{name}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (70, 60 + k, 3), dtype=np.uint8)).save(path)
    for part, entries in (("train", TRAIN), ("val", TEST)):
        (tmp_path / "inaturalist18" / f"iNaturalist18_{part}.txt").write_text(text(entries))
    checksum = {"iNaturalist18_val.txt": hashlib.md5(text(TEST).encode()).hexdigest()}
    small = {"images": 7, "classes": 3, "largest": 3, "smallest": 2, "checksums": checksum}
    monkeypatch.setattr(type(DATA), "published", replace(LISTS, **small))
    return tmp_path


def test_what_was_published():
    assert (LISTS.images, LISTS.classes, LISTS.largest, LISTS.smallest) == (437513, 8142, 1000, 2)
    assert LISTS.checksums == {"iNaturalist18_val.txt": "b7ed52f3854c157c487cc3be9deb8abf"}


def test_files_and_labels(root):
    material = DATA.load({"name": "inaturalist18"}, root)
    assert material.counts == (3, 2, 2) and material.names == ("0", "1", "2")
    assert isinstance(material.train.images, Files) and DATA.shape == (3, 224, 224)
    assert material.train.labels.tolist() == [k for k, _ in TRAIN]
    assert material.test.labels.tolist() == [2, 0, 1]
    want = str(root / "inaturalist18/train_val2018/Insecta/2/f.jpg")
    assert material.train.images.path(2) == want
    constants = {"mean": (0, 0, 0), "std": (1, 1, 1)}
    [(images, labels)] = passes(material.test, batch=5, **constants)
    assert images.shape == (3, 3, 224, 224) and torch.equal(labels, material.test.labels)


def test_names(root):
    path = root / "inaturalist18" / "categories.json"
    entries = [{"id": 2, "name": "Apis mellifera"}, {"id": 0, "name": "Acer rubrum"}]
    path.write_text(json.dumps(entries))
    assert DATA.names(root) == ("Acer_rubrum", "1", "Apis_mellifera")
    for wrong in ("{", "[1]", '[{"id": 1}]', "7", "[" * 20_000, '[{"id": 1e999, "name": ""}]'):
        path.write_text(wrong)
        with pytest.raises(ValueError, match="categories.json is not a list of records"):
            DATA.names(root)


def test_sentences(root, tmp_path):
    with pytest.raises(MissingData, match=r"looked for .*inaturalist18/train_val2018/<kingdom>"):
        DATA.find(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="`classes` belongs to sphere"):
        DATA.find(root, classes=3)
    with pytest.raises(ValueError, match="inaturalist18 has no canonical class size"):
        DATA.load({"name": "inaturalist18", "ratio": 10}, root)
    train, test = (root / "inaturalist18" / f"iNaturalist18_{p}.txt" for p in ("train", "val"))
    train.write_text(text(TRAIN[:-1]))
    with pytest.raises(ValueError, match=r"names 6 images of 3 classes, 3 of the largest and 1 of"):
        DATA.read(root)
    train.write_text(text(TRAIN))
    test.write_text(text(TEST[::-1]))
    with pytest.raises(ValueError, match="iNaturalist18_val.txt is not the published list"):
        DATA.read(root)
    test.write_text(text(TEST).replace(" 2\n", " 5\n"))
    with pytest.raises(ValueError, match=r"val.txt has the label 5, and .*train.txt has not"):
        DATA.read(root)
    test.write_text(text(TEST))
    (root / "inaturalist18" / "train_val2018" / PLACES[2] / "g.jpg").unlink()
    with pytest.raises(MissingData, match=r"g.jpg is not there, and .*train.txt names it"):
        DATA.read(root)
    test.unlink()
    with pytest.raises(MissingData, match=r"no lists of inaturalist18: looked for iNaturalist18_t"):
        DATA.find(root)
