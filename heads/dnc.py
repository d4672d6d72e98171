"""Deep nearest centroids: several sub-centroids per class, found by clustering, not by gradient.

Wang, Han, Zhou, Liu. "Visual Recognition with Deep Nearest Centroids." ICLR 2023, arXiv:2209.07383.

An image belongs to the class of its nearest centroid. A class is rarely one heap, so it gets K
centroids; they are means of training features, and only the backbone learns by gradient, towards a
space where the nearest centroid is the right one.

    u = unit(LayerNorm(x))                                               embedding
    s = LayerNorm(c),   c_k = max_j uᵀp_kj                               scores: K sub-centroids, j
    ℓ(u, y) = −log softmax(s)ᵧ
    Q_k = argmax over Q of ⟨Q, U_k P_kᵀ⟩ + ε H(Q), rows of equal mass, columns of equal mass
    f_kj = unit(sum of the u of class k, rightly classified, whose largest entry of Q_k is j)
    p_kj ← unit(μˢ p_kj + (1 − μˢ) f_kj)                                 after s steps

    p  subcentroids (classes, K, dim)     U_k  all embeddings of class k     Q_k  by Sinkhorn
    μ  momentum     ε  EPSILON

Where we differ: the paper blends batch after batch, with a memory of past batches; the released
code fills a memory for 1,000 batches and then blends once, with the same μ. In a batch of 128 a
class of 100 has one image, which cannot be shared out equally, and features in a memory come from
networks of the past. We cluster once per epoch, each class over all its training images as the
present network sees them (unmixed, not augmented), and blend with μ to the power of the steps since
the last time, which is what the paper's blending adds up to. The epoch's clustering is the one that
is trained on and, after the last epoch, evaluated. The released code draws the assignment by
Gumbel noise and solves the transport by another method; ours is the largest entry after the paper's
three rounds of Sinkhorn. A sub-centroid to which nothing is assigned stays.
"""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.base import Clock, Head, Needs, Problem, Sweep
from heads.geometry import unit
from heads.layers import projection_to

EPSILON = 0.05  # the paper
ITERATIONS = 3  # rounds of Sinkhorn, the paper


@final
class DNC(Head):
    """Nearest of several sub-centroids per class; clustered once per epoch.

    dim           length of the embedding; None, the backbone's width, released code
    projection    "needed": a linear layer where dim differs from the width, released code has none;
                  "always": also where it equals it
    subcentroids  K of each class; 4, the paper
    momentum      μ of one step, in [0, 1); 0.999, the paper
    """

    subcentroids: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int | None = None,
        projection: str = "needed",
        subcentroids: int = 4,
        momentum: float = 0.999,
    ) -> None:
        super().__init__()
        if subcentroids < 1:
            raise ValueError(
                f"dnc needs at least 1 sub-centroid per class, got {subcentroids}. "
                "Set `subcentroids: 4`."
            )
        if not 0 <= momentum < 1:
            raise ValueError(
                f"dnc needs momentum in [0, 1), got {momentum}. Set `momentum: 0.999`."
            )
        generator = problem.generator()
        self.projection, self.dim = projection_to(dim, problem.width, projection, generator)
        self.feature_norm = nn.LayerNorm(self.dim)
        self.score_norm = nn.LayerNorm(problem.classes)
        normal = torch.randn(problem.classes, subcentroids, self.dim, generator=generator)
        self.register_buffer("subcentroids", unit(normal))
        self.momentum = momentum

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """All training features at the start of each epoch."""
        return Needs(sweep=True)

    def embed(self, features: Tensor) -> Tensor:
        """Project, normalise each by itself, put on the sphere: (batch, dim)."""
        return unit(self.feature_norm(self.projection(features)))

    def score(self, embedding: Tensor) -> Tensor:
        """Normalised cosine to the nearest sub-centroid of each class, (batch, classes)."""
        every = embedding @ self.subcentroids.flatten(0, 1).T
        nearest = every.view(len(every), *self.subcentroids.shape[:2]).amax(2)
        scores: Tensor = self.score_norm(nearest)
        return scores

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return functional.cross_entropy(self.score(embedding), labels)

    def begin_epoch(self, clock: Clock, sweep: Sweep | None = None) -> None:
        """Cluster each class and blend, for the steps of the epoch before; none before the first.

        sweep  features (examples, width), labels (examples,)
        """
        if sweep is None or clock.step == 0:
            return
        share = self.momentum**clock.steps_per_epoch
        with torch.no_grad():
            # Class by class, so that the cosines of all images are never in memory at once.
            blended = [
                self._blended(k, self.embed(sweep.features[sweep.labels == k]), share)
                for k in range(len(self.subcentroids))
            ]
            self.subcentroids.copy_(torch.stack(blended))

    def readings(self) -> Mapping[str, float]:
        """Mean cosine between sub-centroids of one class: 1, all have become one."""
        count = self.subcentroids.shape[1]
        if count == 1:
            return {}
        # ‖Σ_j p_j‖² is the sum over all pairs, of which each one with itself gives 1.
        pairs = self.subcentroids.sum(1).square().sum(1) - count
        return {"siblings": float(pairs.mean()) / (count * (count - 1))}

    def _blended(self, k: int, embedding: Tensor, share: float) -> Tensor:
        """Sub-centroids of class k, (K, dim), after its embeddings, (examples, dim)."""
        own = self.subcentroids[k]
        right = self.score(embedding).argmax(1) == k
        cluster = sinkhorn(embedding @ own.T).argmax(1)
        member = functional.one_hot(cluster, len(own)) * right[:, None]
        fresh = unit(member.T.to(embedding.dtype) @ embedding)
        moved = unit(share * own + (1 - share) * fresh)
        return torch.where(member.any(0)[:, None], moved, own)


def sinkhorn(cosines: Tensor) -> Tensor:
    """Share of each example in each cluster, (examples, K): rows sum to 1, columns nearly equal."""
    plan = (cosines / EPSILON).exp()
    for _ in range(ITERATIONS):
        plan = plan / plan.sum(0)
        plan = plan / plan.sum(1, keepdim=True)
    return plan
