"""Which images an epoch shows, and in which order.

    instance         every image once
    class_balanced   one class after the other, in shuffled order, four images of each; an image
                     comes again once all of its class have come
    square_root      each time a class with probability √nₖ / Σⱼ √nⱼ, then any of its images

Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis. "Decoupling Representation and Classifier for
Long-Tailed Recognition." ICLR 2020, arXiv:1910.09217, eq. 1: pₖ ∝ nₖ^q with q = 1, 0 and ½. The
second is the class-aware sampler that they released and that Samuel, Chechik (DRO-LT) and Sharma
et al. (prototype classifiers) took over. How long an epoch is must be said with it:

    natural   Σₖ nₖ, as many images as there are: Kang et al., who break off after as many steps
    largest   K · maxₖ nₖ, as if all classes were as large as the largest: the other two

    K  classes with images    nₖ  counts[k]

Where we differ: an epoch begins with fresh shuffles of its own, so that it can be redone alone;
released code goes on with those of the epoch before, and draws the square root's images in turn.
"""

from collections.abc import Sequence
from math import ceil

import torch
from torch import Tensor

SAMPLERS = ("instance", "class_balanced", "square_root")
LENGTHS = ("natural", "largest")
IN_TURN = 4  # images of a class before the next: released configurations of cRT, DRO-LT and PC


def epoch_length(counts: Sequence[int], epoch_images: str) -> int:
    """Images in one epoch, by a named rule; counts (classes,) of the images that there are."""
    if epoch_images not in LENGTHS:
        raise ValueError(
            f"unknown length of an epoch {epoch_images!r}. Choose one of: {', '.join(LENGTHS)}."
        )
    if epoch_images == "natural":
        return sum(counts)
    return sum(n > 0 for n in counts) * max(counts, default=0)


class Sampler:
    """Which images of a split an epoch shows.

    labels        (n,) of the split
    kind          one of SAMPLERS
    epoch_images  one of LENGTHS
    """

    def __init__(
        self, labels: Tensor, kind: str = "instance", epoch_images: str = "natural"
    ) -> None:
        if kind not in SAMPLERS:
            raise ValueError(f"unknown sampler {kind!r}. Choose one of: {', '.join(SAMPLERS)}.")
        if kind == "instance" and epoch_images != "natural":
            raise ValueError(
                f"sampler 'instance' shows every image once, got epoch_images {epoch_images!r}. "
                f"Leave it out, or choose another sampler."
            )
        counts = torch.bincount(labels)
        self.kind = kind
        self._length = epoch_length(counts.tolist(), epoch_images)
        self._counts = counts[counts > 0]
        self._by_class = labels.argsort(stable=True).split(self._counts.tolist())

    def __len__(self) -> int:
        return self._length

    def epoch(self, generator: torch.Generator) -> Tensor:
        """Indices into the split, (len(self),), from a fresh CPU generator of the epoch's own."""
        if self.kind == "instance":
            return torch.randperm(self._length, generator=generator)
        if self.kind == "class_balanced":
            return self._in_turn(generator)
        return self._by_root(generator)

    def _in_turn(self, generator: torch.Generator) -> Tensor:
        turns = ceil(self._length / IN_TURN)
        order = _cycle(len(self._counts), turns, generator)  # the class of each turn
        each = torch.bincount(order, minlength=len(self._counts)).tolist()
        grouped = [
            own[_cycle(len(own), IN_TURN * count, generator)]
            for own, count in zip(self._by_class, each, strict=True)
        ]
        chosen = torch.empty(turns, IN_TURN, dtype=torch.int64)
        chosen[order.argsort(stable=True)] = torch.cat(grouped).reshape(turns, IN_TURN)
        return chosen.flatten()[: self._length]

    def _by_root(self, generator: torch.Generator) -> Tensor:
        def uniform() -> Tensor:
            return torch.rand(self._length, generator=generator, dtype=torch.float64)

        edges = self._counts.double().sqrt().cumsum(0)
        drawn = torch.searchsorted(edges, uniform() * edges[-1], right=True)
        drawn = drawn.clamp(max=len(edges) - 1)  # a product may be rounded up to the last edge
        starts = self._counts.cumsum(0) - self._counts
        within = (uniform() * self._counts[drawn]).long()
        return torch.cat(self._by_class)[starts[drawn] + within]


def _cycle(size: int, length: int, generator: torch.Generator) -> Tensor:
    """0 … size − 1 in shuffled order, shuffled anew whenever all have come; (length,)."""
    rounds = ceil(length / size)
    keys = torch.rand(rounds, size, generator=generator, dtype=torch.float64)
    return keys.argsort(dim=1).flatten()[:length]
