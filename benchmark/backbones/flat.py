"""No network: the pixels, one after another. Ours, for points that need not be looked for.

There is nothing to train; what a head makes of given points is seen as it is.
"""

from torch import Generator, Tensor, nn


class Flat(nn.Module):
    """Images (batch, image_channels, height, width) to features (batch, width), the pixels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, images: Tensor) -> Tensor:
        features = images.flatten(1)
        if features.shape[1] != self.width:
            raise ValueError(
                f"flat was told of {self.width} values an image, got images of "
                f"{' x '.join(map(str, images.shape[1:]))}. Set `width: {features.shape[1]}`."
            )
        return features


def flat(image_channels: int, generator: Generator, *, width: int = 64) -> Flat:
    """width: values of an image, channels x height x width; 64, ours: one row of 64 numbers."""
    if width < 1:
        raise ValueError(
            f"flat needs images of at least one value, got width {width}. Set `width: 64`."
        )
    return Flat(width)
