"""Points around directions: as many classes as you like, made on the spot.

For geometry and timing, where the images are of no account: 10,000 classes take a second. Class k
is a direction drawn once and for all, uniform on the sphere of 64 dimensions; its images are that
direction with Gaussian noise, written as bytes. The first hundred classes of ten thousand are the
hundred of a hundred, their images too.
"""

from pathlib import Path
from typing import final

import numpy as np
import torch

from datasets.base import Dataset, Images, Progress, Split, fingerprint, no_folder

# all ours, never to be changed: they decide what the images are
DIM = 64
TRAIN_IMAGES = 4  # of each class
TEST_IMAGES = 1
NOISE = 0.5  # length of the noise; a sample has a cosine of .89 with its direction
SEED = 0


@final
class Sphere(Dataset):
    """Noisy samples of random directions; the option `classes` says of how many."""

    name = "sphere"
    title = "Points around directions"
    source = "synthetic; ours"
    largest = TRAIN_IMAGES
    mean = (128 / 255,)  # zero is written as 128
    std = (32 / 255,)  # and a coordinate's root mean square, 1/8, as 32
    shape = (1, 1, DIM)

    def names(
        self, root: Path, folder: str | None = None, classes: int | None = None
    ) -> tuple[str, ...]:
        """direction_0, direction_1 and so on."""
        return tuple(f"direction_{k}" for k in range(_whole(classes)))

    def find(self, root: Path, folder: str | None = None, classes: int | None = None) -> Path:
        """The root, whatever it is: nothing lies there."""
        no_folder(self.name, folder)
        _whole(classes)
        return Path(root)

    def read(
        self,
        root: Path,
        folder: str | None = None,
        classes: int | None = None,
        *,
        download: bool = False,
        progress: Progress | None = None,
    ) -> Images:
        """Four images of each class for training and one for the test."""
        self.find(root, folder, classes)
        count = _whole(classes)
        directions = np.random.default_rng((SEED, 0)).standard_normal((count, 1, DIM))
        directions /= np.linalg.norm(directions, axis=-1, keepdims=True)
        shape = (count, TRAIN_IMAGES + TEST_IMAGES, DIM)
        noise = np.random.default_rng((SEED, 1)).standard_normal(shape) / np.sqrt(DIM)
        samples = directions + NOISE * noise
        samples /= np.linalg.norm(samples, axis=-1, keepdims=True)
        # 32 · 8 levels to one: beyond 4 deviations a coordinate is cut off
        levels = np.clip(np.rint(128 + 256 * samples), 0, 255).astype(np.uint8)
        train, test = (
            Split(
                torch.from_numpy(part.reshape(-1, 1, 1, DIM)),
                torch.arange(count).repeat_interleave(part.shape[1]),
            )
            for part in np.split(levels, [TRAIN_IMAGES], axis=1)
        )
        return Images(train, test, fingerprint(train, test))


def _whole(classes: int | None) -> int:
    if not isinstance(classes, int) or isinstance(classes, bool) or classes < 2:
        raise ValueError(
            f"sphere needs the option `classes`, a whole number of at least 2, got {classes!r}. "
            f"Set it, for instance to 100."
        )
    return classes
