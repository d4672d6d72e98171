"""Where a cell stands in mid-training: two generations, atomic, checksummed.

Randomness is addressed by epoch and step (streams.py), so no random state has to be kept: weights,
buffers, the optimiser's momenta, the losses of the epoch so far and the position are everything.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from benchmark.records.record import digest, write_whole

SCHEMA = 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """tensors by name, and a note of plain values: position, curves, readings."""

    tensors: Mapping[str, Tensor]
    note: Mapping[str, Any]


def write(folder: Path, key: str, checkpoint: Checkpoint) -> None:
    """Write the next generation; the one before stays until the write after this one."""
    generation = max((_generation(path) for path in _paths(folder)), default=0) + 1
    tensors = {
        name: value.detach().cpu().contiguous() for name, value in checkpoint.tensors.items()
    }
    packed = save(tensors, {"note": json.dumps(checkpoint.note)})
    head = json.dumps({"schema": SCHEMA, "key": key, "checksum": digest(packed)}).encode()
    write_whole(folder / f"checkpoint-{generation:06d}.safetensors", head + b"\n" + packed)
    for path in _paths(folder)[:-2]:
        path.unlink(missing_ok=True)


def read(folder: Path, key: str) -> Checkpoint | None:
    """The newest generation that is whole and belongs to this cell; None if there is none."""
    for path in reversed(_paths(folder)):
        head, _, packed = path.read_bytes().partition(b"\n")
        try:
            seal = json.loads(head)
        except ValueError:
            continue  # torn: the generation before it is whole
        if seal == {"schema": SCHEMA, "key": key, "checksum": digest(packed)}:
            size = int.from_bytes(packed[:8], "little")
            metadata = json.loads(packed[8 : 8 + size])["__metadata__"]
            return Checkpoint(load(packed), json.loads(metadata["note"]))
    return None


def clear(folder: Path) -> None:
    """Remove all generations: the cell is finished."""
    for path in _paths(folder):
        path.unlink(missing_ok=True)


def flatten(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The optimiser's tensors under flat names: 'optimizer.<parameter>.<name>'."""
    return {
        f"optimizer.{parameter}.{name}": value
        for parameter, values in optimizer.state_dict()["state"].items()
        for name, value in values.items()
        if isinstance(value, Tensor)
    }


def restore(optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `flatten` gave, laid out in memory as the parameters are.

    A step over two layouts takes another path through the arithmetic, and may end in other bits.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, position, entry = name.split(".", 2)
            like = parameters[int(position)]
            if value.shape == like.shape:
                value = torch.empty_like(like, dtype=value.dtype, device=value.device).copy_(value)
            state.setdefault(int(position), {})[entry] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})


def _paths(folder: Path) -> list[Path]:
    return sorted(folder.glob("checkpoint-*.safetensors"))


def _generation(path: Path) -> int:
    return int(path.stem.removeprefix("checkpoint-"))
