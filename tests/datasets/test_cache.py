import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image

from datasets import MissingData, cache
from datasets.cache import cache_folder, read_folders

NAMES = ("ant", "bee", "cow")


@pytest.fixture
def folder(tmp_path, grow):
    grow(tmp_path / "data", (4, 3, 2), (1, 2, 1), NAMES, size=(6, 5))
    return tmp_path / "data"


@pytest.fixture
def decoded(monkeypatch):
    """The files that were decoded, in a list."""
    files = []
    original = cache.decode

    def counting(path):
        files.append(path)
        return original(path)

    monkeypatch.setattr(cache, "decode", counting)
    return files


def test_pixels_and_labels(tmp_path, grow):
    pixels = grow(tmp_path / "data", (4, 3, 2), (1, 2, 1), NAMES, size=(6, 5))
    steps = []
    images, names = read_folders(tmp_path / "data", progress=lambda *step: steps.append(step))
    assert names == NAMES
    assert images.train.labels.tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2]
    assert images.test.labels.tolist() == [0, 1, 1, 2]
    for split, found in (("train", images.train), ("test", images.test)):
        assert found.images.dtype == torch.uint8 and found.labels.dtype == torch.int64
        want = [image for (part, _, _), image in pixels.items() if part == split]
        assert np.array_equal(found.images.numpy(), np.stack(want).transpose(0, 3, 1, 2))
    assert steps == [(13, 13)]


def test_order_and_progress_over_many_chunks(folder, monkeypatch):
    whole, _ = read_folders(folder)
    monkeypatch.setattr(cache, "_CHUNK", 2)
    for file in cache_folder().iterdir():
        file.unlink()
    steps = []
    parts, _ = read_folders(folder, progress=lambda *step: steps.append(step))
    assert parts.digest == whole.digest
    assert torch.equal(parts.train.images, whole.train.images)
    assert steps == [(n, 13) for n in (2, 4, 6, 8, 10, 12, 13)]


def test_nothing_is_decoded_or_opened_again(folder, monkeypatch):
    first, _ = read_folders(folder)

    def never(*arguments):
        raise AssertionError("decoded or read again")

    monkeypatch.setattr(cache, "decode", never)
    monkeypatch.setattr(cache, "_content", never)
    second, _ = read_folders(folder, progress=never)
    assert first.digest == second.digest
    assert torch.equal(first.train.images, second.train.images)


def test_a_copy_is_read_and_not_decoded(folder, tmp_path, decoded):
    first, _ = read_folders(folder)
    count = len(decoded)
    for path in sorted(folder.rglob("*.png")):
        twin = tmp_path / "copy" / path.relative_to(folder)
        twin.parent.mkdir(parents=True, exist_ok=True)
        twin.write_bytes(path.read_bytes())
    second, _ = read_folders(tmp_path / "copy")
    assert second.digest == first.digest and len(decoded) == count


def test_changed_pixel_is_noticed(folder):
    first, _ = read_folders(folder)
    Image.new("RGB", (5, 6), (1, 2, 3)).save(folder / "train" / "bee" / "0001.png")
    second, _ = read_folders(folder)
    assert second.digest != first.digest
    assert second.train.images[5].flatten(1).T.unique(dim=0).tolist() == [[1, 2, 3]]


def test_changed_byte_of_the_same_size_and_time_is_noticed(tmp_path, grow):
    grow(tmp_path / "data", (2,), (1,), ("ant",), suffix="bmp")
    first, _ = read_folders(tmp_path / "data")
    file = tmp_path / "data" / "train" / "ant" / "0000.bmp"
    before = file.stat()
    data = bytearray(file.read_bytes())
    data[-1] ^= 255
    file.write_bytes(data)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    second, _ = read_folders(tmp_path / "data")
    assert second.digest != first.digest
    assert (first.train.images != second.train.images).sum() == 1


def test_new_and_removed_files_are_noticed(folder):
    read_folders(folder)
    (folder / "train" / "ant" / "0000.png").rename(folder / "train" / "cow" / "0009.png")
    images, _ = read_folders(folder)
    assert images.train.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize("suffix", ["png", "webp", "jpg"])
def test_truncated_file_is_named(tmp_path, grow, suffix):
    grow(tmp_path / "data", (2, 2), (1, 1), ("ant", "bee"), suffix=suffix)
    read_folders(tmp_path / "data")
    file = tmp_path / "data" / "train" / "bee" / f"0001.{suffix}"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ValueError, match=f"bee/0001.{suffix} cannot be decoded .* restore it"):
        read_folders(tmp_path / "data")
    assert not list(cache_folder().glob(".*"))


def test_empty_file_is_named(folder):
    (folder / "train" / "ant" / "0000.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"ant/0000.png cannot be decoded"):
        read_folders(folder)


@pytest.mark.parametrize("damage", ["flip", "truncate", "remove", "about", "about_digest", "deep"])
def test_damaged_cache_is_rebuilt(folder, decoded, damage):
    first, _ = read_folders(folder)
    count = len(decoded)
    images = next(cache_folder().glob("*.images"))
    about = next(cache_folder().glob("*.json"))
    data = bytearray(images.read_bytes())
    match damage:
        case "flip":
            data[100] ^= 1
            images.write_bytes(data)
        case "truncate":
            del first  # it maps the file
            images.write_bytes(data[:-7])
        case "remove":
            images.unlink()
        case "about":
            about.write_text("{")
        case "about_digest":
            about.write_text('{"height": 5, "width": 6, "digest": "0"}')
        case "deep":
            about.write_text("[" * 20_000)  # more levels than Python's own stack
    second, _ = read_folders(folder)
    assert len(decoded) == 2 * count
    third, _ = read_folders(folder)
    assert len(decoded) == 2 * count
    assert second.digest == third.digest
    assert third.train.images.shape == (9, 3, 6, 5)


def test_damaged_index_is_rebuilt_without_decoding(folder, decoded):
    read_folders(folder)
    count = len(decoded)
    index = next(cache_folder().glob("*.index"))
    for junk in ("", "[]", '{"content": 3}', '{"content": "gone"}', "[" * 20_000):
        index.write_text(junk)
        read_folders(folder)
    assert len(decoded) == count


def test_two_at_once(folder):
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda _: read_folders(folder)[0], range(4)))
    assert len({images.digest for images in found}) == 1
    assert all(torch.equal(images.train.images, found[0].train.images) for images in found)
    left = sorted(path.suffix for path in cache_folder().iterdir())
    assert left == [".images", ".index", ".json"]


def test_what_is_read_can_be_written_and_the_cache_stays(folder):
    first, _ = read_folders(folder)
    first.train.images.zero_()
    second, _ = read_folders(folder)
    assert second.digest == first.digest and second.train.images.any()


def test_sizes_must_agree(folder):
    Image.new("RGB", (7, 6)).save(folder / "train" / "bee" / "0001.png")
    Image.new("RGB", (7, 6)).save(folder / "test" / "ant" / "0000.png")
    with pytest.raises(ValueError, match=r"train/bee/0001.png is 6 x 7 .* expected 6 x 5 .* one"):
        read_folders(folder)


def test_wanted_size_holds_for_the_cache_too(folder):
    with pytest.raises(ValueError, match=r"train/ant/0000.png is 6 x 5 .* expected 32 x 32"):
        read_folders(folder, shape=(3, 32, 32))
    read_folders(folder)
    with pytest.raises(ValueError, match=r"train/ant/0000.png is 6 x 5 .* expected 32 x 32"):
        read_folders(folder, shape=(3, 32, 32))


def test_other_files_are_passed_over(folder):
    before, _ = read_folders(folder)
    (folder / "train" / "ant" / ".DS_Store").write_text("x")
    (folder / "train" / "ant" / "notes.txt").write_text("x")
    (folder / "train" / ".hidden").mkdir()
    (folder / "train" / "README").write_text("x")
    after, names = read_folders(folder)
    assert names == NAMES and after.digest == before.digest


def test_gray_and_palette_become_rgb(tmp_path):
    for split in ("train", "test"):
        (tmp_path / "data" / split / "ant").mkdir(parents=True)
        Image.new("L", (4, 4), 7).save(tmp_path / "data" / split / "ant" / "a.png")
        Image.new("P", (4, 4)).save(tmp_path / "data" / split / "ant" / "b.png")
    images, _ = read_folders(tmp_path / "data")
    assert images.train.images.shape == (2, 3, 4, 4)
    assert (images.train.images[0] == 7).all()


def test_folders_must_make_sense(folder, tmp_path):
    with pytest.raises(MissingData, match="elsewhere/train is not there.*--data-root"):
        read_folders(tmp_path / "elsewhere")
    (folder / "train" / "dog").mkdir()
    with pytest.raises(ValueError, match=r"'dog' is in .*/train and not in .*/test"):
        read_folders(folder)
    (folder / "test" / "dog").mkdir()
    with pytest.raises(ValueError, match=r"train/dog holds no image"):
        read_folders(folder)
    (tmp_path / "empty" / "train").mkdir(parents=True)
    with pytest.raises(MissingData, match="holds no class folders"):
        read_folders(tmp_path / "empty")


def test_forbidden_folder_is_a_sentence(folder, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(MissingData, match="may not be read by this user"):
        read_folders(folder)


def test_unwritable_cache_is_a_sentence(folder, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(OSError, match="cannot be written .*Set BENCHMARK_CACHE") as refusal:
        read_folders(folder)
    assert "\n" not in str(refusal.value)


def test_full_disk_is_a_sentence_and_leaves_nothing(folder, monkeypatch):
    def full(handle):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"cannot be written \(No space left on device\)"):
        read_folders(folder)
    assert not list(cache_folder().iterdir())


def test_a_change_while_reading_is_refused(folder, monkeypatch):
    original = cache._decode_all

    def slow(*arguments):
        original(*arguments)
        Image.new("RGB", (5, 6)).save(folder / "train" / "ant" / "0000.png")

    monkeypatch.setattr(cache, "_decode_all", slow)
    with pytest.raises(ValueError, match="changed while they were read"):
        read_folders(folder)


def test_place_of_the_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("BENCHMARK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "classifier-heads-benchmark"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "classifier-heads-benchmark"


def test_the_cache_stays_bounded(tmp_path, grow, decoded, monkeypatch):
    """Of three sets of equal size two fit: the one used longest ago is decoded again."""
    folders = [tmp_path / name for name in ("a", "b", "c")]
    for seed, folder in enumerate(folders):
        grow(folder, (3,), (1,), ("ant",), size=(8, 8), seed=seed)
    monkeypatch.setattr(cache, "KEPT", 2 * 4 * 8 * 8 * 3)
    first, second = (read_folders(folder)[0].digest for folder in folders[:2])
    for age, path in enumerate(cache_folder().glob("*.images")):
        os.utime(path, (1000 - age, 1000 - age))
    assert read_folders(folders[0])[0].digest == first  # used now
    read_folders(folders[2])
    assert len(list(cache_folder().glob("*.images"))) == 2
    assert len(list(cache_folder().glob("*.json"))) == 2
    count = len(decoded)
    assert read_folders(folders[0])[0].digest == first and len(decoded) == count
    assert read_folders(folders[1])[0].digest == second and len(decoded) > count


def test_a_set_larger_than_the_cache_is_kept_alone(folder, monkeypatch):
    monkeypatch.setattr(cache, "KEPT", 1)
    read_folders(folder)
    assert len(list(cache_folder().glob("*.images"))) == 1
