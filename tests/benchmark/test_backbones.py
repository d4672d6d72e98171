import math

import pytest
import torch
import torchvision
from torch import nn

from benchmark.backbones import BACKBONES, build, resnet_imagenet, swin
from benchmark.backbones.initial import kaiming_fan_in, materialise, on_meta
from benchmark.backbones.resnet_cifar import SubsampleAndPad


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.fixture(autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# resnet50 stands for these: they differ in the number of blocks and channels
LARGE = ("resnet101", "resnet152", "resnet50_4096", "resnext50_32x4d")


@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in (*LARGE, "flat")])
def test_contract(name):
    state = torch.get_rng_state()
    model = build(name, {}, generator=seeded())
    twin = build(name, {}, generator=seeded())
    other = build(name, {}, generator=seeded(1))
    assert torch.equal(torch.get_rng_state(), state)
    for key, value in model.state_dict().items():
        assert value.device.type == "cpu"
        assert torch.isfinite(value).all(), key
        assert torch.equal(value, twin.state_dict()[key]), key
    assert all(p.requires_grad for p in model.parameters())
    weights = [k for k, v in model.named_parameters() if v.ndim in (2, 4)]
    assert not any(torch.equal(model.state_dict()[k], other.state_dict()[k]) for k in weights)

    images = torch.randn(2, 3, 8, 8, generator=seeded())
    features = model(images)
    assert features.shape == (2, model.width)
    assert torch.isfinite(features).all()
    features.sum().backward()
    assert all(p.grad is not None for p in model.parameters())


@pytest.mark.parametrize("name", LARGE)
def test_large(name):
    state = torch.get_rng_state()
    model = build(name, {}, image_channels=1, generator=seeded()).eval()
    assert torch.equal(torch.get_rng_state(), state)
    with torch.no_grad():
        features = model(torch.randn(2, 1, 8, 8, generator=seeded()))
    assert features.shape == (2, model.width)
    assert torch.isfinite(features).all() and (features >= 0).all()


@pytest.mark.parametrize("depth, millions", [(50, 25.6), (101, 44.5), (152, 60.2)])
def test_torchvisions_less_its_classifier(depth, millions):
    with on_meta():
        whole = getattr(torchvision.models, f"resnet{depth}")()
    assert parameters(whole) / 1e6 == pytest.approx(millions, abs=0.1)  # as its documentation says
    model = resnet_imagenet.bare(depth, 512, 3)
    assert parameters(model) == parameters(whole) - parameters(whole.fc)
    assert model.width == whole.fc.in_features == 2048
    want = {k: v.shape for k, v in whole.state_dict().items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in model.state_dict().items()} == want


def test_resnext_is_torchvisions():
    with on_meta():
        whole = torchvision.models.resnext50_32x4d()
    model = resnet_imagenet.bare(50, 512, 3, 32, 4)
    want = {k: v.shape for k, v in whole.state_dict().items() if not k.startswith("fc.")}
    assert {k: v.shape for k, v in model.state_dict().items()} == want
    assert parameters(model) == 25_028_904 - (2048 * 1000 + 1000)  # as its documentation says
    groups = [m.groups for m in model.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    assert groups == 16 * [32]


def test_last_stage_doubled_by_hand():
    """The first three stages stay; the last is written here as widths of convolutions."""
    model = resnet_imagenet.bare(50, 1024, 3)
    assert model.width == 4096
    twin = [(1024, 1024, 1), (1024, 1024, 3), (1024, 4096, 1), (1024, 4096, 1)]
    twin += 2 * [(4096, 1024, 1), (1024, 1024, 3), (1024, 4096, 1)]
    found = [m for m in model.layer4.modules() if isinstance(m, nn.Conv2d)]
    assert [(m.in_channels, m.out_channels, m.kernel_size[0]) for m in found] == twin
    # what halves the resolution, and where: the 3 x 3 and the shortcut of the first block
    assert [m.stride[0] for m in found] == [1, 2, 1, 2] + 6 * [1]
    stage = sum(i * o * k * k + 2 * o for i, o, k in twin)
    usual = resnet_imagenet.bare(50, 512, 3)
    assert parameters(model) == parameters(usual) - parameters(usual.layer4) + stage


def test_swin_is_torchvisions():
    """With its weights, the same features to the bit."""
    whole = torchvision.models.swin_t().eval()
    assert parameters(whole) == 28_288_354  # as its documentation says
    model = build("swin_t", {}, generator=seeded()).eval()
    assert parameters(model) == 28_288_354 - (768 * 1000 + 1000)
    mine = dict(model.named_modules())
    for key, module in whole.named_modules():
        if isinstance(module, torchvision.ops.StochasticDepth):
            assert mine[key].p == module.p
        if isinstance(module, swin.ShiftedWindowAttention):  # made anew, the meta device had none
            assert torch.equal(mine[key].relative_position_index, module.relative_position_index)
    whole.head = nn.Identity()
    model.load_state_dict(whole.state_dict())
    images = torch.randn(1, 3, 56, 56, generator=seeded())
    with torch.no_grad():
        assert torch.equal(model(images), whole(images))


def test_swin_of_small_images():
    """Patches of 2 and windows of 4: four stages see 16, 8, 4 and 2 patches a side."""
    options = {"patch": 2, "window": 4, "stochastic_depth": 0}
    model = build("swin_t", options, image_channels=1, generator=seeded())
    x = torch.randn(2, 1, 32, 32, generator=seeded())
    assert model(x).shape == (2, 768)
    sizes = []
    for layer in model.features:
        x = layer(x)
        sizes.append(x.shape[1])
    assert sizes == [16, 16, 8, 8, 4, 4, 2, 2]


def test_swins_initial_weights():
    model = build("swin_t", {}, generator=seeded())
    for module in model.modules():
        if isinstance(module, nn.Linear):
            error = 5 * 0.02 / (2 * module.weight.numel()) ** 0.5
            assert module.weight.std().item() == pytest.approx(0.02, abs=error)
            assert module.bias is None or not module.bias.any()
        if isinstance(module, nn.LayerNorm):
            assert (module.weight == 1).all() and not module.bias.any()
        if isinstance(module, swin.ShiftedWindowAttention):
            table = module.relative_position_bias_table
            assert table.std().item() == pytest.approx(0.02, abs=0.1 / (2 * table.numel()) ** 0.5)
    patches = model.features[0][0]
    bound = 1 / math.sqrt(3 * 4 * 4)
    for parameter, share in ((patches.weight, 0.999), (patches.bias, 0.9)):
        assert share * bound < parameter.abs().max() <= bound


def test_flat_is_the_pixels():
    model = build("flat", {}, image_channels=1, generator=seeded())
    images = torch.randn(3, 1, 1, 64, generator=seeded())
    assert torch.equal(model(images), images.reshape(3, 64))
    assert model.width == 64 and not model.state_dict()
    model = build("flat", {"width": 12}, generator=seeded())
    images = torch.arange(24.0).reshape(2, 3, 2, 2).contiguous(memory_format=torch.channels_last)
    assert model(images).tolist() == [list(range(12)), list(range(12, 24))]
    with pytest.raises(ValueError, match=r"12 values .* images of 1 x 1 x 64\. Set `width: 64`"):
        model(torch.zeros(2, 1, 1, 64))


@pytest.mark.parametrize(
    "name, options, count, width",
    [
        ("resnet32", {}, 463_504, 64),
        ("resnet32", {"channels": 32}, 1_848_608, 128),
        ("resnet32_hpn", {}, 486_736, 64),
        # torchvision's less its classifier, with a 3 x 3 stem: 21,797,672 − 513,000 − 7,680
        ("resnet34_cifar", {}, 21_276_992, 512),
        # stem 432 + 32; block 2·9·c² + 4c at c = 16; at c = 32, 64: 9·(c²/2 + c²) + 4c
        ("resnet8", {}, 464 + 4_672 + 13_952 + 55_552, 64),
        ("small_cnn", {}, 3 * 9 * 32 + 9 * 32 * 64 + 9 * 64 * 64 + 2 * (32 + 64 + 64), 64),
    ],
)
def test_size(name, options, count, width):
    model = build(name, options, generator=seeded())
    assert parameters(model) == count
    assert model.width == width


@pytest.mark.parametrize("depth", [8, 20, 32, 44, 56])
def test_depth_counts_the_classifier(depth):
    model = build(f"resnet{depth}", {"channels": 2}, generator=seeded())
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) + 1 == depth


def test_resnet34_depth():
    model = build("resnet34_cifar", {}, generator=seeded())
    assert sum(isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3) for m in model.modules()) == 33


@pytest.mark.parametrize("name", ["small_cnn", "resnet8", "resnet32_hpn"])
@pytest.mark.parametrize("size", [4, 5, 8, 17, 32])
def test_gray_images_of_any_size(name, size):
    model = build(name, {}, image_channels=1, generator=seeded())
    assert model(torch.rand(2, 1, size, size)).shape == (2, model.width)


def test_resolution_is_halved_in_the_later_stages_only():
    model = build("resnet32", {}, generator=seeded())
    x = model.conv(torch.rand(1, 3, 32, 32))
    sizes = []
    for block in model.blocks:
        x = block(x)
        sizes.append(tuple(x.shape[1:]))
    assert sizes == [(16, 32, 32)] * 5 + [(32, 16, 16)] * 5 + [(64, 8, 8)] * 5


def test_shortcut_by_hand():
    x = torch.arange(2 * 4 * 4.0).reshape(1, 2, 4, 4)
    y = SubsampleAndPad(2, 4)(x)
    assert y[0].tolist() == [
        [[0, 0], [0, 0]],
        [[0, 2], [8, 10]],
        [[16, 18], [24, 26]],
        [[0, 0], [0, 0]],
    ]


@pytest.mark.parametrize(
    "name, deviation",
    [
        ("resnet32", lambda w: (2 / (w.shape[1] * w.shape[2] * w.shape[3])) ** 0.5),
        ("resnet32_hpn", lambda w: (2 / (w.shape[0] * w.shape[2] * w.shape[3])) ** 0.5),
    ],
)
def test_initial_weights(name, deviation):
    model = build(name, {}, generator=seeded())
    for key, weight in model.named_parameters():
        if weight.ndim == 4:
            # a standard deviation of n normal numbers errs by a share of √(1 / 2n); five of these
            error = 5 / (2 * weight.numel()) ** 0.5
            assert abs(weight.std().item() / deviation(weight) - 1) < error, key
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert (module.weight == 1).all() and (module.bias == 0).all()
            assert (module.running_mean == 0).all() and (module.running_var == 1).all()
            assert module.num_batches_tracked == 0


ABLE = [name for name, entry in BACKBONES.items() if entry.experts]


# the deeper ones are made as resnet8 is
@pytest.mark.parametrize("name", ["small_cnn", "resnet8", "resnet32_hpn", "resnet34_cifar"])
def test_experts(name):
    model = build(name, {}, experts=3, generator=seeded())
    twin = build(name, {}, experts=3, generator=seeded())
    alone = build(name, {}, generator=seeded())
    state, theirs = model.state_dict(), alone.state_dict()
    assert all(torch.equal(value, twin.state_dict()[key]) for key, value in state.items())
    # what is shared begins as the whole network does at this seed
    shared = [key for key in state if not key.startswith("experts.")]
    assert shared and all(torch.equal(state[key], theirs[key]) for key in shared)
    rest = parameters(alone) - sum(p.numel() for k, p in alone.named_parameters() if k in shared)
    assert parameters(model) == parameters(alone) + 2 * rest
    for key, value in model.experts[0].named_parameters():
        if value.ndim == 4:
            assert not torch.equal(value, model.experts[1].get_parameter(key))
    images = torch.randn(2, 3, 8, 8, generator=seeded())
    model.eval()
    features = model(images)
    assert features.shape == (2, 3, model.width) and model.width == alone.width
    assert not torch.allclose(features[:, 0], features[:, 1])
    # each by itself: its weights in a network of one expert
    own = {}
    for key in theirs:
        room, _, entry = key.partition(".")
        number, _, inner = entry.partition(".")
        first = len(model.get_submodule(room)) if room in ("blocks", "layers") else 0
        if first and int(number) >= first:
            key_there = f"experts.2.{int(number) - first}.{inner}"
        else:
            key_there = key
        own[key] = state[key_there]
    alone.load_state_dict(own)
    torch.testing.assert_close(features[:, 2], alone.eval()(images))


def test_able_are_those_of_small_images():
    assert {"small_cnn", "resnet8", "resnet32", "resnet34_cifar"} <= set(ABLE)
    assert not {"resnet50", "swin_t", "flat"} & set(ABLE)


def test_the_experts_of_ride_by_hand():
    """Stem and 5 blocks of 16 shared; per expert 5 blocks of 24 and 5 of 48, 9 weights a pair."""

    def stage(before, out):
        return 9 * (before * out + 9 * out * out) + 10 * 2 * out

    shared = 9 * 3 * 16 + 2 * 16 + stage(16, 16)
    expert = stage(16, 24) + stage(24, 48)
    model = build("resnet32", {"taper": 0.75}, experts=3, generator=seeded())
    assert model.width == 48 and parameters(model) == shared + 3 * expert
    alone = build("resnet32", {"taper": 0.75}, generator=seeded())
    assert alone.width == 48 and parameters(alone) == shared + expert


def test_no_weight_stays_without_a_rule():
    with on_meta():
        model = nn.Sequential(nn.Linear(2, 2))
    with pytest.raises(TypeError, match="no rule"):
        materialise(model, kaiming_fan_in, seeded())
    with pytest.raises(TypeError, match="no rule"):
        swin._draw(nn.BatchNorm2d(2), seeded())


@pytest.mark.parametrize(
    "name, options, experts, sentence",
    [
        ("resnet23", {}, 1, "Did you mean 'resnet32'"),
        ("resnet32", {"chanels": 3}, 1, "Did you mean 'channels'"),
        ("resnet32_hpn", {"channels": 3}, 1, "It has none: leave it out"),
        ("resnet32", {"channels": 15}, 1, "needs an even"),
        ("resnet32", {"channels": 16.0}, 1, "whole number, got 16.0"),
        ("resnet32", {"channels": True}, 1, "whole number"),
        ("small_cnn", {"channels": 0}, 1, "at least one channel"),
        ("swin_t", {"patch": 0}, 1, "patch and window from 1"),
        ("swin_t", {"window": 4.0}, 1, "whole number, got 4.0"),
        ("swin_t", {"stochastic_depth": "0.2"}, 1, "is a number, got '0.2'. Set `stochastic_depth"),
        ("swin_t", {"stochastic_depth": 1.0}, 1, r"in \[0, 1\)"),
        ("resnet50", {"channels": 64}, 1, "It has none: leave it out"),
        ("flat", {"width": 0}, 1, "at least one value"),
        ("resnet32", {"taper": 0.5}, 1, "an even number of channels in each of its later stages"),
        ("resnet32", {"taper": 0.76}, 1, "got taper 0.76 of 32 and 64"),
        ("resnet32", {"channels": 2, "taper": 0.75}, 1, "Set `taper: 0.75`, or 1"),
        ("resnet32", {}, 0, "at least one expert, got 0"),
        ("swin_t", {}, 3, "swin_t has one expert, 3 were asked for. Choose one of: small_cnn, res"),
    ],
)
def test_refusals(name, options, experts, sentence):
    with pytest.raises(ValueError, match=sentence):
        build(name, options, experts=experts, generator=seeded())


def test_every_entry_names_its_source():
    for entry in BACKBONES.values():
        assert entry.title and (entry.source == "ours" or "arXiv:" in entry.source)
