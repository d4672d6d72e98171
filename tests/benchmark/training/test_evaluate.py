"""One pass over a split, and what is said of it."""

import math

import numpy as np
import pytest
import torch

from benchmark.training.evaluate import features, judge, see
from datasets.base import Material, Split
from heads.base import Head


class Fixed(Head):
    """Scores are the embedding, which is twice the features; three class vectors."""

    def __init__(self, dim=3):
        super().__init__()
        self.dim = dim
        self.register_buffer("assignment", torch.tensor([2, 0, 1]))
        self.register_buffer("moves", torch.tensor(4))
        self.register_buffer("means", torch.zeros(3, dim))

    def embed(self, features):
        return 2 * features

    def score(self, embedding):
        return embedding[:, :3]

    def loss(self, embedding, labels):
        return embedding.sum()

    def class_vectors(self):
        return torch.eye(3, self.dim)


def look(images):
    """Features: the first row of pixels."""
    return images[:, 0, 0]


def pictures(rows):
    return torch.tensor(rows, dtype=torch.float32)[:, None, None]


ROWS = [[9, 0, 1, 0], [0, 9, 1, 0], [0, 9, 1, 0], [0, 0, 9, 0]]
LABELS = torch.tensor([0, 1, 0, 1])


def passes(rows=ROWS, labels=LABELS, batch=3):
    images = pictures(rows)
    return lambda: iter(zip(images.split(batch), labels.split(batch), strict=True))


@pytest.fixture
def material():
    split = Split(torch.zeros(4, 1, 1, 4, dtype=torch.uint8), LABELS)
    return Material(
        *(split, None, split, (4, 3, 2), ("a", "b", "c"), None, ("many", "medium", "few")),
        *((0.5,), (0.2,), "digest"),
    )


def test_see_keeps_the_order():
    seen = see(look, Fixed(4), passes()())
    assert torch.equal(seen.embedding, 2 * pictures(ROWS)[:, 0, 0])
    assert torch.equal(seen.scores, seen.embedding[:, :3])
    assert torch.equal(seen.labels, LABELS)
    assert seen.accuracy == 0.5


def test_features_are_before_the_head():
    found, labels = features(look, passes()(), len(LABELS))
    assert torch.equal(found, pictures(ROWS)[:, 0, 0]) and torch.equal(labels, LABELS)


def test_no_gradient_is_kept():
    weight = torch.ones(1, requires_grad=True)
    assert not see(lambda x: look(x) * weight, Fixed(4), passes()()).scores.requires_grad
    assert not features(lambda x: look(x) * weight, passes()(), len(LABELS))[0].requires_grad


def test_judge_by_hand(material):
    learned = passes([[9, 0, 0, 0], [0, 9, 0, 0], [0, 0, 9, 0]], torch.arange(3))
    verdict = judge(look, Fixed(4), material, passes(), learned)
    numbers = verdict.metrics
    assert numbers["accuracy"] == 0.5 and numbers["train_accuracy"] == 1.0
    assert numbers["many"] == 0.5 and numbers["medium"] == 0.5
    assert math.isnan(numbers["few"])  # no test image of the third class
    assert math.isnan(numbers["top5"])  # of three classes
    assert numbers["ece"] == pytest.approx(0.5, abs=1e-5)
    for name in ("nc1", "nc2", "nc3", "nc4"):
        assert numbers[name] == pytest.approx(0, abs=1e-10)
    assert "flip" not in numbers
    assert verdict.arrays["confusion"].tolist() == [[1, 1, 0], [0, 1, 1], [0, 0, 0]]
    assert verdict.arrays["per_class"][:2].tolist() == [0.5, 0.5]
    assert verdict.arrays["class_vectors"].tolist() == np.eye(3, 4).tolist()
    # whole numbers that are a table are worth keeping; a count or means are not
    assert verdict.arrays["head.assignment"].tolist() == [2, 0, 1]
    examples, confidence, right = verdict.arrays["reliability"].sum(axis=0)
    assert (examples, right) == (4, 2) and confidence == pytest.approx(4, abs=1e-4)
    names = {"confusion", "per_class", "reliability", "class_vectors", "head.assignment"}
    assert set(verdict.arrays) == names  # dim 4: no embedding
    assert all(isinstance(value, np.ndarray) for value in verdict.arrays.values())


@pytest.mark.parametrize("dim, kept", [(2, True), (3, True), (4, False)])
def test_embeddings_that_can_be_drawn_are_kept(material, dim, kept):
    class Thin(Fixed):
        def embed(self, features):
            return features[:, : self.dim]

        def score(self, embedding):
            return torch.cat([embedding, torch.zeros(len(embedding), 3)], dim=1)[:, :3]

    verdict = judge(look, Thin(dim), material, passes(), passes())
    assert ("embedding" in verdict.arrays) == kept == ("labels" in verdict.arrays)
    if kept:
        want = np.array(ROWS, dtype=np.float32)[:, :dim]
        assert np.array_equal(verdict.arrays["embedding"], want)  # of the test images
        assert np.array_equal(verdict.arrays["labels"], LABELS.numpy())


def test_flip_averages_an_image_with_its_mirror(material):
    """Mirrored, (4, 0, 0, 9) is (9, 0, 0, 4): class 0 has 13; the second image has 7 to 8."""
    rows = [[4, 5, 0, 9], [3, 5, 3, 4]]
    labels = torch.tensor([0, 1])
    # plain: class 1 at 5, class 1 at 5; with the mirror: (13, 5, 5) and (7, 8, 8)
    verdict = judge(
        *(look, Fixed(4), material, passes(rows, labels), passes()),
        mirrored=lambda: ((images.flip(-1), own) for images, own in passes(rows, labels)()),
    )
    assert verdict.metrics["accuracy"] == 0.5
    assert verdict.metrics["flip"] == 1.0


def test_a_head_without_class_vectors(material):
    class Bare(Fixed):
        def class_vectors(self):
            return None

    verdict = judge(look, Bare(4), material, passes(), passes())
    assert math.isnan(verdict.metrics["nc3"]) and "class_vectors" not in verdict.arrays
