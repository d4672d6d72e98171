"""Images read and changed one by one, step after step, by worker processes where there are any.

A task is a step's indices and, in training, a seed for each image and view. Whoever does it, the
images are the same: the number of workers is of no account. Each worker has two tasks ahead and no
more, so that 2 · workers + 1 batches of bytes exist at a time, however large the data set is.
"""

import multiprocessing
import warnings
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from datasets.augment import Augment, fit
from datasets.base import Files
from datasets.folders import decode

Task = tuple[np.ndarray, np.ndarray | None]  # indices (batch,), seeds (views, batch)
AHEAD = 2  # tasks that a worker takes on at a time; torch's default


def fetched(
    images: Tensor | Files,
    tasks: Iterable[Task],
    *,
    size: tuple[int, int],
    resize: int,
    changes: Sequence[Augment] = (),
    workers: int = 0,
    pin: bool = False,
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each task the images, views · batch of them as bytes, and their boxes to erase.

    changes  of training, one for each view; none, evaluation: `fit` to size and resize
    workers  processes; 0: this one, and so wherever a process may have no children
    pin      for a fast way to an accelerator
    """
    reader = _Reader(images, size, resize, changes)
    if workers < 1 or multiprocessing.current_process().daemon:
        found: Iterable[tuple[Tensor, Tensor] | Exception] = map(reader.__getitem__, tasks)
    else:
        found = DataLoader(
            reader,
            batch_size=None,  # a task is a whole step
            sampler=tasks,
            num_workers=workers,
            prefetch_factor=AHEAD,
            collate_fn=_as_it_is,
            pin_memory=pin,
            generator=torch.Generator(),  # else it would draw from the global one
        )
    with warnings.catch_warnings():
        # workers only decode; nothing in them waits for a thread that was not forked
        warnings.filterwarnings("ignore", "This process .* is multi-threaded", DeprecationWarning)
        running = iter(found)
    for answer in running:
        if isinstance(answer, Exception):
            raise answer
        yield answer


class _Reader(Dataset):
    def __init__(
        self,
        images: Tensor | Files,
        size: tuple[int, int],
        resize: int,
        changes: Sequence[Augment],
    ) -> None:
        self.images, self.size, self.resize, self.changes = images, size, resize, changes

    def __getitem__(self, task: Task) -> tuple[Tensor, Tensor] | Exception:
        """A sentence from a worker comes as a value: raised there, it would be a page."""
        indices, seeds = task
        try:
            if seeds is None:
                plain = [self.fitted(int(index)) for index in indices]
                return torch.stack(plain), torch.zeros(len(plain), 4, dtype=torch.int64)
            views = []
            for index, own in zip(indices, seeds.T, strict=True):  # decoded once for all views
                image = self.read(int(index))
                drawn = zip(self.changes, own, strict=True)
                views.append([change(image, int(seed)) for change, seed in drawn])
        except (ValueError, OSError) as error:
            return error
        # all images of the first view, then all of the second
        flat = [own[view] for view in range(len(seeds)) for own in views]
        return torch.stack([image for image, _ in flat]), torch.stack([box for _, box in flat])

    def read(self, index: int) -> Tensor:
        """One image as found, (channels, height, width) bytes."""
        if isinstance(self.images, Tensor):
            return self.images[index]
        pixels = decode(self.images.path(index)).transpose(2, 0, 1)
        return torch.from_numpy(np.ascontiguousarray(pixels))

    def fitted(self, index: int) -> Tensor:
        """One image as evaluation sees it."""
        try:
            return fit(self.read(index), self.size, self.resize)
        except ValueError as error:
            if isinstance(self.images, Files) and self.images.path(index) not in str(error):
                raise ValueError(f"{self.images.path(index)}: {error}") from None
            raise


def _as_it_is(answer: object) -> object:
    return answer
