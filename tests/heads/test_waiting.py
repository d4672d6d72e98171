"""No head looks at a value within a step: on an accelerator that would wait for it.

Tensors here have a shape and no values, so that whatever asks for one is found without a GPU.
"""

import pytest
from torch import nn
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from benchmark.training import contract
from heads import HEADS
from heads.base import Clock, Head


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHMARK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def step(head: type[Head]) -> None:
    """A step without values: embed, loss, backward, after_step. Raises what torch raises."""
    own = contract._built(head).train()
    features, labels = contract.blobs()
    features = contract._shaped(own, features)
    void = FakeTensorMode()
    for module in own.modules():
        for name, value in module._parameters.items():
            if value is not None:
                empty = nn.Parameter(void.from_tensor(value.detach()), value.requires_grad)
                module._parameters[name] = empty
        for name, value in module._buffers.items():
            if value is not None:
                module._buffers[name] = void.from_tensor(value)
    features = void.from_tensor(features).requires_grad_()
    labels = void.from_tensor(labels)
    with void:
        embedding = own.embed(features)
        own.loss(embedding, labels).backward()
        own.after_step(embedding.detach(), labels, Clock(0, 0, 5, 10))


@pytest.mark.parametrize("name", HEADS)
def test_nothing_is_waited_for_within_a_step(name):
    step(HEADS[name])


class Curious(HEADS["psc"]):
    def after_step(self, embedding, labels, clock):
        if embedding.abs().max() > 10:
            self.zero_grad()


class Wordy(HEADS["psc"]):
    def loss(self, embedding, labels):
        return super().loss(embedding, labels) * (labels.tolist()[0] + 1)


@pytest.mark.parametrize("head", [Curious, Wordy])
def test_who_looks_is_found(head):
    with pytest.raises(DataDependentOutputException):
        step(head)
