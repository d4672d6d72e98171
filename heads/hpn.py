"""Hyperspherical prototypes: class vectors fixed beforehand by largest separation.

Mettes, van der Pol, Snoek. "Hyperspherical Prototype Networks." NeurIPS 2019, arXiv:1901.10514.

If class vectors need not be learned, place them as far apart as the sphere allows, in any number of
dimensions, and let the network turn each image towards its own. Where word vectors of the class
names are known, let classes of like names lie closer.

    P*   = argmin_P max_{k≠l} cos(p_k, p_l)                            separation
    L_HP = 1/K · Σ_k max_{l≠k} cos(p_k, p_l)                           its stand-in for descent
    L_PI = 1/|T| · Σ_{(i,j,k)∈T} −S̄ log S − (1−S̄) log(1−S)             order of the word vectors,
           S = σ(cos(p_i, p_j) − cos(p_i, p_k)),                       T all triplets of classes
           S̄ = [cos(w_i, w_j) ≥ cos(w_i, w_k)]
    P*   = argmin_P L_HP + L_PI                                        semantic
    L    = Σ_i (1 − cos(zᵢ, p_yᵢ))²                                    loss, summed over the batch

    p_k  prototypes[k]     w_k  problem.words[k]     z  embedding before the sphere, f(x)
    K    classes           σ    logistic function

Where we differ: the released code lowers L_HP by 10,000 steps of gradient descent and keeps what it
has then (largest cosine .044 for 100 classes in 50 dimensions): that is placement "released". By
default we use the known optimum where there is one (0 in that case) and otherwise lower the largest
cosine until it stays. A loss summed over the batch goes with the paper's learning rate 0.01; the
mean at that rate hardly trains.

The semantic placement follows the formulas above. The released code of it cannot run, so that the
descent is ours: L-BFGS on L_HP with its maximum smoothed, (1/s) log Σ exp(s cos), at s = 16, 64 and
256, from random directions of the head's own seed. A triplet is turned so that j is the nearer
name, which makes S̄ = 1; where all of them are more than 500,000, as many are drawn at random.
"""

import math
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from heads.base import Head, Needs, Problem
from heads.checks import one_of
from heads.geometry import descend, squared_error, unit
from heads.layers import projection_to

PLACEMENTS = {
    "separation": "separation",
    "released": "separation_released",
    "printed": "separation_printed",
}
TRIPLETS = 500_000
SHARPNESS = (16.0, 64.0, 256.0)


@final
class HPN(Head):
    """Fixed, well-separated prototypes; squared cosine error.

    dim         length of the embedding, at least 2; None, the backbone's width: ours, the paper has
                10 to 200
    projection  "needed": a linear layer where dim differs from the width, ours; "always": also
                where it equals it, as the paper's ResNet-32 has it (released code)
    reduction   "sum": sum of (1 − cos)², released code; "half_mean": ½ · mean, for the long-tailed
                protocol of ETF (arXiv:2203.09081)
    placement   "separation": the best that we find; "released": by the released code's 10,000
                steps; "printed": by the paper's 1,000; "semantic": also by the class names, whose
                word vectors it then needs. "separation", ours: it is what the paper asks for
    """

    prototypes: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int | None = None,
        projection: str = "needed",
        reduction: str = "sum",
        placement: str = "separation",
    ) -> None:
        super().__init__()
        one_of("reduction", reduction, ("sum", "half_mean"))
        one_of("placement", placement, (*PLACEMENTS, "semantic"))
        generator = problem.generator()
        self.projection, self.dim = projection_to(dim, problem.width, projection, generator)
        if self.dim < 2:
            raise ValueError(
                f"hpn needs dim >= 2 to spread its prototypes, got dim {self.dim}. "
                "Set `dim: 2` or more."
            )
        if placement != "semantic":
            prototypes = problem.points(self.dim, PLACEMENTS[placement]).clone()
        elif problem.words is None:
            raise ValueError(
                "hpn with placement semantic needs one word vector per class, got none. "
                "Give a file of word vectors, or set `placement: separation`."
            )
        else:
            prototypes = _semantic(problem.words, self.dim, generator)
        self.register_buffer("prototypes", prototypes)
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

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """Word vectors, with placement semantic."""
        return Needs(words=hyper.get("placement") == "semantic")

    def class_vectors(self) -> Tensor:
        """Prototypes, (classes, dim)."""
        return self.prototypes


def _semantic(words: Tensor, dim: int, generator: torch.Generator) -> Tensor:
    """Prototypes, (classes, dim), float32, that lower L_HP + L_PI for words, (classes, any)."""
    points = torch.randn(len(words), dim, dtype=torch.float64, generator=generator)
    triplets = _triplets(words, generator)
    for sharpness in SHARPNESS:

        def cost(points: Tensor, sharpness: float = sharpness) -> tuple[float, Tensor]:
            with torch.enable_grad():
                own = points.detach().requires_grad_()
                value = _semantic_cost(own @ own.T, triplets, sharpness)
                (gradient,) = torch.autograd.grad(value, own)
            return float(value), gradient

        points = descend(cost, points, 40)
    return points.float()


def _semantic_cost(cosines: Tensor, triplets: Tensor, sharpness: float) -> Tensor:
    """L_HP, smoothed, and L_PI of cosines between prototypes, (classes, classes)."""
    itself = torch.eye(len(cosines), dtype=torch.bool)
    nearest = (sharpness * cosines.masked_fill(itself, -math.inf)).logsumexp(1) / sharpness
    flat, (i, j, k) = cosines.flatten(), triplets
    lead = flat[i * len(cosines) + j] - flat[i * len(cosines) + k]
    # Two classes make no triplet.
    return nearest.mean() + functional.softplus(-lead).sum() / max(1, len(lead))


def _triplets(words: Tensor, generator: torch.Generator) -> Tensor:
    """Classes i, j, k, (3, triplets), each other than the others; the name of j is nearer to i's.

    All of them where they are few, else a random choice; of two names equally near, the lower label
    goes first.
    """
    classes = len(words)
    own = torch.arange(classes)
    if classes * (classes - 1) * (classes - 2) // 2 <= TRIPLETS:
        i, j, k = torch.cartesian_prod(own, own, own).T
    else:
        # A twentieth more than are wanted: draws that name a class twice are thrown away.
        drawn = (3, TRIPLETS + TRIPLETS // 20)
        i, j, k = torch.randint(classes, drawn, generator=generator)
        j, k = torch.minimum(j, k), torch.maximum(j, k)
    kept = (i != j) & (i != k) & (j < k)
    i, j, k = i[kept][:TRIPLETS], j[kept][:TRIPLETS], k[kept][:TRIPLETS]
    directions = unit(words.detach().cpu().double())
    near = directions @ directions.T
    nearer = near[i, j] >= near[i, k]
    return torch.stack([i, torch.where(nearer, j, k), torch.where(nearer, k, j)])
