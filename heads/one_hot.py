"""One axis per class: fixed one-hot prototypes with squared cosine error.

Mettes, van der Pol, Snoek. "Hyperspherical Prototype Networks." NeurIPS 2019, arXiv:1901.10514:
the baseline of that paper. It is what Table 1 of Saadabadi, Dabouei, Malakshan, Nasrabadi,
"Hyperspherical Classification with Dynamic Label-to-Prototype Assignment", CVPR 2024,
arXiv:2403.16937, calls PSC where dim equals the number of classes.

The plainest class vectors that need no learning are the axes: any two are orthogonal, and the
cosine to class k is coordinate k of the embedding. The price is one dimension per class.

    p_k = e_k,  d = c                                                prototypes
    L   = Σ_i (1 − cos(zᵢ, p_yᵢ))²                                   loss, summed over the batch

    p_k  prototypes[k]     z  embedding before the sphere     d  dim     c  classes

Where we differ: nothing in the equations. A loss summed over the batch goes with the paper's
learning rate 0.01; the mean at that rate hardly trains.
"""

from typing import final

import torch
from torch import Tensor

from heads.base import Head, Problem
from heads.checks import one_of
from heads.geometry import squared_error, unit
from heads.layers import projection_to


@final
class OneHot(Head):
    """One axis per class; squared cosine error. The length of the embedding is that of the classes.

    projection  "needed": a linear layer where the backbone's width is not the number of classes,
                ours; "always": also where it is, as the paper's ResNet-32 has it (released code)
    reduction   "sum": sum of (1 − cos)², released code; "half_mean": ½ · mean, for the long-tailed
                protocol of ETF (arXiv:2203.09081)
    """

    prototypes: Tensor

    def __init__(
        self, problem: Problem, *, projection: str = "needed", reduction: str = "sum"
    ) -> None:
        super().__init__()
        one_of("reduction", reduction, ("sum", "half_mean"))
        self.projection, self.dim = projection_to(
            problem.classes, problem.width, projection, problem.generator()
        )
        self.register_buffer("prototypes", torch.eye(problem.classes))
        self.reduction = reduction

    def embed(self, features: Tensor) -> Tensor:
        """Project to one coordinate per class and put on the sphere, (batch, classes)."""
        return unit(self.projection(features))

    def score(self, embedding: Tensor) -> Tensor:
        """Cosine to each axis, (batch, classes): the embedding itself."""
        return embedding

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Squared cosine error."""
        return squared_error(
            embedding,
            self.prototypes[labels],
            labels,
            reduction=self.reduction,
            class_weights=False,
        )

    def class_vectors(self) -> Tensor:
        """The axes, (classes, classes)."""
        return self.prototypes
