"""Metrics against other libraries and against numbers worked by hand."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import confusion_matrix, recall_score, top_k_accuracy_score
from torchmetrics.functional.classification import (
    multiclass_accuracy,
    multiclass_calibration_error,
)

from benchmark.training.metrics import (
    by_class,
    by_group,
    calibration_error,
    collapse,
    confusion,
    reliability,
    top,
)


@pytest.fixture(params=range(3))
def sample(request):
    """Scores (400, 10) that are right more often than not, and labels."""
    generator = torch.Generator().manual_seed(request.param)
    labels = torch.randint(0, 10, (400,), generator=generator)
    noise = torch.randn(400, 10, generator=generator)
    return 2 * noise + 3 * torch.nn.functional.one_hot(labels, 10), labels


@pytest.mark.parametrize("k", [1, 2, 5, 9])
def test_top_against_sklearn_and_torchmetrics(sample, k):
    scores, labels = sample
    found = top(scores, labels, k)
    assert found == pytest.approx(top_k_accuracy_score(labels, scores, k=k, labels=range(10)))
    theirs = multiclass_accuracy(scores, labels, num_classes=10, average="micro", top_k=k)
    assert found == pytest.approx(float(theirs))


def test_top_by_hand():
    scores = torch.tensor([[3.0, 2.0, 1.0], [3.0, 2.0, 1.0], [1.0, 2.0, 3.0]])
    assert top(scores, torch.tensor([1, 2, 2]), 2) == pytest.approx(2 / 3)
    assert math.isnan(top(scores, torch.tensor([1, 2, 2]), 3))  # sure to be right: says nothing
    assert math.isnan(top(scores, torch.tensor([1, 2, 2]), 5))


def test_confusion_and_by_class_against_sklearn(sample):
    scores, labels = sample
    predicted = scores.argmax(1)
    table = confusion(predicted, labels, 10)
    assert table.tolist() == confusion_matrix(labels, predicted).tolist()
    recall = recall_score(labels, predicted, average=None)
    assert by_class(table).numpy() == pytest.approx(recall)


def test_confusion_by_hand():
    table = confusion(torch.tensor([1, 1, 0, 3]), torch.tensor([0, 1, 0, 1]), 4)
    assert table.tolist() == [[1, 1, 0, 0], [0, 1, 0, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    found = by_class(table).tolist()
    assert found[:2] == [0.5, 0.5] and all(math.isnan(each) for each in found[2:])


def test_by_group_is_the_mean_over_classes_not_images():
    per_class = torch.tensor([0.9, 0.5, 0.3, 0.1], dtype=torch.float64)
    found = by_group(per_class, ["many", "few", "many", "few"])
    assert found["many"] == pytest.approx(0.6) and found["few"] == pytest.approx(0.3)
    assert math.isnan(found["medium"]) and list(found) == ["many", "medium", "few"]


@pytest.mark.parametrize("bins", [15, 4])
def test_calibration_error_against_torchmetrics(sample, bins):
    scores, labels = sample
    for temperature in (0.3, 1.0, 5.0):
        theirs = multiclass_calibration_error(
            (scores / temperature).softmax(1), labels, num_classes=10, n_bins=bins, norm="l1"
        )
        found = calibration_error(reliability(scores / temperature, labels, bins))
        assert found == pytest.approx(float(theirs), abs=1e-6)


def test_calibration_error_by_hand():
    """Three at confidence 0.8, of which one is right, and one at 0.6, which is right."""
    confidence = torch.tensor([0.8, 0.8, 0.8, 0.6], dtype=torch.float64)
    scores = torch.stack([confidence.log(), (1 - confidence).log()], dim=1)
    labels = torch.tensor([0, 1, 1, 0])
    want = 3 / 4 * abs(1 / 3 - 0.8) + 1 / 4 * abs(1 - 0.6)
    assert calibration_error(reliability(scores, labels)) == pytest.approx(want)
    # in one bin for all: |1/2 − 3/4|
    assert calibration_error(reliability(scores, labels, bins=1)) == pytest.approx(0.25)


def test_reliability_by_hand():
    """The four of the last test: one in bin 9 (0.6 is its upper edge), three in bin 12."""
    confidence = torch.tensor([0.8 - 1e-9, 0.8 - 1e-9, 0.8 - 1e-9, 0.59], dtype=torch.float64)
    scores = torch.stack([confidence.log(), (1 - confidence).log()], dim=1)
    found = reliability(scores, torch.tensor([0, 1, 1, 0]))
    assert found.shape == (15, 3) and found.sum() == pytest.approx(4 + 2.99 + 2)
    assert found[8].tolist() == pytest.approx([1, 0.59, 1])
    assert found[11].tolist() == pytest.approx([3, 2.4, 1])


def test_calibration_error_has_fifteen_bins_and_closes_them_above():
    """Confidence 2/3 is the upper edge of bin 10, 0.7 lies in bin 11: two gaps, not one."""
    confidence = torch.tensor([2 / 3 - 1e-9, 0.7], dtype=torch.float64)
    scores = torch.stack([confidence.log(), (1 - confidence).log()], dim=1)
    want = (1 / 3 + 0.7) / 2
    assert calibration_error(reliability(scores, torch.tensor([0, 1]))) == pytest.approx(want)
    sure = torch.tensor([[200.0, 0.0], [0.0, 200.0]])
    assert calibration_error(reliability(sure, torch.tensor([0, 0]))) == pytest.approx(0.5)


def simplex(classes):
    """Vertices in as many dimensions: centred, (classes, classes)."""
    return torch.eye(classes, dtype=torch.float64) - 1 / classes


def test_a_collapsed_set_measures_zero():
    for classes in (2, 3, 10):
        vertices = simplex(classes)
        labels = torch.arange(classes).repeat(4)
        embedding = vertices[labels]
        found = collapse(embedding, labels, embedding @ vertices.T, 7 * vertices, classes)
        assert found == pytest.approx({"nc1": 0, "nc2": 0, "nc3": 0, "nc4": 0}, abs=1e-12)


def test_neither_shift_nor_scale_nor_turn_is_of_account_to_nc1_and_nc2():
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(3).repeat(20)
    embedding = simplex(3)[labels] + 0.2 * torch.randn(60, 3, generator=generator).double()
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator).double()).Q
    scores = torch.zeros(60, 3)
    plain = collapse(embedding, labels, scores, None, 3)
    other = collapse(5 * embedding @ turn + 3, labels, scores, None, 3)
    for name in ("nc1", "nc2"):
        assert plain[name] > 0.01
        assert other[name] == pytest.approx(plain[name])


def test_two_classes_on_a_line():
    """Class 0 at 0 and 2, class 1 at 5 and 7, in the plane; worked by hand.

    means (1, 0), (6, 0); their mean (3.5, 0); Σ_B = 2.5² = 6.25; Σ_W = 1; nc1 = (1 / 6.25) / 2.
    Opposite directions: cosine −1 = −1/(2 − 1), nc2 = 0. Vectors (−2, 0), (2, 0) are the centred
    means but for length: nc3 = 0; turned by a right angle: two unit matrices at a right angle, 2.
    The nearest mean changes at 3.5; the scores call 5 a class 0: one of four disagrees.
    """
    embedding = torch.tensor([[0.0, 0], [2, 0], [5, 0], [7, 0]])
    labels = torch.tensor([0, 0, 1, 1])
    scores = torch.tensor([[1.0, 0], [1, 0], [1, 0], [0, 1]])
    vectors = torch.tensor([[-2.0, 0], [2, 0]])
    found = collapse(embedding, labels, scores, vectors, 2)
    assert found == pytest.approx({"nc1": 0.08, "nc2": 0, "nc3": 0, "nc4": 0.25}, abs=1e-12)
    turned = collapse(embedding, labels, scores, vectors.flip(1), 2)
    assert turned["nc3"] == pytest.approx(2)
    shifted = collapse(embedding, labels, scores, vectors + 4, 2)
    assert shifted["nc3"] == pytest.approx(0, abs=1e-12)  # only differences of vectors decide
    opposed = collapse(embedding, labels, scores, -vectors, 2)
    assert opposed["nc3"] == pytest.approx(4)


def test_three_means_on_a_line_are_no_simplex():
    """Centred means −1, 0 … : at −1, −1, 2 the cosines are 1, −1, −1, each to be −1/2."""
    embedding = torch.tensor([[-1.0], [-1.0], [2.0]])
    found = collapse(embedding, torch.arange(3), torch.eye(3), None, 3)
    assert found["nc2"] == pytest.approx((1.5 + 0.5 + 0.5) / 3)
    assert math.isnan(found["nc3"])


def test_collapse_of_unequal_classes_against_loops():
    """Means are by class, whatever its size; Σ_W is over images, Σ_B over classes."""
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), [30, 8, 2])
    points = rng.normal(size=(40, 5)) + 2 * np.eye(3, 5)[labels]
    means = np.stack([points[labels == k].mean(0) for k in range(3)])
    centre = means.mean(0)
    within, between = np.zeros((5, 5)), np.zeros((5, 5))
    for z, k in zip(points, labels, strict=True):
        within += np.outer(z - means[k], z - means[k]) / 40
    for mean in means:
        between += np.outer(mean - centre, mean - centre) / 3
    want = np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / 3
    scores = torch.from_numpy(-((points[:, None] - means) ** 2).sum(2))
    vectors = torch.from_numpy(rng.normal(size=(3, 7)))  # of another length: nothing to compare
    found = collapse(torch.from_numpy(points), torch.from_numpy(labels), scores, vectors, 3)
    assert found["nc1"] == pytest.approx(want)
    assert found["nc4"] == 0
    assert math.isnan(found["nc3"])
