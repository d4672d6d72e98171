"""The grammar of suites: what a file stands for, and the sentence that each bad one gets."""

import re
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from benchmark.planning.suite import names, read

BLOCK = {
    "data": {"name": "digits"},
    "backbone": "small_cnn",
    "recipe": "quick",
    "head": "psc",
    "seeds": [0],
}


@pytest.fixture
def suite(tmp_path):
    """Give a function (text or blocks, changes): the suite of such a file."""

    def build(content, changes=()):
        path = tmp_path / "mine.yaml"
        if not isinstance(content, str):
            content = yaml.safe_dump(content)
        path.write_text(content, encoding="utf-8")
        return read(str(path), changes)

    return build


@pytest.fixture
def cells(suite):
    """Give a function (*changes, **fields): the cells of a block that differs in these fields."""

    def build(*changes, **fields):
        return suite([{**BLOCK, **fields}], changes).cells

    return build


@pytest.fixture
def refusal(suite):
    """Give a function (text or blocks, changes): the sentence that refuses them."""

    def build(content, changes=()):
        with pytest.raises(ValueError) as error:
            suite(content, changes)
        sentence = str(error.value)
        assert type(error.value) is ValueError
        assert sentence.strip() and "\n" not in sentence
        return sentence

    return build


def methods(cells):
    return [cell.method for cell in cells]


# what is a product and what is not


def test_lists_multiply(cells):
    found = cells(
        data={"name": ["digits", "cifar10"], "ratio": [1, 10, 100]},
        backbone={"resnet32": {"channels": [16, 32]}},
        recipe={"quick": {"epochs": [1, 2]}},
        head=["psc", {"dl2pa": {"dim": [8, 16], "momentum": [0.9, 0.95]}}],
        seeds=[0, 1],
    )
    assert len(found) == 6 * 2 * 2 * (1 + 4) * 2
    assert len({cell.key for cell in found}) == len(found)


def test_lists_of_alternatives(cells):
    assert len(cells(backbone=["small_cnn", {"resnet32": {"channels": 32}}, "resnet8"])) == 3
    assert len(cells(recipe=["quick", {"quick": {"epochs": 2}}])) == 2
    assert len(cells(data=[{"name": "digits"}, {"name": "cifar10", "ratio": [10, 100]}])) == 3
    assert [dict(cell.data)["name"] for cell in cells(data=["digits", "cifar10"])] == [
        "digits",
        "cifar10",
    ]


def test_mappings_are_records(cells):
    (cell,) = cells(data={"name": "digits", "ratio": 20, "largest": 50, "groups": "dl2pa_index"})
    assert dict(cell.data) == {
        "name": "digits",
        "ratio": 20.0,
        "profile": "exponential",
        "largest": 50,
        "validation": 0.0,
        "subset_seed": 0,
        "groups": "dl2pa_index",
        "folder": None,
    }


def test_the_subset_is_written_only_where_it_is_another(cells):
    (plain,), (named,) = cells(), cells(data={"name": "digits", "subset": "canonical"})
    assert plain.key == named.key and "subset" not in dict(named.data)
    (first,) = cells(data={"name": "digits", "subset": "first"})
    assert dict(first.data)["subset"] == "first" and first.key != plain.key
    with pytest.raises(ValueError, match="data.subset: Input should be 'canonical', 'first' or"):
        cells(data={"name": "digits", "subset": "last"})


def test_a_released_pair_of_one_stage_is_its_first(cells):
    data = {"name": "digits", "subset": "released_pair"}
    alone, frozen = cells(data=data, head=["psc", "psc > ncm"])
    assert dict(alone.data)["subset"] == "first"
    assert dict(frozen.data)["subset"] == "released_pair" and frozen.trunk.key == alone.key
    (other,) = cells(data={"name": "digits", "subset": "first"}, head="psc")
    assert other.key == alone.key


def test_a_list_in_a_list_is_one_value(cells):
    steps = {"schedule": "step", "milestones": [[0.5, 0.75], [0.6, 0.8]]}
    found = cells(recipe={"quick": steps})
    milestones = [dict(cell.stages[0].recipe)["milestones"] for cell in found]
    assert milestones == [(0.5, 0.75), (0.6, 0.8)]
    (cell,) = cells(head={"psc": {"sizes": [[1, [2, 3]]]}})
    assert dict(cell.stages[0].hyper) == {"sizes": (1, (2, 3))}


def test_blocks_add_up_and_equal_cells_are_one(suite):
    twice = suite([BLOCK, {**BLOCK, "head": ["psc", "etf"]}])
    assert methods(twice.cells) == ["psc", "etf"]
    assert twice.name == "mine"


def test_the_comment(suite):
    text = "# mine: why?\n#   Cost  nothing\n" + yaml.safe_dump([BLOCK])
    assert suite(text).comment == "mine: why?\nCost  nothing"


def test_words_of_yaml(cells):
    (cell,) = cells(recipe={"quick": {"lr": "1e-4"}})  # PyYAML reads 1e-4 as a string
    assert dict(cell.stages[0].recipe)["lr"] == 1e-4


# pipes


def test_arrows(cells):
    for head in ("psc > ncm", "psc>ncm", ["psc > ncm"], [["psc", "ncm"]], [["psc", "> ncm"]]):
        (cell,) = cells(head=head)
        assert [stage.head for stage in cell.stages] == ["psc", "ncm"]
        assert [stage.frozen for stage in cell.stages] == [False, True]
    (cell,) = cells(head="psc >> etf@quick > ncm")
    assert [stage.frozen for stage in cell.stages] == [False, False, True]
    assert cell.trunk.method == "psc >> etf recipe=quick"


def test_pipes_as_lists_with_options(cells):
    found = cells(head=[[{"psc": {"dim": [8, 16]}}, {"ncm": {"transform": ["none", "l2n"]}}]])
    assert methods(found) == [
        "psc dim=8 > ncm transform=none",
        "psc dim=8 > ncm transform=l2n",
        "psc dim=16 > ncm transform=none",
        "psc dim=16 > ncm transform=l2n",
    ]
    (cell,) = cells(head=[["psc", ">>", {"etf@quick": {"dim": 16}}]])
    assert cell.method == "psc >> etf dim=16 recipe=quick"
    assert not cell.stages[1].frozen
    (cell,) = cells(head=[["psc >> hpn@quick", {"ncm": None}]])
    assert [stage.frozen for stage in cell.stages] == [False, False, True]


def test_a_list_of_heads_is_no_pipe(cells):
    assert methods(cells(head=["psc", "etf"])) == ["psc", "etf"]


def test_recipes_of_stages(cells):
    (cell,) = cells(head="psc > etf@long_tail_200", recipe={"quick": {"epochs": 2}})
    first, second = cell.stages
    assert (first.protocol, second.protocol) == ("quick epochs=2", "long_tail_200")
    assert dict(second.recipe)["epochs"] == 200
    (cell,) = cells(head="psc@long_tail_200", recipe={"quick": {"epochs": 2}})
    assert cell.stages[0].protocol == "long_tail_200"  # the block's changes are the block's recipe
    (cell,) = cells(head="psc > ncm")
    assert cell.stages[1].recipe == ()  # no recipe bears its name: right where nothing is trained


def test_a_later_stage_takes_the_recipe_of_its_own_name(cells, monkeypatch):
    from benchmark.planning import recipes

    own = recipes.Named(recipes.RECIPES["quick"].recipe.model_copy(update={"epochs": 7}), "ours")
    known = {**recipes.RECIPES, "etf": own}
    monkeypatch.setattr(recipes, "RECIPES", known)
    monkeypatch.setattr("benchmark.planning.suite.RECIPES", known)
    (cell,) = cells(head="psc > etf")
    assert cell.stages[1].protocol == "etf" and dict(cell.stages[1].recipe)["epochs"] == 7
    (first,) = cells(head="etf")
    assert first.stages[0].protocol == "quick"  # the first stage takes the block's


def test_seeds(cells):
    streams = {"backbone": 0, "head": 1, "order": 2, "augment": 3}
    found = cells(seeds=[0, 5, streams])
    assert [cell.seed for cell in found[:2]] == [0, 5]
    assert dict(found[2].seed) == streams
    assert [cell.seed for cell in cells(seeds=7)] == [7]


# the suites that are shipped


@pytest.mark.parametrize(
    "name, count, heads",
    [
        ("quick", 48, {"psc": 12, "dl2pa": 12, "hpn": 18, "etf": 6}),
        (
            "long_tail",
            297,
            {"psc": 126, "word2vec": 18, "etf": 18, "dl2pa": 27, "hpn": 18, "ldam": 36},
        ),
        ("balanced", 39, {"psc": 12, "hpn": 12, "dl2pa": 12, "etf": 3}),
        ("dl2pa_balanced", 141, {"psc": 30, "word2vec": 24, "hpn": 24, "dl2pa": 42, "fixed": 9}),
        ("dl2pa_long_tail", 144, {"psc": 45, "etf": 45, "dl2pa": 54}),
        ("dl2pa_imagenet", 15, {"psc": 4, "dl2pa": 4, "dnc": 2, "goto": 2, "kasarla": 2}),
        ("dl2pa_imagenet_lt", 12, {"psc": 3, "etf": 3, "dl2pa": 6}),
        ("dl2pa_small", 26, {"psc": 4, "one_hot": 2, "hpn": 4, "dl2pa": 16}),
        ("prototype_classifier", 282, {"psc": 210, "paco": 9, "ride": 18}),
        ("crossed", 54, {"psc": 27, "etf": 27}),
        ("prototype_small", 55, {"psc": 55}),
        ("prototype_classifier_large", 16, {"psc": 14, "logit_adjustment": 2}),
        ("geometry", 49, {"hpn": 6, "etf": 1, "dl2pa": 9, "fixed": 33}),
    ],
)
def test_shipped(name, count, heads):
    found = read(name)
    assert found.name == name and found.comment.startswith(f"{name}: ")
    assert len(found.cells) == count
    first = [cell.stages[0].head for cell in found.cells]
    assert {head: first.count(head) for head in heads} == heads
    stated = re.search(r"(\d+) cells", found.comment)
    assert stated and int(stated[1]) == count


def test_shipped_are_all_tested():
    (mark,) = test_shipped.pytestmark
    assert sorted(names()) == sorted(name for name, *_ in mark.args[1])


def test_quick_has_a_pair():
    pipes = [cell for cell in read("quick").cells if len(cell.stages) == 2]
    assert len(pipes) == 6
    assert {cell.trunk.key for cell in pipes} <= {cell.key for cell in read("quick").cells}


def test_anchors_of_balanced():
    cells = read("balanced").cells
    released = {"projection": "always", "reduction": "sum", "class_weights": False}
    for cell in cells:
        stage = cell.stages[0]
        if stage.head in ("dl2pa", "etf"):
            assert {**dict(stage.hyper), **released, "batch_norm": False} == dict(stage.hyper)
    assert {dict(c.stages[0].hyper)["dim"] for c in cells if c.stages[0].head == "etf"} == {100}
    dims = {dict(c.stages[0].hyper)["dim"] for c in cells if c.stages[0].head == "dl2pa"}
    assert dims == {10, 25, 50, 100}


# what a bad file is told: the file, the block, what was given, what to do


def test_files_that_are_not_there():
    with pytest.raises(ValueError, match=r"unknown suite 'quik'\. Did you mean 'quick'\?"):
        read("quik")
    with pytest.raises(ValueError, match=r"no suite file '/nowhere/mine.yaml'\. Give the path"):
        read("/nowhere/mine.yaml")


@pytest.mark.parametrize(
    "text, parts",
    [
        ("", ("must be a list of blocks", "got nothing", "'- data:'")),
        ("# only a comment\n", ("must be a list of blocks", "got nothing")),
        ("[]", ("must be a list of blocks", "'[]'")),
        ("data: {name: digits}", ("must be a list of blocks", "got dict")),
        ("just words", ("must be a list of blocks", "got str 'just words'")),
        ("- data: {name: digits", ("line 1", "is not YAML", "docs/suites.md")),
        ("- data: a\n- b: [1\n", ("is not YAML",)),
        ("- data: *nowhere\n", ("line 1", "is not YAML", "undefined alias")),
        ("- data: a\x01b\n", ("is not YAML", "special characters")),
        ("- {data: 2026-13-45}\n", ("is not YAML", "month")),
        ("- &a [*a]\n", ("line 1", "contains itself")),
        (
            "- {data: a, backbone: b, recipe: quick, head: {psc: &a {dim: *a}}, seeds: 0}",
            ("itself",),
        ),
        ("---\n- 1\n---\n- 2\n", ("is not YAML",)),
        ("- psc\n", ("block 1", "must be a mapping", "got str 'psc'", "Keys: data, backbone")),
        ("-\n", ("block 1", "must be a mapping", "got nothing")),
    ],
)
def test_not_a_suite(refusal, text, parts):
    sentence = refusal(text)
    assert sentence.startswith("mine.yaml")
    for part in parts:
        assert part in sentence


def test_not_text(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(b"- data: \xff\xfe\n")
    with pytest.raises(ValueError, match=r"^mine.yaml is not UTF-8 text"):
        read(str(path))


@pytest.mark.parametrize("key", BLOCK)
def test_missing_keys(refusal, key):
    block = {name: value for name, value in BLOCK.items() if name != key}
    sentence = refusal([BLOCK, block])
    assert sentence.startswith(f"mine.yaml, block 2: '{key}' is missing.")


BAD = [
    # misspelt keys at every level
    ({"heads": "psc"}, ("unknown key 'heads'", "Did you mean 'head'?")),
    ({"data": {"name": "digits", "ration": 2}}, ("data: unknown key 'ration'", "'ratio'?")),
    ({"data": {"ratio": 2}}, ("data: 'name' is missing", "Add it")),
    ({"recipe": "quik"}, ("unknown recipe 'quik'", "Did you mean 'quick'?")),
    ({"recipe": {"quick": {"epoch": 1}}}, ("recipe quick: unknown key 'epoch'", "'epochs'?")),
    ({"head": "psc@quik"}, ("unknown recipe 'quik'", "Did you mean 'quick'?")),
    ({"head": "psc > etf@quik"}, ("unknown recipe 'quik'", "Did you mean 'quick'?")),
    # wrong types and values
    ({"data": {"name": "digits", "ratio": 0}}, ("data.ratio", "greater than or equal to 1", "0")),
    ({"data": {"name": "digits", "ratio": 0.01}}, ("data.ratio", "got 0.01")),
    ({"data": {"name": "digits", "ratio": float("nan")}}, ("data.ratio", "got nan")),
    ({"data": {"name": "digits", "ratio": float("inf")}}, ("data.ratio", "got inf")),
    ({"data": {"name": "digits", "ratio": "much"}}, ("data.ratio", "got 'much'")),
    ({"data": {"name": "digits", "ratio": True}}, ("data.ratio", "got True")),
    ({"data": {"name": "digits", "largest": 0}}, ("data.largest", "got 0")),
    ({"data": {"name": "digits", "largest": 1.5}}, ("data.largest", "got 1.5")),
    ({"data": {"name": "digits", "validation": 1}}, ("data.validation", "got 1")),
    ({"data": {"name": "digits", "profile": "linear"}}, ("data.profile", "got 'linear'")),
    ({"data": {"name": 5}}, ("data.name", "got 5")),
    ({"data": {"name": "digits", 5: 5}}, ("data", "strings")),
    ({"data": 5}, ("data must be a record", "got int '5'")),
    ({"data": None}, ("data must be a record", "got nothing")),
    ({"backbone": None}, ("backbone is a name or", "got None")),
    ({"backbone": {"a": {}, "b": {}}}, ("backbone is a name or",)),
    ({"backbone": {"small_cnn": 3}}, ("backbone is a name or", "3")),
    ({"backbone": {"small_cnn": 0}}, ("backbone is a name or", "0")),
    ({"backbone": {"small_cnn": {"name": "x"}}}, ("backbone small_cnn", "'name'")),
    ({"backbone": {"small_cnn": {1: 2, "a": 3}}}, ("backbone small_cnn", "1")),
    ({"recipe": 5}, ("recipe is a name or", "got 5")),
    ({"recipe": {"quick": {"epochs": -1}}}, ("recipe quick.epochs", "got -1")),
    ({"recipe": {"quick": {"epochs": "many"}}}, ("recipe quick.epochs", "got 'many'")),
    ({"recipe": {"quick": {"epochs": None}}}, ("recipe quick.epochs", "got None")),
    ({"recipe": {"quick": {"lr": float("nan")}}}, ("recipe quick.lr", "got nan")),
    ({"recipe": {"quick": {"lr": float("inf")}}}, ("recipe quick.lr", "got inf")),
    ({"recipe": {"quick": {"schedule": "step"}}}, ("recipe quick", "milestones")),
    ({"recipe": {"quick": {1: 2}}}, ("recipe quick",)),
    ({"head": None}, ("a head is a name or", "got None")),
    ({"head": 5}, ("a head is a name or", "got 5")),
    ({"head": ""}, ("is not a pipe",)),
    ({"head": "psc >"}, ("'psc >' is not a pipe", "Write 'psc'")),
    ({"head": "> ncm"}, ("is not a pipe",)),
    ({"head": "psc > > ncm"}, ("is not a pipe",)),
    ({"head": "psc ncm"}, ("'psc ncm' is not a head or head@recipe",)),
    ({"head": "psc@"}, ("'psc@' is not a head",)),
    ({"head": "@quick"}, ("'@quick' is not a head",)),
    ({"head": {"psc": 3}}, ("options of head 'psc' must be a record", "got int '3'")),
    ({"head": {"psc": {}, "etf": {}}}, ("a head is a name or",)),
    ({"head": [["psc", ["etf", "ncm"]]]}, ("a head is a name or",)),
    ({"head": {"psc": {1: 2, "a": 3}}}, ("head psc", "1")),
    ({"head": {"psc": {"dim": {"a": 1}}}}, ("head psc", "'dim'")),
    ({"head": {"psc": {"dim": [[{"a": 1}]]}}}, ("head psc", "'dim'")),
    ({"head": {"psc": {"scale": float("nan")}}}, ("head psc", "'scale'", "nan")),
    ({"seeds": -1}, ("seeds holds -1", "integers from 0")),
    ({"seeds": True}, ("seeds holds True",)),
    ({"seeds": [0.5]}, ("seeds holds 0.5",)),
    ({"seeds": None}, ("seeds holds None",)),
    ({"seeds": {"backbone": 0}}, ("seeds holds", "backbone, head, order, augment")),
    ({"seeds": [[0, 1]]}, ("seeds holds [0, 1]",)),
    # nothing to multiply
    ({"seeds": []}, ("'seeds'", "empty list")),
    ({"head": []}, ("'head'", "empty list")),
    ({"data": []}, ("'data'", "empty list")),
    ({"backbone": []}, ("'backbone'", "empty list")),
    ({"recipe": []}, ("'recipe'", "empty list")),
    ({"head": {"psc": {"dim": []}}}, ("empty list",)),
    ({"data": {"name": "digits", "ratio": []}}, ("empty list",)),
]


@pytest.mark.parametrize("fields, parts", BAD, ids=[str(fields)[:60] for fields, _ in BAD])
def test_bad_fields(refusal, fields, parts):
    sentence = refusal([BLOCK, {**BLOCK, **fields}])
    assert sentence.startswith("mine.yaml, block 2")
    for part in parts:
        assert part in sentence


def test_dates_are_no_options(refusal):
    text = yaml.safe_dump([BLOCK]).replace("head: psc", "head: {psc: {dim: 2026-01-02}}")
    assert "head psc" in refusal(text)


# --set


def test_set_reaches_every_field(cells):
    (cell,) = cells("recipe.epochs=3", recipe="quick")
    assert cell.stages[0].protocol == "quick epochs=3"
    assert len(cells("recipe.epochs=[1, 2]", recipe=["quick", {"quick": {"lr": 0.2}}])) == 4
    assert [cell.seed for cell in cells("seeds=[0]", seeds=[0, 1, 2])] == [0]
    (cell,) = cells("data.largest=100")
    assert dict(cell.data)["largest"] == 100
    found = cells("data.largest=100", data=[{"name": "digits"}, {"name": "cifar10", "ratio": 10}])
    assert [dict(cell.data)["largest"] for cell in found] == [100, 100]
    (cell,) = cells("data.ratio=20", data="digits")
    assert (dict(cell.data)["name"], dict(cell.data)["ratio"]) == ("digits", 20.0)
    (cell,) = cells("backbone.channels=8")
    assert cell.network == "small_cnn channels=8"
    (cell,) = cells("backbone.channels=8", backbone={"resnet32": {"channels": 16}})
    assert cell.network == "resnet32 channels=8"
    (cell,) = cells("backbone.channels=8", backbone={"resnet32": None})
    assert cell.network == "resnet32 channels=8"


def test_set_reaches_inside_names(cells):
    found = cells("head.psc.dim=[8, 16]", head=["psc", "etf", {"psc": {"cosine": True}}])
    assert methods(found) == [
        *("psc dim=8", "psc dim=16", "etf"),
        *("psc cosine=True dim=8", "psc cosine=True dim=16"),
    ]
    (cell,) = cells("head.psc.dim=8", head={"psc": {"dim": [1, 2]}})
    assert cell.method == "psc dim=8"
    (cell,) = cells("head.psc.dim=8", head="psc@quick > ncm")
    assert cell.stages[0].label == "psc dim=8"
    (cell,) = cells("recipe.long_tail_200.epochs=20", head="psc > etf@long_tail_200")
    assert [stage.protocol for stage in cell.stages] == ["quick", "long_tail_200 epochs=20"]
    (cell,) = cells("recipe.quick.epochs=20")
    assert cell.stages[0].protocol == "quick epochs=20"


def test_set_replaces_whole_fields(cells):
    assert methods(cells("head=[psc, etf]", head="hpn")) == ["psc", "etf"]
    assert cells("recipe={quick: {epochs: 2}}")[0].stages[0].protocol == "quick epochs=2"
    assert cells("backbone=resnet8")[0].network == "resnet8"
    assert dict(cells("data={name: cifar10, ratio: 10}")[0].data)["name"] == "cifar10"


def test_set_applies_in_order_and_to_every_block(suite):
    found = suite([BLOCK, {**BLOCK, "head": "etf"}], ["seeds=[4]", "recipe.epochs=1"])
    assert [cell.seed for cell in found.cells] == [4, 4]
    found = suite([BLOCK], ["recipe=quick", "recipe.epochs=1", "recipe.epochs=2"])
    assert found.cells[0].stages[0].protocol == "quick epochs=2"
    # a head that only one block has
    found = suite([BLOCK, {**BLOCK, "head": "etf"}], ["head.etf.dim=16"])
    assert methods(found.cells) == ["psc", "etf dim=16"]


@pytest.mark.parametrize(
    "change, parts",
    [
        ("epochs=30", ("is not FIELD=VALUE", "recipe.epochs=30")),
        ("recipe.epochs", ("is not FIELD=VALUE",)),
        ("", ("is not FIELD=VALUE",)),
        ("=3", ("is not FIELD=VALUE",)),
        ("recipe..epochs=3", ("is not FIELD=VALUE",)),
        ("seed=[0]", ("is not FIELD=VALUE", "Did you mean 'seeds'?")),
        ("recipe.epochs=[1", ("is not YAML", "Quote it")),
        ("recipe.epochs=2026-13-45", ("is not YAML",)),
        ("recipe.epoch=3", ("unknown key 'epoch'", "Did you mean 'epochs'?")),
        ("recipe.epochs=x", ("recipe quick.epochs", "got 'x'")),
        ("recipe.epochs=", ("recipe quick.epochs", "got None")),
        ("data.ration=3", ("unknown key 'ration'", "Did you mean 'ratio'?")),
        ("data.ratio=0", ("data.ratio", "got 0")),
        ("seeds=[]", ("empty list",)),
        ("seeds.order=1", ("too deep or too shallow",)),
        ("head.psc=1", ("too deep or too shallow", "head.NAME.OPTION")),
        ("head.psc.dim.x=1", ("too deep or too shallow",)),
        ("data.a.b=1", ("too deep or too shallow",)),
        ("head.pcs.dim=1", ("changes nothing", "Did you mean 'psc'?")),
        ("head.dim.x=1", ("changes nothing",)),  # an option's name is no head
        ("head.quick.dim=1", ("changes nothing",)),  # nor is a recipe's
        ("recipe.long_tail_200.epochs=1", ("changes nothing", "no such recipe", "it uses: quick")),
        ("recipe.psc.epochs=1", ("changes nothing",)),
    ],
)
def test_bad_set(refusal, change, parts):
    sentence = refusal([{**BLOCK, "head": {"psc@quick": {"dim": 8}}}], [change])
    for part in parts:
        assert part in sentence


@pytest.mark.parametrize("field", ["recipe", "backbone"])
def test_set_on_a_field_that_is_no_record(refusal, field):
    assert f"{field} is a name or" in refusal(
        [{**BLOCK, field: {"quick": [1]}}], [f"{field}.epochs=1"]
    )


# whatever stands in a file, the answer is a suite or one sentence

KEYS = st.one_of(
    st.sampled_from([*BLOCK, "name", "ratio", "quick", "psc", "small_cnn", "dim", "epochs"]),
    st.text(max_size=4),
    st.integers(-2, 2),
    st.none(),
    st.booleans(),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.dates(),
    st.binary(max_size=4),
    st.text(max_size=6),
    st.sampled_from(["psc", "psc > ncm", "psc >> etf@quick", "quick", "digits", ">", "1e-4"]),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3),
    max_leaves=6,
)


def answered(content, changes=()):
    """A suite, or a ValueError of one line."""
    path = Path(answered.folder) / "random.yaml"
    path.write_text(content, encoding="utf-8", errors="replace")
    try:
        found = read(str(path), changes)
    except ValueError as error:
        assert str(error).strip() and "\n" not in str(error), error
        return
    for cell in found.cells:  # what is accepted can be hashed, named and written
        hash(cell)
        assert cell.key and cell.label
        assert type(cell).from_json(cell.to_json()).key == cell.key


@pytest.fixture(scope="module", autouse=True)
def random_folder(tmp_path_factory):
    answered.folder = tmp_path_factory.mktemp("random")


RANDOM = settings(
    max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None
)


@RANDOM
@given(VALUES)
def test_any_document(value):
    answered(yaml.safe_dump(value))


@RANDOM
@given(st.sampled_from(list(BLOCK)), VALUES)
def test_any_field(field, value):
    answered(yaml.safe_dump([{**BLOCK, field: value}]))


@RANDOM
@given(
    st.sampled_from(["head", "backbone", "recipe", "data"]),
    st.dictionaries(KEYS, VALUES, max_size=2),
)
def test_any_options(field, options):
    known = {"head": "psc", "backbone": "small_cnn", "recipe": "quick"}
    value = {"name": "digits", **options} if field == "data" else {known[field]: options}
    answered(yaml.safe_dump([{**BLOCK, field: value}]))


@RANDOM
@given(st.text(max_size=40))
def test_any_text(text):
    answered(text)


@RANDOM
@given(
    st.sampled_from(["head.psc.dim", "recipe.epochs", "recipe.quick.lr", "data.ratio", "seeds"])
    | st.text(max_size=12),
    st.text(max_size=8) | VALUES.map(lambda value: yaml.safe_dump(value, default_flow_style=True)),
)
def test_any_change(path, value):
    answered(yaml.safe_dump([BLOCK]), [f"{path}={value}"])
