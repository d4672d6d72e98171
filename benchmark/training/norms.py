"""Batch norm over the images of all processes that train a cell together, on CPU and GPU.

    μ = Σ nᵢ μᵢ / n,   σ² = Σ nᵢ (σᵢ² + (μᵢ − μ)²) / n + ε,   y = (x − μ) · w/σ + b
    ∂x = w/σ · (g − Σ g / n − (x − μ)/σ² · Σ g (x − μ) / n)    Ioffe, Szegedy, arXiv:1502.03167

    i  process, with nᵢ values of a channel, of mean μᵢ and variance σᵢ²     n  all of them
    g  gradient; its sums are over all processes

torch's own SyncBatchNorm is for GPUs only, and what is trained on two machines must be tested on
one. Here the statistics of the processes are put together as there: no digits are lost where a mean
is large beside its spread. Sums are in float32 at least.
"""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

if TYPE_CHECKING:
    from benchmark.training.team import Team


class WholeNorm(_BatchNorm):
    """In place of a batch norm, with its parameters and buffers: the same, but for whose images.

    In training, while a batch is shared, statistics are those of the whole batch; else its own.
    """

    def __init__(self, own: _BatchNorm, team: "Team"):
        """own: what it stands for."""
        super().__init__(own.num_features, own.eps, own.momentum, device="meta")
        self.weight, self.bias = own.weight, own.bias
        for name, value in own.named_buffers():
            self.register_buffer(name, value)
        self.training = own.training
        self.team = team

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of axes from two on, channels second."""

    def forward(self, input: Tensor) -> Tensor:
        """(batch, channels, …), the same shape."""
        if not (self.training and self.team.rows):
            return super().forward(input)
        y, mean, spread, count = _Norm.apply(input, self.weight, self.bias, self.eps)
        with torch.no_grad():
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
            unbiased = spread * (count / (count - 1).clamp_min(1))
            self.running_var.lerp_(unbiased.to(self.running_var), self.momentum)
        return y


def widen(module: nn.Module, team: "Team") -> None:
    """Put a WholeNorm in place of each batch norm within a module; names stay as they are.

    Raises ValueError: one of another kind than torch's usual.
    """
    for name, child in module.named_children():
        if not isinstance(child, _BatchNorm):
            widen(child, team)
        elif isinstance(child, WholeNorm):
            child.team = team
        elif child.affine and child.track_running_stats and child.momentum is not None:
            setattr(module, name, WholeNorm(child, team))
        else:
            raise ValueError(
                f"the backbone's {child} has no form for several processes. Train it in one."
            )


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Gives y, μ, σ² − ε and n."""
        wide = _wide(x)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        spread, mean = torch.var_mean(wide, axes, correction=0)
        count = mean.new_tensor([x.numel() // x.shape[1]])
        mine = torch.cat([mean, spread, count])
        found = [torch.empty_like(mine) for _ in range(distributed.get_world_size())]
        distributed.all_gather(found, mine)
        means, spreads, counts = torch.stack(found).split([len(mean), len(mean), 1], 1)
        total = counts.sum()
        share = counts / total
        mean = (share * means).sum(0)
        spread = (share * (spreads + (means - mean) ** 2)).sum(0)
        inverse = (spread + eps).rsqrt()
        context.save_for_backward(x, weight, mean, inverse, total)
        context.mark_non_differentiable(mean, spread, total)
        scale = weight * inverse
        y = (wide - _channel(mean, x)) * _channel(scale, x) + _channel(bias, x)
        return y.to(x.dtype), mean, spread, total

    @staticmethod
    @once_differentiable
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse, total = context.saved_tensors
        axes = [axis for axis in range(x.dim()) if axis != 1]
        g = _wide(gradients[0])
        away = _wide(x) - _channel(mean, x)
        own = torch.stack([g.sum(axes), (g * away).sum(axes) * inverse])
        dx = None
        if context.needs_input_grad[0]:
            sums = own.clone()
            distributed.all_reduce(sums)
            level, along = sums / total
            back = g - _channel(level, x) - away * _channel(along * inverse, x)
            dx = (back * _channel(weight * inverse, x)).to(x.dtype)
        # of this process's images: weights' gradients are averaged with all the others
        return dx, own[1].to(weight.dtype), own[0].to(weight.dtype), None


def _wide(x: Tensor) -> Tensor:
    """At least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _channel(values: Tensor, like: Tensor) -> Tensor:
    """(channels,) beside (batch, channels, …)."""
    return values.view(-1, *[1] * (like.dim() - 2))
