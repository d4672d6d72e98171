"""Initial weights, drawn from a given generator and from nothing else.

PyTorch's layers draw their first weights from the global generator as they are built. So a backbone
is built on the meta device, which draws nothing, and then every weight is set by a named rule.

    kaiming_fan_in    N(0, √(2 / (k² · in)))    He et al., arXiv:1502.01852, eq. 10
    kaiming_fan_out   N(0, √(2 / (k² · out)))   ibid., eq. 14
"""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Generator, Tensor, nn

Model = TypeVar("Model", bound=nn.Module)


def on_meta() -> torch.device:
    """The device for building modules without weights and without randomness."""
    return torch.device("meta")


def kaiming_fan_in(weight: Tensor, generator: Generator) -> None:
    """Keeps the variance of activations; nn.init.kaiming_normal_'s default."""
    nn.init.kaiming_normal_(weight, mode="fan_in", nonlinearity="relu", generator=generator)


def kaiming_fan_out(weight: Tensor, generator: Generator) -> None:
    """Keeps the variance of gradients."""
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu", generator=generator)


def materialise(
    model: Model, convolution: Callable[[Tensor, Generator], None], generator: Generator
) -> Model:
    """Give a model from the meta device its weights, on the CPU, in the order of its modules.

    Convolutions by the rule given, batch norm by PyTorch's defaults (weight 1, bias 0).
    """
    model.to_empty(device="cpu")
    for module in model.modules():
        match module:
            case nn.Conv2d(bias=None):
                convolution(module.weight, generator)
            case nn.BatchNorm2d():
                module.reset_parameters()
            case _ if next(module.parameters(recurse=False), None) is not None:
                raise TypeError(f"no rule for the initial weights of {module}; add one here")
    return model
