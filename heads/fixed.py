"""Fixed prototypes with cross-entropy: the control that keeps the points and changes the loss.

Saadabadi, Dabouei, Malakshan, Nasrabadi. "Hyperspherical Classification with Dynamic
Label-to-Prototype Assignment." CVPR 2024, arXiv:2403.16937, Table 9, "Fixed W + CE". Fixed
classifiers with cross-entropy: Hoffer, Hubara, Soudry. "Fix your classifier: the marginal value of
training the last weight layer." ICLR 2018, arXiv:1801.04540.

Put spread points where a softmax classifier has its learned weights and never move them. If this
trains as well as a squared error to the same points, the points matter and not the loss; the paper
finds that it does not, and blames the push that cross-entropy gives against the other prototypes.

    s_k = σ · w_kᵀz,  ‖z‖ = ‖w_k‖ = 1
    ℓ(z, y) = −log softmax(s)ᵧ                                         (10) of the supplement, σ = 1

    z  embedding     w_k  prototypes[k]     σ  scale

Where we differ: the paper writes the logits without a scale, z and w of unit length. At σ = 1
cross-entropy over 100 classes cannot fall below log(1 + 99 e^(−1−1/99)) = 3.6, so that the softmax
stays flat and the push against all other prototypes never ends: a handicap which is not of the
fixing. We scale by 30 and keep 1 as a choice. The batch norm before the sphere, from the paper's
long-tailed protocol, is a choice too.
"""

from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.base import Head, Problem
from heads.checks import one_of
from heads.geometry import OBJECTIVES, unit
from heads.layers import normalise, projection_to

SCALE = 30.0


@final
class Fixed(Head):
    """Fixed points, scaled cross-entropy on cosines.

    dim         length of the embedding, at least 2; None, the backbone's width: ours, the paper has
                16 to 64
    projection  "needed": a linear layer where dim differs from the width, ours; "always": also
                where it equals it, as the paper's ResNet-32 has it (released code)
    points      "energy": points of least Gaussian energy, the paper's objective, sec. 3.2.1;
                "separation": of smallest largest cosine (arXiv:1901.10514); "energy_released",
                "separation_printed", "separation_released": as the papers' own procedures leave
                them; "average_angle": the degenerate objective of Fig. 2; "random": uniform on the
                sphere, from the head's own seed
    scale       σ; 30, released code of LDAM (arXiv:1906.07413), the value of psc's cosines too, so
                that fixing the weights is all that the two differ in. 1 is the formula as printed
    batch_norm  BatchNorm1d before the sphere; False, released code of the balanced protocol
    """

    prototypes: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int | None = None,
        projection: str = "needed",
        points: str = "energy",
        scale: float = SCALE,
        batch_norm: bool = False,
    ) -> None:
        super().__init__()
        one_of("points", points, (*OBJECTIVES, "random"))
        if not scale > 0:
            raise ValueError(f"fixed needs a positive scale, got {scale}. Set `scale: {SCALE:g}`.")
        generator = problem.generator()
        self.projection, self.dim = projection_to(dim, problem.width, projection, generator)
        if self.dim < 2:
            raise ValueError(
                f"fixed needs dim >= 2 to spread its prototypes, got dim {self.dim}. "
                "Set `dim: 2` or more."
            )
        self.norm = nn.BatchNorm1d(self.dim) if batch_norm else nn.Identity()
        if points == "random":
            prototypes = unit(torch.randn(problem.classes, self.dim, generator=generator))
        else:
            prototypes = problem.points(self.dim, points).clone()
        self.register_buffer("prototypes", prototypes)
        self.scale = scale

    def embed(self, features: Tensor) -> Tensor:
        """Project, normalise over the batch if asked to, put on the sphere: (batch, dim)."""
        return unit(normalise(self.norm, self.projection(features)))

    def score(self, embedding: Tensor) -> Tensor:
        """Logits, (batch, classes)."""
        return self.scale * (embedding @ self.prototypes.T)

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return functional.cross_entropy(self.score(embedding), labels)

    def class_vectors(self) -> Tensor:
        """Prototypes, (classes, dim)."""
        return self.prototypes
