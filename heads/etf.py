"""Fixed simplex classifier with dot-regression loss.

Yang, Chen, Li, Xie, Lin, Tao. "Inducing Neural Collapse in Imbalanced Learning: Do We Really Need a
Learnable Classifier at the End of Deep Neural Network?" NeurIPS 2022, arXiv:2203.09081.

Neural collapse says the optimum is known: class means and class weights both end at the vertices of
a simplex equiangular tight frame. So fix the weights there and train only the features.

    M = √(K/(K−1)) · U (I − 11ᵀ/K),   UᵀU = I                      (1)  simplex ETF
    ℓ(h, y) = ½ (mᵧᵀh − 1)²,  ‖h‖ = 1                                   dot regression, unit lengths
    L = 1/B · Σᵢ E_w(yᵢ)² ℓ(hᵢ, yᵢ),  E_w(k)² = (B / C_B) / n_k         weights, released code

    K  classes     h  embedding     m_k  vertices[k]     B  batch
    C_B  distinct classes in the batch     n_k  examples of class k in the batch

Where we differ: the paper's U has K orthonormal columns and so needs dim ≥ K; (I − 11ᵀ/K) has rank
K−1, so we turn the regular simplex of K−1 dimensions by K−1 orthonormal columns: the same set, in
dim ≥ K−1. The columns are uniformly distributed (QR of normal numbers with the signs of R taken
out; the released code takes QR of uniform numbers) and come from the head's own seed. As in the
released code the features pass a batch norm before the sphere; a training batch of one uses its
running statistics. The paper's regulariser of the feature length is left out: the length is 1.
"""

from typing import final

import torch
from torch import Tensor, nn

from heads.base import Head, Problem
from heads.checks import one_of
from heads.geometry import simplex, squared_error, unit
from heads.layers import normalise, projection_to


@final
class ETF(Head):
    """Fixed simplex, dot regression.

    dim            length of the embedding, at least classes − 1; None, the backbone's width,
                   released code
    projection     "needed": a linear layer where dim differs from the width; "always": also where
                   it equals it, as in the ResNet-32 of Hyperspherical Prototype Networks. "needed":
                   the released code has no layer at its one width
    reduction      "half_mean": ½ · mean, the paper; "sum": sum without the ½, the balanced protocol
                   of Hyperspherical Prototype Networks and of DL2PA (released codes), at lr 0.01
    class_weights  weight by inverse frequency in the batch, in both reductions; True, released code
    batch_norm     BatchNorm1d before the sphere; True, released code
    """

    vertices: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int | None = None,
        projection: str = "needed",
        reduction: str = "half_mean",
        class_weights: bool = True,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        one_of("reduction", reduction, ("half_mean", "sum"))
        generator = problem.generator()
        self.projection, self.dim = projection_to(dim, problem.width, projection, generator)
        if self.dim < problem.classes - 1:
            enough = 1 << (problem.classes - 2).bit_length()
            raise ValueError(
                f"etf needs dim >= classes - 1 to hold a simplex, got dim {self.dim} for "
                f"{problem.classes} classes. Set `dim: {enough}` on the head."
            )
        self.norm = nn.BatchNorm1d(self.dim) if batch_norm else nn.Identity()
        self.register_buffer("vertices", _turned_simplex(problem.classes, self.dim, generator))
        self.reduction = reduction
        self.class_weights = class_weights

    def embed(self, features: Tensor) -> Tensor:
        """Project, normalise over the batch, put on the sphere: (batch, dim)."""
        return unit(normalise(self.norm, self.projection(features)))

    def score(self, embedding: Tensor) -> Tensor:
        """Cosine to each vertex, (batch, classes)."""
        return embedding @ self.vertices.T

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Dot regression."""
        return squared_error(
            embedding,
            self.vertices[labels],
            labels,
            reduction=self.reduction,
            class_weights=self.class_weights,
        )

    def class_vectors(self) -> Tensor:
        """Vertices of the simplex, (classes, dim)."""
        return self.vertices


def _turned_simplex(classes: int, dim: int, generator: torch.Generator) -> Tensor:
    """Simplex of classes − 1 dimensions, carried into dim by random orthonormal columns."""
    normal = torch.randn(dim, classes - 1, dtype=torch.float64, generator=generator)
    factors = torch.linalg.qr(normal)
    columns: Tensor = factors.Q * factors.R.diagonal().sign()
    return (simplex(classes, classes - 1) @ columns.T).float()
