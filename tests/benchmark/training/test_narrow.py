"""Weights' gradients of narrow convolutions: images side by side sum to the same."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from benchmark.training import fusing, narrow

SHAPES = [
    # batch, channels, height, width, out, stride, padding
    (8, 3, 5, 8, 4, 1, 1),
    (8, 3, 4, 4, 2, 1, 1),
    (8, 2, 16, 16, 3, 2, 1),
    (4, 2, 7, 7, 3, 2, 1),  # odd: the gap is two wide, so that each begins at a stride
    (6, 2, 4, 5, 3, 1, 2),
    (12, 2, 9, 9, 3, 3, 1),
    (5, 2, 4, 4, 3, 1, 1),  # an odd batch: no two side by side
    (8, 2, 1, 1, 3, 1, 1),
]


def operands(shape, dtype):
    batch, channels, height, width, out, stride, padding = shape
    random = torch.Generator().manual_seed(0)
    x = torch.randn(batch, channels, height, width, generator=random).to(dtype).requires_grad_()
    reach = 2 * padding + 1
    weight = torch.randn(out, channels, reach, reach, generator=random).to(dtype).requires_grad_()
    return x, weight, stride, padding


@pytest.mark.parametrize("shape", SHAPES)
def test_like_torchs_convolution(shape):
    """Numbers are whole and small, so that every sum is exact in whatever order."""
    x, weight, stride, padding = operands(shape, torch.float64)
    with torch.no_grad():
        for each in (x, weight):
            each.copy_((3 * each).round().clamp(-4, 4))
    y = narrow._Convolution.apply(x, weight, stride, padding)
    wanted = functional.conv2d(x, weight, None, stride, padding)
    assert torch.equal(y, wanted)
    g = torch.randint(-3, 4, y.shape, generator=torch.Generator().manual_seed(1)).double()
    ours = torch.autograd.grad(y, (x, weight), g)
    theirs = torch.autograd.grad(wanted, (x, weight), g)
    assert torch.equal(ours[0], theirs[0]) and torch.equal(ours[1], theirs[1])


def test_side_by_side_by_hand():
    x = torch.tensor([[1.0, 2], [3, 4], [5, 6], [7, 8]]).reshape(4, 1, 1, 2)
    wide = narrow.side_by_side(x, 2, 1)
    assert wide.reshape(2, 6).tolist() == [[1, 2, 0, 3, 4, 0], [5, 6, 0, 7, 8, 0]]


@pytest.mark.parametrize(
    ("batch", "width", "images"),
    [(128, 8, 4), (128, 4, 8), (128, 2, 16), (100, 4, 4), (6, 8, 2), (7, 8, 1)],
)
def test_a_tile_is_filled(batch, width, images):
    assert narrow._together(batch, width) == images
    whole = images * (width + 1) >= narrow.ROW
    assert whole or batch % (2 * images)


def test_autocast_decides_the_precision():
    x, weight, stride, padding = operands(SHAPES[0], torch.float32)
    assert narrow.convolved(x, weight, stride, padding).dtype == torch.float32
    with torch.autocast("cpu", torch.bfloat16):
        y = narrow.convolved(x, weight, stride, padding)
        wanted = functional.conv2d(x, weight, None, stride, padding)
    assert torch.equal(y, wanted) and y.dtype == torch.bfloat16
    g = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).bfloat16()
    ours, theirs = (torch.autograd.grad(each, weight, g)[0] for each in (y, wanted))
    torch.testing.assert_close(ours, theirs, rtol=2e-2, atol=2e-2)
    assert ours.dtype == torch.float32  # the weight's own


class Numbers(nn.Module):
    """A convolution that says 1 for (1, 1)."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4, 2, 3, 3))

    def forward(self, x):
        return torch.conv2d(x, self.weight, None, 1, 1, 1, 1)


def targets(model: nn.Module, width: int) -> list[object]:
    """What a model's graph calls after it was rewritten, for images of a width."""
    kept = []

    def catch(graph, inputs):
        kept.append(fusing.fused(graph))
        return kept[-1].forward

    torch.compiler.reset()
    torch.compile(model, backend=catch, fullgraph=True, dynamic=False)(torch.randn(4, 2, 8, width))
    return [node.target for node in kept[0].graph.nodes]


@pytest.mark.parametrize(
    ("options", "width", "ours"),
    [
        ({"padding": 1}, 8, True),
        ({"padding": 1}, 9, False),
        ({"padding": 1, "stride": 2}, 16, True),
        ({"padding": 0}, 8, False),
        ({"padding": 2}, 8, False),
        ({"padding": (1, 0)}, 8, False),
        ({"padding": 1, "stride": (1, 2)}, 8, False),
        ({"padding": 1, "groups": 2}, 8, False),
        ({"padding": 2, "dilation": 2}, 8, False),
        ({"padding": 1, "bias": True}, 8, False),
        ({"padding": 1, "padding_mode": "circular"}, 8, False),
        ({"padding": "same"}, 8, False),
    ],
)
def test_what_is_taken_and_what_stays(options, width, ours):
    made = nn.Conv2d(2, 4, 3, **{"bias": False, **options})
    found = targets(made, width)
    assert (narrow.convolved in found) == ours
    assert (torch.conv2d in found) != ours


def test_one_number_for_both_sides_stays():
    found = targets(Numbers(), 8)
    assert torch.conv2d in found and narrow.convolved not in found
