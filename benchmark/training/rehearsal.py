"""A cell in rehearsal: real steps of its training, of which nothing is kept."""

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from benchmark.planning.cell import Cell
from benchmark.records.record import Record
from benchmark.training import compiling, memory
from benchmark.training.evaluate import see
from benchmark.training.runner import Ear, Place, _Job
from datasets.samplers import epoch_length

FORWARD = 1.0  # seconds of passes without gradient that are measured, at least one batch; ours
LIMIT = 100  # batches of them at most, for networks of which a pass takes no time


class Rehearsal:
    """A cell as `runner` builds it, with its checkpoints in a folder that goes with the pilot.

    Of the place it reads what finished cells left; it claims nothing and writes nothing there. It
    never compiles: that takes minutes, and pays over a whole training only.
    """

    def __init__(self, cell: Cell, place: Place, folder: Path):
        """folder: for whatever training writes. Raises what building the cell raises."""
        memory.keep()
        torch.set_num_threads(place.threads)
        record = Record(folder / cell.key)
        record.folder.mkdir(parents=True, exist_ok=True)
        place = replace(place, execution=compiling.EAGER)
        self._job = _Job(cell, place, record, ear=Ear(pulse=self._pulse, warn=lambda said: None))
        recipe = dict(cell.stages[-1].recipe)
        seen = epoch_length(self._job.material.counts, recipe.get("epoch_images", "natural"))
        self._steps = self._job.batches(self._job.protocol).steps
        self._images = seen / max(self._steps, 1)
        self._last: float | None = None
        self._hear: Callable[[float, float], None] = lambda seconds, images: None

    @property
    def operations(self) -> int:
        """Of one image forward, as its record would say."""
        return self._job.operations(torch.nn.Sequential(self._job.look, self._job.head))

    def forward(self) -> float:
        """Seconds that one image takes to be judged, data and head included."""
        job, images, began = self._job, 0, 0.0
        job.look.eval()
        job.head.eval()
        for nth, batch in enumerate(job.passes("train")()):
            see(job.look, job.head, [batch])
            self.settle()
            if nth == 0:  # warms up
                first, began = len(batch[1]), time.monotonic()
                continue
            images += len(batch[1])
            if nth == LIMIT or time.monotonic() - began > FORWARD:
                break
        if images:
            return (time.monotonic() - began) / images
        began = time.monotonic()  # all images are one batch
        see(job.look, job.head, [batch])
        self.settle()
        return (time.monotonic() - began) / first

    def train(self, hear: Callable[[float, float], None]) -> None:
        """Train, and train again, until `hear` raises.

        hear  called after each step with the seconds that it took and its images; 0 and 0 for the
              first of an epoch, which has to wait for what lies between two epochs
        """
        self._hear = hear
        while True:
            self._last = None
            self._job.train(None)

    def settle(self) -> None:
        """Wait until an accelerator has done what it was given."""
        if self._job.place.device.startswith("cuda"):
            torch.cuda.synchronize(self._job.place.device)

    def room(self) -> tuple[int, int]:
        """Bytes of an accelerator that are free, and that it has; 0 and 0 without one."""
        if self._job.place.device.startswith("cuda"):
            free, total = torch.cuda.mem_get_info(self._job.place.device)
            return int(free), int(total)
        return 0, 0

    def _pulse(self, step: int, steps: int) -> None:
        now = time.monotonic()
        within = self._steps == 1 or (step - 1) % self._steps != 0
        if self._last is None or not within:
            self._hear(0.0, 0.0)
        else:
            self._hear(now - self._last, self._images)
        self._last = time.monotonic()
