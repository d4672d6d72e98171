"""What happens to one training image: drawn for it alone, from a seed of its own.

    geometry   none · crop · crop_flip · resized_crop_flip
    policy     none · trivial: an operation on colours or shape
    jitter     brightness, contrast and saturation, in an order that is drawn too
    erasing    a box of zeros, once the image is normalised; Zhong et al., arXiv:1708.04896

in this order, as torchvision's reference training does it. Transforms of torchvision draw from the
global generator and, given a batch, once for all its images. Here it is seeded before each image
and put back afterwards: an image depends on nothing but its seed, and nobody else's draws move.

A policy that is to be added is one line in POLICIES.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

AUGMENTATIONS = ("none", "crop", "crop_flip", "resized_crop_flip")

# name in a recipe -> class in torchvision.transforms.v2, built with its defaults
POLICIES = {
    "none": "Identity",
    "trivial": "TrivialAugmentWide",  # Müller, Hutter, ICCV 2021, arXiv:2103.10158, wide space
}

AREA, ASPECT = (0.02, 0.33), (0.3, 3.3)  # of a box to its image, height to width; torchvision's


class Augment:
    """Changes one image of bytes.

    augment   geometry: 'crop' and 'crop_flip' as in `loader.Batches`, after `fit`;
              'resized_crop_flip' takes .08 to 1 of the area at an aspect of 3/4 to 4/3 (Szegedy et
              al., arXiv:1409.4842, sec. 6) and mirrors with probability 1/2
    padding   pixels of black around the image from which it is cropped
    policy    one of POLICIES
    jitter    factors of brightness, contrast and saturation lie in [1 − jitter, 1 + jitter]
    erasing   probability of a box
    size      (height, width) that comes out
    resize    see `fit`
    """

    def __init__(
        self,
        *,
        augment: str,
        padding: int,
        policy: str,
        jitter: float,
        erasing: float,
        size: tuple[int, int],
        resize: int,
    ) -> None:
        from torchvision.transforms import v2  # seconds to import, and seldom needed

        for what, given, known in (
            ("augmentation", augment, AUGMENTATIONS),
            ("policy", policy, tuple(POLICIES)),
        ):
            if given not in known:
                raise ValueError(f"unknown {what} {given!r}. Choose one of: {', '.join(known)}.")
        for what, share in (("jitter", jitter), ("erasing", erasing)):
            if not 0 <= share <= 1:
                raise ValueError(f"{what} is a share in [0, 1], got {share}. Use 0 for none.")
        steps: list[nn.Module] = [getattr(v2, POLICIES[policy])()]
        if jitter:
            steps.append(v2.ColorJitter(jitter, jitter, jitter))
        if augment.endswith("_flip"):
            steps.insert(0, v2.RandomHorizontalFlip())
        if augment == "resized_crop_flip":
            steps.insert(0, v2.RandomResizedCrop(size))
        elif augment != "none":
            steps.insert(0, v2.RandomCrop(size, padding))
        self._change = nn.Sequential(*steps)
        self._fits = augment == "resized_crop_flip"
        self._erasing = erasing
        self._size = size
        self._resize = resize

    def __call__(self, image: Tensor, seed: int) -> tuple[Tensor, Tensor]:
        """The image (channels, height, width) changed, and the box to erase: top, left, height,
        width, (4,); without area where there is none.
        """
        with drawing(seed):
            if not self._fits:
                image = fit(image, self._size, self._resize)
            return self._change(image), self._box()

    def _box(self) -> Tensor:
        """Where to erase; torchvision draws it, and gives the image where it finds no place."""
        if self._erasing and torch.rand(1) < self._erasing:
            from torchvision.transforms import RandomErasing

            canvas = torch.empty(1, *self._size)
            *box, value = RandomErasing.get_params(canvas, AREA, ASPECT, value=[0.0])
            if value is not canvas:
                return torch.tensor(box)
        return torch.zeros(4, dtype=torch.int64)


@contextmanager
def drawing(seed: int) -> Iterator[None]:
    """Inside, torch's global CPU generator starts from `seed`; afterwards it is as it was.

    Those of accelerators are not touched: torch.manual_seed would set them too.
    """
    before = torch.get_rng_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.set_rng_state(before)


def fit(images: Tensor, size: tuple[int, int], resize: int = 0) -> Tensor:
    """Images (…, channels, height, width) at `size`: of evaluation, and before a crop at random.

    resize > 0: the shorter side becomes so long, and the middle is taken; 0: they must be so large.
    """
    if not resize and tuple(images.shape[-2:]) == size:
        return images
    from torchvision.transforms.v2 import functional

    if resize:
        images = functional.resize(images, [resize])
    found = tuple(images.shape[-2:])
    if not resize or found[0] < size[0] or found[1] < size[1]:
        raise ValueError(
            f"images are {found[0]} x {found[1]} pixels{' when resized' if resize else ''} (height "
            f"x width), and {size[0]} x {size[1]} are asked for. Set `size` and `resize` in the "
            f"recipe, with resize at least as large as size."
        )
    return functional.center_crop(images, list(size))


def erase(images: Tensor, boxes: Tensor) -> None:
    """Zero, in place, in each image (batch, channels, height, width) its own box (batch, 4)."""
    top, left, height, width = boxes[:, :, None].unbind(1)
    rows = torch.arange(images.shape[-2], device=images.device)
    columns = torch.arange(images.shape[-1], device=images.device)
    inside = ((rows >= top) & (rows < top + height))[:, :, None]
    inside = inside & ((columns >= left) & (columns < left + width))[:, None, :]
    images.masked_fill_(inside[:, None], 0.0)
