"""What is measured: pure functions of (scores, labels, counts).

Accuracies are in [0, 1]. An empty group has no accuracy: NaN, printed as a dash.

Sources.
    groups  Kang et al. "Decoupling Representation and Classifier", ICLR 2020, arXiv:1910.09217:
            the mean of per-class accuracies over a group of classes
    ece     Guo et al. "On Calibration of Modern Neural Networks", ICML 2017, arXiv:1706.04599
    nc1-4   Papyan, Han, Donoho. "Prevalence of neural collapse", PNAS 2020, arXiv:2008.08186
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

ROWS = 1000  # of a table with a column per class at a time; ours, 80 MB at 10,000 classes


def top(scores: Tensor, labels: Tensor, k: int) -> float:
    """Share of examples whose label is among the k largest scores; NaN where classes <= k.

    scores (examples, classes), labels (examples,)
    """
    if scores.shape[1] <= k:
        return math.nan
    best = scores.topk(k, dim=1).indices
    return float((best == labels[:, None]).any(dim=1).double().mean())


def confusion(predicted: Tensor, labels: Tensor, classes: int) -> Tensor:
    """Counts, (classes, classes): row the true class, column the predicted one."""
    cells = labels * classes + predicted
    return torch.bincount(cells, minlength=classes * classes).reshape(classes, classes)


def by_class(table: Tensor) -> Tensor:
    """Accuracy of each class, (classes,), from a confusion table; NaN for a class without tests."""
    return table.diagonal().double() / table.sum(dim=1).double()


def by_group(per_class: Tensor, groups: Sequence[str]) -> dict[str, float]:
    """Mean of per-class accuracies over many, medium and few classes (Kang et al. 2020)."""
    result = {}
    for name in ("many", "medium", "few"):
        members = [i for i, group in enumerate(groups) if group == name]
        result[name] = float(per_class[members].mean()) if members else math.nan
    return result


def reliability(scores: Tensor, labels: Tensor, bins: int = 15) -> Tensor:
    """What a reliability diagram is drawn from (Guo et al. 2017, section 2), (bins, 3), float64.

    For each bin of softmax(scores): examples, the sum of their confidences, and how many are right.

    bins  equal in width; 15, Guo et al. sec. 4
    """
    confidence, predicted = scores.double().softmax(dim=1).max(dim=1)
    right = (predicted == labels).double()
    edges = torch.linspace(0, 1, bins + 1, dtype=torch.float64, device=scores.device)[1:-1]
    where = one_hot(torch.bucketize(confidence, edges), bins).double()  # bins are (low, high]
    return where.T @ torch.stack([torch.ones_like(right), confidence, right], dim=1)


def calibration_error(table: Tensor) -> float:
    """Expected calibration error (Guo et al. 2017, equation 3) from a `reliability` table."""
    examples, confidence, right = table.unbind(dim=1)
    return float((right - confidence).abs().sum() / examples.sum())


def collapse(
    embedding: Tensor, labels: Tensor, scores: Tensor, vectors: Tensor | None, classes: int
) -> dict[str, float]:
    """Neural collapse on the training set (Papyan et al. 2020); each measure falls to 0.

    embedding (examples, dim), labels (examples,), scores (examples, classes),
    vectors (classes, dim) or None where the head has no class vectors

    nc1  within-class scatter against between-class scatter: tr(Σ_W Σ_B⁺) / classes
    nc2  how far class means are from a simplex: mean over pairs of |cos + 1/(classes - 1)|
    nc3  class vectors against class means: ‖W/‖W‖ - M/‖M‖‖²
    nc4  share of examples where the scores disagree with the nearest class mean
    """
    embedding = embedding.double()
    size = torch.bincount(labels, minlength=classes).clamp(min=1)
    means = embedding.new_zeros(classes, embedding.shape[1])
    for rows, own in zip(embedding.split(ROWS), labels.split(ROWS), strict=True):
        means += one_hot(own, classes).double().T @ rows  # index_add is not exact on a GPU
    means = means / size[:, None]
    centred = means - means.mean(dim=0)
    within = embedding - means[labels]
    scatter = within.T @ within / len(labels)
    between = centred.T @ centred / classes
    nc1 = torch.trace(scatter @ torch.linalg.pinv(between, hermitian=True)) / classes
    directions = normalize(centred, dim=1)
    apart = 1 / (classes - 1)
    nc2 = embedding.new_zeros(())
    for first, rows in enumerate(directions.split(ROWS)):  # all pairs at once are too many
        off = (rows @ directions.T + apart).abs()
        nc2 += off.sum() - off.diagonal(first * ROWS).sum()
    nc2 = nc2 / (classes * (classes - 1))
    nc3 = math.nan
    if vectors is not None and vectors.shape == means.shape:
        weight = vectors.double() - vectors.double().mean(dim=0)
        nc3 = float((weight / weight.norm() - centred / centred.norm()).square().sum())
    nearest = torch.cat([torch.cdist(rows, means).argmin(1) for rows in embedding.split(ROWS)])
    nc4 = (nearest != scores.argmax(dim=1)).double().mean()
    return {"nc1": float(nc1), "nc2": float(nc2), "nc3": nc3, "nc4": float(nc4)}
