"""Optuna over a study, without training: what is drawn, told, kept, and gone on with."""

import os

import optuna
import pytest

from studies.holes import Choice, Grid, Range, Search
from studies.search import Journal, Mirror, Searching, Taken, identity, left_open

SPACE = {
    "head.dl2pa.dim": Range(3, 64, log=True),
    "head.dl2pa.momentum": Range(0.5, 0.99),
    "head.dl2pa.assignment": Choice(("dynamic", "fixed")),
}


@pytest.fixture
def path(tmp_path):
    """The journal of a study, in a folder that is not there yet."""
    return tmp_path / "notebook" / "mine.journal"


def searching(journal, trials=20, epochs=10, name="mine 1", **more):
    return Searching(journal, name, Search(trials, **more), SPACE, epochs)


def score(draw):
    return draw.values["head.dl2pa.dim"] / 64


def drawn(path, trials, cuts=(), **more):
    """What a study draws when it is closed after these numbers of trials, told one by one."""
    values = []
    for end in (*cuts, trials):
        with Journal(path) as journal:
            study = searching(journal, end, **more)
            while (draw := study.ask()) is not None:
                values.append(dict(draw.values))
                study.complete(draw, score(draw))
            assert study.count() == {"finished": end, "pruned": 0, "open": 0}
    return values


def test_a_study_that_was_interrupted_draws_what_an_undisturbed_one_does(tmp_path):
    whole = drawn(tmp_path / "whole.journal", 16)
    assert drawn(tmp_path / "again.journal", 16) == whole
    assert drawn(tmp_path / "parts.journal", 16, cuts=(1, 4, 12)) == whole
    assert drawn(tmp_path / "other.journal", 16, seed=1) != whole
    assert len({tuple(values.values()) for values in whole}) == 16  # none is drawn twice
    assert all(isinstance(values["head.dl2pa.dim"], int) for values in whole)
    assert {values["head.dl2pa.assignment"] for values in whole} == {"dynamic", "fixed"}


def test_tpe_goes_where_it_is_good_and_random_does_not(tmp_path):
    def late(sampler):
        values = drawn(tmp_path / f"{sampler}.journal", 40, sampler=sampler)
        return sum(each["head.dl2pa.dim"] for each in values[20:]) / 20

    assert late("tpe") > 40 > late("random")


def test_open_trials_are_gone_on_with(path):
    with Journal(path) as journal:
        study = searching(journal, 4)
        first, second = study.ask(), study.ask()
        study.report(second, [{"epoch": 1, "validation": 0.5}])
        study.complete(first, 0.1)
        study.study.ask()  # killed before it drew a value
    with Journal(path) as journal:
        study = searching(journal, 4)
        left = study.open()
        assert [draw.number for draw in left] == [1, 2]
        assert left[0].values == second.values and left[0].reported == {1}
        assert set(left[1].values) == set(SPACE)
        study.report(left[0], [{"epoch": 1, "validation": 0.9}, {"epoch": 2, "validation": 0.6}])
        assert study.trials[1].intermediate_values == {1: 0.5, 2: 0.6}
        assert study.ask().number == 3 and study.ask() is None
        assert study.count() == {"finished": 1, "pruned": 0, "open": 3}


def test_trials_that_nobody_trains_are_failed_and_asked_for_again(path, tmp_path):
    """What is drawn, and how many are finished, is as if nothing had happened."""
    whole = drawn(tmp_path / "whole.journal", 12)
    values = {}

    def end(study, draw):
        values[study.name(draw, f"cell {draw.values}", "…") or str(draw.values)] = draw.values
        study.complete(draw, score(draw))

    with Journal(path) as journal:
        study = searching(journal, 12)
        for _ in range(5):
            end(study, study.ask())
        lost = study.ask()
        study.name(lost, "cell lost", "…")
        study.report(lost, [{"epoch": 1, "validation": 0.5}])
        with pytest.raises(Taken, match="another process"):
            left_open(path)
    assert left_open(path) == ["mine 1, trial 5"]  # looking changes nothing
    assert left_open(path, fail=True) == ["mine 1, trial 5"]
    assert left_open(path) == []
    with Journal(path) as journal:
        study = searching(journal, 12)
        assert study.open() == [] and study.twin("cell lost") is None
        assert study.count() == {"finished": 5, "pruned": 0, "open": 0}
        again = study.ask()
        assert again.values == lost.values and again.reported == set()
        assert left_open_here(study) == [6]
    assert left_open(path, fail=True) == ["mine 1, trial 6"]  # and once more
    with Journal(path) as journal:
        study = searching(journal, 12)
        study.ask()  # killed at once: it is gone on with
    with Journal(path) as journal:
        study = searching(journal, 12)
        (again,) = study.open()
        assert again.values == lost.values
        end(study, again)
        while (draw := study.ask()) is not None:
            end(study, draw)
        assert study.count() == {"finished": 12, "pruned": 0, "open": 0}
    assert list(values.values()) == whole


def left_open_here(study):
    return [trial.number for trial in study.trials if not trial.state.is_finished()]


def finish(study, level, epochs=10):
    draw = study.ask()
    study.report(draw, [{"epoch": e, "validation": level} for e in range(1, epochs + 1)])
    study.complete(draw, level)


def rows(level, *epochs):
    return [{"epoch": epoch, "validation": level} for epoch in epochs]


def test_the_pruner_stops_what_is_below_the_median(path):
    with Journal(path) as journal:
        study = searching(journal)
        for level in (0.1, 0.2, 0.6, 0.7, 0.8):
            finish(study, level)
        bad, good = study.ask(), study.ask()
        assert not study.report(bad, rows(0.3, 1))  # a fifth of ten epochs is never pruned
        assert study.report(bad, rows(0.3, 2, 3, 4))
        assert bad.reported == {1, 2}  # what arrived too late is not looked at
        assert not study.report(good, rows(0.65, 1, 2, 3))
        left = study.open()
        assert [draw.stopped for draw in left] == [True, False]  # the verdict outlives a kill
        study.complete(bad, 0.99)  # it was over before the word arrived: the verdict stands
        study.complete(good, 0.65)
        last = study.ask()
        assert not study.report(last, rows(0.0, 10))  # nothing is saved at the last epoch
        assert study.count() == {"finished": 6, "pruned": 1, "open": 1}
        assert study.best() == (study.trials[4].params, 0.8)


def test_no_pruner_stops_nothing(path):
    with Journal(path) as journal:
        study = searching(journal, pruner="none")
        for _ in range(6):
            finish(study, 0.9)
        assert not study.report(study.ask(), rows(0.0, *range(1, 10)))


def test_twins_share_their_end(path):
    with Journal(path) as journal:
        study = searching(journal)
        draws = [study.ask() for _ in range(4)]
        for draw, key in zip(draws, "abab", strict=True):
            study.name(draw, key, f"cell {key}")
        assert study.twin("a") is None  # open
        study.report(draws[1], rows(0.4, 1))
        study.complete(draws[0], 0.7)
        study.prune(draws[1], "diverged")
        study.copy(draws[2], study.twin("a"))
        study.copy(draws[3], study.twin("b"))
        assert study.count() == {"finished": 2, "pruned": 2, "open": 0}
        assert study.trials[2].value == 0.7
        assert study.trials[3].intermediate_values == {1: 0.4}
        assert study.trials[3].user_attrs["why"] == "diverged"
        assert study.best()[0] == study.trials[0].params  # of equals the first


def test_importances_find_what_matters(path):
    with Journal(path) as journal:
        study = searching(journal, 30, sampler="random")
        assert study.importances() == {} and study.best() is None
        for _ in range(9):
            draw = study.ask()
            study.complete(draw, score(draw))
        assert study.importances() == {}
        while (draw := study.ask()) is not None:
            study.complete(draw, score(draw))
        shares = study.importances()
        assert set(shares) == set(SPACE)
        assert max(shares, key=shares.get) == "head.dl2pa.dim" and shares["head.dl2pa.dim"] > 0.5


def test_one_process_at_a_time(path):
    with Journal(path), pytest.raises(ValueError, match="study mine is run by another process"):
        Journal(path).__enter__()
    with Journal(path):  # it is free again
        pass


def test_a_line_that_was_torn_is_cut_off(path):
    with Journal(path) as journal:
        finish(searching(journal), 0.5)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"op_code":4,"work')
    with Journal(path) as journal:
        assert searching(journal).count() == {"finished": 1, "pruned": 0, "open": 0}
        finish(searching(journal), 0.6)
    with Journal(path) as journal:
        assert searching(journal).count() == {"finished": 2, "pruned": 0, "open": 0}
    assert path.read_bytes().startswith(whole)


def test_a_journal_that_cannot_be_read_or_written(path, tmp_path):
    path.parent.mkdir()
    path.write_bytes(b"no journal\nat all\n")
    with pytest.raises(ValueError, match="cannot be read .* Move it away"):
        Journal(path).__enter__()
    path.write_bytes(b"")
    with Journal(path):
        pass
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="cannot write to .* Choose another --runs"):
        Journal(tmp_path / "file" / "mine.journal").__enter__()


def test_nothing_but_the_journal_is_left(path):
    with Journal(path) as journal:
        finish(searching(journal), 0.5)
    assert os.listdir(path.parent) == ["mine.journal"]


def test_studies_of_another_question_do_not_mix(path):
    assert identity("mine", [1, {"a": 2}]) == identity("mine", [1, {"a": 2}])
    assert identity("mine", [1]) != identity("mine", [2])
    assert identity("mine", [1]).startswith("mine ")
    with Journal(path) as journal:
        finish(searching(journal, name="mine 1"), 0.5)
        assert searching(journal, name="mine 2").count()["finished"] == 0


def test_a_grid_is_written_down_once(path):
    grids = {"head.dl2pa.dim": Grid((4, 8)), "head.dl2pa.assignment": Grid(("dynamic", "fixed"))}
    for _ in range(2):
        with Journal(path) as journal:
            mirror = Mirror(journal, "mine 1", grids)
            both = {"head.dl2pa.dim": 4, "head.dl2pa.assignment": "fixed"}
            mirror.note("a", "cell a", both, 0.5)
            mirror.note("b", "cell b", both, 0.6)  # another seed
            mirror.note("c", "cell c", {}, 0.7)  # a line without holes
            mirror.note("d", "cell d", {"head.dl2pa.dim": 99}, None)  # diverged; --set dim=99
            trials = mirror.study.trials
    assert [trial.user_attrs["cell"] for trial in trials] == list("abcd")
    assert [trial.params for trial in trials] == [both, both, {}, {}]
    assert [trial.value for trial in trials] == [0.5, 0.6, 0.7, None]
    assert trials[3].state is optuna.trial.TrialState.FAIL
    assert trials[0].distributions["head.dl2pa.dim"] == optuna.distributions.IntDistribution(4, 8)
