"""Word-vector prototypes: each class stands where the vector of its name stands.

Mikolov, Chen, Corrado, Dean. "Efficient Estimation of Word Representations in Vector Space."
ICLR workshop 2013, arXiv:1301.3781: the vectors. As a baseline of prototypes: Mettes, van der Pol,
Snoek. "Hyperspherical Prototype Networks." NeurIPS 2019, arXiv:1901.10514.

Vectors learned from text know which names are used alike. So fix each class at the vector of its
name and turn each image towards its own; similar classes then stand close together, for better
(their confusion costs little) and for worse (they are hard to tell apart).

    v_k − v̄ = Σ_j s_j u_kj a_j,   s₁ ≥ s₂ ≥ …                  principal axes of the centred vectors
    p_k = unit(s₁u_k1, …, s_d u_kd)                                      prototypes
    L   = Σ_i (1 − cos(zᵢ, p_yᵢ))²                                      loss, summed over the batch

    v_k  problem.words[k]     p_k  prototypes[k]     z  embedding before the sphere     d  dim

Where we differ: how the vectors were reduced to 10 to 100 dimensions is not stated in the paper
that has this baseline; we take principal components. Centred vectors of c classes span at most
c − 1 dimensions, so that is the largest dim. The sign of each axis is fixed by its largest entry.
"""

from typing import final

import torch
from torch import Tensor

from heads.base import Head, Needs, Problem
from heads.checks import one_of
from heads.geometry import squared_error, unit
from heads.layers import projection_to

FLAT = 1e-6  # a length below this share of the largest is rounding of float32


@final
class Word2Vec(Head):
    """Fixed prototypes from word vectors of the class names; squared cosine error.

    dim         length of the embedding, at least 2; None, all that the centred vectors span, at
                most classes − 1 and their own length, so that nothing of them is lost: ours, the
                paper has 10 to 200
    projection  "needed": a linear layer where dim differs from the width, ours; "always": also
                where it equals it, as in the ResNet-32 of Hyperspherical Prototype Networks
                (released code)
    reduction   "sum": sum of (1 − cos)², released code of Hyperspherical Prototype Networks;
                "half_mean": ½ · mean, for the long-tailed protocol of ETF (arXiv:2203.09081)
    """

    prototypes: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int | None = None,
        projection: str = "needed",
        reduction: str = "sum",
    ) -> None:
        super().__init__()
        one_of("reduction", reduction, ("sum", "half_mean"))
        if problem.words is None:
            raise ValueError(
                "word2vec needs a word vector for each class name, got none. "
                "Name a file of word vectors, or take word2vec out of the suite."
            )
        components = _components(problem.words)
        largest = components.shape[1]
        dim = largest if dim is None else dim
        if not 2 <= dim <= largest:
            raise ValueError(
                f"word2vec needs a dim from 2 to {largest}, which is all that {problem.classes} "
                f"centred word vectors of length {problem.words.shape[1]} span, got dim {dim}. "
                + (f"Set `dim: {largest}` or less." if largest >= 2 else "Take more classes.")
            )
        self.projection, self.dim = projection_to(
            dim, problem.width, projection, problem.generator()
        )
        places = components[:, :dim]
        nowhere = (places.norm(dim=1) <= FLAT * components.norm(dim=1).max()).nonzero().flatten()
        if len(nowhere):
            raise ValueError(
                f"the word vector of class {int(nowhere[0])} lies at the centre of all, and so has "
                f"no direction in dim {dim}. Give it another vector, or change `dim`."
            )
        self.register_buffer("prototypes", unit(places).float())
        self.reduction = reduction

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """One word vector per class name."""
        return Needs(words=True)

    def embed(self, features: Tensor) -> Tensor:
        """Project and put on the sphere, (batch, dim)."""
        return unit(self.projection(features))

    def score(self, embedding: Tensor) -> Tensor:
        """Cosine to each prototype, (batch, classes)."""
        return embedding @ self.prototypes.T

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
        """Prototypes, (classes, dim)."""
        return self.prototypes


def _components(words: Tensor) -> Tensor:
    """Principal components of word vectors, (classes, word_dim): (classes, rank), float64."""
    centred = words.double() - words.double().mean(0)
    left, lengths, axes = torch.linalg.svd(centred, full_matrices=False)
    rank = int((lengths > FLAT * lengths.max()).sum())
    largest = axes.gather(1, axes.abs().argmax(1, keepdim=True)).flatten()
    components: Tensor = left * lengths * largest.sign()
    return components[:, :rank]
