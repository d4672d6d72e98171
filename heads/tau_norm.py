"""τ-normalisation of a trained classifier's weights; nothing to train.

Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis. "Decoupling Representation and Classifier for
Long-Tailed Recognition." ICLR 2020, arXiv:1910.09217.

A softmax trained on rare and frequent classes gives the frequent ones longer weights, and so larger
scores. So take the length out, wholly or in part, and keep the direction.

    w̃_k = w_k / ‖w_k‖^τ
    s_k = w̃_kᵀ z            bias dropped
    s_k = w̃_kᵀ z + b_k      bias kept

    z  embedding     w_k, b_k  the trained weight and bias     w̃_k  weight[k]     b_k  offset[k]

τ = 0 is the trained classifier, τ = 1 its directions alone, τ > 1 favours the rare classes.

Where we differ: nothing. Sources do not agree on the bias: the released codes of this paper and of
RIDE (arXiv:2010.01809) drop it, those of Weight Balancing (arXiv:2203.14197) and of Bag of Tricks
(Zhang et al., AAAI 2021) keep it as it was. Nor on τ, which the authors choose on validation data
where there is some: Bag of Tricks has 1, Weight Balancing 1.9 for CIFAR-100 at 1:100.
"""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from heads.base import Head, Needs, Problem
from heads.geometry import SHORTEST


@final
class TauNorm(Head):
    """Trained weights over a power of their length.

    tau   power τ; 1, the directions alone: "L2-normalisation" in arXiv:2203.14197, and the released
          code of Bag of Tricks. arXiv:1910.09217 looks from 0 to 2 in steps of 0.1
    bias  True: keep the trained bias; False, released code of arXiv:1910.09217
    """

    weight: Tensor
    offset: Tensor

    def __init__(self, problem: Problem, *, tau: float = 1.0, bias: bool = False) -> None:
        super().__init__()
        if tau < 0:
            raise ValueError(f"tau_norm needs a tau of 0 or more, got {tau}. Set `tau: 1`.")
        self.dim = problem.width
        self.tau = tau
        self.bias = bias
        self.register_buffer("weight", torch.zeros(problem.classes, problem.width))
        self.register_buffer("offset", torch.zeros(problem.classes))

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """Stands on a finished backbone and its classifier; prepare() is all."""
        return Needs(frozen=True, trains=False)

    def prepare(self, features: Tensor, labels: Tensor, previous: Head) -> None:
        """Take over the trained weight, normalised; a weight of length 0 stays."""
        trained = previous.linear()
        if trained is None:
            raise ValueError(
                "tau_norm starts from a trained weight and bias, and "
                f"{type(previous).__name__} has none. Put `psc` before '>'."
            )
        weight, bias = (part.detach() for part in trained)
        length = torch.linalg.vector_norm(weight, dim=1, keepdim=True)
        length = torch.where(length > SHORTEST, length, torch.ones_like(length))
        self.weight.copy_(weight / length**self.tau)
        if self.bias:
            self.offset.copy_(bias)

    def score(self, embedding: Tensor) -> Tensor:
        """Logits, (batch, classes)."""
        return embedding @ self.weight.T + self.offset

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the scores; only reported, since nothing is trained."""
        return functional.cross_entropy(self.score(embedding), labels)

    def class_vectors(self) -> Tensor:
        """Normalised weights, (classes, dim)."""
        return self.weight

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight (classes, dim) and bias (classes,)."""
        return self.weight, self.offset
