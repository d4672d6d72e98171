"""Geometry of the sphere, and the sums over it that several heads share: pure functions on tensors.

How well can c unit vectors be spread in d dimensions? Two ways to ask, named `objective`:

    energy       min L(W) = log mean_{i<j} exp(−t ‖wᵢ − wⱼ‖²),  t = 2    arXiv:2005.10242
    separation   min max_{i≠j} wᵢᵀwⱼ                                     arXiv:1901.10514

    c ≤ d+1        the simplex, every cosine −1/(c−1): the optimum of both
    d+1 < c ≤ 2d   no set has its largest cosine below 0 (Rankin 1955); c−d−1 antipodal pairs and
                   one simplex of 2d−c+2 points, mutually orthogonal, reach it with the lowest
                   energy; at c = 2d this is the orthoplex
    d = 2          the regular polygon: the optimum of both
    otherwise      unknown; found by L-BFGS from several random starts
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from heads.checks import one_of

SHORTEST = 1e-8  # a vector below this length has no direction worth the name


def unit(x: Tensor) -> Tensor:
    """Vectors on the sphere, (..., dim); one shorter than 1e-8 stays, for a finite gradient."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / torch.where(length > SHORTEST, length, torch.ones_like(length))


def cosine(a: Tensor, b: Tensor) -> Tensor:
    """Cosine of each row of a, (batch, dim), with each of b, (classes, dim): (batch, classes)."""
    return unit(a) @ unit(b).T


def simplex(classes: int, dim: int) -> Tensor:
    """Regular simplex: unit vectors, (classes, dim), float64, pairwise cosine −1/(classes−1).

    On axis i the points before i are 0, point i stands at height[i], and all later points share the
    opposite side, −height[i]/(classes−1−i), so that every axis sums to zero.
    """
    _check_sizes(classes, dim)
    if dim < classes - 1:
        raise ValueError(
            f"a simplex needs dim >= classes - 1, got dim {dim} for {classes} classes. "
            f"Give dim {classes - 1} or more, or use spread_points."
        )
    later = torch.arange(classes - 1, 0, -1, dtype=torch.float64)
    # What the first i axes leave of the unit length: Π (1 − 1/m²) over m = classes−1, …, classes−i.
    left = torch.cat([torch.ones(1, dtype=torch.float64), 1 - later[:-1] ** -2]).cumprod(0)
    height = left.sqrt()
    points = torch.zeros(classes, dim, dtype=torch.float64)
    points[:, : classes - 1] = torch.tril((-height / later).expand(classes, -1), diagonal=-1)
    points[:, : classes - 1].diagonal().copy_(height)
    return points


def orthoplex(dim: int) -> Tensor:
    """Cross-polytope: e₁, −e₁, e₂, −e₂, …, (2·dim, dim), float64."""
    return pairs_and_simplex(2 * dim, dim)


def pairs_and_simplex(classes: int, dim: int) -> Tensor:
    """classes−dim−1 antipodal pairs and one simplex of 2·dim−classes+2 points, mutually orthogonal.

    (classes, dim), float64; for dim+1 <= classes <= 2·dim.
    """
    _check_sizes(classes, dim)
    if not dim + 1 <= classes <= 2 * dim:
        raise ValueError(
            "pairs and a simplex need dim + 1 <= classes <= 2 * dim, "
            f"got {classes} classes in dim {dim}. Use spread_points, which covers every case."
        )
    pairs = classes - dim - 1
    points = torch.zeros(classes, dim, dtype=torch.float64)
    axis = torch.arange(pairs)
    points[2 * axis, axis] = 1.0
    points[2 * axis + 1, axis] = -1.0
    points[2 * pairs :, pairs:] = simplex(classes - 2 * pairs, dim - pairs)
    return points


def polygon(classes: int) -> Tensor:
    """Regular polygon: (classes, 2), float64, counter-clockwise from (1, 0)."""
    angle = torch.arange(classes, dtype=torch.float64) * (2 * math.pi / classes)
    return torch.stack([angle.cos(), angle.sin()], dim=1)


def uniformity(points: Tensor, t: float = 2.0) -> Tensor:
    """Log of the mean of exp(−t ‖wᵢ − wⱼ‖²) over pairs of unit vectors, (classes, dim)."""
    count = len(points)
    return torch.logsumexp(2 * t * (_off_diagonal(points) - 1), (0, 1)) - math.log(
        count * (count - 1)
    )


def spread_points(
    classes: int, dim: int, objective: str = "energy", generator: torch.Generator | None = None
) -> Tensor:
    """Unit vectors as far apart as we can put them, (classes, dim), float32.

    objective   "energy" or "separation", see above; they differ only where no closed form is known
    generator   draws the random starts; a fresh one at seed 0 if None. The closed forms are
                canonical: no rotation, no draw
    """
    one_of("objective", objective, ("energy", "separation"))
    _check_sizes(classes, dim)
    if dim == 1 and classes > 2:
        raise ValueError(
            f"a sphere in dim 1 has two points, got {classes} classes. Give dim 2 or more."
        )
    if classes <= dim + 1:
        points = simplex(classes, dim)
    elif classes <= 2 * dim:
        points = pairs_and_simplex(classes, dim)
    elif dim == 2:
        points = polygon(classes)
    else:
        generator = generator or torch.Generator().manual_seed(0)
        points = _search(classes, dim, objective, generator)
    return points.float()


def squared_error(
    embedding: Tensor, targets: Tensor, labels: Tensor, *, reduction: str, class_weights: bool
) -> Tensor:
    """Squared error (1 − cos)² of unit embeddings and the unit vectors of their classes: a scalar.

        "half_mean"   ½ · mean_i E_i² (1 − cosᵢ)²
        "sum"             sum_i  E_i² (1 − cosᵢ)²

    embedding, targets (batch, dim), labels (batch,). E² is 1, or with class_weights the inverse
    frequency within the batch, (batch / distinct classes in it) / count of the class in it, whose
    mean over the batch is 1.
    """
    error = (1 - (embedding * targets).sum(-1)).square()
    if class_weights:
        inverse = (labels[:, None] == labels).sum(1).to(error.dtype).reciprocal()
        # Summed over the batch, 1/count gives the number of distinct classes.
        error = error * inverse / inverse.mean()
    return error.sum() if reduction == "sum" else 0.5 * error.mean()


def blend_by_class(means: Tensor, embedding: Tensor, labels: Tensor, momentum: float) -> Tensor:
    """Give unit(momentum · means + (1 − momentum) · mean in the batch), for classes in it.

    means (classes, dim), embedding (batch, dim), labels (batch,). Other classes keep theirs; one
    that was zero takes the direction of its first batch.
    """
    classes = torch.arange(len(means), device=labels.device)
    member = (classes[:, None] == labels).to(means.dtype)
    count = member.sum(1, keepdim=True)
    fresh = member @ embedding.to(means.dtype) / count.clamp_min(1)
    return torch.where(count > 0, unit(momentum * means + (1 - momentum) * fresh), means)


def _search(classes: int, dim: int, objective: str, generator: torch.Generator) -> Tensor:
    # Ours: a few seconds on one core up to 200 classes; small sets have the more rugged landscape.
    starts = [
        torch.randn(classes, dim, dtype=torch.float64, generator=generator)
        for _ in range(max(4, 240 // classes))
    ]
    if objective == "energy":
        found = [_descend(uniformity, start, 500) for start in starts]
        return min(found, key=lambda points: float(uniformity(points)))
    # The sharper the first stage, the less the energy decides which basin is entered: ten points in
    # space need a sharp one, a hundred in ten dimensions a soft one, so the starts take turns.
    for which in range(len(starts)):
        for doubling in range(which % 4, 18):
            starts[which] = _descend(_soft_largest(4.0 * 2**doubling), starts[which], 60)
    return min(starts, key=lambda points: float(_off_diagonal(points).max()))


def _descend(cost: Callable[[Tensor], Tensor], start: Tensor, iterations: int) -> Tensor:
    """Lower the cost of unit(x) by L-BFGS; x itself needs no constraint."""
    x = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [x],
        max_iter=iterations,
        history_size=20,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = cost(unit(x))
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return unit(x.detach())


def _soft_largest(sharpness: float) -> Callable[[Tensor], Tensor]:
    """Largest pairwise cosine, smoothed: (1/s) log Σ_{i≠j} exp(s wᵢᵀwⱼ)."""
    return lambda points: torch.logsumexp(sharpness * _off_diagonal(points), (0, 1)) / sharpness


def _off_diagonal(points: Tensor) -> Tensor:
    """Pairwise products with −∞ on the diagonal."""
    itself = torch.eye(len(points), dtype=torch.bool, device=points.device)
    return (points @ points.T).masked_fill(itself, -math.inf)


def _check_sizes(classes: int, dim: int) -> None:
    if classes < 2 or dim < 1:
        raise ValueError(
            f"points need at least 2 classes and dim 1, got {classes} classes and dim {dim}. "
            "Give larger numbers."
        )
