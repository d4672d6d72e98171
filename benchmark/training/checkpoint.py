"""Where a cell stands in mid-training: two generations, atomic, checksummed.

Randomness is addressed by epoch and step (streams.py), so no random state has to be kept: weights,
buffers, the optimiser's momenta, the losses of the epoch so far and the position are everything.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load, save
from torch import Tensor

from benchmark.records.faults import point
from benchmark.records.files import digest, remove, write_whole

SCHEMA = 2  # 2: what the last bits depend on is in the note


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
    point("checkpoint: before the oldest goes")
    for path in _paths(folder)[:-2]:
        remove(path)


def read(
    folder: Path, key: str, warn: Callable[[str], None] = lambda sentence: None
) -> Checkpoint | None:
    """The newest generation that is whole and belongs to this cell; None if there is none.

    warn  hears a sentence about each newer one that cannot be gone on with
    """
    for path in reversed(_paths(folder)):
        try:
            head, _, packed = path.read_bytes().partition(b"\n")
            seal = json.loads(head)
        except (OSError, ValueError, RecursionError) as error:
            warn(f"{path} cannot be read ({error}): what is older is gone on with")
            continue
        wanted = {"schema": SCHEMA, "key": key, "checksum": digest(packed)}
        if seal == wanted:
            size = int.from_bytes(packed[:8], "little")
            metadata = json.loads(packed[8 : 8 + size])["__metadata__"]
            return Checkpoint(load(packed), json.loads(metadata["note"]))
        warn(f"{path} {_strange(seal, wanted)}: what is older is gone on with")
    return None


def packed(checkpoint: Checkpoint | None, beside: Mapping[str, Any]) -> bytes:
    """A checkpoint, or that there is none, for another process; beside: plain values."""
    tensors, note = (checkpoint.tensors, checkpoint.note) if checkpoint else ({}, None)
    return save(dict(tensors), {"note": json.dumps(note), "beside": json.dumps(beside)})


def unpacked(told: bytes) -> tuple[Checkpoint | None, dict[str, Any]]:
    """What was packed."""
    size = int.from_bytes(told[:8], "little")
    metadata = json.loads(told[8 : 8 + size])["__metadata__"]
    note = json.loads(metadata["note"])
    found = None if note is None else Checkpoint(load(told), note)
    return found, json.loads(metadata["beside"])


def clear(folder: Path) -> None:
    """Remove all generations: the cell is finished."""
    for path in _paths(folder):
        remove(path)


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


def _strange(seal: Any, wanted: Mapping[str, Any]) -> str:
    """What is wrong with a head line that is not as it should be."""
    if not isinstance(seal, dict) or seal.keys() != wanted.keys():
        return "is damaged"
    if seal["schema"] != wanted["schema"]:
        return f"has schema {seal['schema']}, not {wanted['schema']}"
    if seal["key"] != wanted["key"]:
        return "is of another cell, or from before a change of its head or its data"
    return "is damaged"


def _paths(folder: Path) -> list[Path]:
    """All generations, oldest first; of a folder that bears such a name too."""
    found = folder.glob("checkpoint-*.safetensors")
    return sorted((path for path in found if _NAME.fullmatch(path.name)), key=_generation)


def _generation(path: Path) -> int:
    return int(path.stem.removeprefix("checkpoint-"))


_NAME = re.compile(r"checkpoint-\d+\.safetensors")
