"""The grammar of studies: what a hole is, what it is filled with, what is refused."""

from itertools import product

import pytest

from benchmark.commands import agenda
from benchmark.planning import suite
from studies import holes
from studies.holes import Choice, Grid, Range, Search

BLOCK = """\
- data: {name: digits, ratio: 2}
  backbone: small_cnn
  recipe: quick
  head: HEAD
  seeds: [0]
"""


@pytest.fixture
def study(tmp_path):
    """Give a function (head, *changes, tail=…): the study with this head."""

    def read(head, *changes, tail="", block=BLOCK):
        path = tmp_path / "mine.yaml"
        path.write_text("# mine: why?\n# Expect  …\n" + block.replace("HEAD", head) + tail)
        return holes.read(str(path), changes)

    return read


SEARCH = "- search: {trials: 3, final: [5, 6]}\n"


def test_a_grid_is_the_suite_in_which_grids_are_lists(study, tmp_path):
    head = "[{dl2pa: {dim: {grid: [4, 8]}, updates_per_epoch: {grid: [0.5, 1]}}}, psc]"
    found = study(head)
    assert found.search is None and found.comment == "mine: why?\nExpect  …"
    assert found.holes == {
        "head.dl2pa.dim": Grid((4, 8)),
        "head.dl2pa.updates_per_epoch": Grid((0.5, 1)),
    }
    filled = found.filled()
    assert filled.name == "mine" and filled.comment == found.comment
    (tmp_path / "same.yaml").write_text(
        BLOCK.replace("HEAD", "[{dl2pa: {dim: [4, 8], updates_per_epoch: [0.5, 1]}}, psc]")
    )
    assert filled.cells == suite.read(str(tmp_path / "same.yaml")).cells
    assert len(filled.cells) == 5


def test_holes_stand_wherever_a_plain_value_does(study):
    block = """\
- data: [digits, {name: digits, ratio: {grid: [1, 10]}}]
  backbone: {small_cnn: {channels: {grid: [4, 8]}}}
  recipe: {quick: {lr: {grid: [0.1, 0.2]}}}
  head: [[{psc: {dim: {grid: [4, 8]}}}, ncm], {psc@quick: {dim: {grid: [8, 16]}}}]
  seeds: [0]
"""
    found = study("", block=block)
    assert found.holes == {
        "data.ratio": Grid((1, 10)),
        "backbone.channels": Grid((4, 8)),
        "recipe.lr": Grid((0.1, 0.2)),
        "head.psc.dim": Grid((4, 8, 16)),
    }
    cells = found.filled().cells
    seen = {
        tuple(holes.reached(cell, name, lambda head, option: None) for name in found.holes)
        for cell in cells
    }
    blocks = set(product((1, 10), (4, 8), (0.1, 0.2), (4, 8)))
    assert seen == blocks | set(product((1, 10), (4, 8), (0.1,), (16,)))  # @quick is unchanged
    assert found.blocks[0]["recipe"] == {"quick": {"lr": {"grid": [0.1, 0.2]}}}  # is left alone


def test_a_search_is_filled_with_values(study):
    head = "{dl2pa: {dim: {low: 4, high: 9}, momentum: {low: 0, high: 0.9, step: 0.3},"
    head += " assignment: {choice: [dynamic, fixed]}}}"
    found = study(head, tail=SEARCH)
    assert found.search == Search(3, 0, "tpe", "median", 0.1, (5, 6))
    assert found.holes == {
        "head.dl2pa.dim": Range(4, 9),
        "head.dl2pa.momentum": Range(0.0, 0.9, False, 0.3),
        "head.dl2pa.assignment": Choice(("dynamic", "fixed")),
    }
    assert found.holes["head.dl2pa.dim"].whole
    assert not found.holes["head.dl2pa.momentum"].whole
    values = {
        "head.dl2pa.dim": 7,
        "head.dl2pa.momentum": 1e-5,
        "head.dl2pa.assignment": "fixed",
    }
    (trial,) = found.filled(values, validation=0.2).cells
    assert dict(trial.stages[0].hyper) == {"dim": 7, "momentum": 1e-5, "assignment": "fixed"}
    assert dict(trial.data)["validation"] == 0.2 and trial.seed == 0
    finals = found.filled(values, seeds=found.search.final).cells
    assert [cell.seed for cell in finals] == [5, 6]
    assert {dict(cell.data)["validation"] for cell in finals} == {0.0}


def test_no_change_takes_the_carve_back(study):
    found = study("{psc: {dim: {low: 4, high: 9}}}", "data=digits", tail=SEARCH)
    (trial,) = found.filled({"head.psc.dim": 5}, validation=0.1).cells
    assert dict(trial.data)["validation"] == 0.1
    with pytest.raises(ValueError, match="carves off its validation images itself"):
        study("{psc: {dim: {low: 4, high: 9}}}", "data.validation=0", tail=SEARCH)


def test_changes_of_the_search_and_of_the_suite(study):
    head = "{psc: {dim: {low: 4, high: 9}}}"
    words = ("search.trials=7", "recipe.epochs=2", "search.pruner=none", "search.final=[]")
    found = study(head, *words, tail=SEARCH)
    assert found.search == Search(7, pruner="none", final=())
    assert found.changes == ("recipe.epochs=2",)
    (trial,) = found.filled({"head.psc.dim": 5}).cells
    assert dict(trial.stages[0].recipe)["epochs"] == 2


def test_defaults_are_reached_where_a_canonical_cell_leaves_them_out(study):
    (cell,) = study("{psc: {dim: {grid: [5]}}}").filled().cells
    assert holes.reached(cell, "head.psc.scale", lambda head, option: f"{head} {option}") == (
        "psc scale"
    )
    assert holes.reached(cell, "head.hpn.dim", lambda head, option: 3) is None
    assert holes.reached(cell, "data.ratio", lambda head, option: None) == 2


@pytest.mark.parametrize(
    "head, tail, parts",
    [
        ("psc", "", ("has no hole", "run --suite")),
        ("{psc: {dim: {gird: [1]}}}", "", ("block 1: head.psc.dim", "Did you mean 'grid'?")),
        ("{psc: {dim: {low: 1, hihg: 2}}}", SEARCH, ("'hihg'", "Did you mean 'high'?")),
        ("{psc: {dim: {low: 1, high: 2}}}", "", ("how many trials", "search: {trials: 30}")),
        ("{psc: {dim: {grid: [1, 2]}}}", SEARCH, ("a search draws", "{choice: [1, 2]}")),
        ("{psc: {dim: {grid: []}}}", "", ("grid stands alone with a list",)),
        ("{psc: {dim: {grid: [1], low: 2}}}", "", ("grid stands alone",)),
        ("{psc: {dim: {grid: [[1, 2]]}}}", "", ("grid holds numbers, words",)),
        ("{psc: {dim: {low: 5, high: 2}}}", SEARCH, ("low must be below high, got 5 and 2",)),
        ("{psc: {dim: {low: 5}}}", SEARCH, ("high must be a number, got None",)),
        ("{psc: {dim: {low: 1e-4, high: 1}}}", SEARCH, ("got '1e-4'", "1.0e-4")),
        ("{psc: {dim: {low: 0, high: 1, log: true}}}", SEARCH, ("log needs low above 0",)),
        ("{psc: {dim: {low: 1, high: 2, log: 3}}}", SEARCH, ("log is true or false",)),
        ("{psc: {dim: {low: 1, high: 4, step: 2}}}", SEARCH, ("some steps above low",)),
        ("{psc: {dim: {low: 1, high: 2, step: 0.5}}}", SEARCH, ("a whole step", "1.0")),
        (
            "[{psc: {dim: {low: 1, high: 2}}}, {psc: {dim: {low: 1, high: 2}}}]",
            SEARCH,
            ("the second hole of that name",),
        ),
        ("{psc: {dim: {grid: [1]}}}", "- search: {}\n", ("'trials' is missing",)),
        ("psc", "- search: {trial: 1}\n", ("unknown key 'trial'", "Did you mean 'trials'?")),
        ("psc", "- search: {trials: 0}\n", ("search.trials must be a whole number from 1",)),
        ("psc", "- search: {trials: 1, sampler: tpee}\n", ("one of tpe, random", "'tpee'")),
        ("psc", "- search: {trials: 1, validation: 0}\n", ("a share between 0 and 1",)),
        ("psc", "- search: {trials: 1, final: 3}\n", ("a list of seeds, got 3",)),
        ("psc", "- {search: {trials: 1}, data: x}\n", ("is a block of its own",)),
        ("psc", "- search: {trials: 1}\n- data: x\n", ("block 2", "the last one")),
    ],
)
def test_what_is_refused(study, head, tail, parts):
    with pytest.raises(ValueError) as error:
        study(head, tail=tail)
    for part in ("mine.yaml", *parts):
        assert part in str(error.value)


def test_changes_that_are_refused(study):
    with pytest.raises(ValueError, match="is a grid and does not search"):
        study("{psc: {dim: {grid: [1]}}}", "search.trials=3")
    with pytest.raises(ValueError, match="search.trials must be a whole number from 1, got 'a: "):
        study("{psc: {dim: {low: 1, high: 2}}}", "search.trials=a: [", tail=SEARCH)


def test_files_that_are_none(tmp_path):
    with pytest.raises(ValueError, match="Did you mean 'tau'?"):
        holes.read("taus")
    with pytest.raises(ValueError, match="no study file"):
        holes.read("nowhere.yaml")
    for text, part in (("- {data: [}", "line 1 is not YAML"), ("a: 1", "a list of blocks")):
        (tmp_path / "bad.yaml").write_text(text)
        with pytest.raises(ValueError, match=part):
            holes.read(str(tmp_path / "bad.yaml"))


# the studies that come with the benchmark

CELLS = {"tau": 63, "dim": 54, "alpha": 42, "lambda": 63, "search": 1, "digits": 1}


def test_all_are_counted():
    assert set(holes.names()) == set(CELLS)


@pytest.mark.parametrize("name", CELLS)
def test_the_shipped_ones_are_what_their_comments_say(name, tmp_path):
    found = holes.read(name)
    assert found.comment.startswith(f"{name}: ") and "Cost" in found.comment
    low = {a: h.low if isinstance(h, Range) else h.values[0] for a, h in found.holes.items()}
    for seeds in (None, [0]):
        work = agenda.of(
            found.filled(low, seeds=seeds),
            *([], tmp_path / "runs", tmp_path),
            skip_missing=False,
            load=False,
            download=True,  # so that images need not be here
        )
        if seeds is None:
            assert len([item for item in work.items if item.asked]) == CELLS[name]
    assert f"{CELLS[name]} cells" in found.comment or found.search


@pytest.mark.parametrize("name", ["tau", "dim", "alpha"])
def test_grids_share_cells_with_the_balanced_suite(name, tmp_path):
    """So figures and Table 1 agree; as many as the comment says."""

    def keys(asked):
        where = ([], tmp_path / "runs", tmp_path)
        work = agenda.of(asked, *where, skip_missing=False, load=False, download=True)
        return {item.cell.key for item in work.items}

    found = holes.read(name)
    shared = keys(found.filled()) & keys(suite.read("balanced"))
    assert f"{len(shared)} of them shared with `balanced`" in found.comment
