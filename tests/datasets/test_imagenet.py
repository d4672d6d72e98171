import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import DATASETS, Files, MissingData, cache
from datasets.cache import cache_folder
from datasets.imagenet import LISTS
from datasets.loader import batches, passes

IMAGENET, LT, FOLDERS = (DATASETS[name] for name in ("imagenet", "imagenet_lt", "image_folder"))
VAL = "ImageNet_LT_val.txt"
WNIDS = ("n01440764", "n01443537", "n02012849")
LINES = {
    "train": "train/{2}/{2}_3.JPEG 0\ntrain/{0}/{0}_0.JPEG 2\ntrain/{2}/{2}_1.JPEG 0\n"
    "train/{1}/{1}_1.JPEG 1\ntrain/{2}/{2}_0.JPEG 0\n",
    "test": "val/{1}/ILSVRC_1.JPEG 1\nval/{2}/ILSVRC_0.JPEG 0\nval/{0}/ILSVRC_0.JPEG 2\n",
}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Three classes of photographs of several sizes, and lists that order them otherwise."""
    texts = {f"ImageNet_LT_{part}.txt": lines.format(*WNIDS) for part, lines in LINES.items()}
    checksum = hashlib.md5(texts["ImageNet_LT_test.txt"].encode()).hexdigest()
    sums = {**LISTS.checksums, "ImageNet_LT_test.txt": checksum}
    small = {"images": 5, "classes": 3, "largest": 3, "smallest": 1}
    monkeypatch.setattr(type(LT), "published", replace(LISTS, **small, checksums=sums))
    random = np.random.default_rng(0)
    for part, count in (("train", 4), ("val", 2)):
        for wnid in WNIDS:
            place = tmp_path / "imagenet" / part / wnid
            place.mkdir(parents=True)
            for k in range(count):
                height, width = random.integers(40, 90, 2)
                pixels = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
                name = f"{wnid}_{k}.JPEG" if part == "train" else f"ILSVRC_{k}.JPEG"
                Image.fromarray(pixels).save(place / name)
    (tmp_path / "imagenet_lt").mkdir()
    for name, text in texts.items():
        (tmp_path / "imagenet_lt" / name).write_text(text)
    return tmp_path


def names_of(split):
    return [split.images.path(k).rpartition("/")[2] for k in range(len(split))]


def test_files_and_labels(root):
    material = IMAGENET.load({"name": "imagenet"}, root)
    assert material.counts == (4, 4, 4) and material.names == WNIDS
    assert isinstance(material.train.images, Files)
    assert material.train.images.shape == (12, *IMAGENET.shape) and IMAGENET.shape == (3, 224, 224)
    assert material.train.labels.tolist() == [0] * 4 + [1] * 4 + [2] * 4
    assert names_of(material.train)[4:8] == [f"{WNIDS[1]}_{k}.JPEG" for k in range(4)]
    assert material.test.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert material.test.images.path(3) == str(root / "imagenet/val" / WNIDS[1] / "ILSVRC_1.JPEG")


def test_nothing_is_opened_or_kept(root, monkeypatch):
    def never(*arguments, **options):
        raise AssertionError("opened")

    monkeypatch.setattr(Image, "open", never)
    for data in (IMAGENET, LT):
        data.load({"name": data.name}, root)
    assert not cache_folder().exists()


def test_carve_and_profile_of_files(root):
    material = IMAGENET.load(
        {"name": "imagenet", "validation": 0.25, "largest": 4, "ratio": 3}, root
    )
    assert material.counts == (3, 1, 1) and len(material.validation) == 3
    assert not set(names_of(material.train)) & set(names_of(material.validation))
    for k, label in enumerate(material.train.labels):
        assert WNIDS[label] in material.train.images.path(k)


def test_names(root):
    words = "n01440764\ttench, Tinca tinca\nn02012849\tcrane\nn01443537\tgoldfish, Carassius\n"
    (root / "imagenet" / "words.txt").write_text(words)
    assert IMAGENET.names(root) == ("tench", "goldfish", "crane")
    assert LT.names(root) == ("crane", "goldfish", "tench")
    mapping = root / "imagenet" / "LOC_synset_mapping.txt"
    mapping.write_text(words.replace("\t", " "))
    (root / "imagenet" / "words.txt").unlink()
    assert IMAGENET.names(root) == ("tench", "goldfish", "crane")
    mapping.unlink()
    assert LT.names(root) == WNIDS[::-1]


def test_list(root):
    material = LT.load({"name": "imagenet_lt"}, root)
    assert material.counts == (3, 1, 1)
    assert material.train.labels.tolist() == [0, 2, 0, 1, 0]
    wnids = WNIDS[::-1]
    for split in (material.train, material.test):
        for k, label in enumerate(split.labels):
            assert wnids[label] in split.images.path(k)
    assert material.test.labels.tolist() == [1, 0, 2]
    assert IMAGENET.load({"name": "imagenet"}, root).digest != material.digest


def test_lists_are_the_published_ones(root):
    """Line ends aside, to the byte, but for the list of training, of which the counts are known."""
    folder = root / "imagenet_lt"
    test = folder / "ImageNet_LT_test.txt"
    text = test.read_bytes()
    test.write_bytes(text.replace(b"\n", b"\r\n"))
    digest = LT.read(root).digest
    test.write_bytes(text.replace(b"ILSVRC_0", b"ILSVRC_1", 1))
    with pytest.raises(ValueError, match="test.txt is not the published list: its MD5 is "):
        LT.read(root)
    test.write_bytes(text)
    assert LT.read(root).digest == digest
    (folder / "ImageNet_LT_val.txt").write_text("train/n01440764/n01440764_9.JPEG 2\n")
    with pytest.raises(ValueError, match=f"that of the list is {LISTS.checksums[VAL]}"):
        LT.read(root)
    with pytest.raises(ValueError, match="all images are kept, so there is no subset 'first'"):
        (folder / "ImageNet_LT_val.txt").unlink()
        LT.load({"name": "imagenet_lt", "subset": "first"}, root)


def test_list_in_the_other_folder(root):
    for path in (root / "imagenet_lt").iterdir():
        path.rename(root / "imagenet" / path.name)
    assert LT.load({"name": "imagenet_lt"}, root).counts == (3, 1, 1)


def test_digest_is_of_paths_sizes_and_labels(root):
    before = IMAGENET.read(root).digest
    path = root / "imagenet" / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + b"x")
    assert IMAGENET.read(root).digest == before
    path.write_bytes(data + b"x")
    assert IMAGENET.read(root).digest != before
    path.write_bytes(data)
    path.rename(path.with_name("other.JPEG"))
    assert IMAGENET.read(root).digest != before


def test_evaluation_is_that_of_torchvision(root):
    """Shorter side 256, middle 224: within a level or two of the transforms on PIL images."""
    from torchvision.transforms import CenterCrop, Compose, PILToTensor, Resize

    material = IMAGENET.load({"name": "imagenet"}, root)
    [(images, labels)] = passes(material.test, batch=10, mean=(0, 0, 0), std=(1, 1, 1))
    assert torch.equal(labels, material.test.labels) and images.shape == (6, 3, 224, 224)
    theirs = Compose([Resize(256), CenterCrop(224), PILToTensor()])
    for k in range(6):
        with Image.open(material.test.images.path(k)) as image:
            want = theirs(image.convert("RGB"))
        assert ((images[k] * 255).round() - want).abs().max() <= 2
    [(small, _)] = passes(
        material.test, batch=10, mean=(0, 0, 0), std=(1, 1, 1), size=20, resize=32
    )
    assert small.shape == (6, 3, 20, 20)


def test_sentences(root, tmp_path):
    with pytest.raises(MissingData, match=r"looked for .*imagenet/train/<wnid>.*--data-root"):
        IMAGENET.find(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="imagenet has no canonical class size"):
        IMAGENET.load({"name": "imagenet", "ratio": 10}, root)
    path = root / "imagenet_lt" / "ImageNet_LT_train.txt"
    text = path.read_text()
    for line, sentence in (
        ("train/n01440764/a.JPEG", "line 6 of .* is 'train/n01440764/a.JPEG', expected a path"),
        ("../secret/a.JPEG 1", "line 6 of .* expected a path"),
        (f"train/{WNIDS[0]}/{WNIDS[0]}_1.JPEG 4", "names 6 images of 4 classes, 3 of the largest"),
    ):
        path.write_text(f"{text}{line}\n")
        with pytest.raises(ValueError, match=sentence):
            LT.read(root)
    path.write_text(text.replace(" 1\n", " 7\n"))
    with pytest.raises(
        ValueError, match="with labels up to 7; published were 5 images of 3 classes"
    ):
        LT.read(root)
    path.write_text(text.replace(f"{WNIDS[1]}_1", "gone"))
    with pytest.raises(MissingData, match=r"gone.JPEG is not there, and .*_train.txt names it"):
        LT.read(root)
    path.unlink()
    with pytest.raises(MissingData, match=r"no lists of imagenet_lt: looked for"):
        LT.find(root)
    (root / "imagenet" / "val" / WNIDS[0]).rename(root / "imagenet" / "val" / "n0")
    with pytest.raises(ValueError, match=r"class 'n0' is in .*/val and not in .*/train"):
        IMAGENET.read(root)


def test_large_image_folders_are_streamed(tmp_path, grow, monkeypatch):
    pixels = grow(tmp_path / "mine", (3, 2), (1, 1), ("ant", "bee"), size=(6, 5))
    options = {"name": "image_folder", "folder": "mine"}
    kept = FOLDERS.load(options, tmp_path)
    assert isinstance(kept.train.images, torch.Tensor)
    monkeypatch.setattr(cache, "IN_MEMORY", 7 * 6 * 5 * 3)
    assert isinstance(FOLDERS.load(options, tmp_path).train.images, torch.Tensor)
    monkeypatch.setattr(cache, "IN_MEMORY", 7 * 6 * 5 * 3 - 1)
    streamed = FOLDERS.load(options, tmp_path)
    assert isinstance(streamed.train.images, Files) and streamed.counts == kept.counts
    assert streamed.train.images.shape == kept.train.images.shape
    constants = {"mean": (0, 0, 0), "std": (1, 1, 1)}
    for a, b in zip(
        passes(kept.train, batch=2, **constants),
        passes(streamed.train, batch=2, **constants),
        strict=True,
    ):
        assert torch.equal(a[0], b[0]) and torch.equal(a[1], b[1])
    assert len(pixels) == 7
    # one image of another size: fine for a recipe that says what to do with it, else a sentence
    Image.new("RGB", (7, 9)).save(tmp_path / "mine" / "train" / "bee" / "0009.png")
    other = FOLDERS.load(options, tmp_path)
    with pytest.raises(ValueError, match=r"0009.png: images are 9 x 7 pixels .* 6 x 5 are asked"):
        list(passes(other.train, batch=6, **constants))
    [(images, _)] = passes(other.train, batch=6, size=4, resize=5, **constants)
    assert images.shape == (6, 3, 4, 4)
    with pytest.raises(ValueError, match="Set `resize` in the recipe to at least 4"):
        batches(other.train, batch=2, size=4, order=None, augmentation=None, **constants)
