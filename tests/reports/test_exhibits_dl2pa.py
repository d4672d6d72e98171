"""The paper's exhibits: every printed number has its cells, every figure its data."""

import io
import itertools
import math
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pandas import DataFrame
from pylatexenc.latexwalker import LatexWalker

from benchmark.planning import suite
from benchmark.records.describe import describe
from reports import style
from reports.build import build
from reports.exhibits.beside import exhibits
from reports.exhibits.dl2pa import ITEMS, TABLES
from reports.frames import COST, tidy
from reports.printed import printed
from reports.stats import interval

STUDIES = Path(__file__).parents[2] / "studies"
SUM = "batch_norm=False class_weights=False projection=always reduction=sum"
SUITES = ("dl2pa_balanced", "dl2pa_long_tail", "dl2pa_imagenet", "dl2pa_imagenet_lt", "geometry")
WIDTHS = {"resnet32": 64, "resnet32 channels=32": 128, "resnet50_4096": 4096}
CLASSES = {"tiny_imagenet": 200, "cifar100": 100}


class Fake:
    """Evidence: labels settle by halves every 40 steps, class vectors are random."""

    def series(self, key: str, name: str) -> DataFrame:
        if name != "head/moved":
            return DataFrame(columns=["step", "epoch", "value"])
        step = np.arange(0, 400, 40)
        moved = np.where(step > 0, 0.5 ** (step / 40), 0.0)
        return DataFrame({"step": step, "epoch": step / 40, "value": moved})

    def arrays(self, key: str) -> dict[str, np.ndarray]:
        return {"class_vectors": np.eye(3)[[0, 1, 2, 0]] * [[1], [1], [1], [-1]]}


@pytest.fixture
def balanced(make_runs):
    """Cells of Tables 1, 8 and of Figures 3b, 3d, 4a, 4b, on the full protocol."""

    def cells(head: str, dims: tuple[int, ...] = (10, 50), **other: object) -> DataFrame:
        usual = {"backbone": "resnet32_hpn", "recipe": "balanced_250", "epochs": 250}
        return make_runs([head], dims, [1], 2, **(usual | {"largest": 0} | other))

    heads = ["psc projection=always", f"dl2pa {SUM}", f"dl2pa assignment=fixed {SUM}"]
    heads += [f"dl2pa {SUM} updates_per_epoch={u}" for u in ("0.1", "1", "10")]
    heads += [f"psc projection=always uniformity={u}" for u in ("0", "0.01", "0.1")]
    return pd.concat([cells(head) for head in heads], ignore_index=True)


@pytest.fixture
def points(make_runs):
    """Cells of suite geometry."""
    usual = {"data": "sphere classes=100", "backbone": "flat", "recipe": "untrained", "epochs": 0}
    usual |= {"accuracy": math.nan, "largest": 0, "cosine_mean": -1 / 99, "cosine_sd": 0.0}
    usual |= {"cosine_max": -1 / 99, "cosine_min": -1 / 99, "angle_mean": math.pi / 2}
    heads = ["etf", "fixed", "fixed points=average_angle", "fixed points=random", "dl2pa"]
    parts = [make_runs([h], [3, 100], [1], 1, **usual) for h in [*heads, "hpn placement=released"]]
    for classes, seconds in ((100, 0.001), (1000, 0.1)):
        other = {"data": f"sphere classes={classes}", "classes": classes, "recipe": "assignment_5"}
        other |= {"backbone": "flat", "epochs": 5, "largest": 0, "assignment_seconds": seconds}
        parts.append(make_runs(["dl2pa prototypes=random"], [100], [1], 1, **other))
    return pd.concat(parts, ignore_index=True)


def made(name: str, runs: DataFrame):
    item = next(item for item in ITEMS if item.name == name)
    return item.make(tidy(runs), printed("dl2pa"), Fake())


def csv(exhibit) -> DataFrame:
    return pd.read_csv(io.StringIO(exhibit.csv))


def test_every_printed_number_is_asked_for_by_a_table_and_every_table_by_an_item():
    rows = printed("dl2pa")
    assert [table.number for table in TABLES] == sorted(rows["table"].unique())
    named = {item.name for item in ITEMS}
    assert {f"Table {n}" for n in range(1, 10)} <= named
    assert {f"Figure {n}" for n in ("2a", "2b", "2c", "3a", "3b", "3c", "3d", "4a", "4b")} <= named
    for table, (_, row) in itertools.product(TABLES, rows.iterrows()):
        if row["table"] == table.number:
            assert (
                row["method"] in table.heads or f"{row['method']} d={row['dim']:g}" in table.heads
            )
            assert {row["method"], row["backbone"], row["dataset"]} & set(table.where)


def asked(name: str) -> DataFrame:
    """The cells of a suite as the ledger would show them, with made-up measures."""
    rows = []
    for cell in suite.read(name).cells:
        facts = describe(cell)
        hyper = dict(cell.stages[-1].hyper)
        data = facts["data"].split(" ")[0]
        wide = CLASSES[data] if cell.stages[-1].head == "one_hot" else WIDTHS.get(facts["backbone"])
        facts |= {"dim": hyper.get("dim") or wide or 1, "state": "done", "suites": name}
        facts |= {"accuracy": 0.5, "cosine_max": 0.1, "cosine_min": -0.1, "oracle": math.nan}
        rows.append(facts)
    return DataFrame(rows)


def test_the_suites_answer_every_printed_number(make_runs):
    """Nothing in print is left without cells; nothing but the stated cases lacks a verdict."""
    frame = pd.concat([asked(name) for name in SUITES], ignore_index=True)
    empty = make_runs(["psc"], seeds=1).iloc[0].drop([*frame.columns], errors="ignore")
    runs = tidy(frame.assign(**empty.drop("oracle", errors="ignore").to_dict()))
    for table in TABLES:
        (exhibit,) = exhibits("dl2pa", table, printed("dl2pa"), runs)
        long = csv(exhibit)
        answered = long[long["role"] == "answer"]
        rows = printed("dl2pa")
        assert len(answered) == (rows["table"] == table.number).sum()
        lacking = answered.loc[answered["verdict"] == "not run", ["method", "network"]]
        assert lacking.values.tolist() == [], table.number


def test_commands_name_suites_and_studies_that_exist():
    suites = set(suite.names())
    for item in ITEMS:
        for name in re.findall(r"--suite (\w+)", item.command):
            assert name in suites, item.name
        for name in re.findall(r"benchmark study (\w+)", item.command):
            assert (STUDIES / f"{name}.yaml").is_file(), item.name


def test_table_1_numbers_are_the_frames(balanced):
    (exhibit,) = made("Table 1", balanced)
    long = csv(exhibit).set_index(["method", "dataset", "dim"])
    mine = balanced[(balanced["head"] == f"dl2pa {SUM}") & (balanced["dim"] == 50)]
    assert long.loc[("Ours", "cifar100", 50), "mean"] == pytest.approx(mine["accuracy"].mean())
    assert long.loc[("Ours", "cifar100", 50), "n"] == 2
    LatexWalker(exhibit.latex, tolerant_parsing=False).get_latex_nodes()
    assert exhibit.latex.isascii()


def test_updates_counts_a_default_written_out_once(balanced):
    (exhibit,) = made("Figure 3b", balanced)
    long = csv(exhibit).set_index(["dim", "updates_per_epoch"])
    assert sorted(long.index) == [(d, u) for d in (10, 50) for u in (0.1, 1.0, 10.0)]
    assert (long["n"] == 2).all()  # 'updates_per_epoch=1' and nothing stated are one


def test_uniformity_stands_between_levels(balanced):
    (exhibit,) = made("Figure 3d", balanced)
    long = csv(exhibit)
    assert sorted(long.loc[long["head"] == "psc", "uniformity"].unique()) == [0.0, 0.01, 0.1]
    assert (long["head"] == "dl2pa").sum() == 2 and (long["n"] == 2).all()
    assert [axis.get_title(loc="left") for axis in exhibit.figure.axes] == ["d = 10", "d = 50"]


def test_assignment_gap_is_paired(balanced):
    """The two seeds differ much, their pairs do not: the gap's interval is that of the pairs."""
    runs = balanced.copy()
    dynamic = (runs["head"] == f"dl2pa {SUM}") & (runs["dim"] == 10)
    fixed = (runs["head"] == f"dl2pa assignment=fixed {SUM}") & (runs["dim"] == 10)
    runs.loc[dynamic, "accuracy"] = [0.50, 0.60]
    runs.loc[fixed, "accuracy"] = [0.48, 0.57]
    runs = runs[~runs["head"].str.contains("updates_per_epoch")]
    (exhibit,) = made("Figure 4a", runs)
    gap = csv(exhibit).set_index(["head", "dim"]).loc[("gap", 10)]
    assert gap["keys"].split() == sorted(runs.loc[dynamic | fixed, "key"])
    low, high = interval([0.02, 0.03])
    assert gap[["mean", "low", "high"]].tolist() == pytest.approx([0.025, low, high])


def test_settling_starts_after_the_first_refresh(balanced):
    (exhibit,) = made("Figure 4b", balanced)
    long = csv(exhibit)
    assert long["epoch"].min() == 2 and set(long["dim"]) == {10, 50}
    assert long.loc[long["epoch"] == 3, "mean"].tolist() == [0.125, 0.125]
    assert ITEMS[-2].make(tidy(balanced), printed("dl2pa"), None) == []


def test_geometry_figures(points):
    (angles,) = made("Figure 2a", points)
    assert csv(angles)["mean"].tolist() == pytest.approx([math.pi / 2] * 6)
    assert angles.figure.axes[0].get_lines()[0].get_ydata() == pytest.approx([90, 90])
    (distance,) = made("Figure 2c", points)
    assert csv(distance)["mean"].tolist() == pytest.approx([1 + 1 / 99] * 6)
    (spread,) = made("Figure 3a", points)
    assert set(csv(spread)["set"]) == {"hpn, released", "etf", "lowest energy"}


def test_nearest_neighbours_by_hand(points):
    """Three axes and the opposite of the first: every nearest neighbour is at a right angle."""
    (exhibit,) = made("Figure 2b", points)
    assert csv(exhibit)["nearest"].tolist() == pytest.approx([90.0] * 12)
    assert csv(exhibit)["set"].nunique() == 3


def test_assignment_time_is_a_cost(points, tmp_path):
    """It stands under cost/, and nothing else moves when another machine measures it."""
    folders = {}
    points = points[points["assignment_seconds"].notna()]
    for name, slower in (("a", 1), ("b", 7)):
        runs = points.assign(assignment_seconds=points["assignment_seconds"] * slower)
        build(runs, tmp_path / name, {}, paper="dl2pa", evidence=Fake())
        files = (tmp_path / name).rglob("*.*")
        folders[name] = {str(f.relative_to(tmp_path / name)): f.read_bytes() for f in files}
    moved = {name for name in folders["a"] if folders["a"][name] != folders["b"][name]}
    figure = {f"cost/dl2pa-figure-3c.{end}" for end in ("csv", "pdf", "png")}
    assert moved == figure | {"cost/numbers.tex", "cost.csv", "index.html", "manifest.json"}
    pages = [folders[name]["index.html"].decode() for name in ("a", "b")]
    cost = re.compile(
        r'<article id="[^"]*" class="cost">.*?</article>|<td class="cost".*?</td>'
        r'|<script [^>]*id="cost">.*?</script>',
        re.S,
    )
    assert cost.sub("", pages[0]) == cost.sub("", pages[1])
    assert "assignment_seconds" in COST


def test_a_paper_is_built_in_its_order_and_what_lacks_is_named(
    balanced, points, tmp_path, monkeypatch
):
    for form in ("png", "pdf"):  # the ink is not asked for here, and takes long
        monkeypatch.setattr(style, form, lambda figure: b"")
    runs = pd.concat([balanced, points], ignore_index=True)
    built = build(runs, tmp_path, {}, paper="dl2pa", evidence=Fake())
    *exhibits, claims = built.exhibits
    assert claims.name == "dl2pa-claims"
    names = [re.match(r"(Table \d|Figure \w+)", each.title)[1] for each in exhibits]
    order = [item.name for item in ITEMS]
    assert names == sorted(names, key=order.index)
    page = built.page.read_text()
    for item in ITEMS:
        note = f"{item.name}, {item.what}: no cells yet. {item.command}"
        assert (item.name in names) != (note in built.notes)
        assert note not in built.notes or note in page.replace("&#x27;", "'")
    assert {"Table 3", "Table 5"} & set(names) == set()
    assert len(set(each.name for each in built.exhibits)) == len(built.exhibits)
    for exhibit in built.exhibits:
        rows = csv(exhibit)
        assert rows.columns[0] == "id" and rows["id"].is_unique and rows.columns[-1] == "keys"
        if exhibit is not claims:
            assert (rows["keys"].notna() | (rows.get("verdict") == "not run")).all(), exhibit.name
        assert set(" ".join(rows["keys"].dropna()).split()) <= set(runs["key"])
        if exhibit.latex:
            LatexWalker(exhibit.latex, tolerant_parsing=False).get_latex_nodes()
            assert exhibit.latex.isascii() and "?" not in exhibit.latex


def test_points_and_searches_stay_out_of_ordinary_tables(balanced, points, tmp_path, monkeypatch):
    for form in ("png", "pdf"):
        monkeypatch.setattr(style, form, lambda figure: b"")
    search = balanced.head(2).assign(data="cifar100 validation=0.1", validation=0.5)
    search["key"] = ["s1", "s2"]
    search.loc[search.index[0], ["accuracy", "oracle"]] = math.nan
    runs = pd.concat([balanced, points, search], ignore_index=True)
    built = build(runs, tmp_path, {})
    assert len(built.leading) == 1 and "sphere" not in str([e.title for e in built.exhibits])
    assert any("2 cells of searches" in note for note in built.notes)
    assert any("points on the sphere" in note for note in built.notes)
    cells = pd.read_csv(tmp_path / "cells.csv")
    assert len(cells) == len(runs) and cells["validation"].notna().sum() == 2


def test_an_unknown_paper_writes_nothing(balanced, tmp_path):
    with pytest.raises(ValueError, match="unknown paper 'dl2ap'. Did you mean 'dl2pa'"):
        build(balanced, tmp_path / "out", {}, paper="dl2ap")
    assert not (tmp_path / "out").exists()
