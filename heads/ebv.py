"""Equiangular basis vectors: fixed class vectors whose cosines all lie between −α and α.

Shen, Sun, Wei. "Equiangular Basis Vectors." CVPR 2023, arXiv:2303.11637.

Give every class a fixed unit vector, nearly at right angles to all others, and turn each image
towards its own by softmax over cosines. How near to right angles they come is α, so that many more
classes than dimensions find room.

    min_V  Σ_{i≠j} max(|vᵢᵀvⱼ| − α, 0),   ‖vᵢ‖ = 1                            basis
    ℓ(u, y) = −Σ_k t_k log softmax(V u / τ)_k                                   loss
    t_k = (1 − λ)·[k = y] + λ/C                                                 smoothed label

    V  basis, one row per class     u  embedding, unit length     α  alpha     τ  temperature
    λ  smoothing     C  classes

No set of more classes than dimensions has α below Welch's √((C − d) / (d(C − 1))), d = dim.

Where we differ. The released code takes up to 100,000 gradient steps and keeps what it has then. We
give orthonormal vectors where C ≤ d: the minimum for every α. Otherwise we lower the squared excess
max(|cos| − α, 0)², which is smooth and has the same zeros, by L-BFGS. Too small an α makes the sum
above worse than useless, for it is then lowest where vectors coincide; so by default we look for
the smallest α that can be had (0.134 for 1,000 classes in 100 dimensions, where the released set
has 0.135), and an α that is not reached is an error.
"""

import math
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from heads.base import Head, Problem
from heads.geometry import unit
from heads.layers import projection_to

TOLERANCE = 1e-4  # of the largest |cos| above α, released code
ROUNDS = 6  # halvings of the interval in which the smallest α lies; ours: later ones gain < 1e-3


@final
class EBV(Head):
    """Fixed, nearly orthogonal vectors; smoothed cross-entropy of cosines.

    dim          length of the embedding; None, the backbone's width: ours, the paper's default is
                 the number of classes
    projection   "always": a linear layer before the sphere, released code; "needed": only where
                 dim differs from the width
    alpha        largest |cos| between two classes; None, 0 where dim >= classes and otherwise the
                 smallest that is found: ours. The released 0.002 can be had only where dim is close
                 to classes
    temperature  τ; 0.07, released code
    smoothing    λ of the labels; 0.1, released code
    """

    basis: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int | None = None,
        projection: str = "always",
        alpha: float | None = None,
        temperature: float = 0.07,
        smoothing: float = 0.1,
    ) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(
                f"ebv needs a positive temperature, got {temperature}. Set `temperature: 0.07`."
            )
        if not 0 <= smoothing < 1:
            raise ValueError(
                f"ebv needs smoothing in [0, 1), got {smoothing}. Set `smoothing: 0.1`."
            )
        generator = problem.generator()
        self.projection, self.dim = projection_to(dim, problem.width, projection, generator)
        if self.dim < 2:
            raise ValueError(
                f"ebv needs dim >= 2 to have any angles, got dim {self.dim}. Set `dim: 2` or more."
            )
        basis = _basis(problem.classes, self.dim, alpha, generator)
        self.register_buffer("basis", basis.float())
        self.temperature = temperature
        self.smoothing = smoothing

    def embed(self, features: Tensor) -> Tensor:
        """Project and put on the sphere, (batch, dim)."""
        return unit(self.projection(features))

    def score(self, embedding: Tensor) -> Tensor:
        """Cosine to each basis vector over the temperature, (batch, classes)."""
        return embedding @ self.basis.T / self.temperature

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy with smoothed labels."""
        return functional.cross_entropy(
            self.score(embedding), labels, label_smoothing=self.smoothing
        )

    def class_vectors(self) -> Tensor:
        """Basis vectors, (classes, dim)."""
        return self.basis


def _basis(classes: int, dim: int, alpha: float | None, generator: torch.Generator) -> Tensor:
    """Unit vectors whose |cos| is at most alpha, (classes, dim); as small as we can if None."""
    welch = math.sqrt(max(classes - dim, 0) / (dim * (classes - 1)))
    if alpha is not None and not welch - TOLERANCE <= alpha < 1:
        raise ValueError(
            f"ebv: no {classes} vectors in dim {dim} have every |cos| <= alpha = {alpha:g}. "
            f"Give an alpha from {math.ceil(welch * 1e4) / 1e4:g} to below 1, or leave it out."
        )
    if classes <= dim:
        normal = torch.randn(dim, classes, dtype=torch.float64, generator=generator)
        factors = torch.linalg.qr(normal)
        columns: Tensor = factors.Q * factors.R.diagonal().sign()
        return columns.T
    least = welch if alpha is None else alpha
    # Small sets have the more rugged landscape: ten lines in five dimensions need several starts.
    count = min(max(80 // classes, 1), 8)
    starts = [torch.randn(classes, dim, generator=generator) for _ in range(count)]
    basis = min((_search(start, least) for start in starts), key=_largest)
    if alpha is not None and _largest(basis) > alpha + TOLERANCE:
        raise ValueError(
            f"ebv found no {classes} vectors in dim {dim} with every |cos| <= alpha = {alpha:g}; "
            f"the best have {_largest(basis):.4f}. Give an alpha not below that, or leave it out."
        )
    return basis


def _search(start: Tensor, least: float) -> Tensor:
    """Vectors with the smallest |cos| that halving finds, but not below least."""
    iterations = min(max(20_000 // len(start), 50), 200)  # ours: 1,000 x 512 in half a minute
    best = _descend(start, least, iterations)
    for _ in range(ROUNDS):
        if _largest(best) <= least + TOLERANCE:
            break
        alpha = (least + _largest(best)) / 2
        trial = _descend(best, alpha, iterations)
        if _largest(trial) > alpha + TOLERANCE:
            least = alpha
        best = min(best, trial, key=_largest)
    return best


def _descend(start: Tensor, alpha: float, iterations: int) -> Tensor:
    """Lower the squared excess over alpha by L-BFGS."""
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
        excess = (_cosines(unit(x)) - alpha).relu().square().sum()
        excess.backward()  # type: ignore[no-untyped-call]
        return excess

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    return unit(x.detach())


def _cosines(basis: Tensor) -> Tensor:
    """|cos| of each pair, (classes, classes), with zeros on the diagonal."""
    itself = torch.eye(len(basis), dtype=torch.bool)
    return (basis @ basis.T).abs().masked_fill(itself, 0.0)


def _largest(basis: Tensor) -> float:
    return float(_cosines(basis).max())
