"""Checkpoints: two generations, atomic, checksummed."""

import math

import pytest
import torch
from torch import nn

from benchmark.training import checkpoint
from benchmark.training.checkpoint import Checkpoint, clear, flatten, read, restore, write


def made(step):
    generator = torch.Generator().manual_seed(step)
    return Checkpoint(
        {
            "look.weight": torch.randn(3, 4, generator=generator),
            "look.kernel": torch.randn(2, 3, 3, 3).to(memory_format=torch.channels_last),
            "head.steps": torch.tensor(step),
            "head.turned": torch.arange(6.0).reshape(2, 3).T,
            "half": torch.ones(2, dtype=torch.bfloat16),
        },
        {"step": step, "curves": [{"loss": math.nan, "lr": 0.1 + 0.2}], "readings": [], "é": "·"},
    )


def same(one, other):
    assert one.tensors.keys() == other.tensors.keys()
    for name, value in one.tensors.items():
        assert value.dtype == other.tensors[name].dtype
        assert torch.equal(value, other.tensors[name]), name
    assert repr(dict(one.note)) == repr(dict(other.note))  # NaN is not equal to itself
    return True


def test_round_trip(tmp_path):
    assert read(tmp_path, "key") is None
    whole = made(1)
    write(tmp_path, "key", whole)
    assert same(whole, read(tmp_path, "key"))


def test_two_generations_stay(tmp_path):
    all_made = [made(step) for step in range(1, 5)]
    for number, each in enumerate(all_made, start=1):
        write(tmp_path, "key", each)
        names = sorted(path.name for path in tmp_path.iterdir())
        kept = range(max(1, number - 1), number + 1)
        assert names == [f"checkpoint-{g:06d}.safetensors" for g in kept]
        assert same(each, read(tmp_path, "key"))


def test_order_of_generations_is_of_numbers(tmp_path):
    write(tmp_path, "key", made(1))
    (path,) = tmp_path.iterdir()
    path.rename(tmp_path / "checkpoint-000009.safetensors")
    write(tmp_path, "key", made(2))
    assert read(tmp_path, "key").note["step"] == 2


@pytest.mark.parametrize("length", [0, 1, 40, 200, -1])
def test_a_torn_newest_falls_back(tmp_path, length):
    write(tmp_path, "key", made(1))
    write(tmp_path, "key", made(2))
    newest = max(tmp_path.iterdir())
    newest.write_bytes(newest.read_bytes()[:length])
    assert read(tmp_path, "key").note["step"] == 1


def test_any_flipped_byte_falls_back(tmp_path):
    write(tmp_path, "key", made(1))
    write(tmp_path, "key", made(2))
    newest = max(tmp_path.iterdir())
    content = newest.read_bytes()
    for where in [*range(0, 160), *range(160, len(content), 37), len(content) - 1]:
        for bit in (1, 128):
            broken = bytearray(content)
            broken[where] ^= bit
            newest.write_bytes(broken)
            assert read(tmp_path, "key").note["step"] == 1, where


def test_none_where_all_are_damaged(tmp_path):
    write(tmp_path, "key", made(1))
    write(tmp_path, "key", made(2))
    for path in tmp_path.iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    assert read(tmp_path, "key") is None
    write(tmp_path, "key", made(3))  # and goes on from there
    assert read(tmp_path, "key").note["step"] == 3


def test_the_checkpoint_of_another_cell_is_left_alone(tmp_path):
    write(tmp_path, "one", made(1))
    assert read(tmp_path, "other") is None
    write(tmp_path, "other", made(2))
    assert read(tmp_path, "one").note["step"] == 1
    assert read(tmp_path, "other").note["step"] == 2


def test_another_schema_is_left_alone(tmp_path, monkeypatch):
    write(tmp_path, "key", made(1))
    monkeypatch.setattr(checkpoint, "SCHEMA", checkpoint.SCHEMA + 1)
    assert read(tmp_path, "key") is None


def test_what_is_passed_over_is_said(tmp_path, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(checkpoint, "SCHEMA", checkpoint.SCHEMA - 1)
        write(tmp_path, "key", made(1))
    write(tmp_path, "other", made(2))
    (tmp_path / "checkpoint-000003.safetensors").mkdir()
    (tmp_path / "checkpoint-000004.safetensors").write_bytes(b"[]\n")
    (tmp_path / "checkpoint-000005.safetensors").write_bytes(b"\xff\n")
    said = []
    assert read(tmp_path, "key", said.append) is None
    want = ["cannot be read", "is damaged", "cannot be read", "is of another cell", "has schema 1"]
    for number, (sentence, what) in enumerate(zip(said, want, strict=True)):
        assert sentence.startswith(f"{tmp_path}/checkpoint-{5 - number:06d}.safetensors {what}")
        assert sentence.endswith("what is older is gone on with")
    clear(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_fails_leaves_what_was(tmp_path, monkeypatch):
    write(tmp_path, "key", made(1))
    write(tmp_path, "key", made(2))
    before = sorted(tmp_path.iterdir())

    def full(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        write(tmp_path, "key", made(3))
    assert sorted(tmp_path.iterdir()) == before
    assert read(tmp_path, "key").note["step"] == 2


def test_clear_takes_checkpoints_only(tmp_path):
    write(tmp_path, "key", made(1))
    write(tmp_path, "key", made(2))
    (tmp_path / "cell.json").write_text("{}")
    clear(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["cell.json"]
    clear(tmp_path)


SGD, ADAMW = torch.optim.SGD, torch.optim.AdamW


@pytest.mark.parametrize(
    "kind, options, kept",
    [
        (SGD, {"momentum": 0.9}, {"momentum_buffer"}),
        (SGD, {"momentum": 0.0}, set()),
        (ADAMW, {}, {"step", "exp_avg", "exp_avg_sq"}),
    ],
    ids=["sgd", "without momentum", "adamw"],
)
def test_the_optimiser_goes_on_with_the_same_bits(tmp_path, kind, options, kept):
    def fresh():
        generator = torch.Generator().manual_seed(0)
        layers = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 2))
        with torch.no_grad():
            for parameter in layers.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        layers = layers.to(memory_format=torch.channels_last)
        groups = [
            {"params": list(layers[0].parameters()), "base": 1},
            {"params": list(layers[2].parameters()), "lr": 0.005},
        ]
        return layers, kind(groups, lr=0.001, weight_decay=0.01, **options)

    def step(layers, optimizer, number):
        optimizer.zero_grad()
        x = torch.randn(5, 3, 3, 3, generator=torch.Generator().manual_seed(number))
        layers(x).square().mean().backward()
        optimizer.step()

    layers, optimizer = fresh()
    for number in range(3):
        step(layers, optimizer, number)
    tensors = flatten(optimizer)
    assert set(tensors) == {f"optimizer.{i}.{name}" for i in range(4) for name in kept}
    write(tmp_path, "key", Checkpoint(tensors, {}))
    weights = {name: value.clone() for name, value in layers.state_dict().items()}
    other, again = fresh()
    other.load_state_dict(weights)
    restore(again, read(tmp_path, "key").tensors)
    first = other[0].weight  # what belongs to it lies in memory as it does
    for value in again.state[first].values():
        assert value is None or value.dim() == 0 or value.stride() == first.stride()
    for number in range(3, 6):
        step(layers, optimizer, number)
        step(other, again, number)
    for one, two in zip(layers.parameters(), other.parameters(), strict=True):
        assert one.isfinite().all() and torch.equal(one, two)
    assert [group["lr"] for group in again.param_groups] == [0.001, 0.005]
