"""Residual networks for images of 32 pixels. Five networks are called ResNet-32; here are three.

He, Zhang, Ren, Sun. "Deep Residual Learning for Image Recognition." CVPR 2016, arXiv:1512.03385.

    y = ReLU(BN(conv3x3(ReLU(BN(conv3x3(x))))) + shortcut(x))

All start with a 3 x 3 convolution of stride 1 and end in a mean over all positions after a ReLU, so
that features are never negative and other image sizes work too. The first block of every stage but
the first halves the resolution and doubles the channels. The shortcut there is what differs:

    resnet8 … resnet56  sec. 4.2: 6n + 2 layers, 3 stages of n blocks, c, 2c and 4c channels;
                        option A: every second pixel, zeros for the new channels, half on each side.
                        Backbone of LDAM-DRW (arXiv:1906.07413), ETF (arXiv:2203.09081), DL2PA
                        (CVPR 2024) and most long-tailed work; ETF and DL2PA double c for CIFAR-100
    resnet32_hpn        the same stages, and a 3 x 3 convolution of stride 2 and BN as shortcut; HPN
                        (Mettes, van der Pol, Snoek, NeurIPS 2019, arXiv:1901.10514) and the
                        balanced DL2PA
    resnet34_cifar      table 1's ResNet-34, 64 to 512 channels, a 1 x 1 convolution and BN as
                        shortcut, stem without max-pool: called ResNet-32 by weight balancing
                        (arXiv:2203.14197) and by prototype classifiers (NeurIPS 2023), with 46
                        times the parameters

With experts, the last two stages come once for each, each with its own initial weights, and the
stages before are shared: RIDE (arXiv:2010.01809), released code. There the experts of ResNet-32
have 24 and 48 channels in place of 32 and 64, which here is `taper: 0.75`.
"""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from benchmark.backbones.initial import kaiming_fan_in, kaiming_fan_out, materialise, on_meta

Shortcut = Callable[[int, int], nn.Module]


class SubsampleAndPad(nn.Module):
    """Option A: every second pixel, zeros for the new channels; no parameters."""

    def __init__(self, channels: int, out: int) -> None:
        super().__init__()
        self.padding = (out - channels) // 2

    def forward(self, x: Tensor) -> Tensor:
        return functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.padding, self.padding))


def projection_3x3(channels: int, out: int) -> nn.Module:
    """HPN's shortcut."""
    return nn.Sequential(
        nn.Conv2d(channels, out, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(out)
    )


def projection_1x1(channels: int, out: int) -> nn.Module:
    """Option B."""
    return nn.Sequential(nn.Conv2d(channels, out, 1, stride=2, bias=False), nn.BatchNorm2d(out))


class Block(nn.Module):
    """Two 3 x 3 convolutions and a way around them; halves the resolution where channels grow."""

    def __init__(self, channels: int, out: int, shortcut: Shortcut) -> None:
        super().__init__()
        grows = out != channels
        self.conv1 = nn.Conv2d(channels, out, 3, 2 if grows else 1, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(out)
        self.conv2 = nn.Conv2d(out, out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(out)
        self.shortcut = shortcut(channels, out) if grows else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.norm1(self.conv1(x)), inplace=True)
        y = self.norm2(self.conv2(y))
        return functional.relu(y + self.shortcut(x), inplace=True)


class ResNet(nn.Module):
    """Images (batch, image_channels, height, width) to features (batch, width), never negative.

    widths   channels of each stage
    experts  how many copies of the last two stages; more than one give (batch, experts, width)
    """

    def __init__(
        self,
        blocks: Sequence[int],
        widths: Sequence[int],
        image_channels: int,
        shortcut: Shortcut,
        experts: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(image_channels, widths[0], 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(widths[0])
        before = (widths[0], *widths)

        def stages(chosen: range) -> nn.Sequential:
            return nn.Sequential(
                *(
                    Block(before[stage] if k == 0 else widths[stage], widths[stage], shortcut)
                    for stage in chosen
                    for k in range(blocks[stage])
                )
            )

        shared = len(blocks) if experts == 1 else len(blocks) - 2
        self.blocks = stages(range(shared))
        rest = range(shared, len(blocks))
        self.experts = nn.ModuleList([stages(rest) for _ in range(experts) if rest])
        self.width = widths[-1]

    def forward(self, images: Tensor) -> Tensor:
        x = functional.relu(self.norm(self.conv(images)), inplace=True)
        x = self.blocks(x)
        if len(self.experts):
            return torch.stack([expert(x).mean((2, 3)) for expert in self.experts], 1)
        return x.mean((2, 3))


def resnet(depth: int) -> Callable[..., ResNet]:
    """Builder of He et al.'s CIFAR network of 6n + 2 layers."""
    blocks = (depth - 2) // 6

    def build(
        image_channels: int,
        generator: Generator,
        experts: int = 1,
        *,
        channels: int = 16,
        taper: float = 1.0,
    ) -> ResNet:
        widths = [channels, *(round(taper * channels * 2**stage) for stage in (1, 2))]
        if channels < 2 or channels % 2:
            raise ValueError(
                f"resnet{depth} pads half its channels with zeros on each side and needs an even "
                f"number, got channels {channels}. Set `channels: 16`."
            )
        grows = all(0 < b - a and (b - a) % 2 == 0 for a, b in pairwise(widths))
        if not grows or widths[1] != taper * channels * 2:
            raise ValueError(
                f"resnet{depth} adds an even number of channels in each of its later stages, got "
                f"taper {taper:g} of {2 * channels} and {4 * channels}. Set `taper: 0.75`, or 1."
            )
        with on_meta():
            model = ResNet([blocks] * 3, widths, image_channels, SubsampleAndPad, experts)
        return materialise(model, kaiming_fan_in, generator)

    build.__name__ = f"resnet{depth}"
    build.__doc__ = (
        "channels: of the first stage; 16, arXiv:1512.03385, sec. 4.2. taper: channels of the "
        "later stages, as a share of 2c and 4c; 1, ibid.; RIDE (arXiv:2010.01809) has 0.75."
    )
    return build


def resnet32_hpn(image_channels: int, generator: Generator, experts: int = 1) -> ResNet:
    """HPN's ResNet-32, 16 to 64 channels; initial weights by fan-out, released code."""
    with on_meta():
        model = ResNet([5, 5, 5], [16, 32, 64], image_channels, projection_3x3, experts)
    return materialise(model, kaiming_fan_out, generator)


def resnet34_cifar(image_channels: int, generator: Generator, experts: int = 1) -> ResNet:
    """ResNet-34 without its first subsampling; initial weights by fan-out, as torchvision's."""
    with on_meta():
        model = ResNet([3, 4, 6, 3], [64, 128, 256, 512], image_channels, projection_1x1, experts)
    return materialise(model, kaiming_fan_out, generator)
