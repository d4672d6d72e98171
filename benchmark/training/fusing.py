"""What lies between convolutions in few passes over memory, for compiled backbones on a CPU.

A third of a step of ResNet-32 is reading and writing what lies between convolutions. So each
normalisation reads its input twice forward, and its input and the gradient twice backward.

    y = (x − μ) · w/σ + b,   μ = E x,   σ² = E x² − μ² + ε          Ioffe, Szegedy, arXiv:1502.03167
    ∂w = Σ g (x − μ)/σ,   ∂b = Σ g,   ∂x = w/σ · (g − ∂b/n − (x − μ)/σ · ∂w/n)

    g  gradient     n  values of a channel

Both sums of a direction are taken in one pass, in float32, of each image first: what is read again
for the next channels is near by then. x is moved by the running mean before it
is squared: E x² − μ² would lose digits where a mean is large. Mean and σ stay float32 until the
backward, where torch's own decomposition rounds them to the input's precision. What a pass needs
of a channel is written down before it, in one table: else it is worked out for every pixel.

And the compiler is told to ask memory in time: what these passes read has left the caches, and a
core looks ahead no further than a few hundred instructions, so they would wait for most of it.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

from benchmark.training.narrow import convolved, gives_narrow

REREAD = 2
"""What is used more than once is written down if it takes more than so many reads; torch's own: 4.

Ours, see docs/speed.md: so is the gradient behind the sum of a block, once instead of three times.
"""

AHEAD = "-fprefetch-loop-arrays --param simultaneous-prefetches=100 --param prefetch-latency=800"
"""g++'s flags: what a loop reads is fetched 800 instructions ahead, for all that it reads.

Ours, see docs/speed.md. g++'s own: 200 instructions, for six at most of what a loop reads.
"""


def backend(graph: fx.GraphModule, inputs: list[Tensor]) -> Any:
    """Compile with inductor, on a CPU what `fused` makes of a graph; for `torch.compile`."""
    from torch._inductor.compile_fx import compile_fx

    if any(isinstance(each, Tensor) and each.device.type != "cpu" for each in inputs):
        return compile_fx(graph, inputs)
    return compile_fx(fused(graph), inputs, config_patches=options())


def options() -> dict[str, Any]:
    """Inductor's settings for a CPU."""
    from torch._inductor import config

    found = config.cpp.cxx
    compilers = found if isinstance(found, list | tuple) else (found,)
    # then as it was: older torch takes no flags beside a compiler's name
    ahead = [f"{each} {AHEAD}" for each in compilers if each and Path(each).name.startswith("g++")]
    return {"realize_reads_threshold": REREAD, "cpp.cxx": (*ahead, *compilers)}


def fused(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph with our way in place of every batch norm of images in training, and more.

    `rectified` in place of every ReLU that feeds no convolution, `narrow.convolved` in place of
    every convolution that gives narrow images.
    """
    for node in list(graph.graph.nodes):
        if node.target is functional.batch_norm and _plain(node):
            x, mean, var, weight, bias, _, momentum, eps = node.args
            _put(graph, node, normalised, (x, mean, var, weight, bias, momentum, eps))
        elif node.target is functional.relu and _forgotten(node):
            _put(graph, node, rectified, node.args[:1])
        elif gives_narrow(node):
            x, weight, _, stride, padding, *_ = node.args
            _put(graph, node, convolved, (x, weight, stride[1], padding[1]))
    graph.recompile()
    return graph


def rectified(x: Tensor) -> Tensor:
    """max(x, 0), which for its backward keeps what it gave.

    A convolution keeps its input by itself. Behind any other ReLU torch would keep a mask of
    bools, and to read it takes longer than all else in its pass.
    """
    return _Rectified.apply(x)


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
        moved = x - _channel(near)  # float32, as all that meets a value of a channel
        away = _total(moved) * each
        spread = (_total(moved * moved) * each - away * away).clamp_min(0)
        mean = near + away
        inverse = (spread + eps).rsqrt()
        scale, shift = _table(weight * inverse, bias - mean * weight * inverse)
        y = x * _channel(scale) + _channel(shift)
        context.save_for_backward(x, weight, mean, inverse)
        context.mark_non_differentiable(mean, spread)
        return y.to(x.dtype), mean, spread

    @staticmethod
    def backward(context: Any, gradient: Tensor, *others: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse = context.saved_tensors
        each = x.shape[1] / x.numel()
        total = _total(gradient)
        along = _total(gradient * (x - _channel(mean))) * inverse
        scale = weight * inverse
        slope = scale * inverse * along * each
        level = slope * mean - scale * total * each
        scale, slope, level = _table(scale, slope, level)
        back = gradient * _channel(scale) - x * _channel(slope) + _channel(level)
        return back.to(x.dtype), None, along, total, None


class _Rectified(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        y = x.clamp_min(0)
        context.save_for_backward(y)
        return y

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (y,) = context.saved_tensors
        return gradient * y.sign()


def _total(x: Tensor) -> Tensor:
    """(batch, channels, height, width) to (channels,), in at least float32, of each image first."""
    wide = torch.promote_types(x.dtype, torch.float32)
    return x.sum((2, 3), dtype=wide).sum(0)


def _table(*values: Tensor) -> tuple[Tensor, ...]:
    """The same, each (channels,); compiled, they are worked out once and written down."""
    return torch.stack(values).unbind()


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


def _forgotten(node: fx.Node) -> bool:
    """Whether a ReLU feeds no convolution, and what it was given is used nowhere else."""
    given = node.args[0]
    alone = isinstance(given, fx.Node) and len(given.users) == 1  # it may be changed in place
    return alone and not any(each.target is torch.conv2d for each in node.users)


def _put(graph: fx.GraphModule, node: fx.Node, function: Callable[..., Tensor], given: Any) -> None:
    """Another function in place of a node."""
    with graph.graph.inserting_before(node):
        made = graph.graph.call_function(function, given)
    made.meta = dict(node.meta)
    node.replace_all_uses_with(made)
    graph.graph.erase_node(node)
