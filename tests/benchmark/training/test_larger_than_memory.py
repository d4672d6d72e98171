"""A data set that is decoded to more than a cell may take: it is streamed, in all that is done."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[3]
SIDE, EACH, CLASSES = 640, 30, 6  # 180 images to train on, 221 MB decoded
ROOM = 2**26  # bytes that a cell may take beyond what as many images of 32 pixels take; ours

CODE = """
import json, resource, sys
from pathlib import Path
import datasets.cache
from benchmark.planning.cell import Cell, Stage, freeze
from benchmark.planning.recipes import Recipe
from benchmark.training import runner
from benchmark.training.registry import registry
from benchmark.training.runner import Place, run

root, most, readers = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
datasets.cache.IN_MEMORY = most
runner.EVALUATION_BATCH = 30  # so that one batch is a small part of all images, as usual

def peak():
    who = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    return [resource.getrusage(each).ru_maxrss * 1024 for each in who]

def train(folder):
    recipe = Recipe(
        epochs=1, batch=32, lr=0.1, weight_decay=0.0, schedule="constant", precision="float32",
        augment="resized_crop_flip", size=16, resize=18, oracle=1, flip=True,
    ).pairs()
    data = freeze({"name": "image_folder", "folder": folder})
    backbone = freeze({"name": "small_cnn", "channels": 4})
    first = Stage("dnc", recipe=recipe)  # its sweep goes over all training images, every epoch
    place = Place(Path("runs"), root, registry(), readers=readers)
    for stages in ((first,), (first, Stage("ncm", frozen=True))):
        assert run(Cell(data, backbone, stages, 0), place) == "done"

train("small")
before = peak()
train("large")
print(json.dumps([after - own for after, own in zip(peak(), before)]))
"""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Class folders of equal images, small and large; one file each, under many names."""
    root = tmp_path_factory.mktemp("images")
    pixels = np.random.default_rng(0).integers(0, 256, (8, 8, 3), np.uint8)
    for name, side in (("small", 32), ("large", SIDE)):
        image = root / f"{name}.jpg"
        Image.fromarray(pixels).resize((side, side)).save(image, quality=50)
        for part, count in (("train", EACH), ("test", EACH // 5)):
            for label in range(CLASSES):
                place = root / name / part / f"class {label}"
                place.mkdir(parents=True)
                for k in range(count):
                    os.link(image, place / f"{k:04}.jpg")
    return root


def grown(folders, tmp_path, most, readers):
    """Bytes that the process and its readers take for large images, less those for small ones."""
    own = {"PYTHONPATH": str(ROOT), "BENCHMARK_CACHE": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CODE, str(folders), str(most), str(readers)]
    done = subprocess.run(
        command, env={**os.environ, **own}, cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.parametrize("readers", [0, 2])
def test_training_sweeps_and_evaluation_take_a_bounded_share(folders, tmp_path, readers):
    assert EACH * CLASSES * SIDE * SIDE * 3 > 3 * ROOM
    assert max(grown(folders, tmp_path, 0, readers)) < ROOM


@pytest.mark.long
def test_the_measure_sees_what_is_held_in_memory(folders, tmp_path):
    """The same, decoded once and kept: what all images take shows."""
    assert max(grown(folders, tmp_path, 2**40, 0)) > ROOM
