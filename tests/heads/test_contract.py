"""Every head keeps every clause of the contract, and every clause can be broken.

The toy heads below are named after arXiv:0000.00000, which no paper bears.
"""

import copy

import pytest
import torch
from torch import nn

from benchmark.training import contract
from benchmark.training.contract import CLAUSES, failures
from heads import HEADS
from heads.base import Head, Needs


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCHMARK_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.mark.parametrize("clause", CLAUSES, ids=lambda clause: clause.__name__)
@pytest.mark.parametrize("name", HEADS)
def test_contract(name, clause):
    clause(HEADS[name])


class Sound(Head):
    """A softmax head that keeps running class means, as a sound head would."""

    def __init__(self, problem, *, rate=0.5):
        """rate: of the means; 0.5, ours."""
        super().__init__()
        self.dim = problem.width
        self.classifier = nn.Linear(problem.width, problem.classes)
        with torch.no_grad():
            for parameter in self.classifier.parameters():
                parameter.uniform_(-0.1, 0.1, generator=problem.generator())
        self.register_buffer("means", torch.zeros(problem.classes, problem.width))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.rate = rate

    def score(self, embedding):
        return self.classifier(embedding)

    def loss(self, embedding, labels):
        return nn.functional.cross_entropy(self.score(embedding), labels)

    def after_step(self, embedding, labels, clock):
        self.steps += 1
        for k in labels.unique():
            self.means[k].lerp_(embedding[labels == k].mean(0), self.rate)


class EndlessScores(Sound):
    def score(self, embedding):
        return super().score(embedding) / 0.0

    def loss(self, embedding, labels):
        return nn.functional.cross_entropy(super().score(embedding), labels)


class OneScoreTooMany(Sound):
    def score(self, embedding):
        scores = super().score(embedding)
        return torch.cat([scores, scores[:, :1] - 9], dim=1)


class LossOfOneElement(Sound):
    """A vector of one element is no scalar."""

    def loss(self, embedding, labels):
        return super().loss(embedding, labels)[None]


class LossWithoutGradient(Sound):
    def loss(self, embedding, labels):
        return super().loss(embedding.detach(), labels)


class LossThatCounts(Sound):
    def loss(self, embedding, labels):
        self.steps += 1
        return super().loss(embedding, labels)


class LossThatAlternates(Sound):
    """Leaves every buffer alone, and is another number all the same."""

    calls = 0

    def loss(self, embedding, labels):
        self.calls += 1
        return super().loss(embedding, labels) * (1 + 1e-5 * (self.calls % 2))


class LossOfTheFirst(Sound):
    """More for the first image of the batch."""

    def loss(self, embedding, labels):
        return super().loss(embedding, labels) + 0.1 * super().loss(embedding[:1], labels[:1])


class StateOfTheLast(Sound):
    """Keeps the last image of each class, whichever that is."""

    def after_step(self, embedding, labels, clock):
        for z, k in zip(embedding, labels, strict=True):
            self.means[k] = z


class HiddenState(Sound):
    """Its temperature by class is no buffer, and comes from the seed."""

    def __init__(self, problem):
        super().__init__(problem)
        self.shift = [float(x) for x in torch.rand(3, generator=problem.generator())]

    def score(self, embedding):
        return super().score(embedding) + embedding.new_tensor(self.shift)


class StateGrownInTraining(Sound):
    """A buffer that is not there before the first step."""

    def after_step(self, embedding, labels, clock):
        if not hasattr(self, "late"):
            self.register_buffer("late", torch.zeros(3))
        super().after_step(embedding, labels, clock)


class FloatsOnly(Sound):
    def loss(self, embedding, labels):
        return super().loss(embedding, labels).float()


class RoundScores(Sound):
    """In double precision another scale, so that scores are others."""

    def score(self, embedding):
        return super().score(embedding) * (1.1 if embedding.dtype == torch.float64 else 1.0)


class NoneButOne(Sound):
    """Divides by the number of the other images: none in a batch of one."""

    def loss(self, embedding, labels):
        return super().loss(embedding, labels) / embedding.new_tensor(len(labels) - 1)


class MeansOfNone(Sound):
    """Means of classes that are not in the batch: nothing by nothing."""

    def after_step(self, embedding, labels, clock):
        for k in range(3):
            self.means[k] = embedding[labels == k].mean(0)


class Lazy(Sound):
    """A gradient so small that nothing is learned."""

    def loss(self, embedding, labels):
        return 1e-9 * super().loss(embedding, labels)


class SecretWords(Sound):
    """Reads word vectors, and does not say so."""

    def __init__(self, problem):
        super().__init__(problem)
        self.register_buffer("words", problem.words.clone())


class NeedlessWords(Sound):
    """Says that it reads word vectors, and does not."""

    @classmethod
    def needs(cls):
        return Needs(words=True)


class SecretSource(Sound):
    """Refuses, in a sentence, to be built without what it does not declare."""

    def __init__(self, problem):
        super().__init__(problem)
        if problem.source is None:
            raise ValueError("it needs a source. Train one first.")


class NeedsOfAnotherKind(Sound):
    @classmethod
    def needs(cls):
        own = Needs()
        return type("Other", (), {name: getattr(own, name) for name in Needs.__slots__})()


class Positional(Sound):
    """rate  0.5, ours"""

    def __init__(self, problem, rate=0.5):
        super().__init__(problem, rate=rate)


class WithoutDefault(Sound):
    """rate  no default at all"""

    def __init__(self, problem, *, rate):
        super().__init__(problem, rate=rate)


class Undocumented(Sound):
    """Says nothing of its pace."""

    def __init__(self, problem, *, pace=0.5):
        super().__init__(problem, rate=pace)


class Uncited(Sound):
    __module__ = "heads.base"  # whose docstring names no paper


BREAKERS = {
    EndlessScores: "scores_are_finite",
    OneScoreTooMany: "scores_are_finite",
    LossOfOneElement: "loss_has_a_gradient",
    LossWithoutGradient: "loss_has_a_gradient",
    LossThatCounts: "loss_is_pure",
    LossThatAlternates: "loss_is_pure",
    LossOfTheFirst: "order_is_of_no_account",
    StateOfTheLast: "order_is_of_no_account",
    HiddenState: "state_round_trips",
    StateGrownInTraining: "state_round_trips",
    FloatsOnly: "double_works",
    RoundScores: "double_works",
    NoneButOne: "small_batches_do_no_harm",
    MeansOfNone: "small_batches_do_no_harm",
    Lazy: "blobs_are_learned",
    SecretWords: "needs_are_declared",
    NeedlessWords: "needs_are_declared",
    SecretSource: "needs_are_declared",
    NeedsOfAnotherKind: "needs_are_declared",
    Positional: "hyperparameters_are_documented",
    WithoutDefault: "hyperparameters_are_documented",
    Undocumented: "hyperparameters_are_documented",
    Uncited: "paper_is_cited",
}


def test_a_sound_head_keeps_all():
    assert failures(Sound) == {}


def test_every_clause_has_a_breaker():
    assert set(BREAKERS.values()) == {clause.__name__ for clause in CLAUSES}


@pytest.mark.parametrize("head", BREAKERS, ids=lambda head: head.__name__)
def test_each_clause_can_be_broken_and_alone(head):
    found = failures(head)
    assert BREAKERS[head] in found
    if head is not WithoutDefault:  # which cannot be built
        assert set(found) == {BREAKERS[head]}, found


def test_failures_names_each_with_a_sentence():
    found = failures(LossThatCounts)
    assert found == {"loss_is_pure": found["loss_is_pure"]}
    assert "change state in after_step" in found["loss_is_pure"]


def test_whatever_a_clause_raises_breaks_it():
    class Raising(Sound):
        def score(self, embedding):
            raise KeyError("oh")

    found = failures(Raising)
    assert found["scores_are_finite"] == "KeyError: 'oh'"
    assert "paper_is_cited" not in found


def test_frozen_heads_are_prepared_and_sweeping_ones_swept():
    calls = []

    class Late(Sound):
        @classmethod
        def needs(cls):
            return Needs(frozen=True, sweep=True)

        def prepare(self, features, labels, previous):
            assert previous.class_vectors().shape == (3, 16) and previous.linear() is not None
            calls.append("prepare")

        def begin_epoch(self, clock, sweep=None):
            assert sweep.features.shape == (65, 16)
            calls.append(clock.epoch)

    assert failures(Late) == {}
    assert calls.count("prepare") > 5 and set(calls) == {"prepare", *range(10)}


def test_views_come_as_in_training():
    class Two(Sound):
        @classmethod
        def needs(cls):
            return Needs(views=2, mixup=False)

        def loss(self, embedding, labels):
            assert embedding.dim() == 3 and len(embedding) == 2
            return super().loss(embedding.flatten(0, 1), labels.repeat(2))

        def score(self, embedding):
            return super().score(embedding if embedding.dim() == 2 else embedding[0])

        def after_step(self, embedding, labels, clock):
            super().after_step(embedding[0], labels, clock)

    assert failures(Two) == {}


def test_experts_and_a_teacher_come_as_in_training():
    """Experts in evaluation too; the teacher's view is the first's, seen by a slower layer."""
    behind = []

    class Several(Sound):
        @classmethod
        def needs(cls):
            return Needs(experts=2)

        def embed(self, features):
            assert features.dim() == 3 and features.shape[1] == 2
            return features.mean(1)

    class Pupil(Sound):
        @classmethod
        def needs(cls):
            return Needs(views=2, teacher=True, mixup=False)

        def score(self, embedding):
            return super().score(embedding if embedding.dim() == 2 else embedding[0])

        def after_step(self, embedding, labels, clock):
            assert embedding.dim() == 3
            behind.append(float((embedding[0] - embedding[1]).norm()))
            super().after_step(embedding[0], labels, clock)

    assert failures(Several) == {}
    assert failures(Pupil) == {}
    assert max(behind) > 0.1 > min(behind)


def test_blobs_are_three_far_heaps():
    features, labels = contract.blobs()
    assert torch.bincount(labels).tolist() == [40, 20, 5] and features.shape == (65, 16)
    again, _ = contract.blobs()
    assert torch.equal(features, again) and not torch.equal(features, contract.blobs(1)[0])
    copied = copy.deepcopy(contract.problem())
    assert copied.classes == 3 and copied.words.shape == (3, 8) and copied.source.shape == (3, 16)
