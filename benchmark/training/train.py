"""The loop: one stage, from its first step to its last. No head is named here.

look      images -> features, float32: the trunk, with or without gradient
head      features -> embedding -> cost
"""

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from benchmark.planning.recipes import Recipe
from benchmark.records.faults import point
from benchmark.training import checkpoint
from benchmark.training.checkpoint import Checkpoint
from benchmark.training.schedule import factor
from benchmark.training.streams import address, beta, stream
from benchmark.training.team import ALONE, Team
from heads.base import Clock, Head, Sweep

READINGS = 50  # house rule: at the start, at the end and at 50 evenly spaced steps
SHARE = 50  # ends of epochs less far apart than so many writings have one checkpoint; 2 %, ours
MOMENTUM = 0.999  # of the teacher: MoCo, arXiv:1911.05722, sec. 3.2; PaCo, arXiv:2107.12028, code


class Diverged(RuntimeError):
    """The loss became NaN or infinite."""

    def __init__(self, step: int, progress: "Progress"):
        """step: 0-based, the first with such a loss; progress: what was seen until then."""
        super().__init__(f"the loss was not finite at step {step}")
        self.step = step
        self.progress = progress


class Stopped(RuntimeError):
    """Asked to stop; the position is saved."""


class Unfit(ValueError):
    """A checkpoint that is whole does not fit what is to be trained; that is half restored."""


class Batches(Protocol):
    """What the loop asks of the material; datasets.loader.Batches is one."""

    @property
    def steps(self) -> int:
        """Steps in an epoch."""

    def epoch(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        """Images and labels of each step, from step `start` of the epoch on."""


class Trunk(nn.Module):
    """Backbone and the embeddings of the heads before the arrow: images -> features, float32.

    With frozen=True it is in evaluation mode for good (batch norm does not move) and gives no
    gradient. With drifting=True too, its weights are as frozen, but in training it is in training
    mode: batch norm takes the statistics of each batch, and its running ones move.
    """

    def __init__(
        self,
        backbone: nn.Module,
        before: list[Head],
        *,
        frozen: bool,
        precision: str,
        drifting: bool = False,
        team: Team = ALONE,
    ):
        """before: heads whose `embed` the features pass; precision: float32 · bf16.

        team: who shares a batch, see team.py.
        """
        super().__init__()
        self.backbone = backbone
        self.before = nn.ModuleList(before)
        self.frozen = frozen
        self.drifting = drifting
        self.precision = precision
        self.compiled: Callable[[Tensor], Tensor] | None = None  # see compiling.py
        self.team = team
        self.averaged: Callable[[Tensor], Tensor] | None = None  # see `Team.join`
        if frozen:
            self.requires_grad_(False)
            self.eval()

    @property
    def width(self) -> int:
        """Length of one feature vector."""
        return int(self.before[-1].dim if len(self.before) else self.backbone.width)

    def train(self, mode: bool = True) -> "Trunk":
        """Training mode, except where frozen for good."""
        return super().train(mode and (self.drifting or not self.frozen))

    def forward(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) -> (batch, width); a leading axis, of views, is kept.

        While a team shares a batch, the images are this process's and the features those of all.
        """
        views = len(images) if images.dim() == 5 else 0
        if views:
            images = images.flatten(0, 1)
        with torch.no_grad() if self.frozen else nullcontext():
            with torch.autocast(images.device.type, torch.bfloat16, self.precision == "bf16"):
                features = (self.averaged or self.compiled or self.backbone)(images)
            features = self.team.whole(features.float(), max(views, 1))
            for head in self.before:
                features = head.embed(features)
        return features.unflatten(0, (views, -1)) if views else features


class Taught(nn.Module):
    """A trunk beside its moving average, the teacher, which sees the last view without gradient.

    The teacher's parameters follow the trunk's after each step, from the trunk's own at the start:
    θ' ← m θ' + (1 − m) θ. Its batch norm is in training mode, over the last view alone.
    """

    def __init__(self, look: Trunk):
        """look: the trunk; it stays the caller's, the teacher is a copy."""
        super().__init__()
        self.look = look
        self.teacher = copy.deepcopy(look).requires_grad_(False)

    def forward(self, views: Tensor) -> Tensor:
        """(views, batch, channels, height, width) -> (views, batch, width)."""
        with torch.no_grad():
            last = self.teacher(views[-1])
        return torch.cat([self.look(views[:-1]), last[None]])

    @torch.no_grad()
    def follow(self) -> None:
        """Take the teacher a step towards the trunk."""
        pairs = zip(self.teacher.parameters(), self.look.parameters(), strict=True)
        for mine, theirs in pairs:
            mine.lerp_(theirs, 1 - MOMENTUM)


@dataclass(slots=True)
class Progress:
    """Where training stands and what it has seen: everything that resumes with the weights."""

    step: int = 0
    seen: int = 0
    seconds: float = 0.0
    curves: list[dict[str, Any]] = field(default_factory=list)
    readings: list[dict[str, float]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Watch:
    """What the caller wants to hear of and to say; every entry may be left as it is.

    epoch    called after each epoch with its row, may add to it (validation, oracle)
    pulse    called after each step with (step, steps)
    stop     True: finish the step, save, raise Stopped
    save     called with a Checkpoint every `every` seconds, at the end of each epoch unless that
             would take more than 2 % of the time, and when stopped
    """

    epoch: Callable[[dict[str, Any]], Mapping[str, float]] = lambda row: {}
    pulse: Callable[[int, int], None] = lambda step, steps: None
    stop: Callable[[], bool] = lambda: False
    save: Callable[[Checkpoint], None] | None = None
    every: float = 120.0


def optimizer(look: Trunk, head: Head, recipe: Recipe) -> torch.optim.Optimizer:
    """The recipe's, over trunk (unless frozen) and head; a head's own rates are absolute."""
    own = head.rates()
    common = [p for p in look.parameters() if p.requires_grad]
    common += [p for name, p in head.named_parameters() if name not in own and p.requires_grad]
    groups: list[dict[str, Any]] = [{"params": common}] if common else []
    for name, rate in own.items():
        parameter = head.get_parameter(name)
        groups.append({"params": [parameter], "lr": rate.lr, "weight_decay": rate.weight_decay})
    if not groups:
        raise ValueError(
            f"nothing here has weights to train, got {recipe.epochs} epochs. "
            "Set `epochs: 0` on the recipe, or choose a backbone with weights."
        )
    for group in groups:
        group["base"] = group.get("lr", recipe.lr)
    if recipe.optimizer == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.lr, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def train(
    look: Trunk,
    head: Head,
    batches: Batches,
    recipe: Recipe,
    *,
    seed: int | Mapping[str, int],
    stage: int = 0,
    teacher: bool = False,
    through: Callable[[Tensor], Tensor] | None = None,
    sweep: Callable[[], Sweep] | None = None,
    watch: Watch | None = None,
    resume: Checkpoint | None = None,
) -> Progress:
    """Train one stage to its last epoch; nothing is selected on the way.

    seed, stage  address of the randomness of mixing and of the network; that of the batches is in
                 `batches`
    teacher      whether the moving average of the trunk sees the last view
    through      features of the batch that `batches` gave last, where a frozen trunk need not be
                 asked, see still.py
    sweep        all training features in evaluation mode, for heads that need them every epoch
    resume       where an earlier run of this very stage stopped

    Raises Diverged, Stopped, Unfit.
    """
    steps = batches.steps * recipe.epochs
    if not steps:
        return untrained(look, head)
    watch = watch or Watch()
    taught = Taught(look) if teacher else None
    see = through or taught or look
    run = _Run(look, taught, head, optimizer(look, head, recipe), batches.steps, recipe, watch)
    now = run.restore(resume) if resume else Progress(readings=first(head))
    while now.step < steps:
        epoch, start = divmod(now.step, batches.steps)
        if start == 0:
            clock = Clock(now.step, epoch, batches.steps, recipe.epochs)
            look.eval()
            head.begin_epoch(clock, sweep() if sweep else None)
        (taught or look).train()
        head.train()
        for images, labels in batches.epoch(epoch, start):
            clock = Clock(now.step, epoch, batches.steps, recipe.epochs)
            where = (stage, epoch, now.step)
            mixed, labels, blend = mix(images, labels, recipe, seed, where)
            with (
                look.team.share(mixed, len(labels)) as own,
                addressed(seed, (*where, *look.team.address()), run.device),
            ):
                embedding = head.embed(see(own))
            loss = blend(head, embedding)
            run.advance(loss, now)
            head.after_step(embedding.detach(), labels, clock)
            run.note(now, steps, len(labels))
            if now.step % batches.steps == 0:
                run.end_epoch(now, epoch)
            run.keep(now)
            if watch.stop():
                run.save(now)
                raise Stopped(f"stopped after step {now.step} of {steps}")
    look.eval()
    head.eval()
    return run.over(now)


def first(head: Head) -> list[dict[str, float]]:
    """The readings at the start, if the head has any."""
    found = head.readings()
    return [{"step": 0.0, **found}] if found else []


def untrained(look: Trunk, head: Head) -> Progress:
    """No epoch at all: the head stays as it was built or prepared."""
    look.eval()
    head.eval()
    return Progress(readings=first(head))


@contextmanager
def addressed(
    seed: int | Mapping[str, int], where: tuple[int, ...], device: torch.device
) -> Iterator[None]:
    """What a network draws by itself, such as stochastic depth, has an address as all else has.

    Within, the global generators of the CPU and of the device start from it; afterwards they are
    as they were before.
    """
    cuda = device.type == "cuda"
    with torch.random.fork_rng([device] if cuda else []):
        start = address(seed, "augment", "network", *where)
        torch.default_generator.manual_seed(start)
        if cuda:
            torch.cuda.default_generators[device.index].manual_seed(start)
        yield


class _Run:
    """The bookkeeping of one call of `train`, so that the loop can be read aloud."""

    def __init__(
        self,
        look: Trunk,
        taught: Taught | None,
        head: Head,
        optimizer: torch.optim.Optimizer,
        steps: int,
        recipe: Recipe,
        watch: Watch,
    ):
        self.look, self.head, self.optimizer = look, head, optimizer
        self.team = look.team
        self.steps, self.recipe, self.watch = steps, recipe, watch
        self.taught = taught
        self.parts: dict[str, nn.Module] = {"look.": look, "head.": head}
        if taught:
            self.parts["teacher."] = taught.teacher
        self.device = next((p.device for p in head.parameters()), torch.device("cpu"))
        self.device = next((p.device for p in look.parameters()), self.device)
        self.losses = torch.zeros(steps, device=self.device)
        self.started = self.saved = time.monotonic()
        self.writing = 0.0  # seconds that the last checkpoint took

    def advance(self, loss: Tensor, now: Progress) -> None:
        """One optimiser step at the rate that the schedule has for it."""
        total = self.steps * self.recipe.epochs
        for group in self.optimizer.param_groups:
            group["lr"] = group["base"] * factor(self.recipe, now.step, total)
        self.losses[now.step % self.steps] = loss.detach()
        # On an accelerator looking at the loss would wait for it: end_epoch looks at all at once.
        if self.device.type == "cpu" and self.team.most(not math.isfinite(loss.item())):
            raise Diverged(now.step, self.over(now))
        point("step: before backward")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.team.level([*self.look.before.parameters(), *self.head.parameters()])
        self.optimizer.step()
        if self.taught:
            self.taught.follow()
        point("step: after the optimiser")

    def note(self, now: Progress, steps: int, images: int) -> None:
        """Count the step; take readings where they are due."""
        now.step += 1
        now.seen += images
        if now.step == steps or now.step * READINGS // steps > (now.step - 1) * READINGS // steps:
            found = self.head.readings()
            if found:
                now.readings.append({"step": float(now.step), **found})
        self.watch.pulse(now.step, steps)

    def end_epoch(self, now: Progress, epoch: int) -> None:
        """Write the epoch's row; Diverged where a loss was not finite."""
        losses = self.losses.cpu()
        bad = (~losses.isfinite()).nonzero()
        # the first of any process: counted from the end, for the largest number is agreed on
        left = self.team.most(self.steps - int(bad[0]) if len(bad) else 0)
        if left:
            raise Diverged((epoch + 1) * self.steps - left, self.over(now))
        self.team.same(self.parts)
        row = {
            "epoch": epoch + 1,
            "step": now.step,
            "loss": float(losses.double().mean()),
            "lr": self.optimizer.param_groups[0]["lr"],
        }
        self.look.eval()
        self.head.eval()
        now.curves.append({**row, **self.watch.epoch(row)})

    def over(self, now: Progress) -> Progress:
        """The progress at the end, with the time that this call took."""
        return replace(now, seconds=now.seconds + time.monotonic() - self.started)

    def keep(self, now: Progress) -> None:
        """Save where it is time: after the row of an epoch that is over, so that none is lost."""
        due = self.watch.every
        if now.step % self.steps == 0:
            due = min(due, SHARE * self.writing)
        if self.watch.save and time.monotonic() - self.saved >= due:
            self.save(now)

    def save(self, now: Progress) -> None:
        """Hand out everything that resumes."""
        if self.watch.save is None:
            return
        tensors = {
            prefix + name: value
            for prefix, part in self.parts.items()
            for name, value in part.state_dict().items()
        }
        tensors |= checkpoint.flatten(self.optimizer)
        tensors["losses"] = self.losses
        spent = now.seconds + time.monotonic() - self.started
        note = {
            "step": now.step,
            "seen": now.seen,
            "seconds": spent,
            "curves": now.curves,
            "readings": now.readings,
        }
        began = time.monotonic()
        self.watch.save(Checkpoint(tensors, note))
        self.saved = time.monotonic()
        self.writing = self.saved - began

    def restore(self, resume: Checkpoint) -> Progress:
        """Put everything back in place; Unfit where that cannot be."""
        try:
            for prefix, part in self.parts.items():
                own = {
                    name.removeprefix(prefix): value
                    for name, value in resume.tensors.items()
                    if name.startswith(prefix)
                }
                part.load_state_dict(own)
            checkpoint.restore(self.optimizer, resume.tensors)
            self.losses.copy_(resume.tensors["losses"])
            return Progress(**dict(resume.note))
        except (IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            first = str(error).partition("\n")[0]
            raise Unfit(f"its checkpoint does not fit ({first})") from error


Blend = Callable[[Head, Tensor], Tensor]


def mix(
    images: Tensor,
    labels: Tensor,
    recipe: Recipe,
    seed: int | Mapping[str, int],
    where: tuple[int, ...],
) -> tuple[Tensor, Tensor, Blend]:
    """Mixup or CutMix, one draw a batch: each image takes in a share of a partner of its batch.

    images (batch, …), or with views (views, batch, channels, height, width), labels (batch,). Gives
    the mixed images, the labels that they go by, and how to blend the two losses. These labels are
    an image's own, or with hard_labels those of the larger share, which then are all that counts.
    """
    cuts = bool(recipe.cutmix)
    if cuts and recipe.mixup:
        coin = stream(seed, "augment", "choice", *where)
        cuts = bool(torch.rand((), generator=coin) < 0.5)
    alpha = recipe.cutmix if cuts else recipe.mixup
    if not alpha:
        return images, labels, lambda head, embedding: head.loss(embedding, labels)
    share = beta(alpha, seed, "augment", "cutmix" if cuts else "mixup", *where)
    generator = stream(seed, "augment", "partner", *where)
    partner = torch.randperm(len(labels), generator=generator).to(labels.device)
    if cuts:
        mixed, share = cutmix(images, partner, share, stream(seed, "augment", "box", *where))
    else:
        mixed = share * images + (1 - share) * _take(images, partner)
    theirs = labels[partner]
    if recipe.hard_labels:
        kept = labels if share >= 0.5 else theirs
        return mixed, kept, lambda head, embedding: head.loss(embedding, kept)

    def blend(head: Head, embedding: Tensor) -> Tensor:
        other = head.loss(embedding, theirs)
        return share * head.loss(embedding, labels) + (1 - share) * other

    return mixed, labels, blend


def cutmix(
    images: Tensor, partner: Tensor, share: float, generator: torch.Generator
) -> tuple[Tensor, float]:
    """CutMix (Yun et al., ICCV 2019, arXiv:1905.04899): a box comes from the partner.

    share  of the image that should stay; the box has sides √(1 − share) of the image's, its centre
           is any pixel, and what lies outside of the image is cut off

    Gives the images and the share of pixels that did stay.
    """
    side = math.sqrt(1 - share)
    box, area = [], 1
    for extent in images.shape[-2:]:
        centre = int(torch.randint(extent, (), generator=generator))
        half = int(extent * side / 2)
        borders = slice(max(centre - half, 0), min(centre + half, extent))
        box.append(borders)
        area *= borders.stop - borders.start
    rows, columns = box
    mixed = images.clone()
    mixed[..., rows, columns] = _take(images[..., rows, columns], partner)
    return mixed, 1 - area / (images.shape[-2] * images.shape[-1])


def _take(images: Tensor, chosen: Tensor) -> Tensor:
    """Images of the batch, in every view."""
    return images[:, chosen] if images.dim() == 5 else images[chosen]
