"""Each class a ball around its mean, and the worst point of the ball counts.

Samuel, Chechik. "Distributional Robustness Loss for Long-Tail Learning." ICCV 2021,
arXiv:2104.03066.

The mean of a rare class is a poor estimate of where the class lies. So train the features of a
finished classifier against the worst distribution within a radius of that estimate, which comes
down to one more length on the distance of each image to the mean of its own class.

    ℓ_ci = −(‖μ_c − zᵢ‖ + [yᵢ = c] ε_c) / T
    p_ci = exp ℓ_ci / Σ_j exp ℓ_cj                   over the images j of the batch
    L_rob = −mean_c mean_{i: yᵢ = c} log p_ci                over the classes c in the batch
    L = Σᵢ w_yᵢ CEᵢ / Σᵢ w_yᵢ + L_rob,   w_c = N_c / N_max

    zᵢ  embedding, the feature     μ_c  centroids[c]     ε_c  epsilon[c], learned     N_c  counts

It is written `psc >> dro_lt > crt`: this stage starts from the classifier before it, weight and
bias, or where that one has none from the class means as a nearest-mean classifier; it leaves them
alone and trains the features. Then comes a classifier of its own.

Where we differ: ε_c stands for the paper's 2ε. In the released code the ε of an image in the batch
may be that of another class (its mask runs class by class, its ε image by image); ours is its own
class's. Centroids, fresh every epoch, are means of all training features, unmixed and without
augmentation or sampler; there, of a class-balanced, augmented pass. The released code goes on with
the epoch of best nearest-mean accuracy on the test images; we with the last. The weights w are its
instructions' too; they favour the frequent classes. Nothing holds ε up: L_rob never falls with
it, so that descent shrinks the balls, in time below 0. The readings tell how far.
"""

from collections.abc import Mapping
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.base import Clock, Head, Needs, Problem, Sweep
from heads.layers import linear


@final
class DROLT(Head):
    """Cross-entropy of a fixed classifier, and the robust loss on the features.

    temperature  T; 1, released code's instructions for CIFAR-100
    epsilon      ε_c of every class at the start; 1, released code
    """

    weight: Tensor
    bias: Tensor
    centroids: Tensor
    shares: Tensor

    def __init__(self, problem: Problem, *, temperature: float = 1.0, epsilon: float = 1.0) -> None:
        super().__init__()
        if not temperature > 0:
            raise ValueError(
                f"dro_lt needs a positive temperature, got {temperature}. Set `temperature: 1`."
            )
        self.dim = problem.width
        first = linear(problem.width, problem.classes, problem.generator())
        self.register_buffer("weight", first.weight.detach())
        self.register_buffer("bias", first.bias.detach())
        self.register_buffer("centroids", torch.zeros(problem.classes, problem.width))
        self.register_buffer("shares", problem.counts / problem.counts.max())
        self.epsilon = nn.Parameter(torch.full((problem.classes,), float(epsilon)))
        self.temperature = temperature

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """All training features every epoch; whole images, which are compared with each other."""
        return Needs(sweep=True, mixup=False)

    def prepare(self, features: Tensor, labels: Tensor, previous: Head) -> None:
        """Start from the classifier before: features (examples, width), labels (examples,)."""
        known = previous.linear()
        if known is None:
            means = self._means(features, labels)
            known = means, -0.5 * means.square().sum(1)
        self.weight.copy_(known[0].detach())
        self.bias.copy_(known[1].detach())

    def begin_epoch(self, clock: Clock, sweep: Sweep | None = None) -> None:
        """Take the centroids anew: features (examples, width), labels (examples,)."""
        if sweep is not None:
            self.centroids.copy_(self._means(sweep.features, sweep.labels))

    def score(self, embedding: Tensor) -> Tensor:
        """Logits of the classifier before this stage, (batch, classes)."""
        return embedding @ self.weight.T + self.bias

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Weighted mean cross-entropy, and the robust loss."""
        cost = functional.cross_entropy(self.score(embedding), labels, weight=self.shares)
        own = torch.arange(len(self.centroids), device=labels.device)[:, None] == labels
        distance = torch.cdist(self.centroids, embedding) + own * self.epsilon[:, None]
        log_p = (-distance / self.temperature).log_softmax(1)
        count = own.sum(1)
        mean = (log_p * own).sum(1) / count.clamp_min(1)
        return cost - mean.sum() / (count > 0).sum()

    def class_vectors(self) -> Tensor:
        """Weights of the classifier before this stage, (classes, width)."""
        return self.weight

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight (classes, width) and bias (classes,) of the classifier before this stage."""
        return self.weight, self.bias

    def readings(self) -> Mapping[str, float]:
        """The radii: least, mean and largest ε."""
        radii = self.epsilon.detach()
        return {
            "epsilon_min": float(radii.min()),
            "epsilon_mean": float(radii.mean()),
            "epsilon_max": float(radii.max()),
        }

    def _means(self, features: Tensor, labels: Tensor) -> Tensor:
        """Mean feature of each class, (classes, width); zero where it has none."""
        features = features.to(self.centroids.dtype)
        sums = torch.zeros_like(self.centroids).index_add_(0, labels, features)
        return sums / torch.bincount(labels, minlength=len(sums)).clamp_min(1)[:, None]
