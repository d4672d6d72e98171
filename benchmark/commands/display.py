"""What a person sees while cells are trained: progress and time left; plain lines in a file."""

import time
from collections.abc import Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from benchmark.engines.local import Event
from benchmark.planning.plan import Item

LINE = 60.0  # seconds between two lines on where things stand, where the output is no terminal


class Display:
    """Follows a run.

    Time left is the work that remains over the rate seen so far in this run; work is counted in
    training images where that is known for all cells, else in cells.
    """

    def __init__(self, console: Console, items: Sequence[Item], jobs: int):
        """items: the cells that will be trained."""
        self.console, self.jobs = console, jobs
        self.weight = _weights(items)
        self.total = sum(self.weight.values())
        self.count = len(items)
        self.done = self.inherited = 0.0
        self.ended = 0
        self.share: dict[str, float] = {}
        self.labels: dict[str, str] = {}
        self.began = self.said = time.monotonic()
        self.bars: dict[str, TaskID] = {}
        self.live = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[note]}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.main = self.live.add_task("all cells", total=1.0, note="")

    def __enter__(self) -> "Display":
        """Start the live part."""
        self.live.start()
        return self

    def __exit__(self, *error: object) -> None:
        """Take the live part away."""
        self.live.stop()

    def hear(self, event: Event | None) -> None:
        """Take in what happened to a cell; None: time has passed."""
        if event is not None:
            getattr(self, f"_{event.kind}", self._end)(event)
        left = self.left()
        note = f"{self.ended}/{self.count} cells" + (f" · {left} left" if left else "")
        self.live.update(self.main, completed=self._fraction(), note=note)
        now = time.monotonic()
        if not self.console.is_terminal and now - self.said > LINE:
            self.said = now
            running = ", ".join(f"{self.labels[k]} {v:.0%}" for k, v in self.share.items())
            self.console.print(f"        {note} · {running}", highlight=False)

    def left(self) -> str:
        """Time left, for people; empty while nothing is known."""
        fraction = self._fraction()
        now = fraction - self.inherited / self.total if self.total else 0.0
        if now < 0.002:
            return ""
        return duration((time.monotonic() - self.began) * (1 - fraction) / now)

    def _fraction(self) -> float:
        running = sum(self.weight[key] * share for key, share in self.share.items())
        return min(1.0, (self.done + running) / self.total) if self.total else 1.0

    def _started(self, event: Event) -> None:
        key = event.cell.key
        if key in self.bars:  # a second try
            self.live.remove_task(self.bars.pop(key))
        self.share[key] = 0.0
        self.labels[key] = event.cell.label
        self.bars[key] = self.live.add_task(event.cell.label, total=1.0, note="")

    def _pulse(self, event: Event) -> None:
        key, values = event.cell.key, event.values
        share = values["step"] / values["steps"]
        if self.share[key] == 0.0:  # where it goes on from: an earlier run did that work
            self.inherited += self.weight[key] * share
        self.share[key] = share
        self.live.update(self.bars[key], completed=self.share[key], note=f"step {values['step']}")

    def _end(self, event: Event) -> None:
        key, values = event.cell.key, event.values
        self.share.pop(key, None)
        if key in self.bars:
            self.live.remove_task(self.bars.pop(key))
        self.done += self.weight.get(key, 0.0)
        self.ended += 1
        self.said = time.monotonic()
        detail = values.get("reason") or values.get("note") or ""
        if "seconds" in values:
            detail = " · ".join(filter(None, [detail, duration(values["seconds"])]))
        if "elsewhere" in values:
            detail = " · ".join(filter(None, [detail, "by another process"]))
        left = self.left()
        tail = f" · {left} left" if left and self.ended < self.count else ""
        count = f"{self.ended:>{len(str(self.count))}}/{self.count}"
        self.console.print(
            f"{count} {event.kind:<8} {event.cell.label} · {detail}{tail}",
            highlight=False,
            markup=False,
        )


def duration(seconds: float) -> str:
    """'3.1 s', '12 min', '5.2 h'."""
    if seconds < 90:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _weights(items: Sequence[Item]) -> dict[str, float]:
    """Work of each cell: images that it will see, where that is known for all, else its epochs."""
    trained = [item for item in items if item.cell.stages[-1].recipe]
    if all(item.images for item in trained):
        return {item.cell.key: float(item.images or 1) for item in items}
    return {item.cell.key: float(_epochs(item) or 1) for item in items}


def _epochs(item: Item) -> int:
    return int(dict(item.cell.stages[-1].recipe).get("epochs", 0))
