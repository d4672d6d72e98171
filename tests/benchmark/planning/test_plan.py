"""What the plan refuses, in which order it puts cells, and what it says of each."""

import numpy as np
import pytest
import torch

from benchmark.planning.cell import Cell, Stage, freeze
from benchmark.planning.plan import (
    Registry,
    Unmet,
    complete,
    fits,
    state,
    with_foundations,
)
from benchmark.planning.recipes import RECIPES
from benchmark.planning.suite import Data
from benchmark.records.record import Record
from benchmark.training.registry import registry
from heads.base import Head, Needs, Problem

QUICK = RECIPES["quick"].recipe.pairs()
MIXED = RECIPES["long_tail_200"].recipe.pairs()


def stage(head, hyper=None, recipe=QUICK, frozen=False):
    name = {QUICK: "quick", MIXED: "long_tail_200", (): ""}[recipe]
    return Stage(head, freeze(hyper or {}), recipe, frozen, protocol=name)


def cell(*stages, seed=0, **data):
    data = freeze(Data(**{"name": "digits", **data}).model_dump())
    return Cell(data, freeze({"name": "small_cnn"}), stages, seed)


class Plain(Head):
    """A head with every kind of option."""

    def __init__(
        self,
        problem: Problem,
        *,
        dim: int | None = None,
        share: float | None = None,
        size: int = 3,
        rate: float = 0.5,
        sharp: bool = False,
        kind: str = "a",
    ) -> None:
        super().__init__()
        self.dim = dim or problem.width

    def score(self, embedding):
        return embedding

    def loss(self, embedding, labels):
        return embedding.sum()


def asking(**needs) -> type[Head]:
    """A head class with such needs."""
    return type("Asking", (Plain,), {"needs": classmethod(lambda cls, **hyper: Needs(**needs))})


def table(**heads) -> Registry:
    known = registry()
    own = {"plain": Plain, **heads}
    digests = {**known.digests, **dict.fromkeys(own, "0" * 64)}
    return Registry({**known.heads, **own}, digests, {})


def finish(of, registry=None):
    return complete(of, registry or table(), lambda name: 124)


def refusal(of, registry=None):
    with pytest.raises(ValueError) as error:
        finish(of, registry)
    assert "\n" not in str(error.value)
    return str(error.value)


# refusals


def test_unknown_heads():
    assert refusal(cell(stage("pcs"))).startswith("unknown head 'pcs'. Did you mean 'psc'? Heads: ")
    assert "Did you mean" not in refusal(cell(stage("zzzzzz")))


def test_unknown_options():
    sentence = refusal(cell(stage("dl2pa", {"momentun": 0.9})))
    assert sentence.startswith("head 'dl2pa' has no option 'momentun'. Did you mean 'momentum'?")
    assert "Options: assignment, batch_norm, class_weights, dim" in sentence
    assert "no option 'problem'" in refusal(cell(stage("dl2pa", {"problem": 1})))


@pytest.mark.parametrize(
    "option, value, noun",
    [
        *(("size", value, "a whole number") for value in ("3", 3.0, True, None, (3,))),
        *(("rate", value, "a number") for value in ("1e-4", True, None, (0.5,))),
        *(("sharp", value, "true or false") for value in (1, 0, "yes", None)),
        *(("kind", value, "a word") for value in (1, True, None)),
        *(("dim", value, "a whole number") for value in ("8", 8.0, True, (8,))),
        *(("share", value, "a number") for value in ("8", True)),
    ],
)
def test_options_of_a_wrong_type(option, value, noun):
    sentence = refusal(cell(stage("plain", {option: value})))
    assert f"option {option!r} of head 'plain' must be {noun}, got {value!r}" in sentence


def test_options_of_the_right_type():
    hyper = {"size": 4, "rate": 1, "sharp": True, "kind": "b", "dim": 8, "share": 2}
    kept = dict(finish(cell(stage("plain", hyper))).stages[0].hyper)
    assert kept == hyper
    assert type(kept["rate"]) is float and type(kept["dim"]) is int
    assert finish(cell(stage("plain", {"dim": None, "size": 3}))).stages[0].hyper == ()


def test_a_frozen_head_needs_an_arrow():
    for stages in ([stage("ncm")], [stage("psc"), stage("ncm")]):
        sentence = refusal(cell(*stages))
        assert "ncm stands on a finished backbone" in sentence and "'psc > ncm'" in sentence
    assert finish(cell(stage("psc"), stage("ncm", recipe=(), frozen=True)))


def test_a_trained_stage_needs_a_recipe():
    sentence = refusal(cell(stage("psc"), stage("etf", recipe=(), frozen=True)))
    assert "etf after an arrow is trained with the recipe of its own name" in sentence
    assert "Write etf@RECIPE; recipes: assignment_5, balanced_250," in sentence


def test_mixup():
    own = table(pairs=asking(mixup=False))
    sentence = refusal(cell(stage("pairs", recipe=MIXED)), own)
    assert "pairs cannot be trained with recipe 'long_tail_200'" in sentence
    assert finish(cell(stage("pairs")), own)  # without mixup
    frozen = table(pairs=asking(mixup=False, frozen=True, trains=False))
    assert finish(cell(stage("psc", recipe=MIXED), stage("pairs", recipe=(), frozen=True)), frozen)


def test_words_may_be_missing():
    own = table(wordy=asking(words=True))
    with pytest.raises(Unmet, match="wordy needs one word vector per class name") as error:
        finish(cell(stage("wordy")), own)
    assert "none were given for digits" in str(error.value) and "--words" in str(error.value)
    assert complete(cell(stage("wordy")), own, lambda name: 124, words=lambda name: True)
    with pytest.raises(Unmet):
        complete(cell(stage("wordy")), own, lambda name: 124, words=lambda name: name == "cifar10")


def test_a_source_is_a_cell_of_its_own():
    own = table(heir=asking(source=("plain", {"size": 4, "rate": 1, "dim": None, "kind": "a"})))
    heir = finish(cell(stage("heir", {"dim": 8}), seed=2), own)
    asked = finish(cell(stage("plain", {"size": 4, "rate": 1.0}), seed=2), own)
    assert heir.source == asked and heir.source.key == asked.key
    assert heir.foundations == (asked,)
    back = Cell.from_json(heir.to_json())
    assert back == heir and back.source == asked
    assert asked.source is None and asked.foundations == ()
    pipe = finish(cell(stage("psc"), stage("heir", frozen=True)), own)
    assert pipe.source.method == "psc > plain rate=1 size=4 recipe=quick"
    assert pipe.foundations == (pipe.trunk, pipe.source)


def test_a_source_must_be_trained_by_itself():
    for needs in ({"source": ("psc", {})}, {"trains": False, "frozen": True}):
        own = table(heir=asking(source=("middle", {})), middle=asking(**needs))
        sentence = refusal(cell(stage("heir")), own)
        assert "heir starts from the class vectors of middle, which is not trained" in sentence
    own = table(heir=asking(source=("pcs", {})))
    assert refusal(cell(stage("heir")), own).startswith("unknown head 'pcs'")
    own = table(heir=asking(source=("plain", {"sise": 1})))
    assert "head 'plain' has no option 'sise'" in refusal(cell(stage("heir")), own)


@pytest.mark.parametrize(
    "pipe, needs, sentence",
    [
        (["greedy"], {"experts": 3}, "greedy asks for 3 experts, and backbone small_cnn has one"),
        (["psc", "greedy"], {"experts": 3}, "the head before it gives one vector an image"),
        (["greedy"], {"teacher": True}, "sees the last of several views, and for 1 view"),
    ],
)
def test_what_is_not_offered(pipe, needs, sentence):
    stages = [stage(name, frozen=position > 0) for position, name in enumerate(pipe)]
    own = table(greedy=asking(**needs))
    with pytest.raises(ValueError) as caught:
        complete(cell(*stages), own, lambda name: 124, experts=lambda name: name == "resnet32")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


def test_experts_views_and_a_teacher_are_offered():
    own = table(greedy=asking(experts=3), keen=asking(views=2, teacher=True))
    for pipe in ((stage("greedy"), stage("ncm", recipe=(), frozen=True)), (stage("keen"),)):
        made = complete(cell(*pipe), own, lambda name: 124, experts=lambda name: True)
        assert len(made.stages) == len(pipe)


def test_every_stage_is_looked_at():
    assert "pcs" in refusal(cell(stage("psc"), stage("pcs", frozen=True)))
    assert "pcs" in refusal(cell(stage("pcs"), stage("ncm", frozen=True)))


def test_content_of_heads_outside():
    known = table()
    own = Registry(known.heads, known.digests, {"plain": "abc"})
    pipe = finish(cell(stage("psc"), stage("plain", frozen=True)), own)
    assert [each.content for each in pipe.stages] == ["", "abc"]


# heads are built once before anything trains


def fitting(of, width=64, own=None):
    def problem(_, stage, given):
        counts = torch.full((10,), 5)
        points = lambda dim, objective="energy": torch.ones(10, dim)  # noqa: E731
        return Problem(width=given or width, counts=counts, seed=0, points=points)

    fits(of, problem, own or table())


def test_fits():
    fitting(cell(stage("etf", {"dim": 9})))
    with pytest.raises(ValueError, match="etf needs dim >= classes - 1"):
        fitting(cell(stage("etf", {"dim": 8})))
    with pytest.raises(ValueError, match="etf needs dim >= classes - 1"):
        fitting(cell(stage("etf")), width=8)
    with pytest.raises(ValueError, match="etf needs dim"):  # the width of a stage is the dim before
        fitting(cell(stage("psc", {"dim": 4}), stage("etf", frozen=True)))
    fitting(cell(stage("psc", {"dim": 9}), stage("etf", frozen=True)))


def test_a_head_that_cannot_be_built():
    class Broken(Plain):
        def __init__(self, problem, *, dim: int = 3):
            super().__init__(problem)
            raise TypeError("no such thing")

    with pytest.raises(
        ValueError, match=r"broken dim=2 cannot be built \(TypeError: no such thing"
    ):
        fitting(cell(stage("broken", {"dim": 2})), own=table(broken=Broken))


# order


def test_trunks_come_first_and_are_shared():
    psc = stage("psc")
    ncm = [stage("ncm", {"transform": name}, (), True) for name in ("none", "l2n")]
    etf = stage("etf", frozen=True)
    pipes = [cell(psc, etf, ncm[0]), cell(psc, ncm[0]), cell(psc, ncm[1]), cell(psc, etf)]
    other = cell(psc, ncm[0], seed=1)
    found = with_foundations([*pipes, other])
    assert [(len(each.stages), asked) for each, asked in found] == [
        *((1, False), (1, False)),
        *((2, True), (2, True), (2, True), (2, True)),
        (3, True),
    ]
    keys = [each.key for each, _ in found]
    assert len(set(keys)) == len(keys)
    for each, _ in found:
        assert each.trunk is None or keys.index(each.trunk.key) < keys.index(each.key)
    assert (
        dict(with_foundations([cell(psc, etf), cell(psc)]))[cell(psc)] is True
    )  # asked for as well


def test_sources_come_before_what_starts_from_them():
    own = table(heir=asking(source=("plain", {"size": 4})))
    heir = finish(cell(stage("heir")), own)
    pipe = finish(cell(stage("heir"), stage("ncm", recipe=(), frozen=True)), own)
    found = with_foundations([pipe, heir])
    assert [(each.method, asked) for each, asked in found] == [
        ("plain size=4", False),
        ("heir", True),
        ("heir > ncm", True),
    ]


# states


@pytest.fixture
def standing(tmp_path):
    """A finished cell, its record, and a function that gives its state."""
    own = table()
    pipe = finish(cell(stage("psc"), stage("ncm", recipe=(), frozen=True)), own)
    record = Record(tmp_path / pipe.key)

    def look(registry=own, images=None, words=None):
        return state(pipe, record, registry, images, words)

    def done(kind="done", words=None):
        heads = {h: own.digests[h] for h in ("psc", "ncm")}
        digests = {"images": "abc", "heads": heads, "words": words}
        record.begin(pipe)
        record.finish(
            {"state": kind, "digests": digests}, {"a": np.ones(2)}, {"w": np.ones(3, "float32")}
        )

    return look, done, record, own


def test_missing_done_diverged(standing):
    look, done, record, _ = standing
    assert look() == ("missing", "")
    done()
    assert look() == ("done", "") == look(images="abc")
    done("diverged")
    assert look() == ("diverged", "")


def test_failed(standing):
    look, done, record, _ = standing
    record.fail("RuntimeError: no", "Traceback …")
    assert look() == ("failed", "RuntimeError: no")
    done()  # a result comes in place of the failure
    assert look() == ("done", "")


def test_running_while_it_is_held(standing):
    look, done, record, _ = standing
    record.fail("RuntimeError: no", "Traceback …")  # of an earlier try
    with record.claim({}):
        assert look() == ("running", "another process trains it")
    assert look()[0] == "failed"
    done()
    with record.claim({}):
        assert look() == ("done", "")  # what is finished is finished


@pytest.mark.parametrize("name", ["result", "failure"])
def test_a_damaged_file_is_a_state(standing, name):
    look, done, record, _ = standing
    done() if name == "result" else record.fail("no", "no")
    (record.folder / f"{name}.json").write_bytes(b"{")
    assert look()[0] == "torn"


def test_changed_word_vectors(standing):
    look, done, *_ = standing
    done(words="def")
    assert look(words="def") == look(words=None) == ("done", "")
    assert look(words="other") == (
        "changed",
        "the word vectors changed after this cell was trained",
    )
    done()
    assert look(words="def") == ("done", "")  # it needed none


def test_a_changed_source_head_changes_what_starts_from_it(tmp_path):
    own = table(heir=asking(source=("plain", {})))
    heir = finish(cell(stage("heir")), own)
    record = Record(tmp_path / heir.key)
    record.begin(heir)
    digests = {"images": "abc", "heads": {name: own.digests[name] for name in ("heir", "plain")}}
    record.finish({"state": "done", "digests": digests}, {}, {})
    assert state(heir, record, own) == ("done", "")
    other = Registry(own.heads, {**own.digests, "plain": "1" * 64}, {})
    assert state(heir, record, other)[0] == "changed"


@pytest.mark.parametrize("head", ["psc", "ncm"])
def test_changed_source(standing, head):
    look, done, _, own = standing
    done()
    other = Registry(own.heads, {**own.digests, head: "1" * 64}, {})
    assert look(other) == ("changed", f"the source of {head} changed after this cell was trained")


def test_changed_images(standing):
    look, done, _, _ = standing
    done()
    assert look(images="abd")[0] == "changed" and "images" in look(images="abd")[1]


def test_torn(standing):
    look, done, record, _ = standing
    done()
    path = record.folder / "result.json"
    path.write_bytes(path.read_bytes().replace(b"done", b"dome"))
    kind, reason = look()
    assert kind == "torn" and "result.json is damaged" in reason and "doctor --fix" in reason


@pytest.mark.parametrize("lost", ["digests", "digests.heads", "digests.images", "state"])
def test_a_result_that_lacks_what_it_says_is_torn(standing, lost):
    """Sealed as it should be, and yet written by somebody else."""
    look, done, record, own = standing
    done()
    result = record.result()
    part, _, below = lost.partition(".")
    if below:
        result[part][below] = 3 if below == "heads" else None
        result[part] = {k: v for k, v in result[part].items() if v is not None}
    else:
        del result[part]
    record.finish(result, {"a": np.ones(2)}, {"w": np.ones(3, "float32")})
    kind, reason = look(images="abc")
    assert kind == "torn" and "result.json is sealed, but lacks" in reason


def test_an_unknown_state_is_torn(standing):
    look, done, *_ = standing
    done("finished")
    assert look()[0] == "torn"
