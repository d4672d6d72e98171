"""Convolutions of narrow images: the gradient of their weights, several images side by side.

    ∂W[o, i, a, b] = Σ g[n, o, y, x] · image[n, i, s·y + a − p, s·x + b − p]

    n  image of a batch     s  stride     p  padding     g  gradient of what the convolution gave

oneDNN goes through this sum a row of one image at a time, and a CPU's matrix units take 32 values
of bf16 at once: of a row of 8 three quarters are filling, of a row of 4 seven eighths. So images
are laid side by side, with zeros between them. Between two images the zeros are what padding was
to each, and where g is zero whatever the kernel sees there does not count: the same sum.
"""

import math
from typing import Any

import torch
from torch import Tensor, fx
from torch.nn import functional

ROW = 32  # values of bf16 in a row of a tile: Intel, AMX
NARROW = 8  # pixels of a row up to which this pays; ours, see docs/speed.md: at 12 it did not


def convolved(x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
    """Convolve (batch, channels, height, width) with (out, channels, reach, reach), autocast.

    reach is 2·padding + 1.
    """
    kind = x.device.type
    if torch.is_autocast_enabled(kind):
        x, weight = (each.to(torch.get_autocast_dtype(kind)) for each in (x, weight))
    if x.dtype != torch.bfloat16:  # no matrix units, no tiles to fill
        return functional.conv2d(x, weight, None, stride, padding)
    return _Convolution.apply(x, weight, stride, padding)


def side_by_side(x: Tensor, images: int, gap: int) -> Tensor:
    """So many images in one: (batch / images, channels, height, images·(width + gap))."""
    batch, channels, height, width = x.shape
    apart = functional.pad(x, (0, gap)).reshape(batch // images, images, channels, height, -1)
    wide = apart.permute(0, 2, 3, 1, 4).reshape(batch // images, channels, height, -1)
    return wide.contiguous(memory_format=torch.channels_last)


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        context.save_for_backward(x, weight)
        context.stride, context.padding = stride, padding
        return functional.conv2d(x, weight, None, stride, padding)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), stride, padding = context.saved_tensors, context.stride, context.padding
        wide, narrow = x.shape[3], gradient.shape[3]
        images = _together(len(x), narrow)
        gap = padding + -(wide + padding) % stride  # every image begins at a stride
        rows = side_by_side(x, images, gap)
        slopes = side_by_side(gradient, images, (wide + gap) // stride - narrow)

        def back(gradient: Tensor, x: Tensor, mask: list[bool]) -> tuple[Tensor, ...]:
            how = (None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1, mask)
            return torch.ops.aten.convolution_backward(gradient, x, weight, *how)

        back_x = back(gradient, x, [True, False, False])[0] if context.needs_input_grad[0] else None
        return back_x, back(slopes, rows, [False, True, False])[1], None, None


def _together(batch: int, width: int) -> int:
    """How many images side by side fill a tile: a power of two that divides the batch."""
    return math.gcd(batch, 2 ** math.ceil(math.log2(ROW / (width + 1))))


def gives_narrow(node: fx.Node) -> bool:
    """Whether it is a convolution to narrow images, padded as wide as its kernel reaches."""
    if node.target is not torch.conv2d or node.kwargs or len(node.args) != 7:
        return False
    x, weight, bias, stride, padding, dilation, groups = node.args
    made, kernel = (_shape(each) for each in (node, weight))
    if len(made) != 4 or bias is not None or (dilation, groups) != ((1, 1), 1):
        return False
    if not (_square(stride) and _square(padding)):
        return False
    return kernel[2:] == (2 * padding[1] + 1,) * 2 and padding[1] > 0 and made[3] <= NARROW


def _square(found: Any) -> bool:
    """Whether it is the same number twice; a stride may be one number, a padding a word."""
    return isinstance(found, tuple) and len(found) == 2 and found[0] == found[1]


def _shape(node: Any) -> tuple[int, ...]:
    value = node.meta.get("example_value") if isinstance(node, fx.Node) else None
    return tuple(getattr(value, "shape", ()))
