"""Logit adjustment: the prior of the classes is added in training, or taken away afterwards.

Menon, Jayasumana, Rawat, Jain, Veit, Kumar. "Long-Tail Learning via Logit Adjustment." ICLR 2021,
arXiv:2007.07314.

Cross-entropy learns how likely a class is given the image, and with it how often the class occurs
in training; the balanced error wants the former without the latter. So add the logarithm of the
prior to the logits in the loss, which then need not learn it; or subtract it from those of a
classifier that has.

    ℓ(z, y) = −log softmax(s + τ log π)ᵧ,   ŷ = argmax_k s_k          (10)  "loss"
    ŷ = argmax_k s_k − τ log π_k                                       (9)  "post_hoc"
    s_k = w_kᵀz + b_k

    z  embedding     w_k, b_k  weight[k], offset[k]     π_k  share of class k in training
    τ  tau           τ log π  shift

In the "loss" form scores never see the prior. The "post_hoc" form is a step after another head,
written `psc > {logit_adjustment: {form: post_hoc}}`: it takes over w and b, trains nothing, and
b_k − τ log π_k is its offset.

Where we differ: the released code takes log(π^τ + 1e-12), against classes that never occur; we
count such a class like the rarest that occurs (`heads.geometry.filled`). Otherwise the loss would
not see it, so that nothing held its score down, and post hoc it would win every image.
"""

from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from heads.base import Head, Needs, Problem
from heads.checks import one_of
from heads.geometry import filled
from heads.layers import linear, projection_to


@final
class LogitAdjustment(Head):
    """Learned softmax, balanced by the prior.

    form        "loss": the prior is added in training; "post_hoc": taken away from a trained
                classifier. "loss", ours: the paper has both, and this one is a training of its own
    tau         τ; 1, the paper: the one that is consistent with the balanced error
    dim         length of the embedding, only in form "loss"; None, the backbone's width, released
                code
    projection  "needed": a linear layer where dim differs from the width; "always": also where it
                equals it, as in the ResNet-32 of Hyperspherical Prototype Networks (released code);
                only in form "loss". "needed", ours
    """

    weight: Tensor
    offset: Tensor
    shift: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        form: str = "loss",
        tau: float = 1.0,
        dim: int | None = None,
        projection: str = "needed",
    ) -> None:
        super().__init__()
        one_of("form", form, ("loss", "post_hoc"))
        if tau < 0:
            raise ValueError(f"logit_adjustment needs a tau of 0 or more, got {tau}. Set `tau: 1`.")
        if form == "post_hoc" and (dim is not None or projection != "needed"):
            raise ValueError(
                "logit_adjustment in form post_hoc takes over a classifier as it is, got "
                f"dim {dim} and projection {projection!r}. Leave both out."
            )
        generator = problem.generator()
        self.projection, self.dim = projection_to(dim, problem.width, projection, generator)
        if form == "loss":
            layer = linear(self.dim, problem.classes, generator)
            self.weight, self.offset = layer.weight, layer.bias
        else:
            self.register_buffer("weight", torch.zeros(problem.classes, self.dim))
            self.register_buffer("offset", torch.zeros(problem.classes))
        counts = filled(problem.counts)
        self.register_buffer("shift", (tau * (counts / counts.sum()).log()).float())
        self.form = form

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """In form "post_hoc" a finished backbone and its classifier; prepare() is all."""
        after = hyper.get("form") == "post_hoc"
        return Needs(frozen=after, trains=not after)

    def prepare(self, features: Tensor, labels: Tensor, previous: Head) -> None:
        """In form "post_hoc", take over the trained weight, and its bias without the prior."""
        if self.form == "loss":
            return
        trained = previous.linear()
        if trained is None:
            raise ValueError(
                "logit_adjustment in form post_hoc starts from a trained weight and bias, and "
                f"{type(previous).__name__} has none. Put `psc` before '>'."
            )
        self.weight.copy_(trained[0].detach())
        self.offset.copy_(trained[1].detach() - self.shift)

    def embed(self, features: Tensor) -> Tensor:
        """Project, (batch, dim)."""
        embedding: Tensor = self.projection(features)
        return embedding

    def score(self, embedding: Tensor) -> Tensor:
        """Balanced logits, (batch, classes)."""
        return functional.linear(embedding, self.weight, self.offset)

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean cross-entropy as in training, with the prior in the logits.

        In form "post_hoc" that is the trained classifier's own; only reported, nothing is trained.
        """
        return functional.cross_entropy(self.score(embedding) + self.shift, labels)

    def class_vectors(self) -> Tensor:
        """Weights, (classes, dim)."""
        return self.weight

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight (classes, dim) and bias (classes,) of the balanced logits."""
        return self.weight, self.offset
