"""A cell's key changes exactly when its result can.

Every field of suite, recipe, data, head and backbone stands here with another value, enumerated
from what declares it: a field that comes later fails these tests until it stands here too. That
the key changes is seen at once; that the result does is seen in the `long` tests, which train.
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from benchmark import backbones
from benchmark.backbones import BACKBONES
from benchmark.commands.agenda import data_set
from benchmark.commands.desk import Options
from benchmark.planning import cell as cells
from benchmark.planning import plan, suite
from benchmark.planning.cell import Cell, Stage
from benchmark.planning.plan import hyperparameters, with_foundations
from benchmark.planning.recipes import Recipe
from benchmark.planning.suite import BLOCK, STREAMS, Data
from benchmark.records.record import Record
from benchmark.training import runner
from benchmark.training.registry import registry
from benchmark.training.runner import Place

HEADS = registry()
BASE = """\
- data: {name: digits, ratio: 4, largest: 12}
  backbone: {small_cnn: {channels: 5}}
  recipe: quick
  head: [psc]
  seeds: [0]
"""
ALWAYS = ("recipe.quick.epochs=2", "recipe.quick.batch=16")
COLOUR = ("data={name: image_folder, folder: a, largest: 8, ratio: 2}",)


def of_head(name: str, options: Mapping[str, Any], before: str = "") -> str:
    """The setting of a head with options, after another one on a frozen trunk if it needs that."""
    stages = [*filter(None, [before]), {f"{name}@quick" if before else name: dict(options)}]
    return f"head={json.dumps([stages])}"


@dataclass(frozen=True)
class Change:
    """Another value of a field.

    value    as `--set` takes it, after the field's own name and '='
    context  settings without which the field has no effect, for both cells
    """

    value: str
    context: tuple[str, ...] = ()


def given(*context: str) -> Callable[[str], Change]:
    return lambda value: Change(value, context)


stepped = given("recipe.quick.schedule=step", "recipe.quick.milestones=[0.25]")
frozen = given(of_head("crt", {}, "psc"))
coloured = given(*COLOUR)

RECIPE: dict[str, Change] = {
    "epochs": Change("3"),
    "batch": Change("17"),
    "optimizer": Change("adamw"),
    "lr": Change("0.05"),
    "momentum": Change("0.5"),
    "nesterov": Change("true"),
    "weight_decay": Change("0.01"),
    "schedule": Change("constant"),
    "milestones": stepped("[0.75]"),
    "gamma": stepped("0.5"),
    "warmup": Change("0.5"),
    "warmup_stairs": given("recipe.quick.warmup=0.8")("1"),
    "mixup": Change("0.5"),
    "cutmix": Change("0.5"),
    "hard_labels": given("recipe.quick.mixup=1")("true"),
    "augment": Change("none"),
    "padding": Change("2"),
    "area": given("recipe.quick.augment=resized_crop_flip", "recipe.quick.size=8")("0.5"),
    "rotation": Change("30"),
    "policy": Change("trivial"),
    "jitter": Change("0.4"),
    "hue": coloured("0.4"),
    "jittered": given("recipe.quick.jitter=0.4")("0.5"),
    "grey": coloured("0.9"),
    "blur": Change("0.9"),
    "cutout": Change("4"),
    "erasing": Change("1"),
    "second_view": given("head=paco")("contrastive"),
    "size": given("recipe.quick.size=8", "recipe.quick.resize=10")("10"),
    "resize": given("recipe.quick.size=8")("10"),
    "precision": Change("bf16"),
    "normalise": coloured("cifar10"),
    "drop_last": Change("true"),
    "sampler": Change("class_balanced"),
    "epoch_images": given("recipe.quick.sampler=class_balanced")("largest"),
    "batch_norm": frozen("released"),
    "oracle": Change("1"),
    "flip": Change("true"),
}
DATA: dict[str, Change] = {
    "name": Change("{name: sphere, classes: 10, largest: 4, ratio: 4}"),  # the whole record
    "ratio": Change("2"),
    "profile": Change("step"),
    "largest": Change("13"),
    "validation": Change("0.3"),
    "subset_seed": Change("1"),
    "groups": given("data.largest=101", "data.ratio=101")("dl2pa_index"),
    "folder": coloured("b"),
    "classes": given("data={name: sphere, classes: 10}")("11"),
    "subset": Change("first"),
}


@dataclass(frozen=True)
class Hyper:
    """Options of a head.

    others  another value of each
    usual   what both cells have, so that each has an effect
    before  the head that it stands on
    context settings of both cells
    """

    others: dict[str, Any]
    usual: dict[str, Any] = field(default_factory=dict)
    before: str = ""
    context: tuple[str, ...] = ()


# at the width of the backbone, 10, a projection is there only if it is asked for
PROJECTED = {"dim": 11, "projection": "always"}
POINTS = {**PROJECTED, "batch_norm": False}
HYPER: dict[str, Hyper] = {
    "balanced_softmax": Hyper(PROJECTED),
    "crt": Hyper({}, before="psc"),
    "disalign": Hyper({"rho": 0.4}, before="psc"),
    "dl2pa": Hyper(
        {
            **{**POINTS, "prototypes": "random", "means": "paper", "momentum": 0.5},
            **{"updates_per_epoch": 2.0, "start": "identity", "assignment": "fixed"},
            **{"reduction": "sum", "class_weights": False},
        },
        {"prototypes": "psc"},  # elsewhere, which point stands where is of no account at the start
    ),
    "dnc": Hyper({**PROJECTED, "subcentroids": 2, "momentum": 0.5}),
    "dro_lt": Hyper({"temperature": 0.5, "epsilon": 0.2}),
    "ebv": Hyper(
        {**PROJECTED, "projection": "needed", "alpha": 0.5, "temperature": 0.5, "smoothing": 0.3}
    ),
    "etf": Hyper({**POINTS, "reduction": "sum", "class_weights": False}),
    "fixed": Hyper({**POINTS, "points": "random", "scale": 9.0, "batch_norm": True}),
    "focal": Hyper({**PROJECTED, "gamma": 1.0}),
    "goto": Hyper({**PROJECTED, "columns": 3, "scale": 9.0}),
    "hpn": Hyper(
        {**PROJECTED, "reduction": "sum", "placement": "semantic"}, {"reduction": "half_mean"}
    ),
    "kasarla": Hyper(
        {"radius": 1.0, "projection": "needed"},
        context=(*COLOUR, "backbone={small_cnn: {channels: 1}}"),  # width 2: three classes less one
    ),
    "ldam": Hyper(
        {**PROJECTED, "largest": 0.1, "scale": 9.0, "deferred": True, "switch": 0.6, "beta": 0.5},
        {"deferred": True, "switch": 0.1},
    ),
    "logit_adjustment": Hyper({**PROJECTED, "tau": 0.5, "form": "post_hoc"}),
    "max_norm": Hyper({"beta": 0.5, "threshold": 0.9}, before="psc"),
    "ncm": Hyper({"transform": "l2n"}, before="psc"),
    "one_hot": Hyper({"projection": "always", "reduction": "half_mean"}),
    "paco": Hyper({"alpha": 0.5, "temperature": 0.5, "contrast": 5, "queue": 20}),
    "prototypes": Hyper(
        {
            **{"distance": "squared", "scale": 2.0, "temperatures": False, "form": "paper"},
            **{"adjust": 0.9, "prototype_lr": 1.0, "temperature_lr": 0.5},
            "temperature_decay": 0.3,
        },
        before="psc",
    ),
    "psc": Hyper({**PROJECTED, "cosine": True, "scale": 9.0, "uniformity": 0.5}),
    "ride": Hyper(
        {
            **{"experts": 2, "scale": 9.0, "largest": 0.1, "diversity": 0.1, "spread": 0.5},
            "deferred": 0.6,
        },
        {"deferred": 0.1},
    ),
    "tau_norm": Hyper({"tau": 0.5, "bias": True}, before="psc"),
    "word2vec": Hyper(
        {"dim": 3, "projection": "always", "reduction": "half_mean"},
        {"dim": 4},
        context=("backbone={small_cnn: {channels: 2}}",),
    ),
}
# where an option needs other company than the rest of its head
BESIDE: dict[tuple[str, str], Hyper] = {
    ("ebv", "alpha"): Hyper({}, {"dim": 5}),  # with room for all at right angles, any will do
    ("ldam", "deferred"): Hyper({}, context=("recipe.quick.epochs=5",)),
    ("logit_adjustment", "form"): Hyper({}, before="psc"),
    ("prototypes", "scale"): Hyper({}, {"distance": "cosine"}, before="psc"),
    ("psc", "scale"): Hyper({}, {"cosine": True}),
}
BACKBONE: dict[str, dict[str, Any]] = {
    "small_cnn": {"channels": 6},
    **{f"resnet{depth}": {"channels": 8, "taper": 0.75} for depth in (8, 20, 32, 44, 56)},
    "swin_t": {"patch": 2, "window": 4, "stochastic_depth": 0.5},
    "flat": {"width": 16},
}
BLOCKS: dict[str, tuple[str, str]] = {  # of each field of a block, before and after
    "data": ("data=digits", "data={name: digits, ratio: 2}"),
    "backbone": ("backbone=flat", "backbone=small_cnn"),
    "recipe": ("recipe=quick", "recipe={quick: {lr: 0.2}}"),
    "head": ("head=psc > etf@quick", "head=psc >> etf@quick"),
    "seeds": ("seeds=[0]", "seeds=[1]"),
}


# what is compared


@pytest.fixture
def keyed(tmp_path) -> Callable[..., Cell]:
    """Give a function (*settings): the last cell of the base suite with them, as it is planned."""
    file = tmp_path / "base.yaml"
    file.write_text(BASE)

    def build(*settings: str) -> Cell:
        found = suite.read(str(file), [*ALWAYS, *settings]).cells[-1]
        return plan.complete(
            found,
            HEADS,
            lambda name: data_set(name).largest,
            lambda name: BACKBONES[name].options,
            words=lambda name: True,
            experts=lambda name: BACKBONES[name].experts,
        )

    return build


def pairs() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """Settings of two cells that differ in one field, by the name of the field."""
    found: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {}
    for name, (before, after) in BLOCKS.items():
        found[name] = ((before,), (after,))
    for name, change in RECIPE.items():
        setting = f"recipe.quick.{name}={change.value}"
        found[f"recipe.{name}"] = (change.context, (*change.context, setting))
    for name, change in DATA.items():
        setting = f"data={change.value}" if name == "name" else f"data.{name}={change.value}"
        found[f"data.{name}"] = (change.context, (*change.context, setting))
    for head, hyper in HYPER.items():
        for option, value in hyper.others.items():
            own = BESIDE.get((head, option), hyper)
            before, after = (
                (*own.context, of_head(head, options, own.before))
                for options in (own.usual, {**own.usual, option: value})
            )
            found[f"{head}.{option}"] = before, after
    for stream in STREAMS:
        zero = dict.fromkeys(STREAMS, 0)
        before, after = (f"seeds={json.dumps([each])}" for each in (zero, {**zero, stream: 1}))
        found[f"seeds.{stream}"] = (before,), (after,)
    return found


PAIRS = pairs()


# every field stands here


def test_every_field_of_a_suite_has_another_value_here():
    assert set(BLOCKS) == set(BLOCK)
    assert set(DATA) == set(Data.model_fields)
    assert set(RECIPE) == set(Recipe.model_fields)


def test_every_option_of_every_head_has_another_value_here():
    known = {name: set(hyperparameters(head)) for name, head in HEADS.heads.items()}
    assert {name: set(hyper.others) for name, hyper in HYPER.items()} == known


def test_every_option_of_every_backbone_has_another_value_here():
    known = {name: set(entry.options) for name, entry in BACKBONES.items() if entry.options}
    assert {name: set(others) for name, others in BACKBONE.items()} == known


# the key changes where the result can


@pytest.mark.parametrize("name", PAIRS)
def test_the_key_changes_with_every_field(keyed, name):
    before, after = PAIRS[name]
    assert keyed(*before).key != keyed(*after).key


@pytest.mark.parametrize("name", BACKBONE)
def test_the_key_changes_with_every_option_of_a_backbone(keyed, name):
    plain = keyed(f"backbone={name}")
    for option, value in BACKBONE[name].items():
        assert keyed(f"backbone={{{name}: {{{option}: {value}}}}}").key != plain.key
    assert keyed(f"backbone={{{name}: {json.dumps(dict(BACKBONES[name].options))}}}") == plain


def test_the_key_changes_with_every_field_of_a_cell():
    """Of `Cell` and `Stage` themselves, so that a field that comes later is seen."""
    stage = Stage("psc", (("dim", 8),), (("lr", 0.1),), False, "abc")
    cell = Cell((("name", "digits"),), (("name", "flat"),), (stage,), 0)
    other = {
        **{"head": "etf", "hyper": (("dim", 9),), "recipe": (("lr", 0.2),), "frozen": True},
        "content": "abd",
    }
    people = {"protocol": "a name", "source": ("psc", (), "")}  # follow from the others
    assert {each.name for each in fields(Stage)} == set(other) | set(people)
    for name, value in other.items():
        assert replace(cell, stages=(replace(stage, **{name: value}),)).key != cell.key
    for name, value in people.items():
        assert replace(cell, stages=(replace(stage, **{name: value}),)).key == cell.key
    whole = {
        **{"data": (("name", "sphere"),), "backbone": (("name", "small_cnn"),), "seed": 1},
        "stages": (stage, stage),
    }
    assert {each.name for each in fields(Cell)} == set(whole)
    for name, value in whole.items():
        assert replace(cell, **{name: value}).key != cell.key


def test_the_key_changes_with_a_head_outside_the_tree_and_with_nothing_else_of_it(tmp_path):
    source = "from heads.psc import PSC\n\nclass Mine(PSC):\n    pass\n"
    keys = []
    for folder, text in (("a", source), ("b", source), ("c", source + "# another\n")):
        file = tmp_path / folder / "mine.py"
        file.parent.mkdir()
        file.write_text(text)
        outside = registry([file]).outside["mine"]
        assert outside == hashlib.sha256(text.encode()).hexdigest()
        keys.append(replace(Cell((), (), (Stage("mine", content=outside),), 0)).key)
    assert keys[0] == keys[1] != keys[2]


# the key stays where the result does


def test_what_is_written_out_is_the_same_cell(keyed):
    plain = keyed()
    recipe = dict(plain.stages[0].recipe)
    written = {**suite.RECIPES["quick"].recipe.model_dump(mode="json"), "epochs": 2, "batch": 16}
    assert set(recipe) < set(written)
    for name, value in written.items():
        assert keyed(f"recipe.quick.{name}={json.dumps(value)}") == plain, name
    for name, value in Data(name="digits", ratio=4, largest=12).model_dump().items():
        assert keyed(f"data.{name}={json.dumps(value)}") == plain, name
    for name, value in hyperparameters(HEADS.heads["psc"]).items():
        assert keyed(f"head.psc.{name}={json.dumps(value)}") == plain, name
    for again in ("data.ratio=4.0", "recipe.quick.epochs=2.0", "backbone.channels=5"):
        assert keyed(again) == plain
    assert keyed("data={largest: 12, ratio: 4, name: digits}") == plain
    assert keyed("head=[[psc]]") == keyed("head=psc@quick") == plain
    assert keyed("data.largest=null") == keyed("data.largest=124")


# What is not in a key, and why not: it changes no number, or is held against the record instead.
NOT_IDENTITY: dict[type, dict[str, str]] = {
    Place: {
        "runs": "where records lie",
        "data_root": "where images lie; their digest is in the record, and another is `changed`",
        "registry": "digests of heads: in the record; those of heads outside are `content`",
        "device": "moves last bits only; in the record, and a resumed cell starts over",
        "threads": "move last bits only; in the record, and a resumed cell keeps its own",
        "words": "where vectors lie; their digest is in the record, and another is `changed`",
        "readers": "processes that decode: the order of images is that of their addresses",
        "every": "seconds between checkpoints",
        "execution": "moves last bits only; in the record, and a resumed cell keeps its own",
        "noted": "what was expected of a cell: a cost",
        "team": "moves last bits only; in the record, and a resumed cell starts over",
    },
    Options: {
        "suite": "a tag",
        "changes": "reach a key through the suite only",
        "files": "reach a key through `content`",
        **{name: "a field of Place" for name in ("runs", "data_root", "device", "threads")},
        "words": "a field of Place",
        "tracking_uri": "where MLflow is",
        "jobs": "cells side by side",
        "engine": "where cells are trained; each machine notes its device",
        "address": "of the engine's cluster",
        "offline": "whether MLflow is told",
        "download": "whether images may be fetched",
        "skip_missing": "which cells are declined",
        "refresh": "which cells are trained again",
        "storage": "where a study keeps its trials",
        "execution": "a field of Place",
    },
}


@pytest.mark.parametrize("kind", NOT_IDENTITY)
def test_what_is_not_identity_has_a_reason(kind):
    assert {each.name for each in fields(kind)} == set(NOT_IDENTITY[kind])


# Where the key changes and the result cannot: equal work is done twice, and no number is wrong.
# It is not mended, since cells that exist would lose their keys; these are all that are known.
TURNED = ("recipe.quick.rotation=10",)  # images are changed one by one, by other draws
IDLE: dict[str, tuple[tuple[str, ...], str, str]] = {
    "gamma": ((), "recipe.quick.gamma=0.5", "schedule is not `step`"),
    "warmup_stairs": (("recipe.quick.warmup=0",), "recipe.quick.warmup_stairs=5", "no warm-up"),
    "hard_labels": ((), "recipe.quick.hard_labels=true", "nothing is mixed"),
    "padding": (("recipe.quick.augment=none",), "recipe.quick.padding=3", "no crop"),
    "area": ((), "recipe.quick.area=0.5", "no part of the image is resized"),
    "jittered": (TURNED, "recipe.quick.jittered=0.5", "no jitter, no hue"),
    "grey": (TURNED, "recipe.quick.grey=0.5", "the images are grey"),
    "hue": (TURNED, "recipe.quick.hue=0.1", "the images are grey"),
    "second_view": ((), "recipe.quick.second_view=contrastive", "the head asks for one view"),
    "batch_norm": ((), "recipe.quick.batch_norm=released", "the backbone is not frozen"),
    "momentum": (("recipe.quick.optimizer=adamw",), "recipe.quick.momentum=0.5", "not of adamw"),
    "profile": (("data.ratio=1",), "data.profile=step", "balanced"),
    "subset_seed": (("data.subset=first",), "data.subset_seed=1", "the first images: no draw"),
    "dim": ((), of_head("psc", {"dim": 10}), "the backbone's width, written out"),
    "projection": (
        (of_head("psc", {"dim": 7}),),
        of_head("psc", {"dim": 7, "projection": "always"}),
        "dim differs from the width: it is needed anyway",
    ),
    "seeds": ((), f"seeds={json.dumps([dict.fromkeys(STREAMS, 0)])}", "four streams, one seed"),
}


@pytest.mark.parametrize("name", IDLE)
def test_what_is_idle_is_a_cell_of_its_own(keyed, name):
    context, setting, reason = IDLE[name]
    assert reason and keyed(*context).key != keyed(*context, setting).key


# what was found and trained is found again: no key may move without a new PROTOCOL

PINNED = {
    (): "854b0e81e222870f",
    ("head=psc > ncm",): "479248a207298522",
    ('head=[[psc, {"prototypes@quick": {"distance": "cosine"}}]]',): "5a1d3ba0b7370e9c",
    (
        "head=dl2pa",
        "data={name: cifar100, ratio: 100}",
        "backbone={resnet32: {channels: 32}}",
    ): "b7cc7087012e96c6",
    (
        "data={name: sphere, classes: 10}",
        'seeds=[{"backbone": 0, "head": 1, "order": 2, "augment": 3}]',
    ): "af31e0b48af01f63",
    (
        "head=psc >> psc@weight_decay_200",
        "data.subset=released_pair",
        "recipe.quick.policy=rand",
    ): "3c469946f2db3306",
}


@pytest.mark.parametrize("settings", PINNED)
def test_keys_that_exist(keyed, settings):
    assert cells.PROTOCOL == 2, "a new protocol: pin its keys"
    assert keyed(*settings).key == PINNED[settings]


# and the result does change: `long`, since it trains


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Records of all cells that were trained here, images in two class folders, word vectors."""
    here = tmp_path_factory.mktemp("identity")
    random = np.random.default_rng(0)
    for name in ("a", "b"):
        for split, count in (("train", 8), ("test", 4)):
            for label in ("one", "three", "two"):
                place = here / "data" / name / split / label
                place.mkdir(parents=True)
                for k in range(count):
                    pixels = random.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                    Image.fromarray(pixels).save(place / f"{k}.png")
    np.save(here / "words.npy", random.standard_normal((10, 12)))
    return here


@pytest.fixture
def trained(folder, monkeypatch) -> Callable[..., str]:
    """Give a function (cell, …): a digest of all that is measured, without cost and dates."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(folder / "cache"))
    monkeypatch.setattr(runner, "_commit", lambda: "unknown")
    before = torch.get_num_threads()

    def train(cell: Cell, **changes: Any) -> str:
        usual = Place(folder / "runs", folder / "data", HEADS, words={"": folder / "words.npy"})
        place = replace(usual, **changes)
        for each, _ in with_foundations([cell]):
            runner.run(each, place)
        return measured(Record(place.runs / cell.key))

    yield train
    torch.set_num_threads(before)


def measured(record: Record) -> str:
    """Everything that a report may show of a cell but what it cost; and its weights."""
    result = record.result() or {}
    told = {name: result[name] for name in ("state", "metrics", "readings", "groups", "counts")}
    rows = [{k: v for k, v in row.items() if k != "time"} for row in record.curves()]
    digest = hashlib.sha256(json.dumps([told, rows], sort_keys=True).encode())
    for values in (record.arrays(), record.weights()):
        for name, value in sorted(values.items()):
            digest.update(f"{name} {value.dtype} {value.shape}".encode() + value.tobytes())
    return digest.hexdigest()


@pytest.mark.long
@pytest.mark.parametrize("name", PAIRS)
def test_the_result_changes_with_every_field(keyed, trained, name):
    before, after = PAIRS[name]
    assert trained(keyed(*before)) != trained(keyed(*after))


@pytest.mark.long
@pytest.mark.parametrize("name", IDLE)
def test_the_result_stays_where_a_field_is_idle(keyed, trained, name):
    context, setting, _ = IDLE[name]
    assert trained(keyed(*context)) == trained(keyed(*context, setting))


@pytest.mark.long
@pytest.mark.parametrize("name", BACKBONE)
def test_a_network_changes_with_every_option(name):
    def built(**options: Any) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(0)
        network = backbones.build(name, options, generator=generator)
        kinds = [str(module) for module in network.modules()]
        return {"width": network.width, "parts": kinds, "shapes": shapes(network)}

    for option, value in BACKBONE[name].items():
        assert built() != built(**{option: value})


def shapes(network: torch.nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(value.shape)) for name, value in network.state_dict().items()]


@pytest.mark.long
def test_a_place_changes_nothing(keyed, trained, folder, tmp_path):
    """All of `Place` that is no part of the machine's arithmetic, each once."""
    cell = keyed(*COLOUR)
    usual = trained(cell)
    shutil.copytree(folder / "data", tmp_path / "data")
    for change in ({}, {"readers": 2}, {"every": 0.0}, {"data_root": tmp_path / "data"}):
        runs = tmp_path / "-".join(["runs", *change])
        assert trained(cell, runs=runs, **change) == usual
