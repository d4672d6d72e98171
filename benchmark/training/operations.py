"""What an image costs on its way through a network, counted before there is any cell."""

from functools import cache

import torch
from torch.utils.flop_counter import FlopCounterMode

import benchmark.backbones as backbones
from benchmark.planning.cell import Pairs


@cache
def operations(backbone: Pairs, shape: tuple[int, int, int]) -> int:
    """Of one image forward: two per multiply-add; normalisations and the head are not counted.

    shape  (channels, height, width) as the network sees it
    """
    options = {name: value for name, value in backbone if name != "name"}
    network = backbones.build(
        str(dict(backbone)["name"]),
        options,
        image_channels=shape[0],
        generator=torch.Generator().manual_seed(0),
    ).eval()
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(torch.zeros(1, *shape))
    return int(counter.get_total_flops())
