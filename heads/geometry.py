"""Geometry of the sphere, and the sums over it that several heads share: pure functions on tensors.

How well can c unit vectors be spread in d dimensions? Two ways to ask, named `objective`:

    energy       min L(W) = log mean_{i<j} exp(−t ‖wᵢ − wⱼ‖²),  t = 2    arXiv:2005.10242
    separation   min max_{i≠j} wᵢᵀwⱼ                                     arXiv:1901.10514

    c ≤ d+1        the simplex, every cosine −1/(c−1): the optimum of both
    d+1 < c ≤ 2d   no set has its largest cosine below 0 (Rankin 1955); c−d−1 antipodal pairs and
                   one simplex of 2d−c+2 points, mutually orthogonal, reach it with the lowest
                   energy that we know; at c = 2d this is the orthoplex
    d = 2          the regular polygon: the optimum of both
    otherwise      unknown; found by L-BFGS from several random starts

That simplex, orthoplex and polygon have the lowest energy is proved (Cohn and Kumar 2007,
arXiv:math/0607446). Four more objectives are procedures of papers, run as they stand, from a random
start and without the closed forms:

    energy_released      arXiv:2403.16937, sec. 4.1: 1,000 steps of gradient descent on L, rate 0.1.
                         Its released files took 30,000 to 100,000 steps
    separation_printed   arXiv:1901.10514: 1,000 steps on mean_i max_{j≠i} wᵢᵀwⱼ, rate 0.1
    separation_released  the same, 10,000 steps: the default of its released code
    average_angle        max mean_{i<j} arccos wᵢᵀwⱼ, which does not ask for even spread: any set of
                         antipodal pairs is an optimum (arXiv:2403.16937, Fig. 2)
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from heads.checks import one_of

OBJECTIVES = (
    "energy",
    "separation",
    "energy_released",
    "separation_printed",
    "separation_released",
    "average_angle",
)
SHORTEST = 1e-8  # a vector below this length has no direction worth the name
T = 2.0  # of the energy: arXiv:2005.10242, which all later papers follow
MOST = 20_000  # points in a search, whose matrix of cosines then takes 3 GB
LARGEST = 2**28  # numbers in a set: 2 GiB


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


def uniformity(points: Tensor, t: float = T) -> Tensor:
    """Log of the mean of exp(−t ‖wᵢ − wⱼ‖²) over pairs of unit vectors, (classes, dim)."""
    count = len(points)
    return torch.logsumexp(2 * t * (_off_diagonal(points) - 1), (0, 1)) - math.log(
        count * (count - 1)
    )


def spread_points(
    classes: int, dim: int, objective: str = "energy", generator: torch.Generator | None = None
) -> Tensor:
    """Unit vectors as far apart as we can put them, (classes, dim), float32.

    objective   "energy" or "separation", which differ only where no closed form is known; or one of
                the other OBJECTIVES, see above: the points that a paper's procedure gives
    generator   draws the random starts; a fresh one at seed 0 if None. The closed forms are
                canonical: no rotation, no draw
    """
    one_of("objective", objective, OBJECTIVES)
    _check_sizes(classes, dim)
    if dim == 1 and classes > 2:
        raise ValueError(
            f"a sphere in dim 1 has two points, got {classes} classes. Give dim 2 or more."
        )
    generator = generator or torch.Generator().manual_seed(0)
    if objective not in {"energy", "separation"}:
        points = _PROCEDURES[objective](_start(classes, dim, objective, generator))
    elif classes <= dim + 1:
        points = simplex(classes, dim)
    elif classes <= 2 * dim:
        points = pairs_and_simplex(classes, dim)
    elif dim == 2:
        points = polygon(classes)
    else:
        points = _search(classes, dim, objective, generator)
    return points.float()


def description(points: Tensor) -> dict[str, float]:
    """How points lie, (classes, dim) of any length: over all pairs of their directions.

    cosine_max, cosine_min, cosine_mean, cosine_sd (over the pairs, not a sample of them),
    angle_mean in radians (the average pairwise angular distance), and uniformity, L at t = 2. Empty
    below two points, which make no pair.
    """
    points = unit(points.detach().cpu().double())
    count = len(points)
    if count < 2:
        return {}
    pairs = count * (count - 1) / 2
    mean = float((points.sum(0).square().sum() - points.square().sum()) / (2 * pairs))
    largest, smallest, spread, angle, potential = -math.inf, math.inf, 0.0, 0.0, 0.0
    rows = max(1, 2**21 // count)  # 16 MiB of cosines at a time
    for first in range(0, count - 1, rows):
        block = points[first : first + rows]
        above = torch.ones(len(block), count - first, dtype=torch.bool).triu(1)
        cosines = (block @ points[first:].T)[above].clamp(-1, 1)
        if len(cosines):
            largest = max(largest, float(cosines.max()))
            smallest = min(smallest, float(cosines.min()))
        spread += float((cosines - mean).square().sum())
        angle += float(cosines.acos().sum())
        potential += float((2 * T * (cosines - 1)).exp().sum())
    return {
        "cosine_max": largest,
        "cosine_min": smallest,
        "cosine_mean": mean,
        "cosine_sd": math.sqrt(spread / pairs),
        "angle_mean": angle / pairs,
        "uniformity": math.log(potential / pairs),
    }


@dataclass(frozen=True, slots=True)
class Optimum:
    """What is known of the best set of its size.

    cosine_max  smallest largest cosine, None where it is not known
    uniformity  lowest energy at t = 2, None where none is proved
    bound       no set has a largest cosine below this; cosine_max itself where that is known
    rms         no set has a root mean square of its cosines below this (Welch 1974)
    """

    cosine_max: float | None
    uniformity: float | None
    bound: float
    rms: float


def optimum(classes: int, dim: int) -> Optimum:
    """Best possible values for unit vectors, (classes, dim), in closed form.

    Simplex −1/(c−1), then 0 up to c = 2d (Rankin), the polygon cos 2π/c. Beyond, Levenshtein's
    third bound on the size of a set of largest cosine s is turned round:

        c ≤ d (1−s) (2 + (d+1) s) / (1 − d s²),     0 ≤ s ≤ (√(d+3) − 1)/(d+2)
    """
    _check_sizes(classes, dim)
    rms = math.sqrt(max(0.0, (classes - dim) / (dim * (classes - 1))))
    if classes <= dim + 1:
        best = -1 / (classes - 1)
        return Optimum(best, 2 * T * (best - 1), best, rms)
    if dim == 1:
        return Optimum(1.0, None, 1.0, rms)
    if dim == 2:
        cosines = [math.cos(2 * math.pi * k / classes) for k in range(1, classes)]
        potential = sum(math.exp(2 * T * (each - 1)) for each in cosines) / len(cosines)
        return Optimum(cosines[0], math.log(potential), cosines[0], rms)
    if classes <= 2 * dim:
        # Of the 2d−1 others one is the antipode, and the rest are at right angles.
        potential = (math.exp(-4 * T) + (classes - 2) * math.exp(-2 * T)) / (classes - 1)
        return Optimum(0.0, math.log(potential) if classes == 2 * dim else None, 0.0, rms)
    low, high = 0.0, (math.sqrt(dim + 3) - 1) / (dim + 2)
    for _ in range(60):
        s = (low + high) / 2
        allowed = dim * (1 - s) * (2 + (dim + 1) * s) / (1 - dim * s * s)
        low, high = (s, high) if allowed < classes else (low, s)
    return Optimum(None, None, low, rms)


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


def filled(counts: Tensor) -> Tensor:
    """Training examples by class, (classes,), float64, fit for a logarithm or a power below 0.

    A class without any is counted like the rarest that has some: what is finite for that one is
    finite for it, and no other class is treated as if a rarer one were there.
    """
    return counts.clamp_min(int(counts[counts > 0].min())).double()


def effective_numbers(counts: Tensor, beta: float) -> Tensor:
    """Effective number of examples of each class, (classes,), float64: (1 − βⁿ) / (1 − β).

    arXiv:1901.05555, Proposition 1; β in [0, 1). It is 1 for all at β = 0, and nears the count
    itself as β nears 1. A class without examples as in `filled`, so that all are at least 1. Class
    weights with mean 1 are 1/E over the mean of 1/E.
    """
    if not 0 <= beta < 1:
        raise ValueError(
            f"effective numbers need a beta from 0 to below 1, got {beta}. Set `beta: 0.9999`."
        )
    return (1 - torch.pow(beta, filled(counts))) / (1 - beta)


def project_l2_ball(vectors: Tensor, radius: Tensor) -> Tensor:
    """Bring vectors, (..., dim), longer than radius, a scalar, to that length; others stay."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    factor: Tensor = (radius / length.clamp_min(SHORTEST)).clamp_max(1)
    return vectors * factor


def descend(
    cost: Callable[[Tensor], tuple[float, Tensor]], start: Tensor, iterations: int
) -> Tensor:
    """Lower a cost of unit vectors by L-BFGS: unit vectors, (classes, dim).

    cost  points on the sphere, (classes, dim) -> its value and its gradient by them
    """
    x = start.clone().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [x],
        max_iter=iterations,
        max_eval=2 * iterations,
        history_size=20,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        with torch.no_grad():
            points = unit(x)
            value, gradient = cost(points)
            # x itself needs no constraint: only its direction counts.
            x.grad = _tangent(points, gradient) / torch.linalg.vector_norm(x, dim=1, keepdim=True)
        return x.new_tensor(value)

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return unit(x.detach())


def soft_largest(points: Tensor, sharpness: float) -> tuple[float, Tensor]:
    """Largest cosine of unit vectors, smoothed, (1/s) log Σ_{i≠j} exp(s wᵢᵀwⱼ), and its gradient.

    At s = 2t it is the energy, up to a factor and a constant.
    """
    products = (points @ points.T).fill_diagonal_(-math.inf)
    largest = float(products.max())
    shares = products.sub_(largest).mul_(sharpness).exp_()
    total = float(shares.sum())
    return largest + math.log(total) / sharpness, (shares @ points).mul_(2 / total)


def _search(classes: int, dim: int, objective: str, generator: torch.Generator) -> Tensor:
    if classes > MOST:
        raise ValueError(
            f"no closed form is known for {classes} classes in dim {dim}, and a search takes "
            f"{MOST} classes at most. Give dim {(classes + 1) // 2} or more, or fewer classes."
        )
    # Ours: seconds on one core up to 1000 classes; small sets have the more rugged landscape. A
    # stage of the separation is one of fourteen to eighteen.
    tries, iterations, work = (1000, 500, 2e8) if objective == "energy" else (400, 100, 3e7)
    starts = [
        torch.randn(classes, dim, dtype=torch.float64, generator=generator)
        for _ in range(max(1, min(12, tries // classes)))
    ]
    iterations = max(10, min(iterations, int(work / classes**2)))
    if objective == "energy":
        found = [descend(_energy, start, iterations) for start in starts]
        best = min(found, key=lambda points: _energy(points)[0])
        return descend(_energy, best, 2 * iterations) if len(starts) > 1 else best
    # The sharper the first stage, the less the energy decides which basin is entered: ten points in
    # space need a sharp one, a hundred in ten dimensions a soft one, so the starts take turns.
    for which in range(len(starts)):
        for doubling in range(which % 4, 18):
            sharpness = 4.0 * 2**doubling
            starts[which] = descend(_at(sharpness), starts[which], iterations)
    return min(starts, key=lambda points: float(_off_diagonal(points).max()))


def _energy(points: Tensor) -> tuple[float, Tensor]:
    return soft_largest(points, 2 * T)


def _at(sharpness: float) -> Callable[[Tensor], tuple[float, Tensor]]:
    return lambda points: soft_largest(points, sharpness)


def _start(classes: int, dim: int, objective: str, generator: torch.Generator) -> Tensor:
    """Random directions, as the released code draws them: of a cube for the energy, else normal."""
    if objective == "energy_released":
        return unit(2 * torch.rand(classes, dim, generator=generator) - 1)
    return unit(torch.randn(classes, dim, generator=generator))


def _lower_energy(x: Tensor, steps: int = 1_000) -> Tensor:
    """Gradient descent on L of unit(x), whose length grows meanwhile."""
    for _ in range(steps):
        points = unit(x)
        gradient = 2 * T * _tangent(points, _energy(points)[1])
        x = x - 0.1 * gradient / torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return unit(x)


def _lower_nearest(points: Tensor, steps: int = 10_000) -> Tensor:
    """Gradient descent on the mean over points of their largest cosine; to the sphere each time."""
    for _ in range(steps):
        nearest = (points @ points.T).fill_diagonal_(-math.inf).argmax(dim=1)
        # Each point is pushed by its nearest, and by those whose nearest it is.
        gradient = points[nearest].index_add_(0, nearest, points) / len(points)
        points = unit(points - 0.1 * gradient)
    return points


def _widen_angles(points: Tensor, steps: int = 1_000) -> Tensor:
    """Gradient ascent on each point's mean angle to all; rate and number of steps are ours."""
    points = points.double()
    for _ in range(steps):
        products = points @ points.T
        weights = (1 - products.square()).clamp_min(1e-12).rsqrt().fill_diagonal_(0)
        points = unit(points - 0.1 * _tangent(points, weights @ points) / len(points))
    return points


_PROCEDURES: dict[str, Callable[[Tensor], Tensor]] = {
    "energy_released": _lower_energy,
    "separation_printed": lambda points: _lower_nearest(points, 1_000),
    "separation_released": _lower_nearest,
    "average_angle": _widen_angles,
}


def _tangent(points: Tensor, gradient: Tensor) -> Tensor:
    """Take out of a gradient what points along the radius, both (classes, dim)."""
    return gradient - (gradient * points).sum(1, keepdim=True) * points


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
    if classes * dim > LARGEST:
        raise ValueError(
            f"points may take {LARGEST} numbers at most, got {classes} classes in dim {dim}. "
            "Give fewer classes or a smaller dim."
        )
