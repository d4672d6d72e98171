"""Batch norm in few passes: the same as torch's, forward, backward and running."""

import copy
import platform
import shutil
import subprocess

import pytest
import torch
from torch import fx, nn
from torch._inductor import compile_fx, config, cpp_builder
from torch.nn import functional

from benchmark import backbones
from benchmark.training import fusing, memory
from benchmark.training.fusing import normalised


def a_norm(channels: int, **options: float) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels, **options).double()
    random = torch.Generator().manual_seed(0)
    for value in (norm.weight.data, norm.bias.data, norm.running_mean, norm.running_var):
        value.copy_(torch.rand(channels, generator=random, dtype=torch.float64) + 0.5)
    return norm


def ours(norm: nn.BatchNorm2d, x: torch.Tensor) -> torch.Tensor:
    state = (norm.running_mean, norm.running_var, norm.weight, norm.bias)
    return normalised(x, *state, norm.momentum, norm.eps)


@pytest.mark.parametrize("shape", [(6, 5, 4, 3), (1, 5, 1, 2), (2, 5, 1, 1)])
def test_like_torchs_in_double(shape):
    theirs = a_norm(5, momentum=0.3, eps=1e-3)
    mine = copy.deepcopy(theirs)
    random = torch.Generator().manual_seed(1)
    x = 3 * torch.randn(shape, generator=random, dtype=torch.float64) + 7
    g = torch.randn(shape, generator=random, dtype=torch.float64)
    found = []
    for norm, call in ((theirs, theirs), (mine, lambda x: ours(mine, x))):
        own = x.clone().requires_grad_()
        y = call(own)
        y.backward(g)
        found.append([y, own.grad, norm.weight.grad, norm.bias.grad])
        found[-1] += [norm.running_mean, norm.running_var]
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(other, one, rtol=1e-8, atol=1e-8)


def test_gradients_by_differences():
    norm = a_norm(2)
    x = torch.randn(3, 2, 2, 2, generator=torch.Generator().manual_seed(2)).double()
    near = norm.running_mean.clone()

    def first(x, weight, bias):
        return fusing._Norm.apply(x, near, weight, bias, 1e-5)[0]

    given = (x, norm.weight.detach(), norm.bias.detach())
    assert torch.autograd.gradcheck(first, [each.clone().requires_grad_() for each in given])


def test_a_large_mean_costs_no_digits():
    """In float32 the plain difference of squares would have none left."""
    x = 1000 + 0.1 * torch.randn(64, 3, 8, 8, generator=torch.Generator().manual_seed(3))
    norm = a_norm(3).float()
    norm.running_mean.fill_(1000.05)
    wanted = functional.batch_norm(x.double(), None, None, training=True)
    norm.weight.data.fill_(1)
    norm.bias.data.zero_()
    torch.testing.assert_close(ours(norm, x).double(), wanted, rtol=0, atol=5e-3)


def rewritten(model: nn.Module, images: torch.Tensor) -> fusing.fx.GraphModule:
    """What dynamo sees of a model, and what becomes of it."""
    kept = []

    def catch(graph, inputs):
        kept.append(fusing.fused(graph))
        return kept[-1].forward

    torch.compiler.reset()
    torch.compile(model, backend=catch, fullgraph=True, dynamic=False)(images)
    return kept[0]


def test_every_norm_of_a_network_is_rewritten():
    made = backbones.build("resnet8", {"channels": 4}, generator=torch.Generator().manual_seed(0))
    other = copy.deepcopy(made)
    images = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    graph = rewritten(made.train(), images)
    targets = [node.target for node in graph.graph.nodes]
    norms = sum(isinstance(each, nn.BatchNorm2d) for each in made.modules())
    assert targets.count(normalised) == norms and functional.batch_norm not in targets
    other.train()(images)
    for name, value in made.state_dict().items():
        torch.testing.assert_close(value, other.state_dict()[name], rtol=1e-4, atol=1e-5)


def test_what_is_no_norm_of_images_in_training_stays():
    images = torch.randn(4, 3, 8, 8)
    for model in (
        nn.BatchNorm2d(3).eval(),
        nn.BatchNorm2d(3, affine=False),
        nn.BatchNorm2d(3, track_running_stats=False),
        nn.Sequential(nn.Flatten(2), nn.BatchNorm1d(3)),
    ):
        targets = [node.target for node in rewritten(model, images).graph.nodes]
        assert normalised not in targets and functional.batch_norm in targets


def test_rectified_is_relu():
    x = torch.tensor([-2.0, -0.0, 0.0, 3.0, float("nan")], requires_grad=True)
    y = fusing.rectified(x)
    y.backward(torch.full((5,), 7.0))
    assert y[:4].tolist() == [0, 0, 0, 3] and y[4].isnan()
    assert x.grad[:4].tolist() == [0, 0, 0, 7]


class Relus(nn.Module):
    """One that feeds a convolution, one that does not, one whose input is used again."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, bias=False)

    def forward(self, x):
        y = self.conv(functional.relu(x + 1, inplace=True))
        z = functional.relu(y * 2, inplace=True)
        once = y - 1
        again = functional.relu(once, inplace=True)
        return z.sum() + again.sum() + once.sum()


def test_only_a_relu_that_nothing_keeps_is_rewritten():
    torch.manual_seed(0)
    made, images = Relus(), torch.randn(2, 3, 8, 8)
    graph = rewritten(made, images)
    found = [node.target for node in graph.graph.nodes]
    assert found.count(fusing.rectified) == 1 and found.count(functional.relu) == 2
    ours = torch.compile(made, backend=lambda g, i: fusing.fused(g).forward, fullgraph=True)
    torch.testing.assert_close(ours(images), made(images))


def test_gnus_compiler_is_asked_to_fetch_ahead_and_no_other():
    for found, wanted in (
        ((None, "g++"), (f"g++ {fusing.AHEAD}", None, "g++")),
        ("/opt/bin/g++-14", (f"/opt/bin/g++-14 {fusing.AHEAD}", "/opt/bin/g++-14")),
        ((None, "clang++"), (None, "clang++")),
    ):
        with config.patch({"cpp.cxx": found}):
            assert fusing.options()["cpp.cxx"] == wanted


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_settings_and_rewriting_are_for_a_cpu(monkeypatch, device):
    """Another device, here one without values, has inductor's own way."""
    given = []
    monkeypatch.setattr(compile_fx, "compile_fx", lambda *args, **more: given.append((args, more)))
    graph = fx.symbolic_trace(nn.Identity())
    monkeypatch.setattr(fusing, "fused", lambda graph: "rewritten")
    images = [torch.zeros(1, device=device)]
    fusing.backend(graph, images)
    ours = (("rewritten", images), {"config_patches": fusing.options()})
    assert given == [ours if device == "cpu" else ((graph, images), {})]
    assert fusing.options()["realize_reads_threshold"] == fusing.REREAD


@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_inductor_and_the_compiler_take_the_flags(tmp_path):
    if hasattr(cpp_builder, "_split_compiler_command"):  # torch that knows compilers with flags
        with config.patch({"cpp.cxx": (None, "g++")}), config.patch(fusing.options()):
            assert cpp_builder.get_cpp_compiler() == f"g++ {fusing.AHEAD}"
    loop = tmp_path / "loop.cpp"
    loop.write_text(
        "void f(float* a, const float* b) { for (long i = 0; i < 9999999; i++) a[i] += b[i]; }"
    )

    def machine_code(*flags: str) -> str:
        command = ["g++", "-O3", *flags, "-S", "-o", "-", str(loop)]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    ahead = machine_code(*fusing.AHEAD.split())
    if platform.machine() == "x86_64":
        assert "prefetch" in ahead and "prefetch" not in machine_code()


@pytest.mark.long
@pytest.mark.skipif(not shutil.which("g++"), reason="needs g++")
def test_fetching_ahead_changes_no_bit(monkeypatch, tmp_path):
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    made = nn.Sequential(nn.Conv2d(3, 32, 3), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 8, 3))
    made = made.to(memory_format=torch.channels_last)
    images = torch.randn(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = []
    for flags in (fusing.AHEAD, ""):
        monkeypatch.setattr(fusing, "AHEAD", flags)
        torch.compiler.reset()
        own = copy.deepcopy(made)
        with torch.autocast("cpu", torch.bfloat16):
            y = torch.compile(own, backend=fusing.backend, fullgraph=True, dynamic=False)(images)
        y.float().square().sum().backward()
        found.append([y, *(p.grad for p in own.parameters()), *own.buffers()])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert found[0][1].abs().sum() > 0


def test_memory_is_kept_or_left_alone(monkeypatch):
    told = []

    class Library:
        def mallopt(self, what, value):
            told.append((what, value))
            return 1

    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: Library())
    memory._tune.cache_clear()
    assert memory.keep() and memory.usual()
    assert told == [(-3, 2**28), (-1, 2**31 - 1), (-3, 2**25), (-1, 2**26)]
    memory._tune.cache_clear()
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())
    assert not memory.keep() and not memory.usual()
    memory._tune.cache_clear()
