"""Where the time of a training loop goes: every moment of a step belongs to one part."""

import time

import torch

PARTS = ("data", "backbone", "head", "optimiser", "tracking")


class Stopwatch:
    """Seconds of each part, from `start` to the last `lap`.

    data       images to the device, augmentation and mixing
    backbone   forward and backward
    head       embedding, loss, backward through both, and what follows a step
    optimiser  the step, the rate, clearing gradients, looking at the loss
    tracking   whoever listens

    `busy` are the seconds that all cores together worked for this process meanwhile: where other
    work takes turns with it, they are fewer than `total`, and the same as on a machine at rest.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        """device: an accelerator is waited for at each lap, which slows it down."""
        self.device = torch.device(device)
        self.seconds = dict.fromkeys(PARTS, 0.0)
        self.steps = self.images = 0
        self.last = self.worked = self.busy = 0.0

    def start(self) -> None:
        """What went before is nobody's time."""
        self.last = self._now()
        self.worked = time.process_time()

    def lap(self, part: str) -> None:
        """The time since the last lap was spent on this part."""
        now = self._now()
        self.seconds[part] += now - self.last
        self.last = now
        worked = time.process_time()
        self.busy += worked - self.worked
        self.worked = worked

    def step(self, images: int) -> None:
        """A step is over that saw so many images."""
        self.steps += 1
        self.images += images

    @property
    def total(self) -> float:
        """Seconds of all parts."""
        return sum(self.seconds.values())

    @property
    def rate(self) -> float:
        """Images per second of the clock."""
        return self.images / self.total

    @property
    def effort(self) -> float:
        """Images per second of work."""
        return self.images / self.busy

    def share(self, part: str) -> float:
        """Of all the time."""
        return self.seconds[part] / self.total

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()
