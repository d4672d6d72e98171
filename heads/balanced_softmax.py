"""Balanced softmax: the class counts stand inside the softmax, in training only.

Ren, Yu, Sheng, Ma, Zhao, Yi, Li. "Balanced Meta-Softmax for Long-Tailed Visual Recognition."
NeurIPS 2020, arXiv:2007.10740.

A softmax trained where classes are unequal and used where they are equal is biased: by Bayes' rule
the two posteriors differ by the counts. So put the counts into the training softmax, and let the
logits learn the posterior of the balanced world.

    L = mean −log  n_y exp(s_y) / Σ_k n_k exp(s_k)        sec. 3.1, Theorem 1
    p_k = exp(s_k) / Σ_j exp(s_j)                         at prediction
    s_k = w_kᵀz + b_k

    z  embedding     w_k, b_k  classifier.weight[k], classifier.bias[k]     n_k  exp(log_counts[k])

This is logit adjustment (arXiv:2007.07314) at τ = 1: log n_k and log π_k differ by a constant,
which a softmax does not see. It goes with batches drawn as the images come: with classes drawn
equally often it would correct what is not there.

Where we differ: this is the paper's Balanced Softmax without its meta sampler. A class without
examples is counted like the rarest that has some (`heads.geometry.filled`); the equation as it
stands would leave it out of the softmax, so that nothing held its score down.
"""

from typing import final

from torch import Tensor
from torch.nn import functional

from heads.base import Head, Problem
from heads.geometry import filled
from heads.layers import linear, projection_to


@final
class BalancedSoftmax(Head):
    """Learned softmax, weighted by counts in training.

    dim         length of the embedding; None, the backbone's width, released code
    projection  "needed": a linear layer where dim differs from the width; "always": also where it
                equals it, as in the ResNet-32 of Hyperspherical Prototype Networks (released code).
                "needed", ours
    """

    log_counts: Tensor

    def __init__(
        self, problem: Problem, *, dim: int | None = None, projection: str = "needed"
    ) -> None:
        super().__init__()
        generator = problem.generator()
        self.projection, self.dim = projection_to(dim, problem.width, projection, generator)
        self.classifier = linear(self.dim, problem.classes, generator)
        self.register_buffer("log_counts", filled(problem.counts).log().float())

    def embed(self, features: Tensor) -> Tensor:
        """Project, (batch, dim)."""
        embedding: Tensor = self.projection(features)
        return embedding

    def score(self, embedding: Tensor) -> Tensor:
        """Logits without the counts, (batch, classes)."""
        logits: Tensor = self.classifier(embedding)
        return logits

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy with the counts in the softmax."""
        return functional.cross_entropy(self.score(embedding) + self.log_counts, labels)

    def class_vectors(self) -> Tensor:
        """Learned weights, (classes, dim)."""
        return self.classifier.weight

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight (classes, dim) and bias (classes,)."""
        return self.classifier.weight, self.classifier.bias
