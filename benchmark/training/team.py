"""The processes that train one cell together: who has which images, and what all agree on.

    images of a batch ──slice──▶ backbone ──features──▶ gathered ──▶ head: loss, state, queues

All processes draw the same batches. Each takes its slice through the backbone, and what comes out
is gathered, with gradient: from there on each has the whole batch, and does what one process would
do alone. So no head knows that there are others. The gradients of the backbone are averaged by
DistributedDataParallel; those of what stands behind it are equal, and the first process's are taken
so that they are to the last bit.

`ALONE` is the team of one process, in which all of this is nothing.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from hashlib import blake2b
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from benchmark.training.norms import widen

SILENCE = timedelta(minutes=30)
"""How long processes wait for one of them.

Ours: it must bear the evaluation of a large data set by the first, and ends only what hangs; a
process that dies is noticed at once.
"""


class Apart(RuntimeError):
    """The processes of a team have come to different states, or one of them cannot go on."""


class Team:
    """One process among those that train a cell.

    rank, size  which of how many
    device      where its backbone is
    rows        images that each has of the batch that is being shared; empty outside of `share`
    """

    def __init__(self, rank: int = 0, size: int = 1, device: torch.device | None = None):
        """The process group of torch.distributed must be there, where size is not 1."""
        self.rank, self.size = rank, size
        self.device = device or torch.device("cpu")
        self.rows: tuple[int, ...] = ()

    def __deepcopy__(self, memo: dict[int, Any]) -> "Team":
        """A teacher is of the same team as the network of which it is a copy."""
        return self

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and speaks."""
        return self.rank == 0

    def part(self, count: int) -> slice:
        """Positions in a batch that are this process's: all of one that is too small to share."""
        if count < self.size:
            return slice(0, count)
        return slice(*(count * each // self.size for each in (self.rank, self.rank + 1)))

    @contextmanager
    def share(self, images: Tensor, count: int) -> Iterator[Tensor]:
        """Give the process's own images of a batch of so many; meanwhile features are gathered.

        images  of the whole batch, or of this process's part of it already; with views, these first
        """
        own = self.part(count)
        axis = 1 if images.dim() == 5 else 0
        if self.size > 1 and images.shape[axis] == count:
            images = images[:, own] if axis else images[own]
        if 1 < self.size <= count:
            ends = [count * each // self.size for each in range(self.size + 1)]
            self.rows = tuple(b - a for a, b in zip(ends, ends[1:], strict=False))
        try:
            yield images
        finally:
            self.rows = ()

    def whole(self, features: Tensor, views: int) -> Tensor:
        """Features of the whole batch from those of this process's images, view after view."""
        if not self.rows:
            return features
        gathered: Tensor = _Whole.apply(features.unflatten(0, (views, -1)), self.rows, self.rank)
        return gathered.flatten(0, 1)

    def address(self) -> tuple[int, ...]:
        """What a network's own draws are named by, beside the step: each has other images."""
        return (self.rank,) if self.rows else ()

    def join(self, backbone: nn.Module, images: Tensor) -> Callable[[Tensor], Tensor] | None:
        """Have the backbone's batch norm see whole batches, and its gradients be averaged.

        images  any of the size that it will see: two passes settle the order in which gradients are
                added up, so that it is one from the first step on, also where a cell goes on

        Gives how it is called in training; None where nothing is to be averaged.
        """
        if self.size == 1:
            return None
        widen(backbone, self)
        if not any(p.requires_grad for p in backbone.parameters()):
            return None
        return _Averaged(backbone, images)

    def level(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give all the first's gradients of what every process has computed alike."""
        if self.size == 1:
            return
        gradients = [p.grad for p in parameters if p.grad is not None]
        if not gradients:
            return
        flat = torch.cat([gradient.flatten() for gradient in gradients])
        distributed.broadcast(flat, 0)
        sizes = [gradient.numel() for gradient in gradients]
        for gradient, given in zip(gradients, flat.split(sizes), strict=True):
            gradient.copy_(given.view_as(gradient))

    def most(self, number: int) -> int:
        """The largest that any process gives."""
        if self.size == 1:
            return number
        found = torch.tensor(number)
        distributed.all_reduce(found, distributed.ReduceOp.MAX)
        return int(found)

    def given(self, data: bytes | None = None) -> bytes:
        """What the first process gives, for all."""
        if self.size == 1:
            return data or b""
        length = self.most(len(data or b""))
        sent = torch.frombuffer(bytearray(data or bytes(length)), dtype=torch.uint8)
        if length:
            distributed.broadcast(sent, 0)
        return sent.numpy().tobytes() if length else b""

    def same(self, parts: Mapping[str, nn.Module]) -> None:
        """Raise Apart unless parameters and buffers are the same to the last bit in all."""
        if self.size == 1:
            return
        for name, part in parts.items():
            mine = torch.tensor(_digest(part))
            found = [torch.empty_like(mine) for _ in range(self.size)]
            distributed.all_gather(found, mine)
            others = [rank for rank, other in enumerate(found) if not other.equal(found[0])]
            if others:
                raise Apart(
                    f"the processes of this cell no longer agree: {name.rstrip('.')!r} of process "
                    f"{others[0]} is not that of process 0. Train it on machines of one kind, or "
                    "in one process."
                )

    @contextmanager
    def alike(self) -> Iterator[None]:
        """What is done within succeeds in all processes, or fails in all: Apart where it did not.

        Nothing within may wait for the others.
        """
        fault: Exception | None = None
        try:
            yield
        except Exception as error:
            fault = error
        broken = self.most(self.size - self.rank if fault else 0)
        if fault:
            raise fault
        if broken:
            raise Apart(f"process {self.size - broken} of this cell could not begin it")


ALONE = Team()

# the older name is deprecated in torch 2.15, the newer is not in all that we allow
_NAMES = inspect.signature(DistributedDataParallel).parameters
_SYNC = next(name for name in ("forward_sync_buffers", "broadcast_buffers") if name in _NAMES)


class _Averaged:
    """A backbone whose gradients are averaged over all processes; a copy of it is not."""

    def __init__(self, backbone: nn.Module, images: Tensor):
        self.backbone = backbone
        self.parallel = DistributedDataParallel(
            backbone,
            device_ids=[images.device] if images.device.type == "cuda" else None,
            gradient_as_bucket_view=True,
            **{_SYNC: False},  # buffers: each process moves them alike
        )
        before = {name: value.clone() for name, value in backbone.state_dict().items()}
        device = [images.device] if images.device.type == "cuda" else []
        with torch.random.fork_rng(device):
            for _ in range(2):
                backbone.train()
                self.parallel(images).sum().backward()
        backbone.zero_grad(set_to_none=True)
        backbone.load_state_dict(before)

    def __call__(self, images: Tensor) -> Tensor:
        """As the backbone itself."""
        training = self.backbone.training and torch.is_grad_enabled()
        return (self.parallel if training else self.backbone)(images)

    def __deepcopy__(self, memo: dict[int, object]) -> None:
        return None


class _Whole(torch.autograd.Function):
    """Rows of all processes, (views, rows, …) -> (views, batch, …), and back.

    Each process computes the loss of the whole batch, so that the gradient of its own rows is
    complete; it is multiplied by the number of processes, for DistributedDataParallel divides.
    """

    @staticmethod
    def forward(context: Any, own: Tensor, rows: Sequence[int], rank: int) -> Tensor:
        context.rows, context.rank = rows, rank
        padded = own.new_zeros(own.shape[0], max(rows), *own.shape[2:])
        padded[:, : rows[rank]] = own
        found = [torch.empty_like(padded) for _ in rows]
        distributed.all_gather(found, padded)
        return torch.cat([each[:, :n] for each, n in zip(found, rows, strict=True)], 1)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        rows, rank = context.rows, context.rank
        start = sum(rows[:rank])
        return gradients[0][:, start : start + rows[rank]] * len(rows), None, None


def _digest(part: nn.Module) -> int:
    """Of all parameters and buffers, in 63 bits."""
    found = blake2b(digest_size=8)
    for name, value in part.state_dict().items():
        found.update(name.encode())
        found.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return int.from_bytes(found.digest(), "little") >> 1
