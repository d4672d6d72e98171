"""Hyperspherical prototypes: class vectors fixed beforehand by largest separation.

Mettes, van der Pol, Snoek. "Hyperspherical Prototype Networks." NeurIPS 2019, arXiv:1901.10514.

If class vectors need not be learned, place them as far apart as the sphere allows, in any number of
dimensions, and let the network turn each image towards its own.

    P* = argmin_P max_{k≠l} cos(p_k, p_l)                            separation
    L  = Σ_i (1 − cos(zᵢ, p_yᵢ))²                                    loss, summed over the batch

    p_k  prototypes[k]     z  embedding before the sphere, f(x)

Where we differ: the released code lowers mean_k max_l cos(p_k, p_l) by 10,000 steps of gradient
descent and keeps what it has then (largest cosine .044 for 100 classes in 50 dimensions). We use
the known optimum where there is one (0 in that case) and otherwise lower the largest cosine until
it stays. The extension by class semantics, which needs word vectors, is left out. A loss summed
over the batch goes with the paper's learning rate 0.01; the mean at that rate hardly trains.
"""

from typing import final

from torch import Tensor

from heads.base import Head, Problem
from heads.checks import one_of
from heads.geometry import squared_error, unit
from heads.layers import projection_to


@final
class HPN(Head):
    """Fixed, well-separated prototypes; squared cosine error.

    dim         length of the embedding, at least 2; None, the backbone's width: ours, the paper has
                10 to 200
    projection  "needed": a linear layer where dim differs from the width, ours; "always": also
                where it equals it, as the paper's ResNet-32 has it (released code)
    reduction   "sum": sum of (1 − cos)², released code; "half_mean": ½ · mean, for the long-tailed
                protocol of ETF (arXiv:2203.09081)
    """

    prototypes: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int | None = None,
        projection: str = "needed",
        reduction: str = "sum",
    ) -> None:
        super().__init__()
        one_of("reduction", reduction, ("sum", "half_mean"))
        self.projection, self.dim = projection_to(
            dim, problem.width, projection, problem.generator()
        )
        if self.dim < 2:
            raise ValueError(
                f"hpn needs dim >= 2 to spread its prototypes, got dim {self.dim}. "
                "Set `dim: 2` or more."
            )
        self.register_buffer("prototypes", problem.points(self.dim, "separation").clone())
        self.reduction = reduction

    def embed(self, features: Tensor) -> Tensor:
        """Project and put on the sphere, (batch, dim)."""
        return unit(self.projection(features))

    def score(self, embedding: Tensor) -> Tensor:
        """Cosine to each prototype, (batch, classes)."""
        return embedding @ self.prototypes.T

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Squared cosine error."""
        return squared_error(
            embedding,
            self.prototypes[labels],
            labels,
            reduction=self.reduction,
            class_weights=False,
        )

    def class_vectors(self) -> Tensor:
        """Prototypes, (classes, dim)."""
        return self.prototypes
