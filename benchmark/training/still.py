"""A trunk that stands still: what it makes of the images is the same for every head on it.

    images ──trunk──▶ features ──▶ head        the first cell on a trunk, which keeps the features
                      features ──▶ head        every further one

All heads on one trunk with one recipe and one seed see the same images, step by step, and the trunk
does not move: so they see the same features, to the last bit. They are named by everything that
decides them: weights, data, the recipe less what only the optimiser asks, seed, position of the
stage, device, threads, versions, and the sources of what makes them.

Without changes from epoch to epoch a recipe shows an image the same way every time. Where the
features of a whole epoch of batches were those of the pass before training, bit for bit, they are
looked up from then on.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sized
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import datasets
import heads
from benchmark import backbones
from benchmark.planning.forecast import UNSEEN
from benchmark.planning.recipes import Recipe
from benchmark.training.shelf import Keeping, Shelf, Volume
from benchmark.training.steps import Computed, LookedUp, Source, Steps
from datasets.augment import Change
from datasets.loader import Batches, Stream


class Still:
    """A frozen trunk with its shelf.

    facts  plain values: everything that decides the features beside what a call names
    warn   called with a sentence where features cannot be kept
    """

    def __init__(
        self,
        look: nn.Module,
        shelf: Shelf,
        facts: Mapping[str, Any],
        warn: Callable[[str], None] = lambda sentence: None,
    ):
        self.look, self.shelf, self.warn, self.warned = look, shelf, warn, False
        self.facts = {**facts, "weights": weights(look)}
        self.volumes: dict[str, Volume] = {}

    def passes(
        self, fresh: Callable[[], Any], about: Mapping[str, Any], images: Sized
    ) -> Callable[[], Iterator[tuple[Tensor, Tensor]]]:
        """Fresh passes over features and labels, where `fresh` gives passes over these images.

        about  which these are and how they are shown, as plain values
        """
        name = self.name({"pass": dict(about)})

        def once() -> Iterator[tuple[Tensor, Tensor]]:
            found = self.volume(name)
            if found is not None:
                for part in range(len(found)):
                    features, labels = found.read(part)
                    yield features.to(self.device), labels.to(self.device)
                return
            kept = self.keeping(name)
            for seen, labels in fresh():
                features = self.look(seen)
                kept.add(features, labels, len(images))
                yield features, labels
            kept.finish()

        return once

    def steps(
        self,
        batches: Batches | Stream,
        recipe: Recipe,
        about: Mapping[str, Any],
        table: Callable[[], tuple[Tensor, Tensor]] | None = None,
    ) -> Steps:
        """Training batches, and their features.

        about  seed, stage, views: what their randomness starts from, as plain values
        table  features and labels of all training images, where these are shown unchanged
        """
        asked = {k: v for k, v in recipe.model_dump().items() if k not in UNSEEN}
        name = self.name({"steps": [asked, dict(about)]})
        source: Source = Computed(self.look, batches)
        if table is not None and self.volume(name) is None:
            source = LookedUp(self.look, batches, *table())
        return Steps(source, recipe.epochs, self.keeping(name), self.volume(name), self.device)

    def name(self, what: Mapping[str, Any]) -> str:
        """Of a file on the shelf."""
        text = json.dumps([self.facts, what], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def volume(self, name: str) -> Volume | None:
        """A file on the shelf, checked the first time that it is asked for."""
        if name not in self.volumes:
            found = self.shelf.find(name)
            if found is None:
                return None
            self.volumes[name] = found
        return self.volumes[name]

    def keeping(self, name: str) -> Keeping:
        """Of features that are now computed."""
        return Keeping(self.shelf, name, self._warn)

    def _warn(self, sentence: str) -> None:
        if not self.warned:
            self.warn(sentence)
        self.warned = True

    @property
    def device(self) -> torch.device:
        """Of the trunk."""
        return next((p.device for p in self.look.parameters()), torch.device("cpu"))


def unchanged(change: Change, recipe: Recipe) -> bool:
    """Whether every epoch shows an image the same way."""
    plain = Change(padding=change.padding, area=change.area, jittered=change.jittered)
    return change == plain and not recipe.mixup and not recipe.cutmix


def weights(look: nn.Module) -> str:
    """SHA-256 of a trunk's parameters and buffers."""
    total = hashlib.sha256()
    for name, value in sorted(look.state_dict().items()):
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return total.hexdigest()


@lru_cache(maxsize=1)
def sources(papers: frozenset[str]) -> str:
    """SHA-256 of the files that make features, less those of heads: papers, their names."""
    folders = [Path(module.__file__ or "").parent for module in (backbones, datasets, heads)]
    total = hashlib.sha256()
    for folder in (*folders, Path(__file__).parent):
        for path in sorted(folder.glob("*.py")):
            if path.stem not in papers:
                total.update(path.name.encode() + b"\0" + path.read_bytes())
    return total.hexdigest()
