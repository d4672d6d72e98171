"""Classifier re-training: a fresh linear classifier on frozen features.

Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis. "Decoupling Representation and Classifier for
Long-Tailed Recognition." ICLR 2020, arXiv:1910.09217.

Features learned from all images as they occur are good ones; it is the classifier on top that
follows the class counts. So keep the features, throw the classifier away, and train a new one with
every class drawn equally often.

    ℓ(z, y) = −log softmax(W z + b)ᵧ,     y drawn evenly over the classes

    z  embedding, of a frozen backbone     W, b  classifier.weight, classifier.bias

Where we differ: nothing in the head. That classes are drawn evenly is the sampler's part and stands
in the recipe `crt`; with a recipe that draws images as they occur this is the psc it replaces,
trained longer on fixed features. The backbone's batch norm stays still, where the released code
lets its running statistics move.
"""

from typing import final

from torch import Tensor
from torch.nn import functional

from heads.base import Head, Needs, Problem
from heads.layers import linear


@final
class CRT(Head):
    """Linear classifier, initialised anew, trained by cross-entropy; nothing to choose."""

    def __init__(self, problem: Problem) -> None:
        super().__init__()
        self.dim = problem.width
        self.classifier = linear(problem.width, problem.classes, problem.generator())

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """Stands on a finished backbone."""
        return Needs(frozen=True)

    def score(self, embedding: Tensor) -> Tensor:
        """Logits, (batch, classes)."""
        logits: Tensor = self.classifier(embedding)
        return logits

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy."""
        return functional.cross_entropy(self.score(embedding), labels)

    def class_vectors(self) -> Tensor:
        """Learned weights, (classes, dim)."""
        return self.classifier.weight

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight (classes, dim) and bias (classes,)."""
        return self.classifier.weight, self.classifier.bias
