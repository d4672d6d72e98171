"""Supervised contrast with one learned centre per class.

Cui, Zhong, Liu, Yu, Jia. "Parametric Contrastive Learning." ICCV 2021, arXiv:2107.12028.

Supervised contrast draws images of one class together, and so works most for the frequent ones.
Adding a learned centre per class to what an image is compared with gives every class, however rare,
one partner that is always there, and makes a classifier of the centres.

    A(i) = queries, keys and queue, without qᵢ     P(i) = those in A(i) with the label yᵢ
    e_ij = qᵢᵀaⱼ / T     e_ic = wᶜᵀhᵢ + bᶜ + log π_c
    p_i  = softmax of e_i over A(i) and the centres of all classes
    ℓᵢ   = −(log p_i(yᵢ) + α Σ_{j ∈ P(i)} log p_i(j)) / (1 + α |P(i)|)

    h  feature     q, k = unit(W₂ ReLU(BN(W₁ h)))  query, and key by teacher and momentum copy
    w, b  classifier     π_c  share of class c in training     T  temperature     α  alpha

The centres of the paper are wᶜ. With log π the prior is left behind in the loss, and scores are
wᶜᵀh + bᶜ alone. The second view goes through the moving average of the backbone (`teacher`) and of
the projection (`key`); keys of past batches wait in the queue.

Where we differ: dividing by 1 + α|P(i)|, and log π as in balanced softmax (arXiv:2007.10740), are
the released code's. A slot of the queue that was never filled belongs to no class; there, to a
random one. A batch enters the queue ordered by a coordinate of its keys, so that its order is of no
account. All of a batch is normalised together, where the released code shuffles it over GPUs. The
views are the recipe's; there, queries have AutoAugment and Cutout, and keys what SimCLR has.
"""

import copy
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.base import Clock, Head, Needs, Problem
from heads.geometry import unit
from heads.layers import linear, normalise

MOMENTUM = 0.999  # of the keys' projection: released code; the teacher of the backbone has the same


class Projection(nn.Module):
    """(batch, width) to (batch, length), on the sphere: two layers, batch norm between them."""

    def __init__(self, width: int, length: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = linear(width, width, generator)
        self.norm = nn.BatchNorm1d(width)
        self.second = linear(width, length, generator)

    def forward(self, features: Tensor) -> Tensor:
        return unit(self.second(functional.relu(normalise(self.norm, self.first(features)))))


@final
class PaCo(Head):
    """Contrast among two views, a queue and one learned centre per class.

    alpha        weight of an image's partners against 1 of its centre; 0.01, released code for
                 CIFAR-100; 0.05 for ImageNet-LT
    temperature  T; 0.05, released code for CIFAR-100; 0.07 for ImageNet-LT
    contrast     length of queries and keys; 32, released code for CIFAR-100
    queue        keys kept; 1024, released code for CIFAR-100
    """

    keys: Tensor
    owners: Tensor
    place: Tensor
    prior: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        alpha: float = 0.01,
        temperature: float = 0.05,
        contrast: int = 32,
        queue: int = 1024,
    ) -> None:
        super().__init__()
        if alpha < 0 or not temperature > 0:
            raise ValueError(
                f"paco needs an alpha of 0 or more and a positive temperature, got alpha {alpha} "
                f"and temperature {temperature}. Set `alpha: 0.01` and `temperature: 0.05`."
            )
        if contrast < 1 or queue < 1:
            raise ValueError(
                f"paco needs room for keys, got contrast {contrast} and queue {queue}. "
                "Set `contrast: 32` and `queue: 1024`."
            )
        generator = problem.generator()
        self.dim = problem.width
        self.classifier = linear(problem.width, problem.classes, generator)
        self.query = Projection(problem.width, contrast, generator)
        self.key = _without_gradient(self.query)
        self.register_buffer("keys", unit(torch.randn(queue, contrast, generator=generator)))
        self.register_buffer("owners", torch.full((queue,), -1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))
        share = problem.counts / problem.counts.sum()
        self.register_buffer("prior", (share + 1e-9).log())
        self.alpha = alpha
        self.temperature = temperature

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """Two views, the second seen by the teacher; whole images, for each has one label."""
        return Needs(views=2, teacher=True, mixup=False)

    def embed(self, features: Tensor) -> Tensor:
        """Features (batch, width) as they are.

        Of two views, (2, batch, width): each with its query or key behind it,
        (2, batch, width + contrast).
        """
        if features.dim() == 2:
            return features
        with torch.no_grad():
            keys = self.key(features[1])
        return torch.cat([features, torch.stack([self.query(features[0]), keys])], 2)

    def score(self, embedding: Tensor) -> Tensor:
        """Logits, (batch, classes); of two views, the first's."""
        first = embedding[0] if embedding.dim() == 3 else embedding
        logits: Tensor = self.classifier(first[:, : self.dim])
        return logits

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Mean over the queries."""
        queries, keys = embedding[..., self.dim :]
        others = torch.cat([queries, keys, self.keys])
        owners = torch.cat([labels, labels, self.owners])
        itself = torch.eye(len(queries), len(others), dtype=torch.bool, device=labels.device)
        alike = (queries @ others.T / self.temperature).masked_fill(itself, -torch.inf)
        centres = self.score(embedding) + self.prior
        log_p = torch.cat([centres, alike], 1).log_softmax(1)
        partner = (labels[:, None] == owners) & ~itself
        drawn = log_p[:, centres.shape[1] :].masked_fill(~partner, 0).sum(1)
        centre = log_p.gather(1, labels[:, None])[:, 0]
        return -((centre + self.alpha * drawn) / (1 + self.alpha * partner.sum(1))).mean()

    def after_step(self, embedding: Tensor, labels: Tensor, clock: Clock) -> None:
        """The oldest keys make room for the batch's, and the keys' projection follows."""
        keys = embedding[1, :, self.dim :]
        order = keys[:, 0].argsort(stable=True)[: len(self.keys)]
        slots = (self.place + torch.arange(len(order), device=labels.device)) % len(self.keys)
        self.keys[slots] = keys[order].to(self.keys.dtype)
        self.owners[slots] = labels[order]
        self.place.add_(len(order)).remainder_(len(self.keys))
        for name, parameter in self.query.named_parameters():
            self.key.get_buffer(name).lerp_(parameter.detach(), 1 - MOMENTUM)

    def class_vectors(self) -> Tensor:
        """Centres, (classes, width)."""
        return self.classifier.weight

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight (classes, width) and bias (classes,)."""
        return self.classifier.weight, self.classifier.bias


def _without_gradient(module: Projection) -> Projection:
    """Copy a module with its parameters as buffers: they are state, and are not trained."""
    twin = copy.deepcopy(module)
    for part in twin.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, parameter.detach())
    return twin
