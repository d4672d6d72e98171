"""MLflow from the records and back, on real databases."""

import math
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from benchmark.planning.cell import Stage, freeze
from benchmark.records import ledger as module
from benchmark.records.ledger import COST, EXPERIMENT, Ledger, Unreachable, columns, describe
from benchmark.records.record import Record, records

ROOT = Path(__file__).resolve().parents[3]


def client(ledger):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=ledger.uri)


def runs(ledger):
    own = client(ledger)
    return own.search_runs([own.get_experiment_by_name(EXPERIMENT).experiment_id])


def drawn(ledger, run) -> dict[str, list[tuple[int, float]]]:
    """The points of a run: name -> (step, value), as many as there are."""
    own = client(ledger)
    return {
        name: [(each.step, each.value) for each in own.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


def test_what_is_read_is_what_was_recorded(ledger, cell, finished):
    found = [finished(cell(seed)) for seed in (0, 1)]
    for record in found:
        record.tag("quick")
    assert ledger.deliver(found) == 2
    frame = ledger.read()
    assert list(frame.columns) == columns()
    assert list(frame["key"]) == [record.key for record in found]  # in the order of labels
    for record, (_, row) in zip(found, frame.iterrows(), strict=True):
        result = record.result()
        for name, value in result["metrics"].items():
            assert row[name] == value or (math.isnan(value) and math.isnan(row[name])), name
        for name in COST:
            known = result["cost"].get(name, math.nan)
            assert row[name] == known or (math.isnan(row[name]) and math.isnan(known)), name
        for name, value in result["size"].items():
            assert name not in row or row[name] == value
        assert row["finished"] == result["cost"]["finished"] and row["state"] == "done"
        assert math.isnan(row["oracle"]) and math.isnan(row["diverged_step"])
        assert row["label"] == record.cell().label
        assert (row["data"], row["ratio"], row["largest"]) == ("digits", 20.0, 124)
        assert (row["backbone"], row["head"], row["dim"]) == (
            *("small_cnn", "psc cosine=True > ncm", 8),
        )
        assert (row["recipe"], row["epochs"]) == ("quick", 30)
        assert (row["seed"], row["suites"]) == (str(record.cell().seed), "quick")
        assert (row["profile"], row["group_rule"]) == ("exponential", "kang")


def test_what_people_see(ledger, cell, finished):
    record = finished(cell())
    ledger.deliver([record])
    (run,) = runs(ledger)
    points = drawn(ledger, run)
    assert points["train/loss"] == [(row["epoch"], row["loss"]) for row in record.curves()]
    assert points["head/moved"] == [(0, 0.0), (30, 30 / 7), (60, 60 / 7)]
    assert points["head/recall_1 f_r k"] == [(0, 0.5), (30, 0.5), (60, 0.5)]  # MLflow's alphabet
    assert "medium" not in points  # not a number
    assert run.info.status == "FINISHED" and run.data.params["psc.dim"] == "8"
    assert cell().method in run.info.run_name
    names = {each.path for each in client(ledger).list_artifacts(run.info.run_id)}
    assert names == {"arrays.safetensors", "cell.json", "result.json"}
    assert (ledger.artifacts / run.info.run_id).is_dir()


def test_history_and_arrays_of_a_run(ledger, cell, finished):
    record = finished(cell())
    ledger.deliver([record])
    run = ledger.read()["run_id"][0]
    moved = ledger.series(run, "head/moved")
    assert list(moved["step"]) == [0, 30, 60]
    assert list(moved["value"]) == [0.0, 30 / 7, 60 / 7]
    # the last stage has nothing to train: all that is known of its epochs is that there are none
    assert describe(cell())["stage_epochs"] == 0 and describe(cell())["epochs"] == 30
    assert list(moved["epoch"]) == [at / 60 for at in (0, 30, 60)]
    loss = ledger.series(run, "train/loss")
    assert list(loss["epoch"]) == [row["epoch"] for row in record.curves()]
    assert ledger.series(run, "head/nothing").empty
    arrays = ledger.arrays(run)
    assert set(arrays) == set(record.arrays())
    for name, value in record.arrays().items():
        assert (arrays[name] == value).all()


def test_a_cell_that_is_given_up_may_still_be_trained(ledger, cell, finished):
    run = ledger.begin(cell(), ("search",))
    ledger.leave(run, "recalled")
    (found,) = runs(ledger)
    assert found.info.status == "KILLED" and found.data.tags["benchmark.reason"] == "recalled"
    assert ledger.read().empty
    assert ledger.deliver([finished(cell())]) == 1
    (found,) = runs(ledger)
    assert found.info.status == "FINISHED" and "benchmark.reason" not in found.data.tags


def test_twice_is_once(ledger, cell, finished):
    record = finished(cell())
    assert ledger.deliver([record]) == 1
    before = ledger.read()
    points = drawn(ledger, runs(ledger)[0])
    assert ledger.deliver([record]) == 0 == Ledger(ledger.uri, ledger.artifacts).deliver([record])
    assert len(runs(ledger)) == 1
    pd.testing.assert_frame_equal(ledger.read(), before)
    assert drawn(ledger, runs(ledger)[0]) == points


def test_a_result_committed_twice_is_read_once(ledger, cell, finished, monkeypatch):
    """Two processes that deliver at the same moment know nothing of each other."""
    record = finished(cell())
    ledger.deliver([record])
    once = ledger.read()
    monkeypatch.setattr(module, "_known", lambda *of: {})
    ledger.deliver([record])
    assert len(runs(ledger)) == 2
    pd.testing.assert_frame_equal(ledger.read().drop(columns="run_id"), once.drop(columns="run_id"))


def test_more_records_than_single_questions(ledger, cell, finished, monkeypatch):
    found = [finished(cell(seed)) for seed in range(3)]
    assert ledger.deliver(found[:1]) == 1
    few = module._known
    monkeypatch.setattr(module, "_known", lambda own, where, keys: few(own, where, keys * 21))
    assert ledger.deliver(found) == 2
    assert ledger.deliver(found) == 0
    assert len(runs(ledger)) == 3


def test_deleting_the_database_loses_nothing(ledger, cell, finished, migrated, tmp_path):
    found = [finished(cell(seed)) for seed in (0, 1)]
    found.append(finished(cell(2), "diverged", diverged_step=17))
    ledger.deliver(found)
    before = ledger.read().drop(columns="run_id")
    (tmp_path / "mlflow.db").unlink()  # under another name, since MLflow keeps a file open
    shutil.copy(migrated, tmp_path / "new.db")
    new = Ledger(f"sqlite:///{tmp_path / 'new.db'}", ledger.artifacts)
    assert new.read().empty
    assert new.deliver(records(tmp_path / "runs")) == 3
    pd.testing.assert_frame_equal(new.read().drop(columns="run_id"), before)


def test_an_empty_ledger(ledger):
    frame = ledger.read()
    assert frame.empty and list(frame.columns) == columns()
    assert ledger.read("quick").empty
    assert ledger.deliver([]) == 0


def test_half_delivered_runs_are_not_read_and_are_finished_later(
    ledger, cell, finished, monkeypatch
):
    record = finished(cell())
    with monkeypatch.context() as patch:
        real = module._asking.__enter__

        def enter(self):
            own = real(self)
            own.log_dict = None  # the connection ends in the middle
            return own

        patch.setattr(module._asking, "__enter__", enter)
        with pytest.raises(Unreachable):
            ledger.deliver([record])
    (run,) = runs(ledger)
    assert run.data.metrics["accuracy"] == record.result()["metrics"]["accuracy"]
    assert ledger.read().empty
    assert ledger.deliver([record]) == 1
    assert len(runs(ledger)) == 1 and len(ledger.read()) == 1
    assert drawn(ledger, runs(ledger)[0])["accuracy"] == [(30, run.data.metrics["accuracy"])]


def test_the_commit_comes_last(ledger, cell, finished, monkeypatch):
    calls = []
    real = module._asking.__enter__

    def enter(self):
        own = real(self)
        for name in ("log_batch", "log_dict", "set_tag", "set_terminated"):
            call = getattr(own, name)

            def noted(*args, call=call, name=name, **named):
                calls.append((name, args[1] if name == "set_tag" else ""))
                return call(*args, **named)

            setattr(own, name, noted)
        return own

    monkeypatch.setattr(module._asking, "__enter__", enter)
    ledger.deliver([finished(cell())])
    assert calls[-1] == ("set_tag", "benchmark.committed")
    assert [name for _, name in calls].count("benchmark.committed") == 1


def test_suites_are_tags(ledger, cell, finished):
    shared, own = finished(cell(0)), finished(cell(1))
    shared.tag("quick")
    own.tag("mine")
    ledger.deliver([shared, own])
    assert list(ledger.read("quick")["key"]) == [shared.key]
    shared.tag("mine")
    assert ledger.deliver([shared, own]) == 0  # a tag is no new result
    assert set(ledger.read("mine")["key"]) == {shared.key, own.key}
    assert list(ledger.read("quick")["key"]) == [shared.key]
    assert ledger.read("mi").empty and ledger.read("elsewhere").empty
    assert len(ledger.read()) == 2 == len(runs(ledger))


def test_a_new_result_replaces_the_old_one(ledger, cell, finished):
    ledger.deliver([finished(cell())])
    again = finished(cell(), number=7, epochs=2)
    assert ledger.deliver([again]) == 1
    frame = ledger.read()
    assert len(frame) == 1 == len(runs(ledger))
    assert frame["accuracy"][0] == again.result()["metrics"]["accuracy"]
    assert frame["seconds"][0] == again.result()["cost"]["seconds"]
    assert [step for step, _ in drawn(ledger, runs(ledger)[0])["train/loss"]] == [1, 2]


def test_new_costs_replace_old_ones_though_the_weights_are_the_same(ledger, cell, finished):
    record = finished(cell())
    ledger.deliver([record])
    slower = {**record.result(), "cost": {**record.result()["cost"], "seconds": 99.0}}
    record.finish(slower, {}, record.weights())
    assert ledger.deliver([record]) == 1
    assert list(ledger.read()["seconds"]) == [99.0]


def test_failures_are_shown_and_not_read(ledger, cell, tmp_path):
    record = Record(tmp_path / "runs" / cell().key)
    record.begin(cell())
    record.fail("RuntimeError: the reason", "Traceback\n  the whole story")
    assert ledger.deliver([record]) == 1
    (run,) = runs(ledger)
    assert run.info.status == "FAILED"
    assert "the reason" in run.data.tags["benchmark.reason"]
    (tmp_path / "down").mkdir()
    own = client(ledger)
    path = own.download_artifacts(run.info.run_id, "traceback.txt", str(tmp_path / "down"))
    assert Path(path).read_text() == "Traceback\n  the whole story"
    assert ledger.read().empty
    assert ledger.deliver([record]) == 0  # twice is once
    record.fail("RuntimeError: another", "…")
    assert ledger.deliver([record]) == 1
    assert len(runs(ledger)) == 1


def test_a_result_after_a_failure(ledger, cell, finished, tmp_path):
    record = Record(tmp_path / "runs" / cell().key)
    record.begin(cell())
    record.fail("RuntimeError: the reason", "…")
    ledger.deliver([record])
    assert ledger.deliver([finished(cell())]) == 1
    (run,) = runs(ledger)
    assert run.info.status == "FINISHED" and "benchmark.reason" not in run.data.tags
    assert len(ledger.read()) == 1


def test_diverged(ledger, cell, finished):
    record = finished(cell(), "diverged", diverged_step=17)
    assert ledger.deliver([record]) == 1
    frame = ledger.read()
    assert list(frame["state"]) == ["diverged"] and list(frame["diverged_step"]) == [17.0]
    assert math.isnan(frame["accuracy"][0]) and frame["dim"][0] == 8
    assert ledger.deliver([record]) == 0
    earlier = finished(cell(), "diverged", diverged_step=3)
    assert ledger.deliver([earlier]) == 1
    assert list(ledger.read()["diverged_step"]) == [3.0]


# a cell that is shown while it is trained


def test_followed_cells_are_one_run_without_doubled_points(ledger, cell, finished):
    record = finished(cell())
    begun = ledger.begin(cell(), ("quick",))
    assert [run.info.status for run in runs(ledger)] == ["RUNNING"]
    assert ledger.read().empty
    ledger.follow(begun, record.curves()[:1])
    ledger.follow(begun, record.curves()[1:2])
    assert ledger.begin(cell(), ("quick",)) == begun  # after an interruption
    assert ledger.deliver([record]) == 1
    (run,) = runs(ledger)
    assert run.info.run_id == begun and run.info.status == "FINISHED"
    for name, points in drawn(ledger, run).items():
        assert len(points) == len(set(points)), name
    assert [step for step, _ in drawn(ledger, run)["train/loss"]] == [1, 2, 3]
    assert list(ledger.read()["run_id"]) == [begun]


def test_points_of_an_abandoned_try_are_not_kept(ledger, cell, finished):
    begun = ledger.begin(cell(), ("quick",))
    lost = [{**row, "time": row["time"] - 77, "loss": 9.0} for row in finished(cell()).curves()]
    ledger.follow(begun, lost)  # its process was killed; another one began anew
    assert ledger.deliver([finished(cell())]) == 1
    (run,) = runs(ledger)
    losses = drawn(ledger, run)["train/loss"]
    assert [step for step, _ in losses] == [1, 2, 3]
    assert 9.0 not in [value for _, value in losses]


def test_many_points_at_once(ledger, cell, finished):
    record = finished(cell(), epochs=700)  # more than one batch of a server
    ledger.deliver([record])
    assert len(drawn(ledger, runs(ledger)[0])["train/loss"]) == 700


# damage and distance


def test_damaged_records_are_left_out(ledger, cell, finished):
    whole, torn, blurred = finished(cell(0)), finished(cell(1)), finished(cell(2))
    path = torn.folder / "result.json"
    path.write_bytes(path.read_bytes().replace(b"done", b"dome"))
    (blurred.folder / "cell.json").write_text("{")
    assert ledger.deliver([torn, blurred, whole]) == 1
    assert [each.key for each in module.undelivered(whole.folder.parent)] == [whole.key]


def test_an_address_where_nobody_answers(cell, finished, tmp_path):
    away = Ledger("http://127.0.0.1:1", tmp_path / "mlartifacts")
    record = finished(cell())
    with pytest.raises(Unreachable) as error:
        away.deliver([record])
    sentence = str(error.value)
    assert "\n" not in sentence and "http://127.0.0.1:1" in sentence
    assert "The records are safe" in sentence and "doctor" in sentence
    assert away.check() is None
    assert record.result()["state"] == "done"


def test_a_database_that_is_none(cell, finished, tmp_path):
    path = tmp_path / "mlflow.db"
    path.write_bytes(b"this is no database, but long enough to look like one" * 40)
    broken = Ledger(f"sqlite:///{path}", tmp_path / "mlartifacts")
    assert "is not a database" in broken.check()
    with pytest.raises(Unreachable) as error:
        broken.deliver([finished(cell())])
    assert "\n" not in str(error.value)


def test_a_database_with_a_damaged_page(ledger, cell, finished, tmp_path):
    assert ledger.check() is None
    ledger.deliver([finished(cell())])
    assert ledger.check() is None
    path = tmp_path / "mlflow.db"
    content = bytearray(path.read_bytes())
    content[4096 : 4096 * 12] = b"\xff" * (4096 * 11)
    path.write_bytes(content)
    assert str(path) in ledger.check()


def test_no_database_yet(tmp_path):
    assert Ledger(f"sqlite:///{tmp_path / 'mlflow.db'}", tmp_path).check() is None
    assert not (tmp_path / "mlflow.db").exists()  # looking makes none


def test_the_usual_address(tmp_path, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert module.default_uri(tmp_path) == f"sqlite:///{tmp_path / 'mlflow.db'}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")
    assert module.default_uri(tmp_path) == "http://elsewhere"


# cells for people


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


def test_the_ledger_needs_no_torch_and_mlflow_only_when_asked():
    code = (
        "import sys, benchmark.records.ledger; "
        "print([m for m in ('torch', 'mlflow') if m in sys.modules])"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
