import numpy as np
import pytest
import torch
from PIL import Image


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    """No test reads or writes the user's cache."""
    place = tmp_path / "cache"
    monkeypatch.setenv("BENCHMARK_CACHE", str(place))
    return place


@pytest.fixture
def grow():
    """Makes class folders with random images, and returns their pixels."""

    def make(folder, train, test, names, size=(32, 32), suffix="png", seed=0):
        random = np.random.default_rng(seed)
        pixels = {}
        for split, counts in (("train", train), ("test", test)):
            for name, count in zip(names, counts, strict=True):
                place = folder / split / name
                place.mkdir(parents=True, exist_ok=True)
                for k in range(count):
                    image = random.integers(0, 256, (*size, 3), dtype=np.uint8)
                    Image.fromarray(image).save(place / f"{k:04}.{suffix}")
                    pixels[split, name, k] = image
        return pixels

    return make
