"""Residual networks for images of 224 pixels, of torchvision's blocks, without the classifier.

He, Zhang, Ren, Sun. "Deep Residual Learning for Image Recognition." CVPR 2016, arXiv:1512.03385.

    y = ReLU(BN(conv1x1(ReLU(BN(conv3x3(ReLU(BN(conv1x1(x)))))))) + shortcut(x))

Table 1 of the paper: a 7 x 7 convolution and a maximum, both of stride 2, four stages, and a mean
over all positions after a ReLU, so that features are never negative: 2048 of them.

    resnet50 resnet101 resnet152   stages of 3-4-6-3, 3-4-23-3 and 3-8-36-3 blocks
    resnet50_4096                  twice the channels in the last stage, 1024 inside and 4096 out:
                                   the released code of ETF (arXiv:2203.09081) for ImageNet-LT,
                                   and where DL2PA (CVPR 2024), table 5, has its d = 4096 from
    resnext50_32x4d                32 groups of 4 channels inside the first stage's blocks, twice as
                                   many in each later one: Xie et al., CVPR 2017, arXiv:1611.05431

Where we differ from the paper: as in torchvision, the stride of a stage is in its first 3 x 3
convolution, not in the 1 x 1 before it; initial weights by fan-out, as torchvision's.
"""

from collections.abc import Callable

from torch import Generator, nn
from torchvision.models.resnet import Bottleneck, ResNet

from benchmark.backbones.initial import kaiming_fan_out, materialise, on_meta
from benchmark.backbones.resnet_cifar import projection_1x1

BLOCKS = {50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}


def bottlenecks(
    depth: int, *, planes: int = 512, groups: int = 1, per_group: int = 64
) -> Callable[..., ResNet]:
    """Builder of the network of so many layers.

    planes             inside the last stage's blocks, for one group of 64
    groups, per_group  of the 3 x 3 convolutions, and channels in each in the first stage
    """

    def build(image_channels: int, generator: Generator) -> ResNet:
        model = bare(depth, planes, image_channels, groups, per_group)
        return materialise(model, kaiming_fan_out, generator)

    build.__name__ = f"resnet{depth}"
    build.__doc__ = f"ResNet-{depth} for images of 224 pixels."
    return build


def bare(
    depth: int, planes: int, image_channels: int, groups: int = 1, per_group: int = 64
) -> ResNet:
    """The network on the meta device, without weights."""
    with on_meta():
        model = ResNet(Bottleneck, list(BLOCKS[depth]), groups=groups, width_per_group=per_group)
        model.conv1 = nn.Conv2d(image_channels, 64, 7, stride=2, padding=3, bias=False)
        if planes != 512:
            model.layer4 = _stage(1024, planes, BLOCKS[depth][-1])
        model.fc = nn.Identity()
    model.width = planes * Bottleneck.expansion
    return model


def _stage(channels: int, planes: int, blocks: int) -> nn.Sequential:
    """A stage as torchvision's: the first block halves the resolution."""
    out = planes * Bottleneck.expansion
    first = Bottleneck(channels, planes, stride=2, downsample=projection_1x1(channels, out))
    return nn.Sequential(first, *(Bottleneck(out, planes) for _ in range(blocks - 1)))
