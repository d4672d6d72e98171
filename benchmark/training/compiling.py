"""Compiling a backbone: when it pays, where compiled code is kept, and what is never compiled.

    eager     every operation by itself
    compiled  the backbone's operations fused by torch.compile, for whole batches of training;
              the smaller last batch of an epoch and every evaluation go the eager way, so that a
              trained cell is judged by the very code that `benchmark.load` runs

Which of the two changes the last bits of a cell, and never its key. It is chosen once for a cell,
from its plan alone: not from a clock, which would choose otherwise on another day. A cell that is
gone on with goes on as it was begun.
"""

import logging
import os
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmark.training.fusing import backend

if TYPE_CHECKING:
    from benchmark.training.train import Trunk

EAGER, COMPILED = "eager", "compiled"
BREAK_EVEN = 1e14
"""Floating-point operations of a training from which on compiling pays.

Ours, see docs/speed.md: ResNet-32 takes a minute to compile where nothing is kept yet, and eager a
core with bf16 matrix units does 2e11 to 3e11 a second; this is a training of six to eight minutes,
of which compiling saves a third.
"""
PASSES = 3  # forward, and twice as much backward


class Unable(RuntimeError):
    """Nothing could be compiled here; the sentence says why."""


def pays(operations: int, images: int, device: str) -> bool:
    """Whether to compile: operations of one image forward, images that training will see.

    On the CPU only: nothing was measured elsewhere yet.
    """
    return device == "cpu" and PASSES * operations * images >= BREAK_EVEN


class Compiled:
    """A backbone that is compiled for batches of one size; a copy of it is not."""

    def __init__(self, backbone: nn.Module, batch: int):
        """batch: images at a time, all views together."""
        self.backbone, self.batch = backbone, batch
        # one graph without gaps, or an error: what is compiled by halves has other bits
        self.fused = torch.compile(backbone, backend=backend, fullgraph=True, dynamic=False)

    def __call__(self, images: Tensor) -> Tensor:
        """As the backbone itself."""
        training = self.backbone.training and torch.is_grad_enabled()
        if not training or len(images) != self.batch:
            return self.backbone(images)
        return self.fused(images.contiguous(memory_format=torch.channels_last))

    def __deepcopy__(self, memo: dict[int, object]) -> None:
        return None


def compile_trunk(look: "Trunk", shape: Sequence[int]) -> None:
    """Compile the backbone of a trunk, and try it forward and backward; nothing else changes.

    shape  of a batch, all views together: (batch, channels, height, width)

    Raises Unable: there is no compiler, no place for compiled code, or it went wrong.
    """
    device = next(look.parameters()).device
    images = torch.zeros(*shape, device=device).contiguous(memory_format=torch.channels_last)
    before = {name: value.clone() for name, value in look.state_dict().items()}
    look.compiled = Compiled(look.backbone, len(images))
    look.train()
    try:
        _keep_code()
        with torch.random.fork_rng([device] if device.type == "cuda" else []):
            # what an earlier cell left counts against a limit, behind which nothing is compiled
            torch.compiler.reset()
            look(images).sum().backward()
    except Exception as error:  # whatever a compiler says: there is another way
        look.compiled = None
        first = str(error).strip().partition("\n")[0][:200]
        raise Unable(f"{type(error).__name__}: {first}") from error
    finally:
        look.zero_grad(set_to_none=True)
        look.load_state_dict(before)


def _keep_code() -> None:
    """From here on inductor keeps its code in the user's own folder, and compiles in this process.

    It stays so: whatever else is compiled in this process must not go to a place of torch's choice.
    """
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(code_folder())
    os.environ["TORCHINDUCTOR_COMPILE_THREADS"] = "1"  # the other cores belong to other cells
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # that there is no GPU
    from torch._inductor import config

    config.compile_threads = 1


def code_folder() -> Path:
    """Where compiled code is kept for the next cell: the user's own, or new and for this time.

    What lies there is run, so that nobody else may write it, nor any folder above: torch's own
    choice, a name in /tmp that can be guessed, is not that.
    """
    own = os.environ.get("BENCHMARK_CACHE")
    base = Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    place = base / "classifier-heads-benchmark" / "compiled"
    try:
        place.mkdir(mode=0o700, parents=True, exist_ok=True)
        if private(place):
            return place
    except OSError:
        pass
    return _passing()


def private(place: Path) -> bool:
    """Whether nobody but this user, and root, can put something into a folder, or another there."""
    place = place.resolve()
    for folder in (place, *place.parents):
        found = folder.stat()
        open_to_others = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        sticky = found.st_mode & stat.S_ISVTX and folder != place  # others' entries stay theirs
        if found.st_uid not in (os.getuid(), 0) or (open_to_others and not sticky):
            return False
    return True


_made: list[tempfile.TemporaryDirectory[str]] = []


def _passing() -> Path:
    """A folder for this process alone, which goes when it ends."""
    if not _made:
        _made.append(tempfile.TemporaryDirectory(prefix="benchmark-compiled-"))
    return Path(_made[0].name)
