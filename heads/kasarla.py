"""Maximum separation in closed form: a fixed simplex as the last matrix, with softmax.

Kasarla, Burghouts, van Spengler, van der Pol, Cucchiara, Mettes. "Maximum Class Separation as
Inductive Bias in One Matrix." NeurIPS 2022, arXiv:2206.08704.

Classes are best separated when every two of them stand at the same, largest angle, and that needs
no optimisation: one matrix, known beforehand, multiplies the network's output before the softmax.

    P₁ = (1  −1)
    P_k = ⎡ 1        −(1/k) 1ᵀ        ⎤     k+1 unit columns in k dimensions, pairwise cosine −1/k
          ⎣ 0   √(1 − 1/k²) · P_{k−1} ⎦
    ℓ(z, y) = −log softmax(ρ · P_{C−1}ᵀ z)ᵧ

    P_{C−1}  prototypesᵀ     ρ  radius     z  embedding, not normalised     C  classes

Where we differ: the recursion is unrolled (simplex in heads/geometry.py), so that the number of
classes is not bounded by the depth of calls that Python allows.
"""

from typing import final

from torch import Tensor
from torch.nn import functional

from heads.base import Head, Problem
from heads.geometry import simplex
from heads.layers import projection_to


@final
class Kasarla(Head):
    """Fixed simplex in classes − 1 dimensions; cross-entropy.

    radius      ρ, length of the class vectors; 0.1, the paper for ResNets
    projection  "always": a linear layer to classes − 1, released code; "needed": none where that is
                the width
    """

    prototypes: Tensor

    def __init__(
        self, problem: Problem, *, radius: float = 0.1, projection: str = "always"
    ) -> None:
        super().__init__()
        if not radius > 0:
            raise ValueError(f"kasarla needs a positive radius, got {radius}. Set `radius: 0.1`.")
        self.projection, self.dim = projection_to(
            problem.classes - 1, problem.width, projection, problem.generator()
        )
        self.register_buffer("prototypes", simplex(problem.classes, self.dim).float())
        self.radius = radius

    def embed(self, features: Tensor) -> Tensor:
        """Project, (batch, classes − 1)."""
        embedding: Tensor = self.projection(features)
        return embedding

    def score(self, embedding: Tensor) -> Tensor:
        """Logits, (batch, classes)."""
        return self.radius * (embedding @ self.prototypes.T)

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return functional.cross_entropy(self.score(embedding), labels)

    def class_vectors(self) -> Tensor:
        """Columns of the matrix, (classes, classes − 1)."""
        return self.prototypes
