"""Classes as subspaces: one orthonormal matrix per class. An INTERPRETATION, not a reproduction.

Goto, Nakata, Abe, Ishii, Yamashita. "Learning Intra-class Multimodal Distributions with Orthonormal
Matrices." WACV 2024; not on arXiv. It is compared in DL2PA, arXiv:2403.16937, and takes the place
of the sub-centroids of Deep Nearest Centroids, arXiv:2209.07383.

A class need not be one heap. Instead of several centroids and a hard assignment to them, give each
class an orthonormal matrix, a relaxation of the assignment, and learn it by gradient: no clustering
and no memory of features.

    s_k(u) = σ · ‖V_kᵀ u‖,   V_kᵀV_k = I                    length of u's shadow on the class's span
    ℓ(u, y) = −log softmax(s)ᵧ
    V_k ← Q of QR(V_k), the diagonal of R positive                         after each step

    u  embedding, unit length     V_k  frames[k], (dim, columns)     σ  scale

Where we differ: only the idea above is public. Score, loss, number of columns, scale and the way in
which the matrices stay orthonormal are ours, so that a result says nothing for or against the
printed numbers. The score depends on the span of V_k alone and takes u and −u for the same. The
step is SGD's in the surrounding space; its momentum is left as it is when QR brings V_k back.
"""

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.base import Clock, Head, Problem
from heads.geometry import unit
from heads.layers import projection_to


@final
class Goto(Head):
    """One orthonormal frame per class, learned; cross-entropy of the lengths of shadows.

    dim         length of the embedding, more than columns; None, the backbone's width: ours
    projection  "needed": a linear layer where dim differs from the width; "always": also where it
                equals it. "needed", ours
    columns     dimensions of a class's span; 4, ours: the number of sub-centroids of Deep Nearest
                Centroids
    scale       σ, inverse temperature; 30, ours: that of cosine classifiers (arXiv:1906.07413); at
                1 cross-entropy could not fall below 3.6 for 100 classes
    """

    interpretation: ClassVar[str] = (
        "score, loss and update of Goto et al. are not published; this is our reading of their idea"
    )

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int | None = None,
        projection: str = "needed",
        columns: int = 4,
        scale: float = 30.0,
    ) -> None:
        super().__init__()
        if not scale > 0:
            raise ValueError(f"goto needs a positive scale, got {scale}. Set `scale: 30`.")
        generator = problem.generator()
        self.projection, self.dim = projection_to(dim, problem.width, projection, generator)
        if not 1 <= columns < self.dim:
            raise ValueError(
                f"goto needs at least 1 column and fewer than dim, for all of dim tells no classes "
                f"apart, got {columns} columns in dim {self.dim}. Change `columns` or `dim`."
            )
        normal = torch.randn(problem.classes, self.dim, columns, generator=generator)
        self.frames = nn.Parameter(_orthonormal(normal))
        self.scale = scale

    def embed(self, features: Tensor) -> Tensor:
        """Project and put on the sphere, (batch, dim)."""
        return unit(self.projection(features))

    def score(self, embedding: Tensor) -> Tensor:
        """Scaled length of the shadow on the span of each class, (batch, classes)."""
        # One product of (batch, dim) and (dim, classes · columns).
        flat = self.frames.transpose(0, 1).flatten(1)
        shadows = (embedding @ flat).view(len(embedding), len(self.frames), -1)
        lengths: Tensor = torch.linalg.vector_norm(shadows, dim=2)
        return self.scale * lengths

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return functional.cross_entropy(self.score(embedding), labels)

    def after_step(self, embedding: Tensor, labels: Tensor, clock: Clock) -> None:
        """Make every frame orthonormal again."""
        with torch.no_grad():
            self.frames.copy_(_orthonormal(self.frames))


def _orthonormal(matrices: Tensor) -> Tensor:
    """Orthonormal columns of the same spans, (classes, dim, columns)."""
    factors = torch.linalg.qr(matrices)
    # With the signs of R taken out a small step stays small: no column turns round.
    signs = factors.R.diagonal(dim1=-2, dim2=-1).sign()
    columns: Tensor = factors.Q * signs[:, None, :]
    return columns
