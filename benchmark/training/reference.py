"""The loop that released code uses, written afresh: what `speed` compares ours with.

Pictures one by one through a DataLoader, float32, contiguous memory, eager, a loop over batches
that looks at the loss after each. The network, the head, the batch size, the mixing and the
optimiser are those of the recipe: the work is the same.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from benchmark.planning.recipes import Recipe
from benchmark.training.stopwatch import Stopwatch
from heads.base import Clock, Head


class Reference:
    """A training that goes on from one call of `run` to the next."""

    def __init__(
        self,
        backbone: nn.Module,
        before: list[Head],
        head: Head,
        batches: Iterable[tuple[Tensor, Tensor]],
        recipe: Recipe,
        *,
        frozen: bool,
    ):
        """before: heads whose `embed` the features pass; frozen: these and the backbone rest.

        ValueError where the recipe mixes in a way that this loop has not got.
        """
        if recipe.cutmix or recipe.optimizer != "sgd":
            raise ValueError(
                "the reference loop knows mixup and sgd, and the recipe asks for cutmix "
                f"{recipe.cutmix:g} and optimizer {recipe.optimizer!r}. "
                "Set `cutmix: 0` and `optimizer: sgd`."
            )
        self.backbone, self.before, self.head = backbone, before, head
        self.batches, self.recipe, self.frozen = batches, recipe, frozen
        self.optimizer = self._optimizer()
        self.device = next(backbone.parameters()).device
        self.random = np.random.default_rng(0)

    @property
    def parts(self) -> tuple[nn.Module, ...]:
        """All that has weights or a state."""
        return self.backbone, *self.before, self.head

    def run(self, steps: int, watch: Stopwatch) -> float:
        """Train so many steps from a fresh epoch on; gives the mean loss."""
        self.backbone.train(not self.frozen)
        for each in self.before:
            each.train(not self.frozen)
        self.head.train()
        losses = []
        source = self._endless()
        watch.start()
        for step in range(steps):
            images, labels = (each.to(self.device) for each in next(source))
            mixed, share, partner = self._mix(images)
            watch.lap("data")
            with torch.set_grad_enabled(not self.frozen):
                features = self._features(mixed)
            watch.lap("backbone")
            embedding = self.head.embed(features)
            loss = self.head.loss(embedding, labels)
            if partner is not None:
                other = self.head.loss(embedding, labels[partner])
                loss = share * loss + (1 - share) * other
            watch.lap("head")
            losses.append(loss.item())
            self.optimizer.zero_grad()
            watch.lap("optimiser")
            if features.requires_grad:  # from here on it is the backbone's
                features.register_hook(lambda gradient: watch.lap("head"))
            loss.backward()
            watch.lap("head" if self.frozen else "backbone")
            self.optimizer.step()
            watch.lap("optimiser")
            with torch.no_grad():
                self.head.after_step(embedding.detach(), labels, Clock(step, 0, steps + 1, 1))
            watch.lap("head")
            watch.step(len(labels))
        return float(np.mean(losses))

    def _features(self, images: Tensor) -> Tensor:
        features = self.backbone(images)
        for each in self.before:
            features = each.embed(features)
        return features

    def _mix(self, images: Tensor) -> tuple[Tensor, float, Tensor | None]:
        """Mixup, one draw a batch."""
        if not self.recipe.mixup:
            return images, 1.0, None
        share = float(self.random.beta(self.recipe.mixup, self.recipe.mixup))
        partner = torch.randperm(len(images)).to(images.device)
        return share * images + (1 - share) * images[partner], share, partner

    def _endless(self) -> Iterator[tuple[Tensor, Tensor]]:
        while True:
            yield from self.batches

    def _optimizer(self) -> torch.optim.Optimizer:
        recipe, own = self.recipe, self.head.rates()
        trained = [p for name, p in self.head.named_parameters() if name not in own]
        if not self.frozen:
            trained += [p for part in (self.backbone, *self.before) for p in part.parameters()]
        groups = [{"params": trained}] if trained else []
        for name, rate in own.items():
            parameter = self.head.get_parameter(name)
            groups.append({"params": [parameter], "lr": rate.lr, "weight_decay": rate.weight_decay})
        return torch.optim.SGD(
            groups,
            lr=recipe.lr,
            momentum=recipe.momentum,
            nesterov=recipe.nesterov,
            weight_decay=recipe.weight_decay,
        )
