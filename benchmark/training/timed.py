"""Our loop with a stopwatch at its seams: `train` itself, nothing of it written twice.

next batch ─data─▶ mix ─data─▶ look ─backbone─▶ embed, loss ─head─▶ clear ─optimiser─▶
backward: head, backbone ─▶ step ─optimiser─▶ after_step ─head─▶ whoever listens ─tracking─▶
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from benchmark.planning.recipes import Recipe
from benchmark.training.stopwatch import Stopwatch
from benchmark.training.train import Batches, Stopped, Trunk, Watch, train
from heads.base import Head, Sweep


class Timed:
    """A training that starts afresh, but for its weights, at each call of `run`."""

    def __init__(
        self,
        look: Trunk,
        head: Head,
        batches: Batches,
        recipe: Recipe,
        *,
        sweep: Callable[[], Sweep] | None = None,
        pulse: Callable[[int, int], None] = lambda step, steps: None,
    ):
        """sweep, pulse: as `train` and its Watch have them."""
        self.look, self.head, self.batches, self.recipe = look, head, batches, recipe
        self.sweep, self.pulse = sweep, pulse

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """All that has weights or a state."""
        return self.look, self.head

    def run(self, steps: int, watch: Stopwatch) -> None:
        """Train so many steps, at most a whole training; time between them is tracking's."""
        taken = 0

        def pulse(step: int, total: int) -> None:
            nonlocal taken
            taken = step
            self.pulse(step, total)
            watch.lap("tracking")

        hear = Watch(pulse=pulse, stop=lambda: taken >= steps)
        with _seams(self.look, self.head, watch):
            try:
                train(
                    *(self.look, self.head, _Laps(self.batches, watch), self.recipe),
                    seed=0,
                    sweep=self.sweep,
                    watch=hear,
                )
            except Stopped:
                pass


class _Laps:
    """Batches that say when they are ready."""

    def __init__(self, batches: Batches, watch: Stopwatch):
        self.batches, self.watch = batches, watch

    @property
    def steps(self) -> int:
        return self.batches.steps

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        if not self.watch.steps:
            self.watch.start()
        for images, labels in self.batches.epoch(epoch, start):
            self.watch.lap("data")
            self.watch.step(len(labels))
            yield images, labels


@contextmanager
def _seams(look: Trunk, head: Head, watch: Stopwatch) -> Iterator[None]:
    """Inside, trunk, head and optimiser say when they begin and when they are done."""
    network = "head" if look.frozen else "backbone"  # a frozen one has no backward
    backward = False

    def begins(gradient: Tensor) -> None:
        nonlocal backward
        if not backward:  # under mixup there are two losses
            watch.lap("optimiser")
        backward = True

    def seen(module: nn.Module, images: Any, features: Tensor) -> None:
        nonlocal backward
        backward = False
        watch.lap("backbone")
        if features.requires_grad:
            features.register_hook(lambda gradient: watch.lap("head"))

    def timed(method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            found = method(*given)
            watch.lap("head")
            if method.__name__ == "loss":
                found.register_hook(begins)
            return found

        return call

    hooks = [
        look.register_forward_pre_hook(lambda module, images: watch.lap("data")),
        look.register_forward_hook(seen),
        register_optimizer_step_pre_hook(lambda *given: watch.lap(network)),
        register_optimizer_step_post_hook(lambda *given: watch.lap("optimiser")),
    ]
    for name in ("embed", "loss", "after_step"):
        setattr(head, name, timed(getattr(head, name)))
    try:
        yield
    finally:
        for name in ("embed", "loss", "after_step"):
            delattr(head, name)  # the method of the class shows again
        for hook in hooks:
            hook.remove()
