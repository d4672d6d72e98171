"""Several experts that are to disagree, and their mean.

Wang, Lian, Miao, Liu, Yu. "Long-tailed Recognition by Routing Diverse Distribution-Aware Experts."
ICLR 2021, arXiv:2010.01809.

Rare classes suffer from variance, which an ensemble lowers. So let several experts share the early
layers of the backbone, train each with its own loss, the margin loss of LDAM (arXiv:1906.07413),
and push each away from the mean of all; what the ensemble says is that mean.

    f_e = s · cos(x_e, W_e),   f̄ = mean_e f_e                              scores: f̄
    L = Σ_e [ CE(f_e − s m_y 1_y, y; w) − λ T̄² KL(softmax(f̄ / T) ‖ softmax(f_e / T)) ]
    m_k ∝ N_k^−¼, largest m
    after 0.8 of the run    w_k ∝ (1 − β) / (1 − β^N_k), mean 1
                            T_k ∝ K π_k η + 1 − η, largest 1
    before                  w_k = T_k = 1

    x_e  feature of expert e     W_e  weights[e]     K  classes     N_k  counts     π_k = N_k / N
    s  scale     m  largest     λ  diversity     η  spread     T̄  mean over k     β  BETA

f̄ is held fixed in the divergence. CE is a mean over the batch, weighted by w. As the embedding lies
u = (x_1/‖x_1‖, …, x_E/‖x_E‖), of which f̄ is s/E times the product with (W_1, …, W_E): the
ensemble is one linear classifier on the experts' features, one after another.

Where we differ: we leave out the second stage, which routes an image past experts it does not need
(it saves computation), and the distillation from six experts. As in the released code the
divergence is from the mean, where the paper has it between all pairs. The released code gives the
experts of ResNet-32 fewer channels; here the backbone says so (`taper: 0.75`).
"""

from typing import ClassVar, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from heads.base import Clock, Head, Needs, Problem, Sweep
from heads.geometry import effective_numbers, filled, unit

EXPERTS = 3
BETA = 0.9999  # released code; after Cui et al., arXiv:1901.05555


@final
class RIDE(Head):
    """Cosine classifiers with margins, one per expert, that are pushed apart; scores are the mean.

    experts    how many; 3, the paper's smallest ensemble; 2 to 4 in its tables
    scale      s; 30, released code
    largest    m, margin of the rarest class; 0.5, released code
    diversity  λ; 0.45, released configuration for CIFAR-100 (there −0.45); 0.2 for ImageNet-LT
    spread     η, how far temperatures differ between classes, in [0, 1); 0.05, released code;
               0.02 for ImageNet-LT
    deferred   share of the run after which weights and temperatures by class begin; 0.8, released
               configuration: after 160 of 200 epochs. 1: never
    """

    published: ClassVar[str] = (
        "49.10 on CIFAR-100 at 1:100 is of four experts with distillation; here, no distillation"
    )

    margins: Tensor
    class_weights: Tensor
    temperatures: Tensor
    late: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        experts: int = EXPERTS,
        scale: float = 30.0,
        largest: float = 0.5,
        diversity: float = 0.45,
        spread: float = 0.05,
        deferred: float = 0.8,
    ) -> None:
        super().__init__()
        if experts < 1:
            raise ValueError(f"ride needs at least 1 expert, got {experts}. Set `experts: 3`.")
        if not scale > 0:
            raise ValueError(f"ride needs a positive scale, got {scale}. Set `scale: 30`.")
        if largest < 0 or diversity < 0:
            raise ValueError(
                f"ride needs margin and diversity of 0 or more, got largest {largest} and "
                f"diversity {diversity}. Set `largest: 0.5` and `diversity: 0.45`."
            )
        if not 0 <= spread < 1 or not 0 <= deferred <= 1:
            raise ValueError(
                f"ride needs spread in [0, 1) and deferred in [0, 1], got spread {spread} and "
                f"deferred {deferred}. Set `spread: 0.05` and `deferred: 0.8`."
            )
        self.dim = experts * problem.width
        shape = (experts, problem.classes, problem.width)
        uniform = 2 * torch.rand(shape, generator=problem.generator()) - 1
        self.weights = nn.Parameter(unit(uniform))
        counts = filled(problem.counts)
        margins = counts**-0.25
        weights = 1 / effective_numbers(problem.counts, BETA)
        temperatures = counts / counts.mean() * spread + 1 - spread
        self.register_buffer("margins", (largest * margins / margins.max()).float())
        self.register_buffer("class_weights", (weights / weights.mean()).float())
        self.register_buffer("temperatures", (temperatures / temperatures.max()).float())
        self.register_buffer("late", torch.tensor(False))
        self.scale = scale
        self.diversity = diversity
        self.deferred = deferred

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """As many experts as the head has."""
        experts = hyper.get("experts", EXPERTS)
        return Needs(experts=experts if isinstance(experts, int) else EXPERTS)

    def begin_epoch(self, clock: Clock, sweep: Sweep | None = None) -> None:
        """Weights and temperatures by class begin late."""
        self.late.fill_(clock.progress >= self.deferred)

    def embed(self, features: Tensor) -> Tensor:
        """Put each expert's on the sphere: (batch, experts, width) to (batch, experts · width)."""
        return unit(features.reshape(len(features), len(self.weights), -1)).flatten(1)

    def score(self, embedding: Tensor) -> Tensor:
        """Mean of the experts' scaled cosines, (batch, classes)."""
        return self._each(embedding).mean(1)

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Sum over the experts of the mean over the batch."""
        each = self._each(embedding)
        one = torch.ones_like(self.margins)
        weight = torch.where(self.late, self.class_weights, one)
        temperature = torch.where(self.late, self.temperatures, one)
        margin = self.scale * self.margins[labels]
        label = functional.one_hot(labels, each.shape[2])
        lowered = each - (margin[:, None] * label)[:, None]
        experts = len(self.weights)
        # The weights of a batch add up to the same for each expert, so one mean does for all.
        cost = experts * functional.cross_entropy(
            lowered.flatten(0, 1), labels.repeat_interleave(experts), weight=weight
        )
        mean = (each.mean(1, keepdim=True).detach() / temperature).log_softmax(2)
        own = (each / temperature).log_softmax(2)
        divergence = (mean.exp() * (mean - own)).sum((1, 2)).mean()
        return cost - self.diversity * temperature.mean() ** 2 * divergence

    def class_vectors(self) -> Tensor:
        """Unit weights of all experts, one after another: (classes, experts · width)."""
        return unit(self.weights).transpose(0, 1).flatten(1)

    def linear(self) -> tuple[Tensor, Tensor]:
        """Weight (classes, experts · width) and bias 0, (classes,): the scores of an embedding."""
        share = self.scale / len(self.weights)
        return share * self.class_vectors(), torch.zeros_like(self.margins)

    def _each(self, embedding: Tensor) -> Tensor:
        """Scaled cosines of each expert, (batch, experts, classes)."""
        own = embedding.reshape(len(embedding), len(self.weights), -1)
        return self.scale * torch.einsum("bew,ekw->bek", own, unit(self.weights))
