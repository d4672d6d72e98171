"""A cell: one training to be done, a frozen value. Its identity is derived, never typed.

`key` is the hash of the canonical JSON of everything that changes the number, and of PROTOCOL.
Device, workers, paths and the name of the suite are not in it.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

PROTOCOL = 2  # raised when the same cell would give another number; see CHANGELOG, [results]

Pairs = tuple[tuple[str, Any], ...]


def freeze(values: Mapping[str, Any]) -> Pairs:
    """Turn a mapping of plain values into a hashable one, sorted by name; lists become tuples."""
    return tuple(sorted((name, _plain(value)) for name, value in values.items()))


def _plain(value: Any) -> Any:
    return tuple(_plain(item) for item in value) if isinstance(value, (list, tuple)) else value


@dataclass(frozen=True, slots=True)
class Stage:
    """One head and how it is trained.

    head     name in the table of heads
    hyper    hyper-parameters that differ from the head's defaults
    recipe   every field of the recipe; empty where the head has nothing to train
    frozen   stands on a frozen trunk ('>'); False for a first stage and after '>>'
    content  digest of the head's file where it lies outside the tree, else empty
    protocol name of the recipe with what was changed in it, for people; not part of the identity
    source   head, hyper-parameters and content of the stage whose class vectors this one starts
             from, or None; follows from the head and its hyper-parameters, so it is not part of
             the identity
    """

    head: str
    hyper: Pairs = ()
    recipe: Pairs = ()
    frozen: bool = False
    content: str = ""
    protocol: str = field(default="", compare=False)
    source: tuple[str, Pairs, str] | None = field(default=None, compare=False)

    @property
    def label(self) -> str:
        """The head with its hyper-parameters: 'dl2pa dim=50'."""
        return " ".join([self.head, *(f"{name}={_show(value)}" for name, value in self.hyper)])


@dataclass(frozen=True, slots=True)
class Cell:
    """One training: data, backbone, one or more stages, seed.

    data      name, ratio, profile, largest, validation, subset_seed, groups, folder; classes
              where the data set asks for their number; subset where it is not the canonical one
    backbone  name and options
    stages    heads in order; all but the last belong to the trunk
    seed      of training: an int, or pairs of the four streams backbone, head, order, augment
    """

    data: Pairs
    backbone: Pairs
    stages: tuple[Stage, ...]
    seed: int | Pairs

    @property
    def key(self) -> str:
        """Identity: 16 hexadecimal digits."""
        text = json.dumps([PROTOCOL, self.plain()], sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """For people: 'cifar100 1:100 · resnet32 · psc > ncm · seed 3'."""
        parts = [self.material, self.network, self.method]
        if " " in self.stages[0].protocol:  # only a changed recipe is worth the room
            parts.append(self.stages[0].protocol)
        return " · ".join([*parts, f"seed {self.seed_label}"])

    @property
    def trunk(self) -> "Cell | None":
        """The ordinary cell that this one stands on, at the same seed; None for one stage."""
        return self.until(len(self.stages) - 1) if len(self.stages) > 1 else None

    def until(self, count: int) -> "Cell":
        """The cell of the first `count` stages, on the images that they are trained on.

        All stages of a cell are trained on one subset, but for `released_pair`: there the first
        stage has the subset `first`, and is the very cell that asks for it by itself.
        """
        data = self.data
        if count == 1 and dict(data).get("subset") == "released_pair":
            data = freeze({**dict(data), "subset": "first"})
        return replace(self, data=data, stages=self.stages[:count])

    @property
    def source(self) -> "Cell | None":
        """The cell whose class vectors the last stage starts from: that stage with another head."""
        last = self.stages[-1]
        if last.source is None:
            return None
        head, hyper, content = last.source
        stage = replace(last, head=head, hyper=hyper, content=content, source=None)
        return replace(self, stages=(*self.stages[:-1], stage))

    @property
    def foundations(self) -> "tuple[Cell, ...]":
        """The cells that must be finished before this one: its trunk and its source."""
        return tuple(cell for cell in (self.trunk, self.source) if cell is not None)

    @property
    def material(self) -> str:
        """Data set and imbalance: 'cifar100 1:100'; what is not the canonical choice is named."""
        data = dict(self.data)
        name = str(data["name"]) + (f" {data['folder']}" if data.get("folder") else "")
        if data.get("classes"):
            name += f" classes={data['classes']}"
        usual = {
            **{"profile": "exponential", "validation": 0.0, "subset_seed": 0, "groups": "kang"},
            "subset": "canonical",
        }
        extra = [f"{k}={data[k]}" for k in usual if k in data and data[k] != usual[k]]
        return " ".join([name, f"1:{data.get('ratio', 1.0):g}", *extra])

    @property
    def network(self) -> str:
        """Backbone with its options: 'resnet32 channels=32'."""
        options = [f"{name}={_show(value)}" for name, value in self.backbone if name != "name"]
        return " ".join([str(dict(self.backbone)["name"]), *options])

    @property
    def method(self) -> str:
        """The heads, with arrows: 'psc > ncm'; a later stage's recipe where it is not its own."""
        text = self.stages[0].label
        for stage in self.stages[1:]:
            text += f" {'>' if stage.frozen else '>>'} {stage.label}"
            if stage.protocol not in ("", stage.head):
                text += f" recipe={stage.protocol.replace(' ', ',')}"
        return text

    @property
    def seed_label(self) -> str:
        """The seed: '3', or 'backbone=0 order=3 …'."""
        if isinstance(self.seed, int):
            return str(self.seed)
        return " ".join(f"{name}={value}" for name, value in self.seed)

    def plain(self) -> dict[str, Any]:
        """Everything that changes the number, as plain values: what `key` hashes."""
        return {
            "data": _lists(self.data),
            "backbone": _lists(self.backbone),
            "stages": [
                {
                    "head": stage.head,
                    "hyper": _lists(stage.hyper),
                    "recipe": _lists(stage.recipe),
                    "frozen": stage.frozen,
                    "content": stage.content,
                }
                for stage in self.stages
            ],
            "seed": self.seed if isinstance(self.seed, int) else _lists(self.seed),
        }

    def to_json(self) -> dict[str, Any]:
        """`plain` with what people read, for the record on disk."""
        people = {
            "protocols": [stage.protocol for stage in self.stages],
            "sources": [
                stage.source and [stage.source[0], _lists(stage.source[1]), stage.source[2]]
                for stage in self.stages
            ],
        }
        return {**self.plain(), **people, "protocol": PROTOCOL, "label": self.label}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Cell":
        """Read back what `to_json` gave; ValueError for all else."""
        try:
            cell = cls._read(values)
            hash(cell)  # every value is a plain one
            formed = cell._formed()
        except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
            raise ValueError(f"no cell: {type(error).__name__}: {error}") from None
        if not formed:
            raise ValueError("no cell: a field is of another kind than it ought to be")
        return cell

    @classmethod
    def _read(cls, values: Mapping[str, Any]) -> "Cell":
        protocols = values.get("protocols") or [""] * len(values["stages"])
        sources = values.get("sources") or [None] * len(values["stages"])
        stages = tuple(
            Stage(
                head=stage["head"],
                hyper=freeze(stage["hyper"]),
                recipe=freeze(stage["recipe"]),
                frozen=stage["frozen"],
                content=stage["content"],
                protocol=protocol,
                source=source and (source[0], freeze(source[1]), source[2]),
            )
            for stage, protocol, source in zip(values["stages"], protocols, sources, strict=True)
        )
        seed = values["seed"]
        return cls(
            data=freeze(values["data"]),
            backbone=freeze(values["backbone"]),
            stages=stages,
            seed=seed if isinstance(seed, int) else freeze(seed),
        )

    def _formed(self) -> bool:
        """Whether every part is of the kind that those who read a cell count on."""
        named = (isinstance(dict(pairs).get("name"), str) for pairs in (self.data, self.backbone))
        ratio = dict(self.data).get("ratio", 1.0)
        stages = all(
            all(isinstance(text, str) for text in (stage.head, stage.content, stage.protocol))
            and isinstance(stage.frozen, bool)
            and (stage.source is None or all(isinstance(stage.source[k], str) for k in (0, 2)))
            for stage in self.stages
        )
        seed = isinstance(self.seed, int) or all(isinstance(v, int) for _, v in self.seed)
        number = isinstance(ratio, (int, float)) and not isinstance(ratio, bool)
        return bool(self.stages) and stages and seed and number and all(named)


def _lists(pairs: Pairs) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in pairs}


def _show(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
