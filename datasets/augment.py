"""What happens to one training image: drawn for it alone, from a seed of its own.

    geometry   none · crop · crop_flip · resized_crop_flip
    rotation   by any angle up to so many degrees; RIDE, arXiv:2010.01809, turns by 15
    policy     none · trivial · auto_cifar10 · auto_imagenet · rand: operations on colour or shape
    jitter     brightness, contrast, saturation and hue, in an order that is drawn too
    grey       the colours taken away
    blur       Gaussian
    cutout     a square hole of zeros; DeVries, Taylor, arXiv:1708.04552
    erasing    a box of zeros, once the image is normalised; Zhong et al., arXiv:1708.04896

in this order, as torchvision's reference training does it. Transforms of torchvision draw from the
global generator and, given a batch, once for all its images. Here it is seeded before each image
and put back afterwards: an image depends on nothing but its seed, and nobody else's draws move.

A policy that is to be added is one line in POLICIES, a way to change the second view one in VIEWS.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

AUGMENTATIONS = ("none", "crop", "crop_flip", "resized_crop_flip")
BATCHED = ("none", "crop", "crop_flip")  # what loader.Batches can do, with or without a hole

# what lies beyond the image, of operations that move it: as in AutoAugment's own code
GREY = {"fill": 128}
# name in a recipe -> class in torchvision.transforms.v2, and what differs from its defaults
POLICIES: dict[str, tuple[str, dict[str, Any]]] = {
    "none": ("Identity", {}),
    "trivial": ("TrivialAugmentWide", {}),  # Müller, Hutter, ICCV 2021, arXiv:2103.10158, wide
    # Cubuk, Zoph, Mané, Vasudevan, Le, CVPR 2019, arXiv:1805.09501, the policies found
    "auto_cifar10": ("AutoAugment", {"policy": "cifar10", **GREY}),
    "auto_imagenet": ("AutoAugment", {"policy": "imagenet", **GREY}),
    # Cubuk, Zoph, Shlens, Le, NeurIPS 2020, arXiv:1909.13719; two operations at 9 of 30
    "rand": ("RandAugment", GREY),
}

AREA, ASPECT = (0.02, 0.33), (0.3, 3.3)  # of a box to its image, height to width; torchvision's
# MoCo v2 (arXiv:2003.04297), PaCo: deviation in pixels
DEVIATION = (0.1, 2.0)
KERNEL = 13  # pixels; ours: three deviations to either side at the widest


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is done to a training image; by default nothing.

    augment   geometry: 'crop' (random position within a black margin), 'crop_flip' (also mirrored
              with probability 1/2; He et al., arXiv:1512.03385, sec. 4.2), 'resized_crop_flip'
              (`area` to 1 of the image at an aspect of 3/4 to 4/3, and the flip; Szegedy et al.,
              arXiv:1409.4842, sec. 6)
    padding   pixels of black around the image from which it is cropped; 4, He et al.
    area      least share of the image that a resized crop takes; .08, Szegedy et al.
    rotation  degrees, at most, to either side
    policy    one of POLICIES
    jitter    factors of brightness, contrast and saturation lie in [1 − jitter, 1 + jitter]
    hue       how far it may turn, as a share of the circle
    jittered  probability of the jitter of all four
    grey, blur, erasing   probability of each
    cutout    side in pixels of a hole whose centre is any pixel; 0, none
    """

    augment: str = "none"
    padding: int = 4
    area: float = 0.08
    rotation: float = 0.0
    policy: str = "none"
    jitter: float = 0.0
    hue: float = 0.0
    jittered: float = 1.0
    grey: float = 0.0
    blur: float = 0.0
    cutout: int = 0
    erasing: float = 0.0

    def __post_init__(self) -> None:
        for what, given, known in (
            ("augmentation", self.augment, AUGMENTATIONS),
            ("policy", self.policy, tuple(POLICIES)),
        ):
            if given not in known:
                raise ValueError(f"unknown {what} {given!r}. Choose one of: {', '.join(known)}.")
        for what in ("jitter", "jittered", "grey", "blur", "erasing"):
            if not 0 <= getattr(self, what) <= 1:
                raise ValueError(
                    f"{what} is a share in [0, 1], got {getattr(self, what)}. Use 0 for none."
                )

    @property
    def batched(self) -> bool:
        """Whether one gather does it for a whole batch."""
        plain = Change(augment=self.augment, padding=self.padding, cutout=self.cutout)
        return self.augment in BATCHED and replace(self, area=plain.area) == plain


# What a recipe may do to the second view, where a head asks for two: None, as to the first
VIEWS: dict[str, Change | None] = {
    "same": None,
    # MoCo v2 (Chen, Fan, Girshick, He, arXiv:2003.04297) after SimCLR (arXiv:2002.05709), and PaCo
    # (arXiv:2107.12028) for its keys
    "contrastive": Change(
        augment="resized_crop_flip", area=0.2, jitter=0.4, hue=0.1, jittered=0.8, grey=0.2, blur=0.5
    ),
}


class Augment:
    """Changes one image of bytes.

    change  what is done; 'crop' and 'crop_flip' come after `fit`
    size    (height, width) that comes out
    resize  see `fit`
    """

    def __init__(self, change: Change, *, size: tuple[int, int], resize: int = 0) -> None:
        from torchvision.transforms import v2  # seconds to import, and seldom needed

        name, options = POLICIES[change.policy]
        if "policy" in options:
            options = {**options, "policy": v2.AutoAugmentPolicy(options["policy"])}
        steps: list[nn.Module] = []
        if change.augment == "resized_crop_flip":
            steps.append(v2.RandomResizedCrop(size, (change.area, 1.0)))
        elif change.augment != "none":
            steps.append(v2.RandomCrop(size, change.padding))
        if change.augment.endswith("_flip"):
            steps.append(v2.RandomHorizontalFlip())
        if change.rotation:
            steps.append(v2.RandomRotation(change.rotation))
        steps.append(getattr(v2, name)(**options))
        if change.jitter or change.hue:
            jitter: nn.Module = v2.ColorJitter(*[change.jitter] * 3, change.hue)
            always = change.jittered == 1  # then nothing is drawn for it
            steps.append(jitter if always else v2.RandomApply([jitter], change.jittered))
        if change.grey:
            steps.append(v2.RandomGrayscale(change.grey))
        if change.blur:
            steps.append(v2.RandomApply([v2.GaussianBlur(KERNEL, DEVIATION)], change.blur))
        if change.cutout:
            steps.append(_Cutout(change.cutout))
        self._change = nn.Sequential(*steps)
        self._fits = change.augment == "resized_crop_flip"
        self._erasing = change.erasing
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


class _Cutout(nn.Module):
    """A hole in one image, or more, each at its own place."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side

    def forward(self, image: Tensor) -> Tensor:
        boxes = holes(1, self.side, image.shape[-2:])
        image = image.clone()  # where nothing else is done, it lies in memory for all epochs
        erase(image[None], boxes)
        return image


def holes(
    count: int, side: int, size: tuple[int, ...], generator: torch.Generator | None = None
) -> Tensor:
    """Boxes of `count` holes: top, left, height, width, (count, 4).

    The centre of each is any pixel of (height, width), and what lies outside of the image is cut
    off; generator: the global one if not given.
    """
    spans = []
    for extent in size:
        centre = torch.randint(extent, (count,), generator=generator)
        start = (centre - side // 2).clamp(min=0)
        spans.append((start, (centre + side // 2).clamp(max=extent) - start))
    (top, height), (left, width) = spans
    return torch.stack([top, left, height, width], dim=1)


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
    images.masked_fill_(inside[:, None], 0)
