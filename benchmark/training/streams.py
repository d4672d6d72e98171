"""Randomness is addressed, not consumed: the only place where training's randomness begins.

Two heads at one seed see the same initial backbone and the same batches, so their differences are
paired; and any step can be redone alone, so that nothing about randomness has to be kept in order
to resume.
"""

import hashlib
from collections.abc import Mapping

import numpy as np
import torch

STREAMS = ("backbone", "head", "order", "augment")


def address(seed: int | Mapping[str, int], stream: str, *rest: int | str) -> int:
    """Integer in [0, 2^63) that stands for this seed at this address."""
    own = seed if isinstance(seed, int) else seed[stream]
    text = "/".join(str(part) for part in (own, stream, *rest))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stream(seed: int | Mapping[str, int], name: str, *rest: int | str) -> torch.Generator:
    """A fresh CPU generator for one address.

    seed  an int, or one int for each of backbone, head, order, augment
    name  which of the four
    rest  where within it: stage, epoch, step
    """
    return torch.Generator().manual_seed(address(seed, name, *rest))


def beta(alpha: float, seed: int | Mapping[str, int], name: str, *rest: int | str) -> float:
    """One draw from Beta(alpha, alpha) at an address, for mixup."""
    return float(np.random.default_rng(address(seed, name, *rest)).beta(alpha, alpha))
