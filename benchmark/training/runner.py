"""One cell from start to finish: material, backbone, head, train, evaluate, record."""

import logging
import math
import os
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime
from functools import cached_property, lru_cache, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

import benchmark.backbones as backbones
from benchmark.planning.cell import Cell, Pairs
from benchmark.planning.plan import Registry
from benchmark.planning.plan import heads as heads_of
from benchmark.planning.recipes import Recipe
from benchmark.records.claims import Claim
from benchmark.records.faults import point
from benchmark.records.record import Record, digest, records
from benchmark.training import checkpoint, compiling, memory
from benchmark.training.checkpoint import Checkpoint
from benchmark.training.evaluate import collapse, features, judge, see
from benchmark.training.points import keeper
from benchmark.training.registry import registry
from benchmark.training.shelf import LIMIT, Shelf, folder
from benchmark.training.steps import Steps
from benchmark.training.still import Still, sources, unchanged
from benchmark.training.streams import address, stream
from benchmark.training.team import ALONE, Team
from benchmark.training.train import Diverged, Progress, Trunk, Unfit, Watch, train
from datasets import DATASETS
from datasets.augment import Change
from datasets.base import Material, Split
from datasets.loader import Batches, Stream, batches, passes, sizes
from datasets.words import read as read_words
from heads.base import Head, Problem, Sweep

EVALUATION_BATCH = 500
LEARNED = 100_000  # training images, at most, on which collapse is measured: all are held at once
FOLLOWED = 10  # epochs, at most, at which collapse is followed along training; ours, as the next
SAMPLE = 5000  # training images, at most, for that: as many of each class, or all it has
EPOCHS = "epochs"  # of arrays and tensors: after how many epochs each snapshot was taken
REPEATED = 2  # epochs from which on unchanged images are looked up: one is needed to compare; ours
SNAPSHOTS = (
    200  # epochs, at most, after which a head's labels are kept; ours, 1 MB at 1,000 classes
)


@dataclass(frozen=True, slots=True)
class Place:
    """Where and on what cells are trained; nothing of it belongs to a cell's identity.

    words    files of word vectors by name of the data set; '' for all that have none of their own
    readers  processes that read and change images one by one, where that is to be done
    every    seconds between two checkpoints; two minutes, ours
    execution   eager or compiled, see compiling.py; empty: what pays over a cell's planned steps
    noted       what its command said of the cell before: seconds predicted, cells side by side; it
                goes into the claim, and with the cost into the record
    team        the processes that train a cell together, this one among them
    """

    runs: Path
    data_root: Path
    registry: Registry
    device: str = "cpu"
    threads: int = 1
    words: Mapping[str, Path] = field(default_factory=dict)
    readers: int = 0
    every: float = 120.0
    execution: str = ""
    noted: Mapping[str, Any] = field(default_factory=dict)
    team: Team = ALONE


@dataclass(frozen=True, slots=True)
class Ear:
    """Who listens while a cell is trained.

    pulse  called after each step with (step, steps)
    epoch  called after each epoch with its row; where a cell goes on, with the rows so far first
    stop   True: finish the step, save, raise Stopped
    warn   called with a sentence about what did not stop the cell; the record keeps it as well
    begun  called when the cell is claimed, and is to be trained indeed
    """

    pulse: Callable[[int, int], None] = lambda step, steps: None
    epoch: Callable[[Mapping[str, Any]], None] = lambda row: None
    stop: Callable[[], bool] = lambda: False
    warn: Callable[[str], None] = logging.getLogger("benchmark").warning
    begun: Callable[[], None] = lambda: None


def run(cell: Cell, place: Place, ear: Ear | None = None) -> str:
    """Train and evaluate a cell and write its record; gives its state, done or diverged.

    Raises Busy (another process has it), Stopped (position saved), or whatever went wrong.
    """
    ear = ear or Ear()
    record = Record(place.runs / cell.key)
    memory.keep()
    torch.set_num_threads(place.threads)
    with record.claim(_claim(place)) as claim:
        done = record.result()  # another process may have finished it since it was planned
        if done is not None:
            record.tidy()  # it may have died before it did that
            return str(done["state"])
        record.begin(cell)
        ear.begun()
        try:
            return _make(cell, place, record, claim, ear)
        finally:
            if record.result() is not None:
                point("checkpoint: before all go")
                checkpoint.clear(record.folder)


def follow(cell: Cell, place: Place, ear: Ear) -> str:
    """Train a cell that the first process of a team has claimed; that one writes its record.

    Gives the cell's state, done or diverged; raises as `run` does.
    """
    memory.keep()
    torch.set_num_threads(place.threads)
    return _make(cell, place, Record(place.runs / cell.key), None, ear)


def _make(cell: Cell, place: Place, record: Record, claim: Claim | None, ear: Ear) -> str:
    """Train a claimed cell from where it stands; gives its state."""
    first = place.team.first
    job = _built(cell, place, record, claim, ear)
    try:
        try:
            progress = job.train(job.resumed())
        except Unfit as error:  # what was built is half restored: it is built anew
            torch.set_num_threads(place.threads)
            job = _built(cell, place, record, claim, ear)
            job.warn(f"{cell.label} starts over: {error}")
            progress = job.train(None)
        if first:
            job.finish(progress)
    except Diverged as error:
        if first:
            job.diverged(error)
        return "diverged"
    return "done"


def _built(cell: Cell, place: Place, record: Record, claim: Claim | None, ear: Ear) -> "_Job":
    with place.team.alike():
        return _Job(cell, place, record, claim, ear)


@lru_cache(maxsize=2)
def material(data: Pairs, root: Path) -> Material:
    """Images and counts of one data setting, kept in memory for the next cell."""
    options = dict(data)
    return DATASETS[options["name"]].load(options, root)


def words(file: Path, names: tuple[str, ...]) -> Tensor:
    """One word vector per class name, (classes, word_dim), kept while the file is what it was."""
    found = os.stat(file)
    return _words(file, names, found.st_mtime_ns, found.st_size)


@lru_cache(maxsize=2)
def _words(file: Path, names: tuple[str, ...], changed: int, size: int) -> Tensor:
    return read_words(file, names)


def privileged(cell: Cell, table: Registry, named: Mapping[str, Path]) -> Path | None:
    """The file of word vectors, if a head of the cell needs one: its data set's, or everyone's."""
    if not any(table.needs(stage).words for stage in cell.stages):
        return None
    return named.get(dict(cell.data)["name"]) or named.get("")


def problem(
    cell: Cell,
    stage: int,
    width: int,
    counts: Sequence[int],
    names: Sequence[str],
    vectors: Tensor | None = None,
    source: Tensor | None = None,
) -> Problem:
    """What the head of a stage may know.

    vectors  one word vector per class name, for a head that declares it
    source   class vectors of the cell that it starts from, for a head that declares one
    """
    return Problem(
        width=width,
        counts=torch.tensor(counts),
        names=tuple(names),
        words=vectors,
        source=source,
        seed=address(_seed(cell), "head", stage),
        points=keeper(len(counts)),
    )


def protocol(cell: Cell) -> Recipe:
    """The recipe of the last stage that is trained: its precision and constants hold for all."""
    for stage in reversed(cell.stages):
        if stage.recipe:
            return Recipe.model_validate(dict(stage.recipe))
    raise ValueError(f"nothing in {cell.method!r} is trained. Put a head that trains before '>'.")


class _Job:
    """A cell in the making: its parts, built once."""

    def __init__(
        self,
        cell: Cell,
        place: Place,
        record: Record,
        claim: Claim | None = None,
        ear: Ear | None = None,
    ):
        self.cell, self.place, self.record = cell, place, record
        self.began, self.looped = time.monotonic(), 0.0
        self.claim, self.ear = claim or Claim(record.folder), ear or Ear()
        self.team = place.team
        self.warnings: list[str] = []
        self.unwritten = False
        self.read = False
        self.claimed = place.execution or compiling.EAGER
        self.material = material(cell.data, place.data_root)
        self.stage = len(cell.stages) - 1
        self.last = cell.stages[-1]
        self.protocol = protocol(cell)
        self.needs = place.registry.needs(self.last)
        self.seed = _seed(cell)
        self.memory = 0.0
        self.snapshots: dict[str, Tensor] = {}
        backbone = _backbone(cell, place.registry, self.material.train.images.shape[1])
        file = privileged(cell, place.registry, place.words)
        self.words = words(file, self.material.names) if file else None
        self.sources = _sources(cell, place.runs)
        heads = _heads(
            cell,
            place.registry,
            backbone.width,
            self.material.counts,
            self.material.names,
            self.words,
            self.sources,
        )
        if cell.trunk is not None:
            weights = Record(place.runs / cell.trunk.key).weights()
            if not weights:
                raise ValueError(f"its trunk {cell.trunk.key} diverged: nothing can stand on it.")
            _fill(backbone, heads[:-1], weights)
        self.look = Trunk(
            backbone,
            heads[:-1],
            frozen=self.last.frozen,
            precision=self.protocol.precision,
            drifting=self.protocol.batch_norm == "released",
            team=self.team,
        ).to(place.device, memory_format=torch.channels_last)
        self.head = heads[-1].to(place.device)

    def warn(self, sentence: str) -> None:
        """Say what did not stop the cell, now and in its record."""
        self.warnings.append(sentence)
        self.ear.warn(sentence)

    def resumed(self) -> Checkpoint | None:
        """Where an earlier process stopped, None to begin at the beginning; the first decides."""
        if self.team.size == 1:
            return self.found()
        found = self.found() if self.team.first else None
        kind = {"threads": self.place.threads}
        told = self.team.given(checkpoint.packed(found, kind) if self.team.first else None)
        found, kind = checkpoint.unpacked(told)
        self.place = replace(self.place, threads=kind["threads"])
        torch.set_num_threads(self.place.threads)
        return found

    def found(self) -> Checkpoint | None:
        """The checkpoint that is gone on with, if there is one.

        The threads are those that the cell was begun with. Where something else has changed on
        which the last bits depend, it starts over: its two halves would be of two kinds.
        """
        found = checkpoint.read(self.record.folder, self.origin, self.warn)
        if found is None:
            return None
        note = dict(found.note)
        known, here = {"processes": 1, **note.pop("circumstances")}, circumstances(self.place)
        followed = ("threads", "execution")
        changed = [name for name in here if name not in followed and known.get(name) != here[name]]
        if changed:
            said = ", ".join(f"{name} was {known.get(name)}, is {here[name]}" for name in changed)
            self.warn(f"{self.cell.label} starts over, or its last bits would change: {said}")
            return None
        self.warnings = [*note.pop("warnings"), *self.warnings]
        if known["threads"] != here["threads"]:
            self.place = replace(self.place, threads=known["threads"])
            torch.set_num_threads(self.place.threads)
            self.record.note(_claim(self.place))
            self.warn(
                f"{self.cell.label} goes on with {known['threads']} threads, as it was begun, not "
                f"with {here['threads']}: its last bits depend on them"
            )
        begun = known.get("execution", compiling.EAGER)  # before there was another
        self.place = replace(self.place, execution=begun)
        if not self.executed():
            self.warn(
                f"{self.cell.label} starts over, or its last bits would change: execution was "
                f"{begun}, is {self.place.execution}"
            )
            return None
        return replace(found, note=note)

    def executed(self) -> bool:
        """Settle how the backbone is executed, as asked or as it pays; False: not as asked.

        What was settled is in the claim, and in every checkpoint. Threads come first: compiled
        code is made for so many.
        """
        place = self.place
        asked = self.pays() if self.look.frozen or not place.execution else place.execution
        if self.team.size > 1:
            asked = compiling.EAGER  # its batch norm talks to other processes
        if asked == compiling.COMPILED and self.look.compiled is None:
            try:
                compiling.compile_trunk(self.look, self.shape())
            except compiling.Unable as error:
                self.warn(f"{self.cell.label} is trained without compiled code: {error}")
        found = compiling.EAGER if self.look.compiled is None else compiling.COMPILED
        self.place = replace(place, execution=found)
        if found != self.claimed:
            self.claimed = found
            if self.team.first:
                self.record.note(_claim(self.place))
        return found == asked

    def pays(self) -> str:
        """Eager or compiled: what pays over all the images that training will see."""
        recipe = Recipe.model_validate(dict(self.last.recipe))
        images = recipe.batch * self.batches(recipe).steps * recipe.epochs
        idle = self.look.frozen or not images  # nothing there that runs backward
        worth = not idle and compiling.pays(self.operations(self.look), images, self.place.device)
        return compiling.COMPILED if worth else compiling.EAGER

    def shape(self) -> tuple[int, int, int, int]:
        """Of a whole batch of training as the trunk sees it, all views together."""
        recipe = Recipe.model_validate(dict(self.last.recipe))
        views = self.needs.views - self.needs.teacher  # the last is the teacher's
        found = self.material.train.images
        (height, width), _ = sizes(found, recipe.size, recipe.resize)
        return views * recipe.batch, found.shape[1], height, width

    def train(self, resume: Checkpoint | None) -> Progress:
        """Prepare the head and train it, from where an earlier process stopped, if one did."""
        if self.stage and resume is None:
            self.look.eval()
            known, labels = self.known()
            with torch.no_grad():
                self.head.prepare(known, labels, self.look.before[-1])
        if not self.needs.trains:
            return Progress()
        if resume is None:
            self.executed()
            self.remember(0)
        else:
            kept = {n: v for n, v in resume.tensors.items() if n.startswith(EPOCHS)}
            self.snapshots = kept
            for row in resume.note["curves"]:  # who listened may have died before it heard of it
                self.ear.epoch(row)
        watch = Watch(pulse=self.pulse, stop=self.ear.stop)
        if self.team.first:
            watch = replace(watch, epoch=self.after_epoch, save=self.save, every=self.place.every)
        recipe = Recipe.model_validate(dict(self.last.recipe))
        if self.place.device.startswith("cuda"):
            torch.cuda.reset_peak_memory_stats()
        shown = self.shown(recipe)
        images = torch.zeros(2, *self.shape()[1:], device=self.place.device)
        self.look.averaged = self.team.join(self.look.backbone, images)
        began = time.monotonic()
        try:
            return train(
                self.look,
                self.head,
                shown,
                recipe,
                seed=self.seed,
                stage=self.stage,
                teacher=self.needs.teacher,
                through=shown if isinstance(shown, Steps) else None,
                sweep=self.sweep if self.needs.sweep else None,
                watch=watch,
                resume=resume,
            )
        finally:
            self.looped = time.monotonic() - began

    def pulse(self, step: int, steps: int) -> None:
        """Tell where training stands; Lost where another process has taken the cell over."""
        self.claim.pulse()
        self.ear.pulse(step, steps)

    def save(self, checkpoint_: Checkpoint) -> None:
        """Write a checkpoint, with the snapshots so far; where that cannot be, training goes on."""
        own = {"circumstances": circumstances(self.place), "warnings": self.warnings}
        whole = Checkpoint({**checkpoint_.tensors, **self.snapshots}, {**checkpoint_.note, **own})
        self.claim.sure()
        try:
            checkpoint.write(self.record.folder, self.origin, whole)
        except OSError as error:
            if not self.unwritten:  # said once; tried again the next time
                self.warn(
                    f"{self.cell.label} goes on without a new checkpoint, which cannot be written "
                    f"({error.strerror or error}): if it is interrupted, more is done again"
                )
            self.unwritten = True

    def remember(self, epoch: int) -> None:
        """Keep which point each class has, and whatever else a head counts by class, for a film."""
        classes = len(self.material.counts)
        found = {
            f"{EPOCHS}.head.{name}": value
            for name, value in self.head.named_buffers()
            if value.shape == (classes,) and not value.is_floating_point()
        }
        if not found:
            return
        found[EPOCHS] = torch.tensor(epoch)
        for name, value in found.items():
            row = value.detach().cpu().to(torch.int32)[None]
            before = [self.snapshots[name]] if name in self.snapshots else []
            self.snapshots[name] = torch.cat([*before, row])

    @property
    def film(self) -> dict[str, np.ndarray]:
        """The snapshots of what did change while training; nothing if nothing did."""
        moving = {n: v for n, v in self.snapshots.items() if (v != v[:1]).any()}
        return {n: v.numpy() for n, v in moving.items()} if len(moving) > 1 else {}

    @property
    def origin(self) -> str:
        """Whose checkpoints these are: the cell's key, and digests of what it is trained with.

        A checkpoint from before a change in the source of a head is not gone on with.
        """
        heads = [self.place.registry.digests[head] for head in heads_of(self.cell)]
        given = [] if self.words is None else [_digest(self.words)]
        given += [_digest(vectors) for vectors in self.sources.values()]
        return " ".join([self.cell.key, self.material.digest, *heads, *given])

    def batches(self, recipe: Recipe) -> Batches | Stream:
        """Training batches at this seed: the same for every head."""
        mean, std = self.constants
        mixes = recipe.mixup or recipe.cutmix  # with images that another process has
        return batches(
            self.material.train,
            _change(recipe),
            batch=recipe.batch,
            mean=mean,
            std=std,
            second_view=recipe.second_view,
            sampler=recipe.sampler,
            epoch_images=recipe.epoch_images,
            size=recipe.size,
            resize=recipe.resize,
            workers=self.place.readers,
            part=None if mixes else self.team.part,
            views=self.needs.views,
            drop_last=recipe.drop_last,
            device=self.place.device,
            order=lambda epoch: stream(self.seed, "order", self.stage, epoch),
            augmentation=lambda epoch, step: stream(self.seed, "augment", self.stage, epoch, step),
        )

    def shown(self, recipe: Recipe) -> Batches | Stream | Steps:
        """Training batches; with their features, where the trunk stands still."""
        plain = self.batches(recipe)
        if self.still is None:
            return plain
        own = {"order": self.seed, "augment": self.seed}
        if not isinstance(self.seed, int):
            own = {name: self.seed[name] for name in own}
        about = {"seed": own, "stage": self.stage, "views": self.needs.views}
        again = recipe.epochs > REPEATED and unchanged(_change(recipe), recipe)
        small = 4 * len(self.material.train) * self.look.width <= LIMIT
        table = self.known if again and small and self.needs.views == 1 else None
        steps = self.still.steps(plain, recipe, about, table)
        self.read = steps.found is not None
        return steps

    @cached_property
    def still(self) -> Still | None:
        """The trunk with the features of it that are kept, where it does not move at all."""
        if not self.last.frozen or self.look.drifting or self.needs.teacher or self.team.size > 1:
            return None
        table, trunk = self.place.registry, self.cell.until(self.stage)
        given = [] if self.words is None else [_digest(self.words)]
        facts = {
            "trunk": trunk.plain(),
            "data": self.cell.plain()["data"],
            "images": self.material.digest,
            "constants": [list(part) for part in self.constants],
            "precision": self.protocol.precision,
            "circumstances": {**circumstances(self.place), "execution": compiling.EAGER},
            "heads": [table.digests[head] for head in heads_of(trunk)],
            "words": given,
            "sources": sources(frozenset(table.digests)),
        }
        return Still(self.look, Shelf(folder()), facts, self.warn)

    @property
    def sight(self) -> Callable[[Tensor], Tensor]:
        """Makes features of what `passes` gives: the trunk, where those are not features yet."""
        return self.look if self.still is None else nn.Identity()

    @property
    def constants(self) -> tuple[Sequence[float], Sequence[float]]:
        """Mean and standard deviation of the pixels, as the recipe has them."""
        if self.protocol.normalise == "cifar10":
            return DATASETS["cifar10"].mean, DATASETS["cifar10"].std
        return self.material.mean, self.material.std

    def passes(
        self, split: str, most: int | None = None, *, mirrored: bool = False
    ) -> Callable[[], Any]:
        """Fresh passes over a split, in order, without augmentation; over every n-th if too many.

        Splits lie class after class, so that every n-th image is a fair share of each. To be looked
        at with `sight`.
        """
        found: Split = getattr(self.material, split)
        every = 1 if most is None else math.ceil(len(found) / most)
        if every > 1:
            chosen = torch.arange(0, len(found), every)
            found = Split(found.images[chosen], found.labels[chosen])
        fresh = partial(_mirrored, self.over(found)) if mirrored else self.over(found)
        if self.still is None:
            return fresh
        about = {"split": split, "every": every, "mirrored": mirrored, "batch": EVALUATION_BATCH}
        shape = {"size": self.protocol.size, "resize": self.protocol.resize}
        return self.still.passes(fresh, {**about, **shape}, found)

    def over(self, found: Split) -> Callable[[], Any]:
        """Fresh passes over these images."""
        mean, std = self.constants
        return partial(
            passes,
            found,
            batch=EVALUATION_BATCH,
            mean=mean,
            std=std,
            size=self.protocol.size,
            resize=self.protocol.resize,
            workers=self.place.readers,
            device=self.place.device,
        )

    def sweep(self) -> Sweep:
        """All training features in evaluation mode."""
        return Sweep(*self.known())

    def known(self) -> tuple[Tensor, Tensor]:
        """Features and labels of all training images, in evaluation mode."""
        return features(self.sight, self.passes("train")(), len(self.material.train))

    @property
    def searching(self) -> bool:
        """Whether a share is carved off: then the cell is judged on that, and never sees test."""
        return self.material.validation is not None

    def after_epoch(self, row: dict[str, Any]) -> dict[str, float]:
        """What an epoch's row has beside the loss; whoever listens hears of it."""
        epochs = dict(self.last.recipe)["epochs"]
        extra = {"time": int(time.time() * 1000)}
        if self.searching:
            seen = see(self.sight, self.head, self.passes("validation")())
            extra["validation"] = seen.accuracy
        every = self.protocol.oracle
        if (
            every
            and not self.searching
            and (row["epoch"] % every == 0 or row["epoch"] == self.protocol.epochs)
        ):
            extra["oracle"] = see(self.sight, self.head, self.passes("test")()).accuracy
        if not self.last.frozen and _due(row["epoch"], epochs, FOLLOWED):
            extra |= self.collapse()
        if _due(row["epoch"], epochs, SNAPSHOTS):
            self.remember(row["epoch"])
        self.memory = max(self.memory, psutil.Process().memory_info().rss / 2**20)
        self.ear.epoch({**row, **extra})
        return extra

    def collapse(self) -> dict[str, float]:
        """Neural collapse in mid-training, on a fair share of the training images of each class."""
        train = self.material.train
        classes = len(self.material.counts)
        chosen = fair(train.labels, max(SAMPLE // classes, 2))
        sample = Split(train.images[chosen], train.labels[chosen])
        seen = see(self.look, self.head, self.over(sample)())
        found = collapse(seen, self.head, classes)
        return {name: value for name, value in found.items() if not math.isnan(value)}

    def finish(self, progress: Progress) -> None:
        """Evaluate at the last epoch and write the result."""
        self.look.eval()
        self.head.eval()
        split = "validation" if self.searching else "test"
        verdict = judge(
            self.sight,
            self.head,
            self.material,
            self.passes(split),
            self.passes("train", LEARNED),
            mirrored=self.passes(split, mirrored=True) if self.protocol.flip else None,
        )
        numbers = dict(verdict.metrics)
        if self.searching:
            numbers["validation"] = numbers.pop("accuracy")
        oracle = [row["oracle"] for row in progress.curves if "oracle" in row]
        if oracle:
            numbers["oracle"] = max(oracle)
        self.claim.sure()
        self.record.write_curves(progress.curves)
        result = {**self.facts(progress), "state": "done", "metrics": numbers}
        given = {} if self.words is None else {"words": self.words}
        given |= {f"source.{stage}": vectors for stage, vectors in self.sources.items()}
        arrays = verdict.arrays | {name: value.numpy() for name, value in given.items()} | self.film
        self.record.finish(result, arrays, self.weights(), self.claim.sure)

    def diverged(self, error: Diverged) -> None:
        """A diverged cell is a finding: recorded with its step, never averaged."""
        result = {
            **self.facts(error.progress),
            "state": "diverged",
            "metrics": {},
            "diverged_step": error.step,
        }
        self.claim.sure()
        self.record.write_curves(error.progress.curves)
        self.record.finish(result, {}, {}, self.claim.sure)

    def weights(self) -> dict[str, np.ndarray]:
        """Backbone and all heads, as `_fill` reads them."""
        modules = {"backbone": self.look.backbone}
        modules |= {f"heads.{i}": head for i, head in enumerate([*self.look.before, self.head])}
        return {
            f"{prefix}.{name}": value.detach().cpu().numpy()
            for prefix, module in modules.items()
            for name, value in module.state_dict().items()
        }

    def facts(self, progress: Progress) -> dict[str, Any]:
        """Everything of a result but what was measured on images."""
        cell, place = self.cell, self.place
        cuda = place.device.startswith("cuda")
        memory = torch.cuda.max_memory_allocated() / 2**20 if cuda else self.memory
        readings, times = _apart(progress.readings)
        return {
            "size": {
                "parameters": sum(
                    p.numel() for module in (self.look, self.head) for p in module.parameters()
                ),
                "flops": self.operations(nn.Sequential(self.look, self.head)),
                "width": int(self.look.backbone.width),
                "dim": self.head.dim,
                "classes": len(self.material.counts),
                "train_images": len(self.material.train.labels),
                "steps": progress.step,
            },
            "cost": {
                "seconds": progress.seconds,
                "beside_seconds": time.monotonic() - self.began - self.looped,
                "images_per_second": progress.seen / progress.seconds if progress.seconds else 0.0,
                "peak_memory_mb": memory,
                "finished": datetime.now(UTC).isoformat(timespec="milliseconds"),
                "device": _device_name(place.device),
                "threads": place.threads,
                "execution": place.execution or compiling.EAGER,
                **place.noted,
                **({"features": "read"} if self.read else {}),
                "processes": place.team.size,
                **({"warnings": self.warnings} if self.warnings else {}),
                **times,
            },
            "seen": progress.seen,
            "readings": readings,
            "counts": list(self.material.counts),
            "groups": list(self.material.groups),
            "names": list(self.material.names),
            "superclasses": list(self.material.superclasses or ()),
            "constants": [list(part) for part in self.constants],
            "trunk": cell.trunk.key if cell.trunk else None,
            "digests": {
                "images": self.material.digest,
                "heads": {head: place.registry.digests[head] for head in heads_of(cell)},
                "words": None if self.words is None else _digest(self.words),
            },
            "versions": _versions(),
            "commit": _commit(),
        }

    @torch.no_grad()
    def operations(self, part: nn.Module) -> int:
        """Of one image through it: two per multiply-add; normalisations not counted."""
        found = self.material.train.images
        (height, width), _ = sizes(found, self.protocol.size, self.protocol.resize)
        image = torch.zeros(1, found.shape[1], height, width, device=self.place.device)
        part.eval()
        with FlopCounterMode(display=False) as counter:
            part(image)
        return int(counter.get_total_flops())


class Trained(nn.Module):
    """A finished cell, ready to use.

    cell      what was trained
    backbone, heads   its parts; all heads but the last only embed
    result    metrics, counts, class names, cost, versions

    The backbone computes in the precision of its recipe, so that the recorded accuracy comes back.
    """

    def __init__(self, cell: Cell, backbone: nn.Module, heads: list[Head], result: dict[str, Any]):
        """Take the parts as they are."""
        super().__init__()
        self.cell, self.result = cell, result
        self.backbone, self.heads = backbone, nn.ModuleList(heads)
        self.half = protocol(cell).precision == "bf16"
        mean, std = torch.tensor(result["constants"], dtype=torch.float64)[..., None, None]
        self.register_buffer("scale", (1 / (255 * std)).float())
        self.register_buffer("shift", (-mean / std).float())

    def features(self, images: Tensor) -> Tensor:
        """(batch, channels, height, width) -> what the last head sees, (batch, width).

        uint8 images are normalised as in training; float images must already be.
        """
        if images.dtype == torch.uint8:
            images = torch.addcmul(self.shift, images.float(), self.scale)
        images = images.contiguous(memory_format=torch.channels_last)
        with torch.autocast(images.device.type, torch.bfloat16, self.half):
            features = self.backbone(images)
        features = features.float()
        for head in self.heads[:-1]:
            features = head.embed(features)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """Scores, (batch, classes)."""
        return self.heads[-1](self.features(images))


def load(key: str, runs: Path, files: Sequence[Path] = ()) -> Trained:
    """Give back a finished cell; see `benchmark.load`.

    files  heads outside the tree that the cell was trained with
    """
    found = [record for record in records(runs) if record.key.startswith(key)]
    found = [record for record in found if record.result() is not None]
    if len(found) != 1 or not key:
        raise ValueError(
            f"{len(found)} finished cells under {runs} have a key that begins with {key!r}. "
            "`python -m benchmark plan` shows the keys."
        )
    result = found[0].result() or {}
    cell = found[0].cell()
    if result["state"] != "done":
        raise ValueError(f"cell {key} {result['state']}: there are no weights to load.")
    table = registry(files)
    for name, known in result["digests"]["heads"].items():
        if table.digests.get(name) != known:
            raise ValueError(
                f"cell {key} was trained with another source of head {name!r}. Check out commit "
                f"{result['commit']}, or name the head's file, if it lies outside the tree."
            )
    backbone = _backbone(cell, table, len(result["constants"][0]))
    kept = {name: torch.from_numpy(value) for name, value in found[0].arrays().items()}
    heads = _heads(
        cell,
        table,
        backbone.width,
        result["counts"],
        result["names"],
        kept.get("words"),
        {int(n.removeprefix("source.")): v for n, v in kept.items() if n.startswith("source.")},
    )
    _fill(backbone, heads, found[0].weights())
    trained = Trained(cell, backbone, heads, result).eval()
    return trained.to(memory_format=torch.channels_last)  # as in training: the same last bits


def _change(recipe: Recipe) -> Change:
    """What a recipe does to images."""
    return Change(**{each.name: getattr(recipe, each.name) for each in fields(Change)})


def _mirrored(fresh: Callable[[], Any]) -> Iterator[tuple[Tensor, Tensor]]:
    """A pass over the mirror images."""
    return ((images.flip(-1), labels) for images, labels in fresh())


def _seed(cell: Cell) -> int | dict[str, int]:
    return cell.seed if isinstance(cell.seed, int) else dict(cell.seed)


def _backbone(cell: Cell, table: Registry, channels: int) -> nn.Module:
    options = {name: value for name, value in cell.backbone if name != "name"}
    name = dict(cell.backbone)["name"]
    generator = stream(_seed(cell), "backbone")
    return backbones.build(
        name,
        options,
        image_channels=channels,
        experts=table.needs(cell.stages[0]).experts,
        generator=generator,
    )


def _heads(
    cell: Cell,
    table: Registry,
    width: int,
    counts: Sequence[int],
    names: Sequence[str],
    vectors: Tensor | None,
    sources: Mapping[int, Tensor],
) -> list[Head]:
    heads: list[Head] = []
    for position, stage in enumerate(cell.stages):
        known = vectors if table.needs(stage).words else None
        own = problem(cell, position, width, counts, names, known, sources.get(position))
        heads.append(table.heads[stage.head](own, **dict(stage.hyper)))
        width = heads[-1].dim
    return heads


def _sources(cell: Cell, runs: Path) -> dict[int, Tensor]:
    """Class vectors that stages of a cell start from, by position; from finished records."""
    found = {}
    for position in range(len(cell.stages)):
        source = cell.until(position + 1).source
        if source is not None:
            record = Record(runs / source.key)
            arrays = record.arrays() if record.result() else {}
            if "class_vectors" not in arrays:
                raise ValueError(
                    f"{cell.stages[position].label} starts from the class vectors of "
                    f"{source.label}, and {source.key} has none. Train that cell first."
                )
            found[position] = torch.from_numpy(arrays["class_vectors"])
    return found


def _due(epoch: int, epochs: int, times: int) -> bool:
    """Whether an epoch, counted from 1, is one of so many evenly spaced ones, the last included."""
    return epoch * times // epochs > (epoch - 1) * times // epochs


def fair(labels: Tensor, each: int) -> Tensor:
    """Positions of up to so many examples of each class, evenly spaced, in order; labels (n,)."""
    chosen = []
    for label in labels.unique():
        mine = (labels == label).nonzero()[:, 0]
        chosen.append(mine[:: math.ceil(len(mine) / each)])
    return torch.cat(chosen).sort().values


def _digest(vectors: Tensor) -> str:
    return digest(np.ascontiguousarray(vectors.numpy()).tobytes())


def _apart(readings: list[dict[str, float]]) -> tuple[list[dict[str, float]], dict[str, float]]:
    """Readings without times, and the last of each time: what a machine cost is no finding."""
    kept = [{k: v for k, v in row.items() if not k.endswith("_seconds")} for row in readings]
    times = {k: v for row in readings for k, v in row.items() if k.endswith("_seconds")}
    return kept, times


def _fill(backbone: nn.Module, heads: Sequence[Head], weights: Mapping[str, np.ndarray]) -> None:
    """Put a record's weights into the parts of which they are."""
    modules: dict[str, nn.Module] = {"backbone.": backbone}
    modules |= {f"heads.{i}.": head for i, head in enumerate(heads)}
    for prefix, module in modules.items():
        module.load_state_dict(
            {
                name.removeprefix(prefix): torch.from_numpy(value)
                for name, value in weights.items()
                if name.startswith(prefix)
            }
        )


def _claim(place: Place) -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "host": platform.node(),
        "device": place.device,
        "threads": place.threads,
        "execution": place.execution or compiling.EAGER,
        "processes": place.team.size,
        "since": time.time(),
        **place.noted,
        "versions": _versions(),
    }


def circumstances(place: Place) -> dict[str, Any]:
    """What the last bits of a cell depend on beside the cell itself; kept in its checkpoints."""
    cuda = place.device.startswith("cuda")
    kind = "" if cuda else f" {torch.backends.cpu.get_cpu_capability()}"
    numeric = {name: version(name) for name in ("torch", "numpy", "scipy", "torchvision", "pillow")}
    if cuda:
        numeric["cudnn"] = str(torch.backends.cudnn.version())
    return {
        "device": _device_name(place.device) + kind,
        "threads": place.threads,
        "execution": place.execution or compiling.EAGER,
        "processes": place.team.size,
        **numeric,
    }


@lru_cache(maxsize=1)
def _versions() -> dict[str, str]:
    packages = {name: version(name) for name in ("torch", "numpy", "scipy")}
    return {"python": platform.python_version(), **packages}


@lru_cache(maxsize=1)
def _commit() -> str:
    here = Path(__file__).resolve().parent
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return platform.machine()
