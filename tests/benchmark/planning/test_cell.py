import json
from dataclasses import replace

import pytest

from benchmark.planning import cell as module
from benchmark.planning.cell import Cell, Stage, freeze
from benchmark.planning.plan import complete
from benchmark.planning.recipes import RECIPES, Recipe, recipe
from benchmark.planning.suite import Data, read
from benchmark.training.registry import registry

QUICK = RECIPES["quick"].recipe

# another legal value of every field of a data record and of a recipe
OTHER_DATA = {
    "name": "cifar10",
    "ratio": 50.0,
    "profile": "step",
    "largest": 100,
    "validation": 0.1,
    "subset_seed": 1,
    "groups": "at_least_100",
    "folder": "flowers",
    "classes": 7,
    "subset": "first",
}
OTHER_RECIPE = {
    "epochs": 31,
    "batch": 65,
    "optimizer": "adamw",
    "lr": 0.2,
    "momentum": 0.8,
    "nesterov": True,
    "weight_decay": 1e-3,
    "schedule": "constant",
    "milestones": (0.5,),
    "gamma": 0.2,
    "warmup": 0.2,
    "warmup_stairs": 4,
    "mixup": 0.5,
    "cutmix": 0.5,
    "hard_labels": True,
    "augment": "none",
    "padding": 2,
    "area": 0.2,
    "rotation": 15.0,
    "policy": "trivial",
    "jitter": 0.4,
    "hue": 0.1,
    "jittered": 0.8,
    "grey": 0.2,
    "blur": 0.5,
    "cutout": 16,
    "erasing": 0.1,
    "second_view": "contrastive",
    "size": 224,
    "resize": 256,
    "precision": "bf16",
    "normalise": "cifar10",
    "drop_last": True,
    "sampler": "class_balanced",
    "epoch_images": "largest",
    "batch_norm": "released",
    "oracle": 1,
    "flip": True,
}
SEEDS = {"backbone": 0, "head": 1, "order": 2, "augment": 3}


@pytest.fixture
def cell() -> Cell:
    return Cell(
        data=freeze(Data(name="digits", ratio=20.0).model_dump()),
        backbone=freeze({"name": "resnet32", "channels": 16}),
        stages=(
            Stage("psc", freeze({"dim": 8}), QUICK.pairs(), protocol="quick"),
            Stage("ncm", freeze({"transform": "l2n"}), QUICK.pairs(), frozen=True),
        ),
        seed=3,
    )


def with_stage(cell: Cell, position: int, **changes) -> Cell:
    stages = list(cell.stages)
    stages[position] = replace(stages[position], **changes)
    return replace(cell, stages=tuple(stages))


def with_pair(pairs, name, value):
    return freeze({**dict(pairs), name: value})


def test_every_field_has_another_value_here():
    assert set(OTHER_DATA) == set(Data.model_fields)
    assert set(OTHER_RECIPE) == set(Recipe.model_fields)
    plain = Data(name="digits", ratio=20.0).model_dump()
    assert all(OTHER_DATA[name] != plain[name] for name in plain)
    assert all(OTHER_RECIPE[name] != value for name, value in QUICK.model_dump().items())


@pytest.mark.parametrize("field", OTHER_DATA)
def test_every_field_of_the_data_is_identity(cell, field):
    assert replace(cell, data=with_pair(cell.data, field, OTHER_DATA[field])).key != cell.key


@pytest.mark.parametrize("position", [0, 1])
@pytest.mark.parametrize("field", OTHER_RECIPE)
def test_every_field_of_each_recipe_is_identity(cell, field, position):
    changed = with_pair(cell.stages[position].recipe, field, OTHER_RECIPE[field])
    assert with_stage(cell, position, recipe=changed).key != cell.key


def test_all_else_of_a_cell_is_identity(cell):
    seeds = [{**SEEDS, name: 9} for name in SEEDS]
    others = [
        replace(cell, backbone=with_pair(cell.backbone, "name", "resnet20")),
        replace(cell, backbone=with_pair(cell.backbone, "channels", 32)),
        replace(cell, backbone=freeze({"name": "resnet32"})),
        *(with_stage(cell, i, head="etf") for i in (0, 1)),
        *(with_stage(cell, i, hyper=freeze({"dim": 9})) for i in (0, 1)),
        *(with_stage(cell, i, hyper=()) for i in (0, 1)),
        *(with_stage(cell, i, recipe=()) for i in (0, 1)),
        *(with_stage(cell, i, content="abc") for i in (0, 1)),
        with_stage(cell, 1, frozen=False),
        replace(cell, stages=cell.stages[:1]),
        replace(cell, stages=cell.stages[::-1]),
        replace(cell, seed=4),
        replace(cell, seed=freeze(SEEDS)),
        *(replace(cell, seed=freeze(each)) for each in seeds),
    ]
    keys = [other.key for other in (cell, *others)]
    assert len(set(keys)) == len(keys)


def test_the_protocol_is_identity(cell, monkeypatch):
    before = cell.key
    monkeypatch.setattr(module, "PROTOCOL", module.PROTOCOL + 1)
    assert cell.key != before


def test_names_for_people_are_not_identity(cell):
    renamed = with_stage(cell, 0, protocol="another name")
    assert renamed.key == cell.key and renamed == cell
    assert renamed.label != cell.label


def test_order_and_lists_are_not_identity(cell):
    backwards = dict(reversed(cell.backbone))
    assert replace(cell, backbone=freeze(backwards)).key == cell.key
    as_list = with_stage(cell, 0, hyper=freeze({"sizes": [1, [2, 3]]}))
    assert as_list.key == with_stage(cell, 0, hyper=freeze({"sizes": (1, (2, 3))})).key
    hash(as_list)


def test_the_name_of_the_suite_is_not_identity(tmp_path):
    text = "- {data: {name: digits}, backbone: small_cnn, recipe: quick, head: psc, seeds: 0}"
    keys = []
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text(text)
        keys.append([cell.key for cell in read(str(tmp_path / name)).cells])
    assert keys[0] == keys[1]


def largest(name: str) -> int | None:
    return {"digits": 124, "cifar100": 500}[name]


def completed(head, largest_given=None, name="digits") -> Cell:
    data = freeze(Data(name=name, largest=largest_given).model_dump())
    stages = (Stage("psc", recipe=QUICK.pairs()), Stage("dl2pa", freeze(head), QUICK.pairs()))
    cell = Cell(data, freeze({"name": "small_cnn"}), stages, 0)
    return complete(cell, registry(), largest)


def test_defaults_written_out_are_the_same_cell():
    plain = completed({})
    assert plain.stages[1].hyper == ()
    written = {"dim": None, "momentum": 0.95, "assignment": "dynamic", "batch_norm": True}
    assert completed(written).key == plain.key
    assert completed({"momentum": 0.9}).key != plain.key
    assert completed({}, 124).key == plain.key
    assert completed({}, 123).key != plain.key
    assert dict(completed({}, name="cifar100").data)["largest"] == 500


def test_a_backbones_default_written_out_is_the_same_cell():
    def built(**options):
        stages = (Stage("psc", recipe=QUICK.pairs()),)
        data = freeze(Data(name="digits").model_dump())
        cell = Cell(data, freeze({"name": "resnet32", **options}), stages, 0)
        return complete(cell, registry(), largest, lambda name: {"channels": 16})

    assert built(channels=16).key == built().key
    assert built(channels=16).network == "resnet32"
    assert built(channels=32).key != built().key


def test_whole_numbers_and_fractions_are_the_same_cell():
    assert completed({"updates_per_epoch": 1}).key == completed({}).key
    two = completed({"updates_per_epoch": 2})
    assert two.key == completed({"updates_per_epoch": 2.0}).key
    assert dict(two.stages[1].hyper) == {"updates_per_epoch": 2.0}
    whole, _ = recipe("quick", {"lr": 1, "epochs": 30.0})
    broken, _ = recipe("quick", {"lr": 1.0, "epochs": 30})
    assert json.dumps(whole.pairs()) == json.dumps(broken.pairs())
    assert Data(name="a", ratio=20) == Data(name="a", ratio=20.0)
    assert str(Data(name="a", ratio=20).ratio) == "20.0"


def test_a_head_with_nothing_to_train_has_no_recipe():
    stages = (Stage("psc", recipe=QUICK.pairs()), Stage("ncm", frozen=True))
    with_recipe = (stages[0], replace(stages[1], recipe=QUICK.pairs(), protocol="quick"))
    data = freeze(Data(name="digits").model_dump())
    cells = [
        complete(Cell(data, freeze({"name": "small_cnn"}), each, 0), registry(), largest)
        for each in (stages, with_recipe)
    ]
    assert cells[0].key == cells[1].key
    assert cells[1].stages[1].recipe == ()


# keys of cells of the shipped suites: results that exist are found by them, so they never change
# without a new PROTOCOL
def test_keys_that_are_in_use():
    quick = complete(read("quick").cells[0], registry(), largest)
    assert quick.label == "digits 1:1 · small_cnn · psc · seed 0"
    assert quick.key == "6b1420b55fb2dddc"
    tail = read("long_tail", ["head=dl2pa", "seeds=[2]", "data.ratio=200"]).cells[-1]
    tail = complete(tail, registry(), largest)
    assert tail.label == "cifar100 1:200 · resnet32 channels=32 · dl2pa · seed 2"
    assert tail.key == "f2378dd2c11db75f"


def test_json_and_back(cell):
    for each in (cell, replace(cell, seed=freeze(SEEDS)), replace(cell, stages=cell.stages[:1])):
        text = json.dumps(each.to_json())
        back = Cell.from_json(json.loads(text))
        assert back == each and back.key == each.key and back.label == each.label
        assert back.to_json() == each.to_json()
        hash(back)
    assert Cell.from_json(cell.plain()) == cell  # protocols are for people and may be missing


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("seed", None), ("seed", {"order": "a"}), ("data", []), ("data", {}), ("backbone", "a")),
        *(("data", {"name": "digits", "ratio": "1"}), ("data", {"name": "a", "x": {"b": 1}})),
        *(("stages", []), ("stages", "ab"), ("stages", [{}]), ("stages", 3), ("protocols", [1])),
        *(("sources", "abc"), ("sources", [[]]), ("sources", [["a", 3, "b"]])),
        *(("sources", [["a", {}, 3]]), ("protocols", ["a"] * 2)),
    ],
)
def test_what_is_no_cell(cell, field, value):
    """Whatever a file of a record says: one kind of error, so that `doctor` can clear it."""
    whole = replace(cell, stages=cell.stages[:1]).to_json()
    with pytest.raises(ValueError):
        Cell.from_json({**whole, field: value})
    with pytest.raises(ValueError):
        Cell.from_json({name: part for name, part in whole.items() if name != "seed"})


@pytest.mark.parametrize(("field", "value"), [("head", 3), ("frozen", 1), ("content", None)])
def test_what_is_no_stage(cell, field, value):
    whole = replace(cell, stages=cell.stages[:1]).to_json()
    whole["stages"][0][field] = value
    with pytest.raises(ValueError, match="no cell: "):
        Cell.from_json(whole)


def test_nested_lists_survive_json(cell):
    stepped, name = recipe("quick", {"schedule": "step", "milestones": [0.5, 0.75]})
    nested = with_stage(cell, 0, recipe=stepped.pairs(), hyper=freeze({"sizes": [[1, 2], [3]]}))
    nested = with_stage(nested, 0, protocol=name)
    back = Cell.from_json(json.loads(json.dumps(nested.to_json())))
    assert back == nested and back.key == nested.key
    assert dict(back.stages[0].recipe)["milestones"] == (0.5, 0.75)


def test_trunk(cell):
    assert cell.trunk == replace(cell, stages=cell.stages[:1])
    assert cell.trunk.trunk is None
    assert cell.trunk.seed == cell.seed


def test_one_subset_for_all_stages(cell):
    three = replace(cell, stages=(*cell.stages, cell.stages[1]))
    for which in ("canonical", "first"):
        own = replace(three, data=with_pair(three.data, "subset", which))
        assert own.trunk.data == own.trunk.trunk.data == own.data
    pair = replace(three, data=with_pair(three.data, "subset", "released_pair"))
    assert pair.trunk.data == pair.data  # the second stage is trained on what the third is
    first = pair.trunk.trunk
    assert dict(first.data) == {**dict(cell.data), "subset": "first"}
    assert first == replace(cell, data=first.data, stages=cell.stages[:1])
    assert pair.until(3) == pair and pair.until(2) == pair.trunk and pair.until(1) == first
    assert len({each.key for each in (pair, pair.trunk, first)}) == 3


def test_labels(cell):
    assert cell.label == (
        "digits 1:20 · resnet32 channels=16 · psc dim=8 > ncm transform=l2n · seed 3"
    )
    other = replace(cell, data=freeze(OTHER_DATA))
    assert other.material == (
        "cifar10 flowers classes=7 1:50 profile=step validation=0.1 subset_seed=1 "
        "groups=at_least_100 subset=first"
    )
    thawed = with_stage(cell, 1, frozen=False, protocol="quick lr=0.2")
    assert thawed.method == "psc dim=8 >> ncm transform=l2n recipe=quick,lr=0.2"
    changed = with_stage(cell, 0, protocol="quick epochs=1")
    assert changed.label.endswith("· quick epochs=1 · seed 3")
    assert replace(cell, seed=freeze(SEEDS)).seed_label == "augment=3 backbone=0 head=1 order=2"
