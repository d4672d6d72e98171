"""Addresses of randomness."""

import itertools
from hashlib import sha256

import numpy as np
import pytest
import torch

from benchmark.training.streams import STREAMS, address, beta, stream


def draw(*where):
    return torch.rand(4, generator=stream(*where)).tolist()


def test_the_same_address_gives_the_same_numbers():
    assert draw(3, "order", 0, 7) == draw(3, "order", 0, 7)
    assert beta(0.4, 3, "augment", "mixup", 1) == beta(0.4, 3, "augment", "mixup", 1)


def test_addresses_are_fixed_for_good():
    """Another number here is another PROTOCOL: finished cells could not be made again."""
    # `echo -n 0/backbone | sha256sum`: the first 16 digits, halved
    assert address(0, "backbone") == 0xF86D6C12935F83E0 // 2
    assert address(3, "order", 0, 7) == int(sha256(b"3/order/0/7").hexdigest()[:16], 16) // 2


def test_each_part_of_the_address_matters():
    usual = (3, "order", 1, 2)
    others = [(4, "order", 1, 2), (3, "augment", 1, 2), (3, "order", 0, 2), (3, "order", 1, 3)]
    others += [(3, "order", 1), (3, "order", 2, 1), (3, "order", 12), (31, "order", 1, 2)]
    assert all(draw(*usual) != draw(*other) for other in others)
    assert len({address(*each) for each in (usual, *others)}) == 9


def test_no_two_neighbours_collide():
    grid = list(itertools.product(range(10), STREAMS, range(3), range(10), range(10)))
    found = {address(*each) for each in grid}
    assert len(found) == len(grid)
    assert all(0 <= each < 2**63 for each in found)


def test_a_seed_record_gives_each_stream_its_own():
    record = {"backbone": 0, "head": 1, "order": 2, "augment": 3}
    for name, seed in record.items():
        assert address(record, name, 5) == address(seed, name, 5)
        other = {**record, name: 9}
        changed = [each for each in STREAMS if address(other, each) != address(record, each)]
        assert changed == [name]


def test_the_global_state_is_neither_read_nor_moved():
    before, legacy = torch.get_rng_state(), np.random.get_state()[1].tolist()
    draw(0, "head")
    beta(1.0, 0, "augment")
    assert torch.equal(torch.get_rng_state(), before)
    assert np.random.get_state()[1].tolist() == legacy


@pytest.mark.parametrize("alpha", [0.2, 1.0, 4.0])
def test_beta_has_the_moments_of_beta(alpha):
    found = np.array([beta(alpha, 0, "augment", step) for step in range(2000)])
    assert ((0 <= found) & (found <= 1)).all()
    variance = 1 / (4 * (2 * alpha + 1))
    assert abs(found.mean() - 0.5) < 5 * (variance / 2000) ** 0.5
    assert found.var() == pytest.approx(variance, rel=0.15)
