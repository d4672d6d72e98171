"""Three convolutions for images of a few pixels: the backbone of the quick suite. Ours.

conv3x3(c) ─ BN ─ ReLU ─ conv3x3(2c, stride 2) ─ BN ─ ReLU ─ conv3x3(2c) ─ BN ─ ReLU ─ mean

With experts, all after the first ReLU comes once for each.
"""

import torch
from torch import Generator, Tensor, nn

from benchmark.backbones.initial import kaiming_fan_in, materialise, on_meta


class SmallCNN(nn.Module):
    """Images (batch, image_channels, height, width) to features (batch, width), never negative.

    Any size from 4 x 4 pixels. More than one expert give (batch, experts, width).
    """

    def __init__(self, channels: int, image_channels: int, experts: int = 1) -> None:
        super().__init__()
        wide = 2 * channels
        self.width = wide
        first = (
            nn.Conv2d(image_channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
        )

        def rest() -> tuple[nn.Module, ...]:
            return (
                nn.Conv2d(channels, wide, 3, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(inplace=True),
                nn.Conv2d(wide, wide, 3, padding=1, bias=False),
                nn.BatchNorm2d(wide),
                nn.ReLU(inplace=True),
            )

        self.layers = nn.Sequential(*first, *(rest() if experts == 1 else ()))
        several = range(experts if experts > 1 else 0)
        self.experts = nn.ModuleList([nn.Sequential(*rest()) for _ in several])

    def forward(self, images: Tensor) -> Tensor:
        x = self.layers(images)
        if len(self.experts):
            return torch.stack([expert(x).mean((2, 3)) for expert in self.experts], 1)
        return x.mean((2, 3))


def small_cnn(
    image_channels: int, generator: Generator, experts: int = 1, *, channels: int = 32
) -> SmallCNN:
    """channels: of the first convolution; 32, ours: 57 thousand parameters."""
    if channels < 1:
        raise ValueError(
            f"small_cnn needs at least one channel, got channels {channels}. Set `channels: 32`."
        )
    with on_meta():
        model = SmallCNN(channels, image_channels, experts)
    return materialise(model, kaiming_fan_in, generator)
