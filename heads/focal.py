"""Learned softmax with the focal loss.

Lin, Goyal, Girshick, He, Dollár. "Focal Loss for Dense Object Detection." ICCV 2017,
arXiv:1708.02002.

Examples that are already right still fill most of the cost, and most of them are of frequent
classes. So give each example less weight the surer the classifier is of its class, and let the hard
ones train the network.

    L = mean −(1 − p)^γ log p,   p = softmax(s)ᵧ        (4), its p_t by softmax
    s_k = w_kᵀz + b_k

    z  embedding     w_k, b_k  classifier.weight[k], classifier.bias[k]     γ  gamma

γ = 0 is cross-entropy.

Where we differ: the paper detects objects, with one logistic output per class, a sum over all
outputs divided by the number of objects, a weight α for the positive ones, and a bias that starts
at rare positives. The long-tailed literature takes the softmax of a class in its place and the
mean, without α, as here: released code of LDAM (arXiv:1906.07413).
"""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from heads.base import Head, Problem
from heads.layers import linear, projection_to


@final
class Focal(Head):
    """Learned softmax, focal loss.

    dim         length of the embedding; None, the backbone's width, released code of LDAM
                (arXiv:1906.07413)
    projection  "needed": a linear layer where dim differs from the width; "always": also where it
                equals it, as in the ResNet-32 of Hyperspherical Prototype Networks (released code).
                "needed", ours
    gamma       γ; 2, the paper's best, sec. 3.2. The released code of LDAM, whose focal rows are
                the ones that long-tailed tables repeat, has 1
    """

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int | None = None,
        projection: str = "needed",
        gamma: float = 2.0,
    ) -> None:
        super().__init__()
        if gamma < 0:
            raise ValueError(f"focal needs a gamma of 0 or more, got {gamma}. Set `gamma: 2`.")
        generator = problem.generator()
        self.projection, self.dim = projection_to(dim, problem.width, projection, generator)
        self.classifier = linear(self.dim, problem.classes, generator)
        self.gamma = gamma

    def embed(self, features: Tensor) -> Tensor:
        """Project, (batch, dim)."""
        embedding: Tensor = self.projection(features)
        return embedding

    def score(self, embedding: Tensor) -> Tensor:
        """Logits, (batch, classes)."""
        logits: Tensor = self.classifier(embedding)
        return logits

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean focal loss."""
        cost = functional.cross_entropy(self.score(embedding), labels, reduction="none")
        # 1 − p without cancellation. Where p rounds to 1 a power γ < 1 has an infinite slope, which
        # times a cost of 0 would be NaN.
        doubt = (-torch.expm1(-cost)).clamp_min(torch.finfo(cost.dtype).tiny)
        return (doubt**self.gamma * cost).mean()

    def class_vectors(self) -> Tensor:
        """Learned weights, (classes, dim)."""
        return self.classifier.weight

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight (classes, dim) and bias (classes,)."""
        return self.classifier.weight, self.classifier.bias
