"""A cell trained by two loops in turn, a few steps at a time: the reference's and ours."""

import copy
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import benchmark.backbones as backbones
from benchmark.planning.cell import Cell
from benchmark.planning.plan import Registry
from benchmark.planning.recipes import Recipe
from benchmark.training import compiling, memory
from benchmark.training.reference import Reference
from benchmark.training.runner import material, problem
from benchmark.training.stopwatch import Stopwatch
from benchmark.training.streams import stream
from benchmark.training.timed import Timed
from benchmark.training.train import Trunk
from datasets import DATASETS
from datasets.augment import Change
from datasets.base import Material, MissingData, Options, Split
from datasets.imbalance import class_counts, group
from datasets.loader import batches
from datasets.pictures import pictures
from heads.base import Head, Sweep

WORDS = 300  # length of a random word vector; word2vec's own


class Duel:
    """Both loops, built from one cell: the same first weights, images, mixing and batch size.

    operations  of a step of the backbone: two per multiply-add, forward, and backward if it learns
    execution   of ours: what the whole training would take
    warnings    sentences on what could not be had
    """

    def __init__(
        self,
        cell: Cell,
        table: Registry,
        found: Material,
        *,
        device: str = "cpu",
        execution: str = "",
        alone: bool = False,
    ):
        """device, execution: as in `runner.Place`; alone: without the reference.

        ValueError: the reference cannot do what is asked.
        """
        self.cell, self.table, self.found, self.alone = cell, table, found, alone
        self.device = device
        self.recipe = Recipe.model_validate(dict(cell.stages[-1].recipe))
        self.frozen = cell.stages[-1].frozen
        self.warnings: list[str] = []
        change = Change(**{each.name: getattr(self.recipe, each.name) for each in fields(Change)})
        common = {
            **{"batch": self.recipe.batch, "mean": found.mean, "std": found.std},
            "drop_last": self.recipe.drop_last,
        }
        backbone, heads = self._parts()
        self.operations = self._count(backbone)
        self._reference = None
        if not alone:
            mine = [part.to(device) for part in copy.deepcopy((backbone, nn.ModuleList(heads)))]
            loader = pictures(found.train, change, **common)
            self._reference = Reference(
                *(mine[0], list(mine[1][:-1]), mine[1][-1], loader, self.recipe),
                frozen=self.frozen,
            )
        look = Trunk(backbone, heads[:-1], frozen=self.frozen, precision=self.recipe.precision).to(
            device, memory_format=torch.channels_last
        )
        ours = batches(
            found.train,
            change,
            **common,
            device=device,
            sampler=self.recipe.sampler,
            epoch_images=self.recipe.epoch_images,
            order=lambda epoch: stream(0, "order", epoch),
            augmentation=lambda epoch, step: stream(0, "augment", epoch, step),
        )
        self._ours = Timed(
            look, heads[-1].to(device), ours, self.recipe, sweep=self._sweep(heads[-1].dim)
        )
        self.execution = self._compile(look, ours.steps, execution)
        self._first = {part: copy.deepcopy(part.state_dict()) for part in self._modules()}

    def reference(self, steps: int) -> Stopwatch:
        """So many steps of the loop that released code uses, from the first weights on."""
        assert self._reference is not None
        memory.usual()
        return self._measured(self._reference, steps)

    def ours(self, steps: int) -> Stopwatch:
        """So many steps of ours, from the first weights on."""
        memory.keep()
        return self._measured(self._ours, steps)

    def _measured(self, loop: Reference | Timed, steps: int) -> Stopwatch:
        """From the first weights on, so that no round works on other numbers than the next."""
        for part in loop.parts:
            part.load_state_dict(self._first[part])
        watch = Stopwatch(self.device)
        loop.run(steps, watch)
        return watch

    def _modules(self) -> list[nn.Module]:
        loops = [self._ours, *([] if self._reference is None else [self._reference])]
        return [part for loop in loops for part in loop.parts]

    def _parts(self) -> tuple[nn.Module, list[Head]]:
        """Backbone and heads; what stands on others is prepared on random features."""
        options = {name: value for name, value in self.cell.backbone if name != "name"}
        images, counts = self.found.train.images, self.found.counts
        backbone = backbones.build(
            str(dict(self.cell.backbone)["name"]),
            options,
            image_channels=images.shape[1],
            generator=stream(0, "backbone"),
        )
        width, random = int(backbone.width), stream(0, "head")
        heads: list[Head] = []
        for position, stage in enumerate(self.cell.stages):
            needs = self.table.needs(stage)
            vectors = torch.randn(len(counts), WORDS, generator=random) if needs.words else None
            own = problem(self.cell, position, width, counts, self.found.names, vectors)
            heads.append(self.table.heads[stage.head](own, **dict(stage.hyper)))
            width = heads[-1].dim
        if len(heads) > 1:
            labels = self.found.train.labels
            features = torch.rand(len(labels), heads[-2].dim, generator=random)
            with torch.no_grad():
                heads[-1].prepare(features, labels, heads[-2])
        return backbone, heads

    def _sweep(self, width: int) -> Callable[[], Sweep] | None:
        """Random features, for heads that look at all of them before an epoch."""
        if not self.table.needs(self.cell.stages[-1]).sweep:
            return None
        labels = self.found.train.labels
        features = torch.rand(len(labels), width, generator=stream(0, "head", "sweep"))
        return lambda: Sweep(features.to(self.device), labels.to(self.device))

    @torch.no_grad()
    def _count(self, backbone: nn.Module) -> int:
        backbone.eval()
        with FlopCounterMode(display=False) as counter:
            backbone(torch.zeros(1, *self.found.train.images.shape[1:]))
        self._forward = int(counter.get_total_flops())
        return self._forward * self.recipe.batch * (1 if self.frozen else compiling.PASSES)

    def _compile(self, look: Trunk, steps: int, asked: str) -> str:
        """As a cell is begun: see `runner`."""
        images = self.recipe.batch * steps * self.recipe.epochs
        pays = not self.frozen and compiling.pays(self._forward, images, self.device)
        if self.frozen or asked == compiling.EAGER or not (asked or pays):
            return compiling.EAGER
        shape = (self.recipe.batch, *self.found.train.images.shape[1:])
        try:
            compiling.compile_trunk(look, shape)
        except compiling.Unable as error:
            self.warnings.append(f"{self.cell.network} runs without compiled code: {error}")
            return compiling.EAGER
        return compiling.COMPILED


def prepare(threads: int) -> None:
    """As a worker begins; the reference has the same threads."""
    torch.set_num_threads(threads)


def images_of(cell: Cell, root: Path) -> Material | None:
    """The material of a cell; None where its images are not here."""
    try:
        return material(cell.data, root)
    except MissingData:
        return None


def stand_in(cell: Cell) -> Material:
    """Random images, as many and as large as a cell's data set has in each class.

    Speed does not depend on what is in them. MissingData where size or number is not known.
    """
    asked = Options(**dict(cell.data))
    data = DATASETS[asked.name]
    largest = asked.largest or data.largest
    if data.shape is None or largest is None:
        raise MissingData(
            f"no images of {asked.name}, and their size or number is not known without them. "
            "Name their folder with --data-root."
        )
    names = data.names(Path())
    counts = class_counts(len(names), largest, asked.ratio, asked.profile)
    labels = torch.arange(len(names)).repeat_interleave(torch.tensor(counts))
    random = stream(0, "augment", "images")
    images = torch.randint(256, (len(labels), *data.shape), generator=random, dtype=torch.uint8)
    split = Split(images, labels)
    return Material(
        train=split,
        validation=None,
        test=split,
        counts=tuple(counts),
        names=names,
        superclasses=None,
        groups=group(counts, asked.groups),
        mean=data.mean,
        std=data.std,
        digest="",
    )
