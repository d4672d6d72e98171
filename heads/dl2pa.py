"""Fixed prototypes, dynamic assignment of labels to them.

Saadabadi, Dabouei, Malakshan, Nasrabadi. "Hyperspherical Classification with Dynamic
Label-to-Prototype Assignment." CVPR 2024, arXiv:2403.16937.

Prototypes spread evenly and fixed beforehand ignore which classes resemble each other. So fix the
places, but let the classes change theirs during training: each goes where its features already
point.

    min_W  log mean_{i<j} exp(−t ‖wᵢ − wⱼ‖²),  t = 2              (5)  prototypes: heads/geometry.py
    ℓ(z, y) = ½ (zᵀw_A(y) − 1)²,  ‖z‖ = 1                         (6)  loss
    q_k ← unit(α q_k + (1−α) · mean of the batch's z of class k)       class means, each step
    A ← argmax over permutations of Σ_k q_kᵀ w_A(k)                    Hungarian, u times per epoch

    w  prototypes     A  assignment     q  means     z  embedding     α  momentum
    u  updates_per_epoch (τ′)     class weights and batch norm as in ETF (arXiv:2203.09081)

Where we differ. Means: the paper blends sample after sample; the released code takes one arbitrary
sample of each class in the batch, q ← unit(1.9 q + 0.1 z), which is α = 0.95; we blend the mean of
the class's samples, so that the order within a batch is of no account. Ours start at zero, so that
a class not yet seen asks for nothing; the released ones start as random normals, whose matching is
the first assignment: a random permutation, which we draw. On a tie a class stays. Prototypes: the
paper's 1,000 gradient steps are far from converged; ours are. Timing: after step s (0-based) a
refresh is due if ⌊(s+1)·u / steps per epoch⌋ rises; one due at an epoch's end waits for the next
begin_epoch, so that evaluation uses the assignment that was trained on, as in the released code.
The paper's formula for τ′ gives epochs per update, its text updates per epoch: we follow the text.
The released balanced protocol is `reduction: sum, class_weights: false, batch_norm: false,
projection: always`, the long-tailed one the defaults.
"""

from collections.abc import Mapping
from fractions import Fraction
from math import floor
from typing import final

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from heads.base import Clock, Head, Problem, Sweep
from heads.checks import one_of
from heads.geometry import blend_by_class, squared_error, unit
from heads.layers import normalise, projection_to

STAY = 1e-9  # advantage of the present prototype: breaks ties, far below the rounding of float32


@final
class DL2PA(Head):
    """Fixed prototypes, dynamic assignment.

    dim                length of the embedding; None, the backbone's width, released LT code
                       (LT: its long-tailed half)
    projection         "needed": a linear layer where dim differs from the width; "always": also
                       where it equals it, released balanced code. "needed": the released LT code
                       has no layer at its one width
    momentum           α of the class means, in [0, 1); 0.95, what the released code amounts to
    updates_per_epoch  refreshes of the assignment per epoch (τ′), 0.1 to 10, the range of the
                       paper's ablation; read as the nearest fraction of denominator up to 1000.
                       1, the paper
    assignment         "dynamic", the paper; "fixed": the first, random one stays, ours, a control
    reduction          "half_mean": ½ · mean, released LT code; "sum": sum without the ½, released
                       balanced code, at lr 0.01
    class_weights      weight by inverse frequency in the batch; True, released LT code
    batch_norm         BatchNorm1d before the sphere; True, released LT code
    """

    prototypes: Tensor
    means: Tensor
    assignment: Tensor
    moved: Tensor
    moves: Tensor

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int | None = None,
        projection: str = "needed",
        momentum: float = 0.95,
        updates_per_epoch: float = 1.0,
        assignment: str = "dynamic",
        reduction: str = "half_mean",
        class_weights: bool = True,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        one_of("assignment", assignment, ("dynamic", "fixed"))
        one_of("reduction", reduction, ("half_mean", "sum"))
        if not 0 <= momentum < 1:
            raise ValueError(
                f"dl2pa needs momentum in [0, 1), got {momentum}. Set `momentum: 0.95`."
            )
        if not 0.1 <= updates_per_epoch <= 10:
            raise ValueError(
                f"dl2pa needs updates_per_epoch from 0.1 to 10, got {updates_per_epoch}. "
                "For no update at all set `assignment: fixed`."
            )
        generator = problem.generator()
        self.projection, self.dim = projection_to(dim, problem.width, projection, generator)
        self.norm = nn.BatchNorm1d(self.dim) if batch_norm else nn.Identity()
        self.register_buffer("prototypes", problem.points(self.dim).clone())
        self.register_buffer("means", torch.zeros(problem.classes, self.dim))
        self.register_buffer("assignment", torch.randperm(problem.classes, generator=generator))
        self.register_buffer("moved", torch.zeros(()))
        self.register_buffer("moves", torch.zeros((), dtype=torch.int64))
        self.momentum = momentum
        self.rate = Fraction(updates_per_epoch).limit_denominator(1000)
        self.dynamic = assignment == "dynamic"
        self.reduction = reduction
        self.class_weights = class_weights

    def embed(self, features: Tensor) -> Tensor:
        """Project, normalise over the batch, put on the sphere: (batch, dim)."""
        return unit(normalise(self.norm, self.projection(features)))

    def score(self, embedding: Tensor) -> Tensor:
        """Cosine to the prototype of each class, (batch, classes)."""
        return embedding @ self.class_vectors().T

    def loss(self, embedding: Tensor, labels: Tensor) -> Tensor:
        """Squared cosine error to the assigned prototypes."""
        return squared_error(
            embedding,
            self.class_vectors()[labels],
            labels,
            reduction=self.reduction,
            class_weights=self.class_weights,
        )

    def after_step(self, embedding: Tensor, labels: Tensor, clock: Clock) -> None:
        """Blend the class means; refresh the assignment if that is due within the epoch."""
        self.means.copy_(blend_by_class(self.means, embedding, labels, self.momentum))
        done = clock.step + 1
        if done % clock.steps_per_epoch and self._due(done, clock.steps_per_epoch):
            self._refresh()

    def begin_epoch(self, clock: Clock, sweep: Sweep | None = None) -> None:
        """Refresh the assignment if that was due at the end of the epoch before."""
        if clock.step and self._due(clock.step, clock.steps_per_epoch):
            self._refresh()

    def class_vectors(self) -> Tensor:
        """Prototypes in label order, (classes, dim)."""
        return self.prototypes[self.assignment]

    def readings(self) -> Mapping[str, float]:
        """Share of labels moved by the last refresh, moves so far, cosine of means and places."""
        agreement = (self.means * self.class_vectors()).sum(1).mean()
        return {
            "moved": float(self.moved),
            "moves": float(self.moves),
            "agreement": float(agreement),
        }

    def _due(self, done: int, steps_per_epoch: int) -> bool:
        """Whether the last step raised the count of refreshes, ⌊done · u / steps per epoch⌋."""
        # Fractions, for in floats 100 · 0.29 is less than 29.
        per_step = self.rate / steps_per_epoch
        return self.dynamic and floor(done * per_step) > floor((done - 1) * per_step)

    def _refresh(self) -> None:
        gain = (self.means @ self.prototypes.T).double().cpu()
        gain[torch.arange(len(gain)), self.assignment.cpu()] += STAY
        chosen = torch.as_tensor(linear_sum_assignment(gain.numpy(), maximize=True)[1])
        chosen = chosen.to(self.assignment)
        changed = chosen != self.assignment
        self.moved.copy_(changed.float().mean())
        self.moves.add_(changed.sum())
        self.assignment.copy_(chosen)
