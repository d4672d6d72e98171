"""prototypes: estimate a set of points on the sphere, describe it, and save it."""

import os
import time
from pathlib import Path

from rich.console import Console

from benchmark.commands.display import duration
from benchmark.training.points import estimate, write_npy
from heads.geometry import description, optimum


def prototypes(classes: int, dim: int, objective: str, out: Path | None, console: Console) -> None:
    """Compute the points that heads of this size stand on, and say how they lie.

    out  file for numpy's format, one row per class, float32; None: describe only

    Raises ValueError for sizes that cannot be, and for a file that cannot be written.
    """
    if out is not None:
        _writable(out)
    began = time.perf_counter()
    points = estimate(classes, dim, objective)
    seconds = time.perf_counter() - began
    if out is not None:
        try:
            write_npy(points, out)
        except OSError as error:
            raise ValueError(_refusal(out, error.strerror or str(error))) from None
    lines = [f"{classes} points in dim {dim} · {objective} · {duration(seconds)}"]
    known, found = optimum(classes, dim), description(points)
    best = {"cosine_max": known.cosine_max, "uniformity": known.uniformity}
    for name, title in TITLES.items():
        line = f"{title:<26}{found[name]:>11.6f}"
        if best.get(name) is not None:
            line += f"   best possible {best[name]:.6f}"
        elif name == "cosine_max":
            line += f"   best possible not known, at least {known.bound:.6f}"
        lines.append(line)
    if out is not None:
        lines.append(f"saved to {out}")
    console.print("\n".join(lines), highlight=False, markup=False, soft_wrap=True)


TITLES = {
    "cosine_max": "largest cosine",
    "cosine_min": "smallest cosine",
    "cosine_mean": "mean cosine",
    "cosine_sd": "spread of cosines (sd)",
    "angle_mean": "mean angle, radians",
    "uniformity": "L_uni at t = 2",
}


def _writable(out: Path) -> None:
    """Refuse, before anything is computed, a file that cannot be written."""
    if out.is_dir():
        raise ValueError(_refusal(out, "it is a folder"))
    if not out.parent.is_dir():
        raise ValueError(_refusal(out, f"there is no folder {out.parent}"))
    if not os.access(out.parent, os.W_OK):
        raise ValueError(_refusal(out, f"no permission in {out.parent}"))


def _refusal(out: Path, reason: str) -> str:
    return f"cannot write to {out}: {reason}. Give a file in a folder that can be written to."
