"""Image files and class folders: damaged, foreign, huge, odd; and CIFAR's pickles."""

import io
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from hypothesis import strategies as st
from PIL import Image

from datasets import DATASETS, MissingData
from datasets.folders import PIXELS, decode
from tests.fuzz.mutations import damaged

FOLDERS = DATASETS["image_folder"]
PLAIN = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)


def encoded(form, mode="RGB", **options):
    file = io.BytesIO()
    image = Image.fromarray(PLAIN).convert(mode)
    image.save(file, form, **options)
    return file.getvalue()


def sixteen(form):
    file = io.BytesIO()
    Image.fromarray(np.array([[0, 1000], [30000, 65535]], np.uint16)).save(file, form)
    return file.getvalue()


FRAMES = [Image.fromarray(np.roll(PLAIN, k, 0)) for k in range(3)]
GOOD = {
    **{form: encoded(form) for form in ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")},
    "cmyk": encoded("JPEG", "CMYK"),
    "grey": encoded("PNG", "L"),
    "palette": encoded("PNG", "P", transparency=b"\x00\x80\xff"),
    "transparent": encoded("WEBP", "RGBA", lossless=True),
    "progressive": encoded("JPEG", progressive=True),
    "lzw": encoded("TIFF", compression="tiff_lzw"),
    "animated": encoded("GIF", save_all=True, append_images=FRAMES),
    "animated png": encoded("PNG", save_all=True, append_images=FRAMES),
}
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n(x) run showpage\n%%EOF\n"


def png(width, height, kind=2, content=b""):
    """A PNG whose header says this, with so much of it compressed as is given."""

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, kind, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def save(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def tree(tmp_path, own_cache):
    """Class folders with three images each; gives the root."""
    for split in ("train", "test"):
        for name in ("a", "b"):
            for k in range(3):
                save(tmp_path / "mine" / split / name / f"{k}.png", GOOD["PNG"])
    return tmp_path


def test_images_damaged(fuzz, tmp_path):
    path = tmp_path / "x.png"

    def look(content):
        path.write_bytes(content)
        pixels = decode(str(path))
        assert pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3

    fuzz(damaged(list(GOOD.values())), look, 120)


def test_images_of_any_bytes(fuzz, tmp_path):
    path = tmp_path / "x.jpg"
    starts = st.sampled_from(
        [b"", *(content[:k] for content in GOOD.values() for k in (4, 12, 40))]
    )

    def look(content):
        path.write_bytes(content)
        decode(str(path))

    fuzz(st.tuples(starts, st.binary(max_size=60)).map(b"".join), look)


def test_headers_of_images(fuzz, tmp_path):
    path = tmp_path / "x.png"
    sides = st.sampled_from([0, 1, 2, 100, 65_535, 10**6, 2**31 - 1, 2**32 - 1])

    def look(parts):
        width, height, kind, content = parts
        path.write_bytes(png(width, height, kind, zlib.compress(content)))
        decode(str(path))

    fuzz(st.tuples(sides, sides, st.integers(0, 7), st.binary(max_size=99)), look)


@pytest.mark.parametrize("name", GOOD)
def test_what_is_right_is_read(tmp_path, name):
    assert decode(str(save(tmp_path / "x.png", GOOD[name]))).shape == (6, 5, 3)


def test_an_animation_gives_its_first_image(tmp_path):
    first = decode(str(save(tmp_path / "a.png", GOOD["animated png"])))
    assert np.array_equal(first, PLAIN)


REFUSED = {
    "sixteen bits": (sixteen("PNG"), "mode I;16, not 8 bits"),
    "sixteen bits, tiff": (sixteen("TIFF"), "mode I;16, not 8 bits"),
    "bomb": (png(20_000, 20_000), "decompression bomb"),
    "huge": (b"P6 100000 100000 255\n", "decompression bomb"),
    "empty": (b"", "cannot identify"),
    "truncated": (GOOD["PNG"][:60], "truncated"),
    "text": (b"<html>404</html>", "cannot identify"),
    "postscript": (EPS, "cannot identify"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_used_is_named(tmp_path, name):
    content, part = REFUSED[name]
    path = save(tmp_path / "x.png", content)
    with pytest.raises(ValueError) as error:
        decode(str(path))
    assert part in str(error.value) and str(path) in str(error.value)


def test_pixels_are_looked_at_before_they_are_decoded(tmp_path, monkeypatch):
    monkeypatch.setattr(Image.Image, "convert", lambda *arguments: pytest.fail("decoded"))
    side = int(PIXELS**0.5) + 1
    with pytest.raises(ValueError, match=r"more than 89,478,485"):
        decode(str(save(tmp_path / "x.png", png(side, side))))


def test_no_program_is_started_for_an_image(tmp_path, monkeypatch):
    """Pillow knows what a file is by its content, and has Ghostscript draw PostScript."""
    import subprocess

    monkeypatch.setattr(subprocess, "Popen", lambda *a, **o: pytest.fail("a program was started"))
    monkeypatch.setattr("PIL.EpsImagePlugin.has_ghostscript", lambda: True)
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", "gs")
    with pytest.raises(ValueError, match="cannot identify"):
        decode(str(save(tmp_path / "x.png", EPS)))


# class folders

NAMES = st.text(st.characters(blacklist_characters="/\0", codec="utf-8"), min_size=1, max_size=8)
RAW = st.binary(min_size=1, max_size=8).map(lambda b: b.replace(b"/", b"x").replace(b"\0", b"y"))


def test_folders_of_any_name(fuzz, tmp_path, own_cache):
    count = iter(range(10**9))

    def look(names):
        root = tmp_path / f"{next(count)}"
        made = 0
        for raw in {name if isinstance(name, bytes) else name.encode() for name in names}:
            for split in (b"train", b"test"):
                place = os.path.join(os.fsencode(root / "mine"), split, raw)
                try:
                    os.makedirs(place, exist_ok=True)
                except OSError:  # '.' and '..', and what this file system does not take
                    continue
                with open(os.path.join(place, b"0.png"), "wb") as file:
                    file.write(GOOD["PNG"])
                made += 1
        images = FOLDERS.read(root, "mine")
        assert len(images.train) + len(images.test) <= made

    fuzz(st.lists(NAMES | RAW, min_size=1, max_size=3), look, 25)


def test_places_of_any_name(fuzz, tree):
    odd = ["..", "../mine", "/etc", "mine/..", "mine/train", ".", "", "a" * 300, "a\0b", "\ud800"]
    name = st.sampled_from(odd) | st.text(max_size=10)
    fuzz(name, lambda folder: FOLDERS.read(tree, folder))
    for refused in odd[:4]:
        with pytest.raises(ValueError, match="is a name under the data root"):
            FOLDERS.find(tree, refused)


def pipe(path):
    os.mkfifo(path)


def folder(path):
    path.mkdir()


def nothing(path):
    path.symlink_to(path.parent / "gone.png")


def circle(path):
    path.symlink_to(path)


def sparse(path):
    with open(path, "wb") as file:
        file.truncate(1 << 40)


def device(path):
    path.symlink_to("/dev/zero")


ODD = {
    "pipe": (pipe, "is no file"),
    "folder": (folder, "is no file"),
    "nothing": (nothing, "is a link to nothing"),
    "circle": (circle, "is a link to nothing"),
    "sparse": (sparse, "1,099,511,627,776 bytes"),
    "device": (device, "is no file"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_is_no_image_file_is_named_before_it_is_opened(tree, name):
    make, part = ODD[name]
    path = tree / "mine" / "train" / "a" / "z.png"
    make(path)
    with pytest.raises((ValueError, MissingData)) as error:
        FOLDERS.read(tree, "mine")
    assert part in str(error.value) and str(path) in str(error.value)


# lists that name files


def test_lists_stay_below_their_folder(tmp_path):
    from datasets.lists import lines

    for bad in ("/etc/passwd 0", "train/../../x 0", "train/a\0b 0", f"train/a {'9' * 5000}", "x 0"):
        (tmp_path / "list.txt").write_text(bad, encoding="utf-8")
        with pytest.raises(ValueError, match="line 1 of .* expected a path"):
            list(lines(tmp_path / "list.txt", "train/a/b.jpg"))
    (tmp_path / "list.txt").write_bytes(b"\xff\xfe")
    with pytest.raises(ValueError, match="is not UTF-8 text"):
        list(lines(tmp_path / "list.txt", "train/a/b.jpg"))


@pytest.mark.parametrize("bad", ["../../../etc/passwd", "/etc/passwd", "a\0b"])
def test_annotations_stay_below_their_folder(tmp_path, bad):
    place = tmp_path / "tiny-imagenet-200"
    save(place / "train" / "n1" / "images" / "0.JPEG", GOOD["JPEG"])
    save(place / "val" / "val_annotations.txt", f"{bad}\tn1\t0\n".encode())
    with pytest.raises(ValueError, match="which is no name of a file"):
        DATASETS["tiny_imagenet"].read(tmp_path)


# pickles


class Touch:
    """Pickled: calls open() when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_pickles_with_another_checksum_are_not_read(fuzz, tmp_path, monkeypatch):
    from datasets import pickled

    whole = pickle.dumps({"data": PLAIN, "labels": [1]})
    monkeypatch.setattr(pickled.Restricted, "load", lambda self: pytest.fail("unpickled"))

    def look(content):
        pickled.batch(save(tmp_path / "batch", content), "0" * 32)

    fuzz(damaged([whole, pickle.dumps(Touch(tmp_path / "touched"))]), look)
    assert not (tmp_path / "touched").exists()
