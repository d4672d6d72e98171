"""Label-distribution-aware margins, with or without deferred re-weighting.

Cao, Wei, Gaidon, Aréchiga, Ma. "Learning Imbalanced Datasets with Label-Distribution-Aware Margin
Loss." NeurIPS 2019, arXiv:1906.07413.
Effective numbers: Cui, Jia, Lin, Song, Belongie. "Class-Balanced Loss Based on Effective Number of
Samples." CVPR 2019, arXiv:1901.05555.

What is known about a class grows with its examples, so a rare class deserves more room on its side
of the border. So ask each example to win by a margin that falls with the fourth root of its class's
count; and give rare classes more weight only once the features have formed (DRW).

    ℓ(z, y) = −log exp(s (cos_y − Δ_y)) / (exp(s (cos_y − Δ_y)) + Σ_{k≠y} exp(s cos_k))    sec. 3.2
    cos_k = cos(z, w_k)
    Δ_k = C / n_k^¼,  C so that max_k Δ_k = largest                                        sec. 3.2
    L = Σᵢ v_yᵢ ℓᵢ / Σᵢ v_yᵢ                                    mean over a batch, weighted by class
    v_k = 1;  with DRW, from the switch on,  v_k ∝ (1 − β) / (1 − β^n_k),  mean_k v_k = 1   sec. 3.3

    z  embedding     w_k  weight[k]     s  scale     Δ_k  margins[k]     v_k  class_weights[k]
    n_k  problem.counts[k]     DRW  deferred

The margin is a matter of training: scores are s cos_k.

Where we differ: Algorithm 1 prints 1/n_k as the deferred weight; the released code has the inverse
effective number (arXiv:1901.05555), as here. The released code predicts from cosines without s: the
same winner, another confidence. As there, weights start on the sphere and are divided by their
lengths ever after. The switch waits for an epoch to begin: at 0.8, a run of fewer than five ends
before it comes. A class without examples has margin and weight of the rarest that has some
(`heads.geometry.filled`).
"""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.base import Clock, Head, Problem, Sweep
from heads.geometry import effective_numbers, filled, unit
from heads.layers import projection_to

SWITCH = 0.8
BETA = 0.9999


@final
class LDAM(Head):
    """Cosine classifier, margins by class.

    dim         length of the embedding; None, the backbone's width, released code
    projection  "needed": a linear layer where dim differs from the width; "always": also where it
                equals it, as in the ResNet-32 of Hyperspherical Prototype Networks (released code).
                "needed": the released code has no layer at its one width
    largest     margin of the rarest class; 0.5, released code
    scale       s; 30, released code
    deferred    re-weight classes late in the run (DRW); False, the released code's default and the
                plain "LDAM" of published tables; True, its "LDAM-DRW"
    switch      share of the run after which classes are weighted, only with deferred; 0.8: epoch
                160 of 200, released code
    beta        β of the effective numbers, only with deferred; 0.9999, released code
    """

    margins: Tensor
    class_weights: Tensor
    late_weights: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int | None = None,
        projection: str = "needed",
        largest: float = 0.5,
        scale: float = 30.0,
        deferred: bool = False,
        switch: float = SWITCH,
        beta: float = BETA,
    ) -> None:
        super().__init__()
        if largest < 0:
            raise ValueError(
                f"ldam needs a margin of 0 or more, got {largest}. Set `largest: 0.5`."
            )
        if scale <= 0:
            raise ValueError(f"ldam needs a positive scale, got {scale}. Set `scale: 30`.")
        if not deferred and (switch, beta) != (SWITCH, BETA):
            raise ValueError(
                f"ldam weighs classes only when deferred, got switch {switch} and beta {beta} "
                "without it. Set `deferred: true`, or leave both out."
            )
        if not 0 <= switch < 1:
            raise ValueError(
                f"ldam needs a switch from 0 to below 1, got {switch}. Set `switch: {SWITCH}`."
            )
        generator = problem.generator()
        self.projection, self.dim = projection_to(dim, problem.width, projection, generator)
        directions = 2 * torch.rand(problem.classes, self.dim, generator=generator) - 1
        self.weight = nn.Parameter(unit(directions))
        margins = filled(problem.counts) ** -0.25
        self.register_buffer("margins", (largest * margins / margins.max()).float())
        inverse = 1 / effective_numbers(problem.counts, beta)
        self.register_buffer("late_weights", (inverse / inverse.mean()).float())
        self.register_buffer("class_weights", torch.ones(problem.classes))
        self.scale = scale
        self.deferred = deferred
        self.switch = switch

    def embed(self, features: Tensor) -> Tensor:
        """Project and put on the sphere, (batch, dim)."""
        return unit(self.projection(features))

    def score(self, embedding: Tensor) -> Tensor:
        """Scaled cosine to each class, without margin: (batch, classes)."""
        return self.scale * (embedding @ unit(self.weight).T)

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy with the margin taken off the right class; a mean weighted by class."""
        own = functional.one_hot(labels, len(self.margins))
        scores = self.score(embedding) - self.scale * self.margins * own
        return functional.cross_entropy(scores, labels, self.class_weights)

    def begin_epoch(self, clock: Clock, sweep: Sweep | None = None) -> None:
        """Weigh classes from the first epoch on that begins at or after the switch."""
        if self.deferred and clock.progress >= self.switch:
            self.class_weights.copy_(self.late_weights)

    def class_vectors(self) -> Tensor:
        """Learned weights, (classes, dim)."""
        return self.weight

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight s·w_k/‖w_k‖, (classes, dim), and bias 0, (classes,), which give the scores."""
        return self.scale * unit(self.weight), torch.zeros_like(self.margins)
