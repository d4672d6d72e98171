"""Swin Transformer, tiny: torchvision's, without the classifier.

Liu, Lin, Cao, Hu, Wei, Zhang, Lin, Guo. "Swin Transformer: Hierarchical Vision Transformer using
Shifted Windows." ICCV 2021, arXiv:2103.14030.

    ẑ = z + attention(LN(z))        within windows, shifted by half of one in every other block
    z = ẑ + MLP(LN(ẑ))              stages of 2-2-6-2 blocks, 96 · 2^s channels, heads of 32

and a mean over all positions after a last LN: 768 features. In training each of a block's two
branches is left out for an image with a probability that grows with depth from 0 to
`stochastic_depth`; these draws are from the global generator, which the training loop addresses.

Initial weights as torchvision's and the authors' code: linear layers and position tables from
N(0, 0.02²) cut off, zero biases; the patches' convolution uniform in ±1/√fan_in, PyTorch's default.
"""

from math import sqrt

from torch import Generator, nn
from torchvision.models.swin_transformer import ShiftedWindowAttention, SwinTransformer

from benchmark.backbones.initial import on_meta


def swin_t(
    image_channels: int,
    generator: Generator,
    *,
    patch: int = 4,
    window: int = 7,
    stochastic_depth: float = 0.2,
) -> SwinTransformer:
    """patch: side of the squares that an image is cut into; 4, arXiv:2103.14030, sec. 3.1.

    window: side of a window, in patches; 7, ibid., sec. 3.3. For images of 32 pixels: 2 and 4.
    stochastic_depth: 0.2, ibid., appendix A2.1 (for training on ImageNet).
    """
    if patch < 1 or window < 1 or not 0 <= stochastic_depth < 1:
        raise ValueError(
            f"swin_t needs patch and window from 1 and stochastic_depth in [0, 1), got {patch}, "
            f"{window} and {stochastic_depth}. Set `patch: 4, window: 7, stochastic_depth: 0.2`."
        )
    model = bare(image_channels, patch, window, stochastic_depth).to_empty(device="cpu")
    for module in model.modules():
        _draw(module, generator)
    return model


def bare(image_channels: int, patch: int, window: int, stochastic_depth: float) -> SwinTransformer:
    """The network on the meta device, without weights."""
    with on_meta():
        model = SwinTransformer(
            [patch, patch],
            embed_dim=96,
            depths=[2, 2, 6, 2],
            num_heads=[3, 6, 12, 24],
            window_size=[window, window],
            stochastic_depth_prob=stochastic_depth,
        )
        model.features[0][0] = nn.Conv2d(image_channels, 96, patch, stride=patch)
        model.width = model.head.in_features
        model.head = nn.Identity()
    return model


def _draw(module: nn.Module, generator: Generator) -> None:
    """Initial weights of one layer."""
    match module:
        case nn.Conv2d():
            bound = 1 / sqrt(module.in_channels * module.kernel_size[0] * module.kernel_size[1])
            for parameter in (module.weight, module.bias):
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
        case nn.Linear():
            nn.init.trunc_normal_(module.weight, std=0.02, generator=generator)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        case nn.LayerNorm():
            module.reset_parameters()
        case ShiftedWindowAttention():
            table = module.relative_position_bias_table
            nn.init.trunc_normal_(table, std=0.02, generator=generator)
            module.define_relative_position_index()  # a buffer, lost on the meta device
        case _ if next(module.parameters(recurse=False), None) is not None:
            raise TypeError(f"no rule for the initial weights of {module}; add one here")
