"""What people read of a cell in MLflow."""

from dataclasses import replace

import pytest

from benchmark.planning.cell import Stage, freeze
from benchmark.records.describe import describe, note, parameters, question, run_name


def test_describe(cell):
    one = cell()
    facts = describe(one)
    assert facts["head"] == "psc cosine=True > ncm" and facts["seed"] == "0"
    assert facts["data"] == "digits" and facts["ratio"] == 20.0
    assert describe(replace(one, stages=one.stages[:1]))["head"] == "psc cosine=True"


def test_two_pipes_of_several_widths_have_two_names(cell):
    def pipe(first, last):
        one = cell()
        stages = (
            replace(one.stages[0], hyper=freeze({"dim": first})),
            Stage("etf", freeze({"dim": last, "dim_scale": 2}), frozen=True),
        )
        return describe(replace(one, stages=stages))["head"]

    assert pipe(10, 100) == "psc dim=10 > etf dim_scale=2"
    assert pipe(10, 100) != pipe(20, 100)


def test_data_has_columns_of_its_own_for_profile_and_groups(cell):
    one = cell()
    data = {**dict(one.data), "profile": "step", "groups": "dl2pa_index", "validation": 0.1}
    facts = describe(replace(one, data=freeze(data)))
    assert facts["data"] == "digits validation=0.1"
    assert (facts["profile"], facts["group_rule"]) == ("step", "dl2pa_index")


def test_parameters_name_options_apart(cell):
    found = parameters(cell())
    assert found["with.psc.dim"] == 8 and found["with.psc.cosine"] is True
    assert "key" not in found and "label" not in found  # every cell has another
    shared = [name for name in found if not name.startswith("with.")]
    assert max(shared) < "with"  # the alphabet puts options last


def test_a_run_is_named_head_first(cell):
    assert run_name(cell(3)) == "psc cosine=True dim=8 > ncm · digits 1:20 · small_cnn · seed 3"


@pytest.mark.parametrize(
    "comment, asked",
    [
        ("quick: do they work?\nCost  a lot", "do they work?"),
        ("quick: which: this or that?", "which: this or that?"),
        ("only words", "only words"),
        ("", ""),
    ],
)
def test_question(comment, asked):
    assert question(comment) == asked


RESULT = {
    "state": "done",
    "metrics": {"accuracy": 0.4123, "many": 0.6, "medium": float("nan"), "few": 0.05},
    "size": {"train_images": 10847, "classes": 100},
    "commit": "abc",
}


def test_note(cell):
    asks = {"mine": "mine: why?"}.get
    told = note(cell(), ("mine", "other"), lambda name: asks(name, ""), RESULT)
    assert told.split("\n\n") == [
        "**psc cosine=True dim=8 > ncm** on **digits 1:20**, small_cnn, recipe quick (30 epochs), "
        "seed 0.",
        "Accuracy 41.23 %, many 60.00 %, few 5.00 %; 10,847 training images of 100 classes.",
        "Suite **mine**: why?",
        "Suite **other**.",
        f"To train it again at commit abc: `python -m benchmark replay {cell().key}`.",
    ]


def test_notes_of_cells_without_accuracy(cell):
    def told(**other):
        return note(cell(), (), lambda name: "", {**RESULT, **other}).split("\n\n")[1]

    images = "10,847 training images of 100 classes."
    assert told(metrics={}) == images
    assert told(metrics={"validation": 0.5}) == f"Accuracy on the carve 50.00 %; {images}"
    assert told(state="diverged", diverged_step=7) == f"Diverged at step 7; {images}"
    assert "commit" not in note(cell(), (), lambda name: "")
