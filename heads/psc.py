"""Learned softmax: the parametric softmax classifier that every other head is compared with.

Boudiaf, Rony, Ziko, Granger, Pedersoli, Piantanida, Ben Ayed. "A unifying mutual information view
of metric learning: cross-entropy vs. pairwise losses." ECCV 2020, arXiv:2003.08983.
Cosine variant: Wang, Xiang, Cheng, Yuille. "NormFace: L2 Hypersphere Embedding for Face
Verification." ACM Multimedia 2017, arXiv:1704.06369.
Uniformity of the weights (PSC*): Saadabadi, Dabouei, Malakshan, Nasrabadi. "Hyperspherical
Classification with Dynamic Label-to-Prototype Assignment." CVPR 2024, arXiv:2403.16937.

One weight vector and one bias per class are learned with the backbone by cross-entropy, which pulls
an embedding to its class and pushes it from the others. The cosine variant keeps directions only,
so that no class can win by the length of its weight or by its bias. PSC* also pushes the directions
of the weights apart.

    ℓ(z, y) = −log softmax(s)ᵧ
    s_k = w_kᵀz + b_k                                  (plain)
    s_k = σ · cos(z, w_k)                              (cosine)
    L = mean ℓ + λ · L_uni                             (PSC*)
    L_uni = log mean_{i<j} exp(−t ‖ŵᵢ − ŵⱼ‖²),  t = 2,  ŵ = w / ‖w‖

    z  embedding     w_k, b_k  classifier.weight[k], classifier.bias[k]     σ  scale
    λ  uniformity

Where we differ: nothing for the plain one. In the cosine one σ is fixed, where NormFace may also
learn it. In PSC* the paper defines L_uni over a random subset of the weights and with another
constant; we take the mean over all pairs.
"""

from typing import final

from torch import Tensor
from torch.nn import functional

from heads.base import Head, Problem
from heads.geometry import uniformity, unit
from heads.layers import linear, projection_to

SCALE = 30.0


@final
class PSC(Head):
    """Learned softmax, plain or on the sphere.

    dim         length of the embedding; None, the backbone's width, released code of ETF
                (arXiv:2203.09081)
    projection  "needed": a linear layer where dim differs from the width; "always": also where it
                equals it, as in the ResNet-32 of Hyperspherical Prototype Networks (released code).
                "needed", ours
    cosine      False, the plain classifier; True, cosines without bias, NormFace sec. 3
    scale       inverse temperature σ of the cosines, only with cosine; 30, released code of LDAM
                (arXiv:1906.07413). The released code of DL2PA (arXiv:2403.16937) amounts to 1, at
                which cross-entropy cannot fall below 3.6 for 100 classes
    uniformity  λ of PSC*; 0, the plain method; the paper's Table 8 has 0.01
    """

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int | None = None,
        projection: str = "needed",
        cosine: bool = False,
        scale: float = SCALE,
        uniformity: float = 0.0,
    ) -> None:
        super().__init__()
        if scale <= 0:
            raise ValueError(f"psc needs a positive scale, got {scale}. Set `scale: {SCALE:g}`.")
        if not cosine and scale != SCALE:
            raise ValueError(
                f"psc uses its scale with cosines only, got scale {scale} without cosine. "
                "Set `cosine: true`, or leave the scale out."
            )
        if uniformity < 0:
            raise ValueError(
                f"psc needs a uniformity of 0 or more, got {uniformity}. Set `uniformity: 0.01`."
            )
        generator = problem.generator()
        self.projection, self.dim = projection_to(dim, problem.width, projection, generator)
        self.classifier = linear(self.dim, problem.classes, generator, bias=not cosine)
        self.cosine = cosine
        self.scale = scale
        self.uniformity = uniformity

    def embed(self, features: Tensor) -> Tensor:
        """Project, (batch, dim); with cosine, to the sphere."""
        embedding: Tensor = self.projection(features)
        return unit(embedding) if self.cosine else embedding

    def score(self, embedding: Tensor) -> Tensor:
        """Logits, (batch, classes)."""
        if self.cosine:
            return self.scale * (embedding @ unit(self.classifier.weight).T)
        logits: Tensor = self.classifier(embedding)
        return logits

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy, and λ times the uniformity of the weights."""
        cost = functional.cross_entropy(self.score(embedding), labels)
        if self.uniformity:
            cost = cost + self.uniformity * uniformity(unit(self.classifier.weight))
        return cost

    def class_vectors(self) -> Tensor:
        """Learned weights, (classes, dim)."""
        return self.classifier.weight

    def linear(self) -> tuple[Tensor, Tensor] | None:
        """Weight (classes, dim) and bias (classes,); None with cosine, which has no bias."""
        if self.cosine:
            return None
        return self.classifier.weight, self.classifier.bias
