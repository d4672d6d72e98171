"""Distribution alignment: frozen logits, scaled and shifted as far as the input's features say.

Zhang, Li, Yan, He, Sun. "Distribution Alignment: A Unified Framework for Long-tail Visual
Recognition." CVPR 2021, arXiv:2103.16370.

The trained classifier is good and its scores are merely off. So keep it, give each class a scale
and a shift, and let one number per image say how much of them to apply; train these with rare
classes weighted up.

    f_k = w_kᵀz + b_k                                   frozen logits
    σ = sigmoid(vᵀz + v₀)                               confidence of the image
    s_k = (1 + σ a_k) f_k + σ t_k                       calibrated scores
    L = Σᵢ ω(yᵢ) (−log softmax(sᵢ)_yᵢ) / Σᵢ ω(yᵢ)       released code; over the batch
    ω(k) = (1/π_k)^ρ / Σ_j (1/π_j)^ρ · K

    z  embedding     w_k, b_k  weight[k], offset[k]     v, v₀  confidence.weight, confidence.bias
    a, t  scale, shift     π_k  share of class k in the training data     K  classes     ρ  rho
    ω  class_weights

Where we differ: nothing in the released form. In print the sum over the batch is divided by the
number of images, in the code by the weights of the images: ours too, and there the normalisation of
ω cancels. A class without examples counts like the rarest that has some. The cosine classifier that
the authors also try has no bias to take over and is left out. The backbone stands still, batch norm
included.
"""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.base import Head, Needs, Problem
from heads.geometry import filled
from heads.layers import linear

CONFIDENCE = 0.1  # every entry of v at the start: released code (cvpods, DisAlignLinear)


@final
class DisAlign(Head):
    """Calibration of a trained linear classifier.

    rho  power ρ of the inverse class shares; 1.2, released configuration for ImageNet-LT. 0: all
         classes weigh the same
    """

    weight: Tensor
    offset: Tensor
    class_weights: Tensor

    def __init__(self, problem: Problem, *, rho: float = 1.2) -> None:
        super().__init__()
        if rho < 0:
            raise ValueError(f"disalign needs a rho of 0 or more, got {rho}. Set `rho: 1.2`.")
        self.dim = problem.width
        self.register_buffer("weight", torch.zeros(problem.classes, problem.width))
        self.register_buffer("offset", torch.zeros(problem.classes))
        inverse = filled(problem.counts) ** -rho
        self.register_buffer("class_weights", (inverse / inverse.mean()).float())
        self.confidence = linear(problem.width, 1, problem.generator())
        nn.init.constant_(self.confidence.weight, CONFIDENCE)
        self.scale = nn.Parameter(torch.ones(problem.classes))
        self.shift = nn.Parameter(torch.zeros(problem.classes))

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """Stands on a finished backbone and its classifier."""
        return Needs(frozen=True)

    def prepare(self, features: Tensor, labels: Tensor, previous: Head) -> None:
        """Take over the trained weight and bias."""
        trained = previous.linear()
        if trained is None:
            raise ValueError(
                "disalign starts from a trained weight and bias, and "
                f"{type(previous).__name__} has none. Put `psc` before '>'."
            )
        self.weight.copy_(trained[0].detach())
        self.offset.copy_(trained[1].detach())

    def score(self, embedding: Tensor) -> Tensor:
        """Calibrated logits, (batch, classes)."""
        logits = embedding @ self.weight.T + self.offset
        confidence = self.confidence(embedding).sigmoid()
        calibrated: Tensor = (1 + confidence * self.scale) * logits + confidence * self.shift
        return calibrated

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy, the mean by class weights."""
        return functional.cross_entropy(self.score(embedding), labels, self.class_weights)

    def class_vectors(self) -> Tensor:
        """Frozen weights, (classes, dim)."""
        return self.weight
