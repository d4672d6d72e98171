import numpy as np
import pytest
import torch
from PIL import Image

from datasets import DATASETS, MissingData, cache

TINY = DATASETS["tiny_imagenet"]
WNIDS = ("n01443537", "n01629819", "n02012849")


@pytest.fixture
def archive(tmp_path):
    """Three classes in the layout of the official archive; pixels by path."""
    random = np.random.default_rng(0)
    place = tmp_path / "tiny-imagenet-200"
    pixels = {}

    def save(path, gray=False):
        shade = random.integers(0, 256)
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new(
            "L" if gray else "RGB", (64, 64), int(shade) if gray else (int(shade), 0, 0)
        ).save(place / path, quality=100)
        pixels[path] = shade

    for k, wnid in enumerate(WNIDS):
        for i in range(4 - k):
            save(f"train/{wnid}/images/{wnid}_{i}.JPEG", gray=i == 0)
        (place / "train" / wnid / f"{wnid}_boxes.txt").write_text("x")
    lines = []
    for i, k in enumerate((2, 0, 1, 0)):
        save(f"val/images/val_{i}.JPEG")
        lines.append(f"val_{i}.JPEG\t{WNIDS[k]}\t0\t0\t62\t62\n")
    (place / "val" / "val_annotations.txt").write_text("".join(lines))
    (place / "test" / "images").mkdir(parents=True)
    (place / "words.txt").write_text(
        "n00000001\tentity\nn02012849\tcrane\nn01443537\tgoldfish, Carassius auratus\n"
        "n01629819\tEuropean fire salamander, Salamandra salamandra\n"
    )
    return place, pixels


def test_archive(tmp_path, archive):
    _, pixels = archive
    images = TINY.read(tmp_path)
    assert images.train.labels.tolist() == [0] * 4 + [1] * 3 + [2] * 2
    assert images.train.images.shape == (9, 3, 64, 64)
    # the official validation images, class after class
    assert images.test.labels.tolist() == [0, 0, 1, 2]
    want = [pixels[f"val/images/val_{i}.JPEG"] for i in (1, 3, 2, 0)]
    found = images.test.images[:, 0].float().mean((1, 2))
    assert found.tolist() == pytest.approx(want, abs=3)
    gray = images.train.images[0].float().mean((1, 2)).tolist()
    assert gray == pytest.approx([pixels[f"train/{WNIDS[0]}/images/{WNIDS[0]}_0.JPEG"]] * 3, abs=2)


def test_names(tmp_path, archive):
    place, _ = archive
    names = ("goldfish", "European_fire_salamander", "crane")
    assert TINY.names(tmp_path) == names
    assert TINY.load({"name": "tiny_imagenet", "largest": 2}, tmp_path).names == names
    (place / "words.txt").write_text("n01443537\tgoldfish\n")
    assert TINY.names(tmp_path) == ("goldfish", *WNIDS[1:])
    (place / "words.txt").unlink()
    assert TINY.names(tmp_path) == WNIDS


def test_class_folders_hold_the_same(tmp_path, archive):
    place, _ = archive
    first = TINY.read(tmp_path)
    own = tmp_path / "own" / "tiny_imagenet"
    for path in place.glob("train/*/images/*"):
        target = own / "train" / path.parts[-3] / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    for line in (place / "val" / "val_annotations.txt").read_text().splitlines():
        file, wnid = line.split("\t")[:2]
        (own / "test" / wnid).mkdir(parents=True, exist_ok=True)
        (own / "test" / wnid / file).write_bytes((place / "val/images" / file).read_bytes())
    second = TINY.read(tmp_path / "own")
    assert second.digest == first.digest
    assert torch.equal(first.test.images, second.test.images)


def test_decoded_once_and_annotations_are_noticed(tmp_path, archive, monkeypatch):
    place, _ = archive
    first = TINY.read(tmp_path)
    original = cache.decode

    def never(path):
        raise AssertionError("decoded again")

    monkeypatch.setattr(cache, "decode", never)
    assert TINY.read(tmp_path).digest == first.digest
    monkeypatch.setattr(cache, "decode", original)
    notes = place / "val" / "val_annotations.txt"
    notes.write_text(notes.read_text().replace(WNIDS[2], WNIDS[1]))
    second = TINY.read(tmp_path)
    assert second.test.labels.tolist() == [0, 0, 1, 1] and second.digest != first.digest


def test_sentences(tmp_path, archive):
    place, _ = archive
    with pytest.raises(MissingData, match=r"looked for .*tiny-imagenet-200 and .*--data-root"):
        TINY.find(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match=r"class 0 \(goldfish\) has 4 images and needs 500"):
        TINY.load({"name": "tiny_imagenet"}, tmp_path)
    notes = place / "val" / "val_annotations.txt"
    text = notes.read_text()
    notes.write_text(text + "val_9.JPEG\tn01443537\t0\n")
    with pytest.raises(MissingData, match=r"val_9.JPEG is not there, and line 5 of"):
        TINY.read(tmp_path)
    notes.write_text(text + "val_0.JPEG\tn09999999\t0\n")
    with pytest.raises(ValueError, match=r"line 5 of .* names the class 'n09999999'"):
        TINY.read(tmp_path)
    notes.unlink()
    with pytest.raises(MissingData, match=r"val_annotations.txt is not there"):
        TINY.read(tmp_path)
    Image.new("RGB", (32, 64)).save(place / "train" / WNIDS[1] / "images" / "a.JPEG")
    notes.write_text(text)
    with pytest.raises(ValueError, match=r"a.JPEG is 64 x 32 pixels .* expected 64 x 64"):
        TINY.read(tmp_path)
