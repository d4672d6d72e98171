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


@pytest.mark.parametrize("momentum", [0.9, 0.0])
def test_the_optimiser_goes_on_with_the_same_bits(momentum):
    def fresh():
        generator = torch.Generator().manual_seed(0)
        layer = nn.Linear(3, 2)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
        groups = [{"params": [layer.weight], "base": 1}, {"params": [layer.bias], "lr": 0.5}]
        return layer, torch.optim.SGD(groups, lr=0.1, momentum=momentum, weight_decay=0.01)

    def step(layer, sgd, number):
        sgd.zero_grad()
        x = torch.randn(5, 3, generator=torch.Generator().manual_seed(number))
        layer(x).square().mean().backward()
        sgd.step()

    layer, sgd = fresh()
    for number in range(3):
        step(layer, sgd, number)
    tensors = {name: value.clone() for name, value in flatten(sgd).items()}
    assert len(tensors) == (2 if momentum else 0)
    weights = {name: value.clone() for name, value in layer.state_dict().items()}
    other, again = fresh()
    other.load_state_dict(weights)
    restore(again, tensors)
    for number in range(3, 6):
        step(layer, sgd, number)
        step(other, again, number)
    assert torch.equal(layer.weight, other.weight) and torch.equal(layer.bias, other.bias)
    assert [group["lr"] for group in again.param_groups] == [0.1, 0.5]
