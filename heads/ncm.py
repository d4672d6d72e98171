"""Nearest class mean on frozen features.

Kang, Xie, Rohrbach, Yan, Gordo, Feng, Kalantidis. "Decoupling Representation and Classifier for
Long-Tailed Recognition." ICLR 2020, arXiv:1910.09217.
Centred and normalised features (cl2n): Wang, Chao, Weinberger, van der Maaten. "SimpleShot:
Revisiting Nearest-Neighbor Classification for Few-Shot Learning." arXiv:1911.04623.

A mean has no notion of how often its class occurred. So throw the trained classifier away and let
each class be the mean of its training features: what remains is the quality of the features.

    c_k = mean of t(x) over the training examples of class k
    ŷ(x) = argmin_k ‖t(x) − c_k‖
    t(x) = x      "none"
           x / ‖x‖      "l2n"
           (x − μ) / ‖x − μ‖      "cl2n",  μ the mean of all training features

    t(x)  embedding     c_k  centroids[k]     μ  centre

The score is −½ ‖t(x) − c_k‖²: the same argmin, linear in the embedding up to a term that all
classes share (weight c_k, bias −½‖c_k‖²), and its softmax is the posterior of unit Gaussians around
the centroids with equal priors: a confidence that follows from the model rather than from a
temperature.

Where we differ: the released code can also compare by cosine; we use its Euclidean distance. As
there, centroids of normalised features are not normalised again.
"""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from heads.base import Head, Needs, Problem
from heads.checks import one_of
from heads.geometry import unit


@final
class NCM(Head):
    """Nearest class mean; nothing to train.

    transform  "none": the features as they are; "l2n": on the sphere; "cl2n": centred, then on the
               sphere. "none": ours, the plain method; the released code of arXiv:1910.09217
               defaults to "cl2n"
    """

    centre: Tensor
    centroids: Tensor

    def __init__(self, problem: Problem, *, transform: str = "none") -> None:
        super().__init__()
        one_of("transform", transform, ("none", "l2n", "cl2n"))
        self.dim = problem.width
        self.transform = transform
        self.register_buffer("centre", torch.zeros(problem.width))
        self.register_buffer("centroids", torch.zeros(problem.classes, problem.width))

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """Stands on a finished backbone; prepare() is all."""
        return Needs(frozen=True, trains=False)

    def prepare(self, features: Tensor, labels: Tensor, previous: Head) -> None:
        """Take the means of all training features, (examples, width), labels (examples,)."""
        if self.transform == "cl2n":
            self.centre.copy_(features.mean(0))
        embedding = self.embed(features.to(self.centre.dtype))
        sums = torch.zeros_like(self.centroids).index_add_(0, labels, embedding)
        counts = torch.bincount(labels, minlength=len(sums)).clamp_min(1)
        self.centroids.copy_(sums / counts[:, None])

    def embed(self, features: Tensor) -> Tensor:
        """Apply the transform, (batch, width)."""
        return features if self.transform == "none" else unit(features - self.centre)

    def score(self, embedding: Tensor) -> Tensor:
        """−½ squared distance to each centroid, (batch, classes)."""
        lengths = embedding.square().sum(1)[:, None] + self.centroids.square().sum(1)
        return embedding @ self.centroids.T - 0.5 * lengths

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy of the scores; only reported, since nothing is trained."""
        return functional.cross_entropy(self.score(embedding), labels)

    def class_vectors(self) -> Tensor:
        """Centroids, (classes, width)."""
        return self.centroids
