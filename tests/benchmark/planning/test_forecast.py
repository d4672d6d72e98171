"""What cells will take: work, likeness, rates, and the order in which an engine hands them out."""

from dataclasses import replace

import pytest

from benchmark.planning import forecast
from benchmark.planning.cell import Cell, Stage, freeze
from benchmark.planning.forecast import Machine, Past, job, predict, span
from benchmark.planning.recipes import RECIPES
from benchmark.planning.suite import Data
from heads.base import Needs

QUICK = RECIPES["quick"].recipe
HERE = Machine("x86_64", 1, 1)
PLAIN = Needs()


def cell(*heads, seed=0, recipe=QUICK, network="small_cnn", **data):
    """Heads of a pipe; ncm trains nothing."""
    stages = []
    for nth, name in enumerate(heads):
        own = () if name == "ncm" else recipe.pairs()
        stages.append(Stage(name, (), own, nth > 0, protocol="quick" if own else ""))
    known = freeze(Data(**{"name": "digits", **data}).model_dump())
    return Cell(known, freeze({"name": network}), tuple(stages), seed)


def work(*heads, needs=PLAIN, images=37_200, train=1240, **other):
    return job(cell(*heads, **other), needs, images=images, train=train, largest=124, classes=10)


def past(of, seconds, beside=1.0, machine=HERE, **other):
    return Past(of, machine, seconds, beside, "eager", **other)


# work


def test_three_passes_where_weights_learn_one_where_they_are_frozen():
    free, frozen = work("psc"), work("psc", "crt")
    assert (free.trained, frozen.trained) == (3 * 37_200, 37_200)
    assert free.judged == 10 * 1240  # collapse is followed on all of them ten times
    assert frozen.judged == 0
    assert frozen.beside - free.beside == 1240  # the head is prepared on their features
    ncm = work("psc", "ncm", images=0)
    assert (ncm.learns, ncm.loop, ncm.beside) == ("prepared", 0, frozen.beside)


def test_what_is_looked_at_on_the_way_is_work():
    plain = work("psc")
    watched = work("psc", recipe=QUICK.model_copy(update={"oracle": 3, "flip": True}))
    assert watched.judged - plain.judged == 10 * 248  # 30 epochs; a fifth of 1,240 is the test set
    assert watched.beside - plain.beside == 248  # the mirror images
    assert work("psc", validation=0.5).judged - plain.judged == 30 * 620
    assert work("psc", needs=Needs(sweep=True)).judged - plain.judged == 30 * 1240


def test_the_teacher_s_view_has_no_backward():
    assert work("paco", needs=Needs(views=2, teacher=True)).trained == (3 + 1) * 37_200
    assert work("paco", needs=Needs(views=2)).trained == 2 * 3 * 37_200


# likeness


def test_seconds_are_the_median_rate_times_the_work():
    mine = work("psc")
    known = [past(mine, seconds) for seconds in (10.0, 30.0, 1000.0)]
    found = predict(mine, known, HERE)
    assert (found.seconds, found.basis, found.cells) == (pytest.approx(31), "same head", 3)
    half = replace(mine, trained=mine.trained / 2, judged=mine.judged / 2, beside=0)
    assert predict(half, known, HERE).seconds == pytest.approx(15)
    assert predict(mine, [], HERE) is None


def test_only_the_last_few_count():
    mine = work("psc")
    old = [past(mine, 900.0, finished=f"2026-01-0{day}") for day in range(1, 8)]
    new = [past(mine, 30.0, finished=f"2026-02-0{day}") for day in range(1, 6)]
    assert predict(mine, [*new, *old], HERE).seconds == pytest.approx(31)


BATCH = QUICK.model_copy(update={"batch": 32})


@pytest.mark.parametrize(
    "near, far, basis",
    [
        (work("psc"), work("etf"), "same head"),
        (work("etf"), work("psc", recipe=BATCH), "same recipe"),
        (work("etf", recipe=BATCH), work("psc", "crt"), "same network"),
    ],
)
def test_the_nearest_cells_tell(near, far, basis):
    known = [past(near, 60.0), past(far, 1.0), past(far, 1.0), past(far, 1.0)]
    found = predict(work("psc"), known, HERE)
    rate = 60.0 / near.loop
    assert found.seconds == pytest.approx(
        rate * work("psc").loop + work("psc").beside / near.beside
    )
    assert (found.basis, found.cells) == (basis, 1)


def test_the_same_recipe_in_another_length_is_the_same_recipe():
    long = work("psc", recipe=QUICK.model_copy(update={"epochs": 300, "lr": 0.3}))
    assert long.handling == work("psc").handling != work("psc", recipe=BATCH).handling


@pytest.mark.parametrize(
    "other",
    [
        {"network": "resnet8"},
        {"recipe": QUICK.model_copy(update={"precision": "bf16"})},
        {"name": "cifar10"},
    ],
)
def test_other_networks_images_and_precisions_tell_nothing(other):
    assert predict(work("psc"), [past(work("psc", **other), 1.0)], HERE) is None


@pytest.mark.parametrize("machine", [Machine("H100", 1, 1), Machine("x86_64", 4, 1)])
def test_other_devices_and_threads_tell_nothing(machine):
    known = [past(work("psc"), 1.0, machine=machine)]
    assert predict(work("psc"), known, HERE) is None
    assert predict(work("psc"), known, Machine()) is not None


def test_as_many_jobs_side_by_side_come_first_and_any_will_do():
    mine, two = work("psc"), Machine("x86_64", 1, 2)
    known = [past(mine, 10.0), past(work("etf"), 20.0, machine=two)]
    assert predict(mine, known, two).seconds == pytest.approx(21)
    assert predict(mine, known, HERE).seconds == pytest.approx(11)
    assert predict(mine, known[:1], two).seconds == pytest.approx(11)


def test_compiled_cells_tell_of_compiled_ones():
    mine = work("psc")
    known = [past(mine, 10.0, operations=5), Past(mine, HERE, 8.0, 1.0, "compiled", 5)]
    asked = [
        predict(mine, known, HERE, execution=lambda count, it=it: it)
        for it in ("eager", "compiled")
    ]
    assert [each.seconds for each in asked] == pytest.approx([11, 9])


@pytest.mark.parametrize(
    ("known", "asked", "loop"),
    [
        ("eager", "compiled", 6),
        ("compiled", "eager", 16.667),
        ("", "eager", 10),
        ("eager", "eager", 10),
    ],
)
def test_cells_of_the_other_kind_tell_by_what_compiling_saves(known, asked, loop):
    mine = work("psc")
    only = [Past(mine, HERE, 10.0, 1.0, known, 5)]
    found = predict(mine, only, HERE, execution=lambda count: asked)
    assert found.seconds == pytest.approx(loop + 1, rel=1e-3)


def test_a_cell_that_trains_nothing_takes_what_lies_beside():
    ncm = work("psc", "ncm", images=0)
    older = replace(past(ncm, 0.0), beside=None)
    assert predict(ncm, [older], HERE) is None  # a record that does not tell
    assert predict(ncm, [past(ncm, 0.0, beside=2.5)], HERE).seconds == pytest.approx(2.5)
    told = predict(ncm, [past(work("psc"), 60.0, beside=3.0)], HERE)
    assert told.seconds == pytest.approx(3.0 * ncm.beside / work("psc").beside)
    assert told.basis == "same network"


def test_without_times_beside_the_loop_a_pass_takes_what_it_takes_there():
    mine = work("psc")
    found = predict(mine, [replace(past(mine, 60.0), beside=None)], HERE)
    assert found.seconds == pytest.approx(60 * (mine.loop + mine.beside) / mine.loop)


# pilots


def test_a_pilot_stands_in_for_cells_and_cells_of_the_same_head_come_before_it():
    mine, rehearsed = work("psc"), past(work("psc"), 60.0, operations=1000, pilot=True)
    assert predict(mine, [rehearsed], HERE).basis == "pilot"
    real = past(mine, 30.0)
    assert predict(mine, [rehearsed, real], HERE).seconds == pytest.approx(31)
    assert predict(mine, [rehearsed, past(work("psc", "crt"), 1.0)], HERE).basis == "pilot"


def test_only_a_pilot_is_carried_to_another_network_by_operations():
    other = work("psc", network="resnet8")
    rehearsed = past(other, 60.0, operations=1000, pilot=True)
    mine = work("psc")
    found = predict(mine, [rehearsed], HERE, operations=lambda: 500)
    assert found.basis == "operations"
    assert found.seconds == pytest.approx((mine.loop + mine.beside) * 60 / other.loop / 2)
    told = {"operations": lambda: 500, "execution": lambda count: "compiled"}
    compiled = predict(mine, [rehearsed], HERE, **told)
    saved = 0.4 * mine.loop * 60 / other.loop / 2
    assert compiled.seconds == pytest.approx(found.seconds - saved)
    cells = [replace(rehearsed, pilot=False)]
    assert predict(mine, cells, HERE, operations=lambda: 500) is None
    assert predict(mine, [rehearsed], HERE, operations=lambda: 0) is None


def test_operations_are_counted_only_where_they_are_needed():
    def count():
        raise AssertionError("a network was built")

    assert predict(work("psc"), [past(work("psc"), 1.0)], HERE, operations=count) is not None


# the whole


def test_the_span_is_what_the_engine_does():
    trunk, top, other, last = cell("psc"), cell("psc", "crt"), cell("etf"), cell("hpn")
    order = [(trunk, 10.0), (other, 3.0), (last, 4.0), (top, 5.0)]
    assert span(order, 1) == 22
    assert span(order, 2) == 15  # psc | etf, hpn, and a worker waits for psc; then crt
    assert span([(top, 5.0), (other, 1.0)], 2) == 5  # its trunk is done already
    assert span([(cell("psc", seed=nth), 2.0) for nth in range(5)], 2) == 6
    assert span([], 2) == 0


def test_what_a_plan_rests_on_is_said_from_near_to_far():
    found = {forecast.PILOT: 3, forecast.HEAD: 12}
    assert forecast.resting(found) == "12 from cells with the same head, 3 from the pilot"
