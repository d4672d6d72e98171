"""Sets of points on the sphere by (classes, dim, objective), computed once and kept.

House rule: heads do not compute points; they ask `problem.points(dim)`. A set is a pure function of
classes, dim, objective and one fixed seed, so that every cell of a comparison stands on the same
points; what differs between seeds is which class starts at which point.
"""

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import load, save
from torch import Tensor

from benchmark.records.record import digest, write_whole
from benchmark.training.streams import stream
from heads.checks import one_of
from heads.geometry import OBJECTIVES, spread_points

VERSION = 2  # raised when spread_points would give other points


def folder() -> Path:
    """Where points are kept: $BENCHMARK_CACHE, else the user's cache folder."""
    own = os.environ.get("BENCHMARK_CACHE")
    base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return base / "classifier-heads-benchmark" / "points"


def estimate(classes: int, dim: int, objective: str = "energy") -> Tensor:
    """The points of every cell, (classes, dim), float32, computed afresh.

    On one thread: with the number of threads the last bits change, and a search may then end in
    another minimum.
    """
    generator = stream(0, "head", "points", classes, dim, objective)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return spread_points(classes, dim, objective=objective, generator=generator)
    finally:
        torch.set_num_threads(threads)


def write_npy(points: Tensor, path: Path) -> None:
    """Write points in numpy's format, one row per class, whole or not at all."""
    packed = io.BytesIO()
    np.save(packed, points.numpy())
    write_whole(path, packed.getvalue())


def keeper(classes: int) -> Callable[..., Tensor]:
    """points(dim, objective="energy") -> (classes, dim), float32, for `Problem`."""

    def points(dim: int, objective: str = "energy") -> Tensor:
        path = folder() / f"{objective}-{classes}x{dim}-v{VERSION}.safetensors"
        kept = _read(path, (classes, dim))
        if kept is not None:
            return kept
        made = estimate(classes, dim, objective)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            packed = save({"points": made.numpy()})
            write_whole(path, digest(packed).encode() + packed)
        except OSError:
            pass  # a cache that cannot be written costs time, not results
        return made

    return points


def stand_in(classes: int) -> Callable[..., Tensor]:
    """Cheap unit vectors of the right shape, to see whether a head can be built at all."""

    def points(dim: int, objective: str = "energy") -> Tensor:
        one_of("objective", objective, OBJECTIVES)
        if dim < 1 or (dim == 1 and classes > 2):
            return spread_points(classes, dim, objective=objective, generator=torch.Generator())
        return torch.nn.functional.normalize(torch.ones(classes, dim), dim=1)

    return points


def _read(path: Path, shape: tuple[int, int]) -> Tensor | None:
    """Give the points in a file, None where there are none or the file is damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    seal, packed = content[:64], content[64:]
    if digest(packed).encode() != seal:
        return None
    kept = load(packed)["points"]
    return torch.from_numpy(np.array(kept)) if kept.shape == shape else None
