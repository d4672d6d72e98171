"""The grammar of claims, the shipped file against print and planner, and cells against claims."""

import io
import math
import re
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pandas import DataFrame

from reports.claims import FILE, contents, read
from reports.counts import class_counts
from reports.frames import COLUMNS, tidy
from reports.grounds import Cells
from reports.judge import judge
from reports.printed import FILES, FOLDER
from reports.quantities import measured

TEXT = """
heads: {psc: psc projection=*, dl2pa: [dl2pa, dl2pa reduction=sum], ncm: psc > ncm}
places:
  here: {data: cifar100, networks: [resnet32 channels=32], recipes: long_tail_200, largest: 500}
claims:
  - id: a-claim
    paper: dl2pa
    where: 4.2, Table 1
    text: One is above the other.
    test: above
    of: [dl2pa, psc]
    at: here
    ratio: [10, 100]
    margin: half
    print: [[57.0, 55.0], [40.0, 38.0]]
    command: run --suite long_tail
"""


class Kept:
    """What cells kept, by key: arrays, and readings as (step, epoch, value)."""

    def __init__(self, arrays=None, readings=None):
        self.kept, self.readings = arrays or {}, readings or {}

    def arrays(self, key):
        return self.kept.get(key, {})

    def series(self, key, name):
        rows = self.readings.get(key, {}).get(name, [])
        return DataFrame(rows, columns=["step", "epoch", "value"], dtype=float)


@pytest.fixture
def written(tmp_path):
    def write(*changes: tuple[str, str]):
        text = TEXT
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "claims.yaml"
        path.write_text(text, encoding="utf-8")
        return read(path)

    return write


def test_a_claim_as_written(written):
    (claim,) = written()
    assert [each.label for each in claim.settings] == ["1:10", "1:100"]
    (effect,) = claim.settings[0].parts
    assert (effect.low, effect.high, effect.printed) == (1.0, math.inf, 2.0)
    assert [term.name for term in effect.terms] == ["dl2pa", "psc"]
    assert (effect.terms[0].dim, effect.terms[0].ratio) == (None, 10.0)
    assert claim.unit == "points"


def test_the_other_tests(written):
    changes = (
        ("test: above", "test: gain"),
        ("print: [[57.0, 55.0], [40.0, 38.0]]", "print: none"),
    )
    gain = ("ratio: [10, 100]", "to: {ratio: 100, metric: few}\n    from: {ratio: 10}")
    (claim,) = written(*changes, gain, ("margin: half", "margin: 0"))
    (effect,) = claim.settings[0].parts
    assert effect.weights == (1, -1, -1, 1)
    assert [(t.name, t.ratio, t.metric) for t in effect.terms] == [
        ("dl2pa", 100, "few"),
        ("psc", 100, "few"),
        ("dl2pa", 10, "accuracy"),
        ("psc", 10, "accuracy"),
    ]
    assert effect.label == "1:100, few over 1:10"
    order = ("[dl2pa, psc]", "[psc, ncm, dl2pa]"), ("test: above", "test: order")
    (claim,) = written(*order, ("[[57.0, 55.0], [40.0, 38.0]]", "[[1, 5, 7], [0, 2, 4]]"))
    parts = claim.settings[0].parts
    assert [each.label for each in parts] == ["ncm over psc", "dl2pa over ncm"]
    assert [each.low for each in parts] == [2.0, 1.0]
    level = ("test: above", "test: level\n    value: 40"), ("of: [dl2pa, psc]", "of: psc")
    numbers = ("[[57.0, 55.0], [40.0, 38.0]]", "[[41], [40]]")
    (claim,) = written(*level, numbers, ("margin: half", "margin: 2\n    why: ours"))
    (effect,) = claim.settings[0].parts
    assert (effect.constant, effect.low, effect.high, effect.printed) == (-40, -2, 2, 1)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("where:", "wher:", "unknown 'wher'. Did you mean 'where'?"),
        ("paper: dl2pa", "paper: dl2p", "unknown 'dl2p'. Did you mean 'dl2pa'?"),
        ("of: [dl2pa, psc]", "of: [dl2pa, pcs]", "head: unknown 'pcs'. Did you mean 'psc'?"),
        ("psc: psc projection=*", "psc: pcs projection=*", "pattern 'pcs projection=*'"),
        ("at: here", "at: there", "place: unknown 'there'. Did you mean 'here'?"),
        ("at: here", "at: here\n    metric: acuracy", "metric: unknown 'acuracy'"),
        ("at: here", "at: here\n    metric: late head/move", "Did you mean 'head/moved'?"),
        ("test: above", "test: over", "test: unknown 'over'"),
        ("test: above", "test: level", "has 1 terms, got 2"),
        ("command: run --suite long_tail", "command: make it", "got 'make it'"),
        ("margin: half", "margin: 2", "'why' is missing"),
        ("margin: half", "margin: much\n    why: so", "got 'much'"),
        ("test: above", "test: equal", "half of what?"),
        ("[[57.0, 55.0], [40.0, 38.0]]", "[57.0, 55.0]", "57.0"),
        ("[[57.0, 55.0], [40.0, 38.0]]", "[[57.0, 55.0]]", "of 1 settings where there are 2"),
        ("id: a-claim", "id: A claim", "Rename it"),
        ("    text: One is above the other.\n", "", "'text' is missing"),
        ("    ratio: [10, 100]\n", "", "settings"),
        ("of: [dl2pa, psc]", "of: [dl2pa, {head: psc, metric: nc1}]", "different units"),
        ("test: above", "test: above\n    judge: some", "judge: unknown 'some'"),
        ("test: above", "test: above\n    value: 3", "'value' belongs to test 'level'"),
        ("heads: {", "heads: [{", "not YAML"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(written, old, new, told):
    with pytest.raises(ValueError, match=re.escape(told)) as caught:
        written((old, new))
    assert "\n" not in str(caught.value)


def test_shipped_claims():
    claims = read()
    assert len(claims) >= 25
    assert {each.paper for each in claims} == set(FILES)
    tests = {each.test for each in claims}
    assert tests == {"above", "gain", "order", "best", "equal", "level"}
    rows = contents()
    assert [row[0] for row in rows] == [each.id for each in claims]
    assert rows[3][1] == "dl2pa · 4.2, Table 1"


def _numbers(value: object) -> list[float]:
    if isinstance(value, list):
        return [number for each in value for number in _numbers(each)]
    return [] if value is None or isinstance(value, str) else [float(value)]


def test_every_printed_number_of_a_claim_is_in_the_table_that_it_names():
    tables = {}
    for paper, name in FILES.items():
        frame = pd.read_csv(io.StringIO((FOLDER / name).read_text()), dtype={"table": str})
        tables[paper] = frame.groupby("table")["value"].apply(set)
    seen = 0
    for claim in yaml.safe_load(FILE.read_text(encoding="utf-8"))["claims"]:
        named = re.findall(r"Table (\d)", claim["where"])
        for number in _numbers(claim["print"]):
            assert any(number in tables[claim["paper"]][table] for table in named), claim["id"]
            seen += 1
    assert seen > 150


WIDTH = {
    **{"resnet32_hpn": 64, "resnet32": 64, "resnet32 channels=32": 128, "resnet34_cifar": 512},
    **{"resnet50": 2048, "resnet50_4096": 4096, "swin_t": 768, "resnext50_32x4d": 2048},
    **{"resnet101": 2048, "resnet152": 2048, "resnet32 taper=0.75": 48, "flat": 64, "resnet20": 64},
}
CLASSES = {"cifar100": 100, "tiny_imagenet": 200}


@cache
def planned(command: str) -> DataFrame:
    """The cells of a suite or study at seed 0 as rows of a report, finished, with an accuracy."""
    from benchmark.planning import plan, suite
    from benchmark.training.registry import registry
    from studies import holes

    table = registry([])
    *_, name = command.split(" ")
    study = command.startswith("study ")
    found = holes.read(name).filled() if study else suite.read(name)
    rows = []
    for written in [cell for cell in found.cells if cell.seed == 0]:
        cell = plan.complete(written, table, lambda _: 0, words=lambda _: True)
        data = " ".join(word for word in cell.material.split(" ") if not word.startswith("1:"))
        hyper = [dict(stage.hyper) for stage in cell.stages]
        stated = [options["dim"] for options in hyper if "dim" in options]
        natural = CLASSES[data] if "one_hot" in cell.method else WIDTH[cell.network]
        row = dict.fromkeys(COLUMNS, math.nan) | {"seed": cell.seed_label, "state": "done"}
        row |= {"key": cell.key, "label": cell.label, "data": data, "backbone": cell.network}
        row |= {"ratio": dict(cell.data)["ratio"], "largest": 0, "accuracy": 0.5}
        row |= {"head": re.sub(r" dim=\d+", "", cell.method), "recipe": cell.stages[0].protocol}
        row |= {"epochs": dict(cell.stages[0].recipe).get("epochs", 0)}
        row |= {"dim": stated[-1] if stated else natural, "width": WIDTH[cell.network]}
        rows.append(row)
    return tidy(DataFrame(rows))


def test_every_claim_can_be_tested_by_the_cells_of_its_suite():
    for claim in read():
        cells = Cells(planned(claim.command), None)
        for setting in claim.settings:
            for part in setting.parts:
                for term in part.terms:
                    grounds = cells.samples(term)
                    assert () in grounds, (claim.id, setting.label, part.label, term.name)
        if claim.small:
            small = Cells(planned(claim.small), None)
            tried = [
                set.intersection(*(set(small.samples(term)) for term in part.terms))
                for setting in claim.settings
                for part in setting.parts
            ]
            assert any(tried), (claim.id, claim.small)


ROW = {"recipe": "long_tail_200", "largest": 500}


@pytest.fixture
def cells(make_runs):
    """Cells of two heads whose accuracies are given, seed by seed, at one ratio."""

    def make(values: dict[str, tuple[float, ...]], ratio: float = 100, **other) -> DataFrame:
        parts = []
        for head, accuracies in values.items():
            runs = make_runs([head], [128], [ratio], len(accuracies), **(ROW | other))
            parts.append(runs.assign(accuracy=accuracies))
        return pd.concat(parts, ignore_index=True)

    return make


def findings(claims, runs: DataFrame, evidence=None):
    return judge(claims, Cells(tidy(runs), evidence))


CLEAR = {"dl2pa": (0.50, 0.51, 0.52), "psc": (0.40, 0.412, 0.418)}


def test_supported_refuted_undecided(written, cells):
    claims = written(
        ("ratio: [10, 100]", "ratio: 100"), ("[[57.0, 55.0], [40.0, 38.0]]", "[57, 55]")
    )
    (found,) = findings(claims, cells(CLEAR))
    assert (found.verdict, found.ground) == ("supported", ())
    assert found.outcomes[0].mean == pytest.approx((10.0 + 9.8 + 10.2) / 3)
    turned = {"dl2pa": CLEAR["psc"], "psc": CLEAR["dl2pa"]}
    assert findings(claims, cells(turned))[0].verdict == "refuted"
    close = {"dl2pa": (0.50, 0.51, 0.52), "psc": (0.48, 0.50, 0.508)}  # 2, 1, 1.2 over 1
    (found,) = findings(claims, cells(close))
    assert (found.verdict, found.reason) == ("undecided", f"about {found.seeds} more seeds")
    single = {"dl2pa": (0.5,), "psc": (0.4,)}
    (found,) = findings(claims, cells(single))
    assert (found.verdict, found.reason, found.seeds) == ("undecided", "n = 1", None)
    assert math.isnan(found.p)


def test_a_lost_seed_takes_the_verdict_away(written, cells, lose_cells):
    claims = written(
        ("ratio: [10, 100]", "ratio: 100"), ("[[57.0, 55.0], [40.0, 38.0]]", "[57, 55]")
    )
    runs = cells(CLEAR)
    lost = lose_cells(runs, (runs["head"] == "psc") & (runs["seed"] == "2"))
    lost.loc[lost["state"] == "diverged", "width"] = pd.NA
    (found,) = findings(claims, lost)
    assert (found.verdict, found.reason) == ("undecided", "a seed was lost")
    assert found.outcomes[0].n == 2 and not math.isnan(found.outcomes[0].low)


def test_each_protocol_is_judged_by_itself_nearest_to_print_first(written, cells):
    claims = written()
    runs = [
        cells(CLEAR),
        cells(CLEAR, 10),
        cells(CLEAR, recipe="long_tail_200 epochs=30", epochs=30, largest=100),
        cells(CLEAR, backbone="resnet32"),
        cells(CLEAR, data="cifar100 subset=first"),
        cells(CLEAR, recipe="balanced_250"),  # answers nothing
        cells(CLEAR, recipe="long_tail_200 oracle=1"),
    ]
    runs[-1]["seed"] = ["7", "8", "9"] * 2  # the same training, looked at oftener
    found = findings(claims, pd.concat(runs))
    assert [(each.ground, each.verdict) for each in found] == [
        ((), "supported"),
        (("network resnet32 for resnet32 channels=32",), "undecided"),
        (("subset=first",), "undecided"),
        (("30 of 200 epochs", "largest class 100 of 500 images"), "undecided"),
    ]
    assert [each.n for each in found[0].outcomes] == [3, 6]
    assert found[1].reason == "not run: 1:10"


def test_the_head_nearest_to_print_and_one_seed_once(written, cells):
    claims = written(
        ("ratio: [10, 100]", "ratio: 100"), ("[[57.0, 55.0], [40.0, 38.0]]", "[57, 55]")
    )
    other = {"dl2pa reduction=sum": (0.30, 0.31, 0.32), "psc scale=30": CLEAR["psc"]}
    (found,) = findings(claims, pd.concat([cells(CLEAR), cells(other)]))
    assert (found.verdict, found.variant, found.outcomes[0].n) == ("supported", (), 3)
    (found,) = findings(claims, cells({"psc": CLEAR["psc"]} | other))
    assert (found.verdict, found.variant) == ("refuted", ("dl2pa reduction=sum",))


def test_every_most_and_mean(written, cells):
    weak = {"dl2pa": (0.40, 0.41, 0.42), "psc": (0.45, 0.462, 0.468)}
    third = (
        ("ratio: [10, 100]", "ratio: [10, 50, 100]"),
        (
            "[[57.0, 55.0], [40.0, 38.0]]",
            "[[57, 55], [50, 48], [40, 38]]",
        ),
    )
    runs = pd.concat([cells(CLEAR), cells(CLEAR, 50), cells(weak, 10)])
    assert findings(written(*third), runs)[0].verdict == "refuted"
    most = ("test: above", "test: above\n    judge: most")
    assert findings(written(*third, most), runs)[0].verdict == "supported"
    mean = ("test: above", "test: above\n    judge: mean")
    (found,) = findings(written(*third, mean), runs)
    assert found.verdict == "supported"
    assert found.whole.mean == pytest.approx((10 + 10 - 5) / 3)
    (found,) = findings(written(*third, mean), cells(CLEAR))
    assert (found.verdict, found.reason) == ("undecided", "not run: 1:10, 1:50")


def test_all_parts_of_an_order_have_to_hold(written, cells):
    order = ("[dl2pa, psc]", "[psc, ncm, dl2pa]"), ("test: above", "test: order")
    one = ("ratio: [10, 100]", "ratio: 100"), ("[[57.0, 55.0], [40.0, 38.0]]", "[1, 2, 3]")
    claims = written(*order, *one)
    rising = CLEAR | {"psc > ncm": (0.45, 0.461, 0.471)}
    assert findings(claims, cells(rising))[0].verdict == "supported"
    above = CLEAR | {"psc > ncm": (0.55, 0.561, 0.572)}
    assert findings(claims, cells(above))[0].verdict == "refuted"
    blurred = CLEAR | {"psc > ncm": (0.45, 0.52, 0.50)}
    assert findings(claims, cells(blurred))[0].verdict == "undecided"


def test_points_are_judged_by_one_set(make_runs):
    (claim,) = [each for each in read() if each.id == "dl2pa-stated-procedure-suffices"]
    where = {"data": "sphere classes=100", "backbone": "flat", "recipe": "untrained", "epochs": 0}
    runs = make_runs(["dl2pa prototypes=released"], [50], [1], 1, largest=4, **where)
    for value, verdict in ((0.267, "refuted"), (0.012, "supported")):
        (found,) = findings([claim], runs.assign(cosine_max=value))
        assert (found.verdict, found.after) == (verdict, verdict) and math.isnan(found.p)


def test_quantities_by_hand():
    history = [(0, 0.5, 9.0), *((step, step, float(step * step)) for step in range(1, 9))]
    vectors = np.diag([4.0, 3.0, 2.0, 1.0] * 25)
    kept = Kept({"k": {"class_vectors": vectors}}, {"k": {"head/moved": history}})
    cell = {"key": "k", "data": "cifar100", "ratio": 100.0, "profile": "", "largest": 500}
    cell["train_images"] = sum(class_counts(100, 500, 100))
    read_ = {how: measured(f"{how} head/moved", cell, kept) for how in ("end", "rise", "least")}
    # after the first epoch: 4, 9, 16, 25, 36, 49, 64
    assert read_ == {"end": 64, "rise": 60, "least": 5}
    assert measured("early head/moved", cell, kept) == 4
    assert measured("late head/moved", cell, kept) == 64
    assert measured("mean head/moved", cell, kept) == 29
    assert measured("norm_spread", cell, kept) == pytest.approx(math.sqrt(1.25) / 2.5)
    sizes = np.diag(np.array(class_counts(100, 500, 100), dtype=float))
    grown = Kept({"k": {"class_vectors": sizes}})
    assert measured("norm_size", cell, grown) == pytest.approx(1.0)
    assert measured("norm_size", cell | {"train_images": 5}, grown) != pytest.approx(1.0)
    assert math.isnan(measured("norm_spread", cell, Kept()))
    assert math.isnan(measured("end head/moved", cell, Kept()))


def test_a_claim_on_evidence(make_runs):
    (claim,) = [each for each in read() if each.id == "dl2pa-labels-settle-sooner"]
    text = "dl2pa batch_norm=False class_weights=False projection=always reduction=sum"
    where = {"backbone": "resnet32_hpn", "recipe": "balanced_250", "epochs": 250}
    runs = make_runs([text], [10, 100], [1], 3, **where)
    kept = Kept()
    for _, row in runs.iterrows():
        seed = int(row["seed"])
        level = 0.4 + 0.01 * seed if row["dim"] == 10 else 0.1 + 0.011 * seed
        kept.readings[row["key"]] = {"head/moved": [(9, 2.0, level), (18, 3.0, level)]}
    (found,) = findings([claim], runs, kept)
    assert (found.verdict, found.outcomes[0].mean) == ("supported", pytest.approx(29.9))
    assert findings([claim], runs) == []  # without evidence nobody knows


def test_the_file_is_beside_the_module():
    assert Path(FILE).name == "claims.yaml"
