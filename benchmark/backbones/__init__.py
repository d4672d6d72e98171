"""Networks that turn images into features, without a classifier: the table of contents."""

import difflib
import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from torch import Generator, nn

from benchmark.backbones.flat import flat
from benchmark.backbones.resnet_cifar import resnet, resnet32_hpn, resnet34_cifar
from benchmark.backbones.resnet_imagenet import bottlenecks
from benchmark.backbones.small_cnn import small_cnn
from benchmark.backbones.swin import swin_t


@dataclass(frozen=True, slots=True)
class Backbone:
    """An entry: builder(image_channels, generator, *, options), a title for people, a citation.

    What the builder makes has a `width`, and maps images (batch, image_channels, height, width) to
    features (batch, width). A builder that takes `experts` after the generator can make several
    copies of the network's last part: then features are (batch, experts, width).
    """

    builder: Callable[..., nn.Module]
    title: str
    source: str

    @property
    def options(self) -> Mapping[str, object]:
        """Its options and their defaults."""
        parameters = inspect.signature(self.builder).parameters.values()
        return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}

    @property
    def experts(self) -> bool:
        """Whether it can have several experts."""
        return "experts" in inspect.signature(self.builder).parameters


_HE = "He, Zhang, Ren, Sun. CVPR 2016, arXiv:1512.03385"

BACKBONES: dict[str, Backbone] = {
    "small_cnn": Backbone(small_cnn, "Small CNN", "ours"),
    "resnet8": Backbone(resnet(8), "ResNet-8", _HE),
    "resnet20": Backbone(resnet(20), "ResNet-20", _HE),
    "resnet32": Backbone(resnet(32), "ResNet-32", _HE),
    "resnet44": Backbone(resnet(44), "ResNet-44", _HE),
    "resnet56": Backbone(resnet(56), "ResNet-56", _HE),
    "resnet32_hpn": Backbone(
        resnet32_hpn,
        "ResNet-32 (HPN)",
        "Mettes, van der Pol, Snoek. NeurIPS 2019, arXiv:1901.10514",
    ),
    "resnet34_cifar": Backbone(resnet34_cifar, "ResNet-34 (CIFAR stem)", _HE),
    "resnet50": Backbone(bottlenecks(50), "ResNet-50", _HE),
    "resnet101": Backbone(bottlenecks(101), "ResNet-101", _HE),
    "resnet152": Backbone(bottlenecks(152), "ResNet-152", _HE),
    "resnet50_4096": Backbone(
        bottlenecks(50, planes=1024),
        "ResNet-50 (last stage doubled)",
        "Yang et al. NeurIPS 2022, arXiv:2203.09081, released code",
    ),
    "resnext50_32x4d": Backbone(
        bottlenecks(50, groups=32, per_group=4),
        "ResNeXt-50 (32x4d)",
        "Xie, Girshick, Dollar, Tu, He. CVPR 2017, arXiv:1611.05431",
    ),
    "swin_t": Backbone(swin_t, "Swin-T", "Liu et al. ICCV 2021, arXiv:2103.14030"),
    "flat": Backbone(flat, "Pixels as they are", "ours"),
}


def build(
    name: str,
    options: Mapping[str, object],
    *,
    image_channels: int = 3,
    experts: int = 1,
    generator: Generator,
) -> nn.Module:
    """A backbone with its initial weights, on the CPU; `.width` is the length of a feature vector.

    experts  how many copies of its last part, each with its own initial weights

    All weights are drawn from the generator; the global one is neither read nor moved.
    """
    if name not in BACKBONES:
        raise ValueError(_unknown("backbone", name, BACKBONES))
    entry = BACKBONES[name]
    for option, value in options.items():
        if option not in entry.options:
            raise ValueError(_unknown(f"option of backbone {name}", option, entry.options))
        default = entry.options[option]
        kinds = (int, float) if isinstance(default, float) else int
        if not isinstance(value, kinds) or isinstance(value, bool):
            noun = "a whole number" if kinds is int else "a number"
            raise ValueError(
                f"`{option}` of backbone {name} is {noun}, got {value!r}. "
                f"Set `{option}: {default}`."
            )
    if not entry.experts and experts != 1:
        able = ", ".join(name for name, other in BACKBONES.items() if other.experts)
        raise ValueError(
            f"backbone {name} has one expert, {experts} were asked for. Choose one of: {able}."
        )
    if experts < 1:
        raise ValueError(f"a backbone has at least one expert, got {experts}. Leave them out.")
    several = (experts,) if entry.experts else ()
    return entry.builder(image_channels, generator, *several, **options)


def _unknown(what: str, given: str, known: Iterable[str]) -> str:
    known = sorted(known)
    close = difflib.get_close_matches(given, known, n=1)
    hint = f"Did you mean '{close[0]}'? " if close else ""
    choice = f"Choose one of: {', '.join(known)}." if known else "It has none: leave it out."
    return f"unknown {what} '{given}'. {hint}{choice}"
