"""Trained classifier tuned further, with its weights held in a ball.

Alshammari, Wang, Ramanan, Kong. "Long-Tailed Recognition via Weight Balancing." CVPR 2022,
arXiv:2203.14197. Class weights: Cui, Jia, Lin, Song, Belongie. "Class-Balanced Loss
Based on Effective Number of Samples." CVPR 2019, arXiv:1901.05555.

Frequent classes get long weights. So go on from the trained classifier with strong weight decay,
let no weight be longer than a radius, and count rare classes for more: short weights may grow, long
ones are cut. This is the second stage of what the prototype paper (arXiv:2302.00491) calls
"WD + WD + Max"; the first is a psc with tuned weight decay.

    p = softmax(W z + b)
    L = 1/(BK) Σᵢ ω(yᵢ) [−log p_i,yᵢ − Σ_{k≠yᵢ} log(1 − p_ik)]     released code
    ω(k) = (1−β)/(1−β^N_k), rescaled to Σ_k ω(k) = K              effective numbers
    w_k ← w_k · min(1, r/‖w_k‖)                                   after the last step of each epoch
    r = min_k ‖w_k‖ + θ (max_k ‖w_k‖ − min_k ‖w_k‖)               of the trained weights, once

    z  embedding     W, b  classifier.weight, classifier.bias     ω  class_weights     r  radius
    N_k  examples of class k     B  batch     K  classes     β  beta     θ  threshold

Where we differ: the loss is the released one, a binary cross-entropy on softmax probabilities, of
which the paper says only "class-balanced"; we take log(1 − p) from the logits, since in float32 a p
that rounds to 1 gives the released code no gradient worth the name. A class without examples counts
like the rarest that has some. The weight decay of 0.1 and the rate stand in the recipe `max_norm`:
the head has no parameter but its classifier. The bias is not constrained, as in the released code.
The backbone stands still, where the released code lets the statistics of batch norm move.
"""

from typing import final

import torch
from torch import Tensor

from heads.base import Clock, Head, Needs, Problem
from heads.geometry import effective_numbers, project_l2_ball
from heads.layers import linear

SMALL = -60.0  # log of a probability of 1e-26; ours


@final
class MaxNorm(Head):
    """Class-balanced binary loss, projection once an epoch.

    beta       β of the effective numbers, in [0, 1); 0.9999, released code. 0: all weigh the same
    threshold  θ, where the radius lies between the shortest and the longest trained weight; 0.1,
               released code
    """

    class_weights: Tensor
    radius: Tensor

    def __init__(self, problem: Problem, *, beta: float = 0.9999, threshold: float = 0.1) -> None:
        super().__init__()
        if not 0 <= threshold <= 1:
            raise ValueError(
                f"max_norm needs a threshold from 0 to 1, got {threshold}. Set `threshold: 0.1`."
            )
        self.dim = problem.width
        self.threshold = threshold
        self.classifier = linear(problem.width, problem.classes, problem.generator())
        inverse = 1 / effective_numbers(problem.counts, beta)
        self.register_buffer("class_weights", (inverse / inverse.mean()).float())
        self.register_buffer("radius", torch.tensor(torch.inf))

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """Stands on a finished backbone and its classifier."""
        return Needs(frozen=True)

    def prepare(self, features: Tensor, labels: Tensor, previous: Head) -> None:
        """Take over the trained weight and bias; measure the radius."""
        trained = previous.linear()
        if trained is None:
            raise ValueError(
                "max_norm starts from a trained weight and bias, and "
                f"{type(previous).__name__} has none. Put `psc` before '>'."
            )
        weight, bias = (part.detach() for part in trained)
        self.classifier.weight.data.copy_(weight)
        self.classifier.bias.data.copy_(bias)
        length = torch.linalg.vector_norm(weight, dim=1)
        self.radius.copy_(torch.lerp(length.min(), length.max(), self.threshold))

    def score(self, embedding: Tensor) -> Tensor:
        """Logits, (batch, classes)."""
        logits: Tensor = self.classifier(embedding)
        return logits

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy of the softmax, weighted by class; mean over batch and classes."""
        logs = self.score(embedding).log_softmax(1)
        right = torch.zeros_like(logs, dtype=torch.bool).scatter(1, labels[:, None], True)
        terms = torch.where(right, logs, _log_complement(logs))
        return -(self.class_weights[labels] * terms.mean(1)).mean()

    def after_step(self, embedding: Tensor, labels: Tensor, clock: Clock) -> None:
        """Cut weights beyond the radius, at the end of each epoch."""
        if (clock.step + 1) % clock.steps_per_epoch == 0:
            weight = self.classifier.weight.data
            weight.copy_(project_l2_ball(weight, self.radius))

    def class_vectors(self) -> Tensor:
        """Learned weights, (classes, dim)."""
        return self.classifier.weight

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight (classes, dim) and bias (classes,)."""
        return self.classifier.weight, self.classifier.bias


def _log_complement(logs: Tensor) -> Tensor:
    """Log of 1 − p from log p, (batch, classes), exact also where a probability rounds to 1."""
    # Only the largest probability can come near 1: its complement is summed from the others.
    largest = logs.argmax(1, keepdim=True)
    others = logs.scatter(1, largest, -torch.inf).logsumexp(1, keepdim=True)
    # Below SMALL a probability shows in no sum, and would soon be a denormal number, which is slow.
    small = logs.clamp_min(SMALL).scatter(1, largest, -torch.inf)
    return (-small.exp()).log1p().scatter(1, largest, others)
