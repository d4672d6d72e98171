"""speed: two loops that do the same work, in turn; what it says, and what it refuses."""

import csv
from dataclasses import replace

import pytest
import torch

from benchmark.commands import speed
from benchmark.planning.cell import Cell, Stage, freeze
from benchmark.planning.recipes import RECIPES
from benchmark.training import compiling, duel
from benchmark.training.duel import Duel, stand_in
from benchmark.training.registry import registry
from benchmark.training.stopwatch import PARTS, Stopwatch

SMALL = (
    *("--backbone", "{small_cnn: {channels: 25}}"),
    *("--set", "data.largest=6", "--set", "data.ratio=2"),
    *("--set", "recipe.batch=32", "--steps", 2, "--rounds", 2),
)
PLAIN = {"mixup": 0.0, "augment": "none", "precision": "float32", "batch": 150, "epochs": 4}


def a_cell(*heads: str, **changes: object) -> Cell:
    """A cell on few images of CIFAR-100's size; the second head stands on the first."""
    recipe = RECIPES["long_tail_200"].recipe.model_copy(update=changes).pairs()
    # one batch an epoch: its labels would move before each
    still = {"dl2pa": freeze({"assignment": "fixed"})}
    stages = [
        Stage(head, still.get(head, ()), recipe, frozen=n > 0) for n, head in enumerate(heads)
    ]
    data = {"name": "cifar100", "ratio": 2.0, "largest": 4, "profile": "exponential"}
    return Cell(freeze(data), freeze({"name": "small_cnn", "channels": 25}), tuple(stages), 0)


@pytest.fixture(autouse=True)
def own_threads(monkeypatch):
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


# the two loops


def weights(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: v.clone() for n, v in module.state_dict().items() if v.is_floating_point()}


@pytest.mark.parametrize("heads", [("dl2pa",), ("psc",), ("psc", "prototypes")])
def test_both_do_the_same_work(place, monkeypatch, heads):
    """One batch of all images, nothing drawn: both end with the same weights."""
    cell = a_cell(*heads, **PLAIN, warmup=0.0)
    found = stand_in(cell)
    cell = a_cell(*heads, **{**PLAIN, "batch": len(found.train)}, warmup=0.0)
    # the only thing that may differ is the order within the batch
    both = Duel(cell, registry(), found)
    start = weights(both._ours.head)
    both.ours(1)
    assert any((value != start[n]).any() for n, value in weights(both._ours.head).items())
    for run in (both.ours, both.reference):
        watch = run(3)
        assert watch.steps == 3 and watch.images == 3 * len(found.train)
    one = weights(both._ours.look.backbone) | weights(both._ours.head)
    other = weights(both._reference.backbone) | weights(both._reference.head)
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=2e-3, atol=2e-4, msg=name)


def test_every_round_starts_from_the_same_weights(place):
    both = Duel(a_cell("dl2pa", **PLAIN), registry(), stand_in(a_cell("dl2pa")))
    both.ours(2)
    once = weights(both._ours.look)
    both.reference(1)
    both.ours(2)
    again = weights(both._ours.look)
    assert all(torch.equal(once[name], again[name]) for name in once)


@pytest.mark.parametrize("heads", [("dl2pa",), ("psc", "prototypes")])
def test_all_parts_are_measured(place, heads):
    """Each part takes some of the time, and afterwards nothing hangs on head and trunk."""
    both = Duel(a_cell(*heads, **{**PLAIN, "mixup": 1.0}), registry(), stand_in(a_cell("psc")))
    for watch in (both.ours(2), both.reference(2)):
        spent = {part for part, seconds in watch.seconds.items() if seconds > 0}
        assert spent >= set(PARTS) - {"tracking"}
        assert watch.share("backbone") > watch.share("optimiser")
        assert sum(watch.share(part) for part in PARTS) == pytest.approx(1)
    head, look = both._ours.head, both._ours.look
    assert not {"embed", "loss", "after_step"} & set(vars(head))
    assert not look._forward_hooks and not look._forward_pre_hooks


def test_a_lap_belongs_to_one_part(monkeypatch):
    clock = iter([10.0, 11.0, 13.5, 14.0])
    work = iter([5.0, 5.5, 7.0, 7.0])
    monkeypatch.setattr("time.perf_counter", lambda: next(clock))
    monkeypatch.setattr("time.process_time", lambda: next(work))
    watch = Stopwatch()
    watch.start()
    for part in ("data", "backbone", "data"):
        watch.lap(part)
    watch.step(8)
    assert watch.seconds == {
        **{"data": 1.5, "backbone": 2.5, "head": 0, "optimiser": 0, "tracking": 0}
    }
    assert watch.total == 4 and watch.rate == 2 and watch.share("data") == 0.375
    assert watch.busy == 2 and watch.effort == 4


# the command


def test_what_it_prints_and_saves(place, call):
    said = call("speed", *SMALL, "--head", "dl2pa", "--head", "prototypes", "--csv", "speed.csv")
    assert said.code == 0, said.out + said.err
    assert "random images, as many and as large" in said.out
    assert "1/2 small_cnn channels=25 · dl2pa · reference" in said.out and " left" in said.out
    assert "median and range of n = 2 rounds" in said.out and "where the time goes" in said.out
    rows = list(csv.DictReader((place / "speed.csv").read_text().splitlines()))
    assert len(rows) == 2 * 2 * 2
    assert {row["loop"] for row in rows} == {"reference", "ours"}
    assert {row["head"] for row in rows} == {"dl2pa", "psc > prototypes"}
    for row in rows:
        assert row["batch"] == "32" and row["steps"] == "2" and row["execution"] == "eager"
        seconds = sum(float(row[f"{part}_seconds"]) for part in PARTS)
        assert float(row["images_per_second"]) == pytest.approx(64 / seconds, rel=0.01)


def test_rounds_alternate(place, monkeypatch):
    calls = []

    class Fake:
        alone = False

        def ours(self, steps):
            calls.append("ours")
            return Stopwatch()

        def reference(self, steps):
            calls.append("reference")
            return Stopwatch()

    speed._measure(Fake(), speed.Row(a_cell("psc"), 1, "eager"), 3)
    first, second = ["reference", "ours"], ["ours", "reference"]
    assert calls == [*first, *first, *second, *first]


def a_row(data: float) -> speed.Row:
    """A row whose reference spends this share of its time on data."""
    slow, fast = Stopwatch(), Stopwatch()
    slow.seconds |= {"data": data, "backbone": 0.9 - data, "head": 0.1}
    fast.seconds |= {"backbone": 0.25}
    slow.images = fast.images = 100
    slow.busy, fast.busy = 0.9, 0.3
    return speed.Row(a_cell("psc"), 1, "eager", [slow], [fast])


@pytest.mark.parametrize("data, marked", [(0.19, False), (0.21, True)])
def test_a_slow_reference_is_marked(data, marked):
    row = a_row(data)
    assert speed._ratio(row) == ("4.00 *" if marked else "4.00")
    assert row.efforts == [pytest.approx(3)]
    assert ["spends less than 80%" in note for note in notes([row])] == [True] * marked


def notes(rows):
    options = speed.Options([], [], [], 1, 1, 1, "cpu", "", None, False, None, False)
    return [each for each in speed.tables(rows, options) if isinstance(each, str)]


def test_a_busy_machine_is_said_to_be_one():
    row = a_row(0.0)
    row.reference[0].busy = 0.8
    (note,) = notes([row])
    assert "this process had 0.88 of 1 thread." in note and "Read the ratio by work" in note


def test_overhead_shows_heads_alone(place, call):
    said = call("speed", *SMALL, "--overhead", "--head", "etf")
    assert said.code == 0 and "reference" not in said.out
    assert "etf dim=128 · " in said.out and ", head " in said.out
    names = [n for n in registry().heads if speed._single(n, registry())]
    assert {"psc", "dl2pa", "dnc", "word2vec", "crt"} < set(names)
    assert not {"paco", "ride", "ncm", "tau_norm"} & set(names)


@pytest.mark.parametrize(
    "words, sentence",
    [
        (["--head", "eft"], "Did you mean 'etf'?"),
        (["--head", "paco"], "speed compares heads that train on one view"),
        (["--backbone", "resnet33", "--head", "psc"], "unknown backbone 'resnet33'"),
        (["--backbone", "{resnet32: ["], "is not YAML that can be used"),
        (["--set", "recipe.policy=trivial", "--head", "psc"], "the reference loop crops"),
        (["--set", "recipe.cutmix=1.0", "--head", "psc"], "the reference loop knows mixup and sgd"),
        (["--set", "nonsense=1"], "is not FIELD=VALUE of a suite"),
        (["--data-root", "nowhere", "--head", "psc"], "no images of cifar100"),
        (["--csv", "no/where.csv"], "there is no folder no"),
        (["--device", "tpu"], "unknown device 'tpu'"),
        (["--execution", "fast"], "unknown execution 'fast'"),
        (["--rounds", "0"], "--rounds"),
        (["--set", "data=[{name: cifar10}, {name: cifar100}]"], "one data set at a time"),
    ],
)
def test_what_is_refused(place, call, words, sentence):
    small = () if "--backbone" in words else ("--backbone", "{small_cnn: {channels: 25}}")
    said = call("speed", *small, *words)
    assert said.code == 2 and "Traceback" not in said.err
    assert sentence in " ".join(said.err.split()) and "images/s" not in said.out


def test_a_cell_that_pays_is_compiled_or_says_why_not(place, monkeypatch):
    """As `runner` does it; here without a compiler."""

    def unable(look, shape):
        raise compiling.Unable("no compiler")

    monkeypatch.setattr(compiling, "BREAK_EVEN", 1.0)
    monkeypatch.setattr(duel.compiling, "compile_trunk", unable)
    found = stand_in(a_cell("psc"))
    both = Duel(a_cell("psc", **PLAIN), registry(), found, alone=True)
    assert both.execution == "eager"
    assert both.warnings == ["small_cnn channels=25 runs without compiled code: no compiler"]
    assert Duel(a_cell("psc", **PLAIN), registry(), found, execution="eager").warnings == []
    frozen = Duel(a_cell("psc", "crt", **PLAIN), registry(), found, alone=True)
    assert frozen.execution == "eager" and frozen.warnings == []
    assert replace(both.cell).key == a_cell("psc", **PLAIN).key
