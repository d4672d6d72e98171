"""Batch norm in few passes over memory, for compiled backbones.

On a CPU half of a step of ResNet-32 is reading and writing what lies between convolutions. So each
normalisation reads its input twice forward, and its input and the gradient twice backward.

    y = (x − μ) · w/σ + b,   μ = E x,   σ² = E x² − μ² + ε          Ioffe, Szegedy, arXiv:1502.03167
    ∂w = Σ g (x − μ)/σ,   ∂b = Σ g,   ∂x = w/σ · (g − ∂b/n − (x − μ)/σ · ∂w/n)

    g  gradient     n  values of a channel

Both sums of a direction are taken in one pass, in float32, of each image first: what is read again
for the next channels is near by then. x is moved by the running mean before it
is squared: E x² − μ² would lose digits where a mean is large. Mean and σ stay float32 until the
backward, where torch's own decomposition rounds them to the input's precision.
"""

from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional


def backend(graph: fx.GraphModule, inputs: list[Tensor]) -> Any:
    """Compile with inductor, after batch norm is written in our way; for `torch.compile`."""
    from torch._inductor.compile_fx import compile_fx

    return compile_fx(fused(graph), inputs)


def fused(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph with `normalised` in place of every batch norm of images in training."""
    for node in list(graph.graph.nodes):
        if node.target is functional.batch_norm and _plain(node):
            x, mean, var, weight, bias, _, momentum, eps = node.args
            with graph.graph.inserting_before(node):
                given = (x, mean, var, weight, bias, momentum, eps)
                made = graph.graph.call_function(normalised, given)
            made.meta = dict(node.meta)
            node.replace_all_uses_with(made)
            graph.graph.erase_node(node)
    graph.recompile()
    return graph


def normalised(
    x: Tensor, mean: Tensor, var: Tensor, weight: Tensor, bias: Tensor, momentum: float, eps: float
) -> Tensor:
    """Batch norm in training, (batch, channels, height, width); mean and var run on."""
    y, own, spread = _Norm.apply(x, mean.clone(), weight, bias, eps)
    count = x.numel() // x.shape[1]
    with torch.no_grad():
        mean.lerp_(own, momentum)
        var.lerp_(spread * (count / max(count - 1, 1)), momentum)
    return y


class _Norm(torch.autograd.Function):
    @staticmethod
    def forward(
        context: Any, x: Tensor, near: Tensor, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Near: any value of each channel near its mean. Gives y, μ and σ² − ε."""
        each = x.shape[1] / x.numel()  # a factor: a division would be done for every pixel
        wide = _wide(x) - _channel(near)
        away = wide.sum((2, 3)).sum(0) * each
        spread = ((wide * wide).sum((2, 3)).sum(0) * each - away * away).clamp_min(0)
        mean = near + away
        inverse = (spread + eps).rsqrt()
        scale = weight * inverse
        y = _wide(x) * _channel(scale) + _channel(bias - mean * scale)
        context.save_for_backward(x, weight, mean, inverse)
        context.mark_non_differentiable(mean, spread)
        return y.to(x.dtype), mean, spread

    @staticmethod
    def backward(context: Any, gradient: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = context.saved_tensors
        each = x.shape[1] / x.numel()
        wide, g = _wide(x), _wide(gradient)
        total = g.sum((2, 3)).sum(0)
        along = (g * (wide - _channel(mean))).sum((2, 3)).sum(0) * inverse
        scale = weight * inverse
        slope = scale * inverse * along * each
        level = slope * mean - scale * total * each
        back = g * _channel(scale) - wide * _channel(slope) + _channel(level)
        return back.to(x.dtype), None, along, total, None


def _wide(x: Tensor) -> Tensor:
    """At least float32."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def _channel(values: Tensor) -> Tensor:
    """(channels,) beside (batch, channels, height, width)."""
    return values[:, None, None]


def _plain(node: fx.Node) -> bool:
    """Whether it is batch norm of images, in training, with weights and running statistics."""
    if node.kwargs or len(node.args) != 8:
        return False
    x, *tensors, training, momentum, _ = node.args
    value = x.meta.get("example_value") if isinstance(x, fx.Node) else None
    there = all(isinstance(each, fx.Node) for each in tensors)
    return there and training is True and momentum is not None and getattr(value, "ndim", 0) == 4
