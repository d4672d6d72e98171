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
    Ours* (Table 8)   prototypes "psc": class vectors of a trained softmax in place of (5)

Where we differ. Means: the paper blends sample after sample; the released code takes one sample of
each class in the batch, whichever is written last, q ← unit(1.9 q + 0.1 z), which is α = 0.95; we
blend the mean of the class's samples. The contract of heads asks that the order within a batch be
of no account: only ours keeps it, for "paper" weighs later samples more and "released" takes the
last one, by definition. Ours and "paper" start at zero, so that a class not yet seen asks for
nothing; "released" starts at random normals, whose matching is the first assignment: a random
permutation, which we draw. On a tie a class stays. Prototypes: the paper's 1,000 gradient steps are
far from converged; ours are. Timing: after step s (0-based) a refresh is due if
⌊(s+1)·u / steps per epoch⌋ rises; one due at an epoch's end waits for the next begin_epoch, so that
evaluation uses the assignment that was trained on, as in the released code. The paper's formula for
τ′ gives epochs per update, its text updates per epoch: we follow the text. The released balanced
protocol is `reduction: sum, class_weights: false, batch_norm: false, projection: always`, the
long-tailed one the defaults.
"""

from collections.abc import Mapping
from fractions import Fraction
from math import floor
from time import perf_counter
from typing import final

import torch
from torch import Tensor, nn

from heads.base import Clock, Head, Needs, Problem, Sweep
from heads.checks import one_of
from heads.geometry import blend_by_class, simplex, squared_error, unit
from heads.layers import normalise, projection_to
from heads.matching import match

STAY = 1e-9  # advantage of the present prototype: breaks ties, far below the rounding of float32


@final
class DL2PA(Head):
    """Fixed prototypes, dynamic assignment.

    dim                length of the embedding; None, the backbone's width, released LT code
                       (LT: its long-tailed half)
    projection         "needed": a linear layer where dim differs from the width; "always": also
                       where it equals it, released balanced code. "needed": the released LT code
                       has no layer at its one width
    prototypes         "spread": lowest energy (5), what the paper aims at; "released": the paper's
                       1,000 steps; "etf": a regular simplex, dim at least classes − 1, where
                       "spread" is the same; "random": uniform on the sphere, ours, a control;
                       "psc": directions of the class vectors of a psc trained at the same dim and
                       seed, Table 8
    means              "batch", ours; "released"; "paper": z̄ ← α z̄ + (1−α) z, sample after sample in
                       the batch's order, kept at its length. See "Where we differ"
    momentum           α of the class means, in [0, 1); 0.95, what the released code amounts to
    updates_per_epoch  refreshes of the assignment per epoch (τ′), 0.1 to 10, the range of the
                       paper's ablation; read as the nearest fraction of denominator up to 1000.
                       1, the paper
    start              the first assignment: "random", released code; "identity": class k at
                       prototype k, which for "psc" is its own
    assignment         "dynamic", the paper; "fixed": the first one stays, Fig. 4a
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
        prototypes: str = "spread",
        means: str = "batch",
        momentum: float = 0.95,
        updates_per_epoch: float = 1.0,
        start: str = "random",
        assignment: str = "dynamic",
        reduction: str = "half_mean",
        class_weights: bool = True,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        one_of("prototypes", prototypes, ("spread", "released", "etf", "random", "psc"))
        one_of("means", means, ("batch", "released", "paper"))
        one_of("start", start, ("random", "identity"))
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
        # One order of draws, so that options at one seed share what they have in common.
        first = torch.randperm(problem.classes, generator=generator)
        normals = torch.randn(problem.classes, self.dim, generator=generator)
        places = _places(prototypes, problem, self.dim, generator)
        if means == "released":
            first = _match(normals, places, first)[0]
        if start == "identity":
            first = torch.arange(problem.classes)
        self.register_buffer("prototypes", places)
        self.register_buffer("means", normals if means == "released" else normals.zero_())
        self.register_buffer("assignment", first)
        self.register_buffer("moved", torch.zeros(()))
        self.register_buffer("moves", torch.zeros((), dtype=torch.int64))
        self.form = means
        self.momentum = momentum
        self.rate = Fraction(updates_per_epoch).limit_denominator(1000)
        self.dynamic = assignment == "dynamic"
        self.reduction = reduction
        self.class_weights = class_weights
        self.seconds: list[float] = []  # no buffer: times differ where the weights may not

    @classmethod
    def needs(cls, **hyper: object) -> Needs:
        """Prototypes "psc" ask for a psc with the same projection to the same dim."""
        if hyper.get("prototypes") != "psc":
            return Needs()
        return Needs(source=("psc", {k: hyper[k] for k in ("dim", "projection") if k in hyper}))

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
            self.prototypes[self.assignment[labels]],
            labels,
            reduction=self.reduction,
            class_weights=self.class_weights,
        )

    def after_step(self, embedding: Tensor, labels: Tensor, clock: Clock) -> None:
        """Blend the class means; refresh the assignment if that is due within the epoch."""
        blend = {"batch": _blend_batch, "released": _blend_last, "paper": _blend_each}[self.form]
        blend(self.means, embedding, labels, self.momentum)
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
        """What the refreshes did.

        moved               share of labels whose prototype the last refresh changed
        moves               such changes so far
        agreement           mean cosine of class means and their prototypes
        assignment_seconds  mean wall time of a refresh in this process, if there was one: moving
                            the gains to the CPU and matching, Fig. 3c
        """
        agreement = (unit(self.means) * self.class_vectors()).sum(1).mean()
        found = {
            "moved": float(self.moved),
            "moves": float(self.moves),
            "agreement": float(agreement),
        }
        if self.seconds:
            found["assignment_seconds"] = sum(self.seconds) / len(self.seconds)
        return found

    def _due(self, done: int, steps_per_epoch: int) -> bool:
        """Whether the last step raised the count of refreshes, ⌊done · u / steps per epoch⌋."""
        # Fractions, for in floats 100 · 0.29 is less than 29.
        per_step = self.rate / steps_per_epoch
        return self.dynamic and floor(done * per_step) > floor((done - 1) * per_step)

    def _refresh(self) -> None:
        chosen, seconds = _match(self.means, self.prototypes, self.assignment)
        self.seconds.append(seconds)
        changed = chosen != self.assignment
        self.moved.copy_(changed.float().mean())
        self.moves.add_(changed.sum())
        self.assignment.copy_(chosen)


def _places(kind: str, problem: Problem, dim: int, generator: torch.Generator) -> Tensor:
    """Prototypes of one kind, (classes, dim), float32."""
    if kind == "random":
        return unit(torch.randn(problem.classes, dim, generator=generator))
    if kind == "etf":
        if dim < problem.classes - 1:
            raise ValueError(
                f"dl2pa needs dim >= classes - 1 for prototypes 'etf', got dim {dim} for "
                f"{problem.classes} classes. Set `dim: {problem.classes - 1}`, or leave "
                "prototypes out."
            )
        return simplex(problem.classes, dim).float()
    if kind == "psc":
        wanted = (problem.classes, dim)
        given = None if problem.source is None else tuple(problem.source.shape)
        if problem.source is None or given != wanted:
            raise ValueError(
                "dl2pa needs the class vectors of a trained psc for prototypes 'psc', "
                f"{wanted}, got {given}. Train that psc first, or leave prototypes out."
            )
        return unit(problem.source.detach().float())
    return problem.points(dim, "energy" if kind == "spread" else "energy_released").clone()


def _match(means: Tensor, prototypes: Tensor, present: Tensor) -> tuple[Tensor, float]:
    """Best prototype of each class, (classes,), and the wall seconds of moving and matching."""
    # Negated here, for a match of least cost: to negate the matrix would take as much again.
    cost = unit(means) @ -prototypes.T
    float(cost[0, 0])  # waits for an accelerator, so that its backlog is not on the clock
    started = perf_counter()
    chosen = match(cost, present, STAY)
    seconds = perf_counter() - started
    return chosen.to(present), seconds


def _blend_batch(means: Tensor, embedding: Tensor, labels: Tensor, momentum: float) -> None:
    """Blend the mean in the batch of each class in it; the others are not touched.

    To the last bit what blend_by_class gives, and its time does not grow with the classes.
    """
    same = (labels[:, None] == labels).to(means.dtype)
    fresh = same @ embedding.to(means.dtype) / same.sum(1, keepdim=True)
    blended = unit(momentum * means[labels] + (1 - momentum) * fresh)
    # All samples of a class write the row of the first: where they differ, no order decides.
    means.index_copy_(0, labels, blended[same.argmax(1)])


def _blend_last(means: Tensor, embedding: Tensor, labels: Tensor, momentum: float) -> None:
    """Blend the last sample of each class in the batch; all rows go to the sphere."""
    last = _later(labels) == 0
    means.copy_(unit(blend_by_class(means, embedding[last], labels[last], momentum)))


def _blend_each(means: Tensor, embedding: Tensor, labels: Tensor, momentum: float) -> None:
    """Blend sample after sample: n of one class make αⁿ z̄ + (1−α) Σ α^later z."""
    classes = torch.arange(len(means), device=labels.device)
    member = (classes[:, None] == labels).to(means.dtype)
    weight = (1 - momentum) * momentum ** _later(labels).to(means.dtype)
    kept = momentum ** member.sum(1, keepdim=True)
    means.copy_(kept * means + (member * weight) @ embedding.to(means.dtype))


def _later(labels: Tensor) -> Tensor:
    """How many samples of its class come after each one in the batch, (batch,)."""
    return (labels[:, None] == labels).triu(1).sum(1)
