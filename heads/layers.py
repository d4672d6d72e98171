"""Layers of several heads: the projection to `dim`, and batch norm that bears a batch of one.

All initial values come from the generator that is passed in; the global random state is never
touched.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.checks import one_of


def linear(width: int, dim: int, generator: torch.Generator, *, bias: bool = True) -> nn.Linear:
    """nn.Linear with torch's default initial distribution, uniform on ±1/√width."""
    # On the meta device torch's own initialisation draws nothing.
    layer = nn.Linear(width, dim, bias=bias, device="meta").to_empty(device="cpu")
    for parameter in layer.parameters():
        nn.init.uniform_(parameter, -(width**-0.5), width**-0.5, generator=generator)
    return layer


def projection_to(
    dim: int | None, width: int, projection: str, generator: torch.Generator
) -> tuple[nn.Module, int]:
    """Layer from (batch, width) to (batch, dim), and that dim.

    dim None is the backbone's width. projection "needed": a linear layer with bias where dim
    differs from width, else none; "always": also where it equals it.
    """
    one_of("projection", projection, ("needed", "always"))
    dim = width if dim is None else dim
    if dim < 1:
        raise ValueError(f"dim must be positive, got {dim}. Give a length, or leave dim out.")
    if dim == width and projection == "needed":
        return nn.Identity(), dim
    return linear(width, dim, generator), dim


def normalise(norm: nn.Module, x: Tensor) -> Tensor:
    """Apply a batch norm to (batch, dim).

    A training batch of one has no spread: it is normalised by the running statistics.
    """
    if isinstance(norm, nn.BatchNorm1d) and norm.training and len(x) == 1:
        return functional.batch_norm(
            x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps
        )
    normalised: Tensor = norm(x)
    return normalised
