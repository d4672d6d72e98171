"""One pass over a split -> scores; scores and features -> Verdict. Nothing here selects."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmark.training import metrics
from datasets.base import Material
from heads.base import Head
from heads.geometry import description

CONFUSIONS = 2000  # classes up to which the table of confusions is kept; ours, 32 MB
Passes = Callable[[], Iterable[tuple[Tensor, Tensor]]]


@dataclass(frozen=True, slots=True)
class Seen:
    """What a pass over a split gives: embedding (examples, dim), scores (examples, classes),
    labels (examples,).
    """

    embedding: Tensor
    scores: Tensor
    labels: Tensor

    @property
    def accuracy(self) -> float:
        """Share of examples whose largest score is the label's."""
        return float((self.scores.argmax(dim=1) == self.labels).double().mean())


@dataclass(frozen=True, slots=True)
class Verdict:
    """Measured at the last epoch: numbers by name, and arrays worth keeping."""

    metrics: dict[str, float]
    arrays: dict[str, np.ndarray]


@torch.no_grad()
def see(
    look: Callable[[Tensor], Tensor], head: Head, batches: Iterable[tuple[Tensor, Tensor]]
) -> Seen:
    """Embeddings, scores and labels of a split, in order."""
    embeddings, scores, labels = [], [], []
    for images, own in batches:
        embedding = head.embed(look(images))
        embeddings.append(embedding)
        scores.append(head.score(embedding))
        labels.append(own)
    return Seen(torch.cat(embeddings), torch.cat(scores), torch.cat(labels))


@torch.no_grad()
def features(
    look: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]], examples: int
) -> tuple[Tensor, Tensor]:
    """Features (examples, width) and labels (examples,) of a split, in order.

    They are put where they will lie: of a million images, two copies would be too many.
    """
    found = known = torch.empty(0)
    done = 0
    for images, labels in batches:
        own = look(images)
        if not done:
            found = own.new_empty(examples, *own.shape[1:])
            known = labels.new_empty(examples)
        found[done : done + len(own)] = own
        known[done : done + len(own)] = labels
        done += len(own)
    return found, known


@torch.no_grad()
def collapse(learned: Seen, head: Head, classes: int) -> dict[str, float]:
    """Neural collapse of training images as a head sees them: nc1 to nc4."""
    vectors = head.class_vectors()
    return metrics.collapse(learned.embedding, learned.labels, learned.scores, vectors, classes)


@torch.no_grad()
def judge(
    look: Callable[[Tensor], Tensor],
    head: Head,
    material: Material,
    judged: Passes,
    train: Passes,
    *,
    mirrored: Passes | None = None,
) -> Verdict:
    """Accuracy by class and group, calibration and collapse of a finished cell.

    judged, train  each call gives a fresh pass over the split, in order, without augmentation
    mirrored       the first of them mirrored, where scores are also to be averaged over both
    """
    classes = len(material.counts)
    seen = see(look, head, judged())
    predicted = seen.scores.argmax(dim=1)
    table = metrics.confusion(predicted, seen.labels, classes)
    per_class = metrics.by_class(table)
    reliability = metrics.reliability(seen.scores, seen.labels)
    numbers = {
        "accuracy": seen.accuracy,
        **metrics.by_group(per_class, material.groups),
        "top5": metrics.top(seen.scores, seen.labels, 5),
        "ece": metrics.calibration_error(reliability),
    }
    learned = see(look, head, train())
    vectors = head.class_vectors()
    numbers["train_accuracy"] = learned.accuracy
    numbers |= collapse(learned, head, classes)
    if mirrored is not None:
        other = see(look, head, mirrored())
        averaged = Seen(seen.embedding, seen.scores + other.scores, seen.labels)
        numbers["flip"] = averaged.accuracy
    arrays = {"per_class": per_class, "reliability": reliability}
    if classes <= CONFUSIONS:
        arrays["confusion"] = table
    if vectors is not None:
        arrays["class_vectors"] = vectors
        numbers |= description(vectors)
    if head.dim <= 3:
        arrays |= {"embedding": seen.embedding, "labels": seen.labels}
    for name, value in head.named_buffers():
        if not value.is_floating_point() and value.dim():
            arrays[f"head.{name}"] = value
    return Verdict(numbers, {name: value.cpu().numpy() for name, value in arrays.items()})
