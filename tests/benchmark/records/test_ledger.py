"""MLflow from the records and back, on real databases."""

import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from benchmark.records import delivery
from benchmark.records import ledger as module
from benchmark.records.ledger import EXPERIMENT, Ledger, Unreachable
from benchmark.records.record import Record, records
from benchmark.records.rows import COST, columns

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
    assert run.info.status == "FINISHED" and run.data.params["with.psc.dim"] == "8"
    assert run.info.run_name.startswith(cell().method)
    names = {each.path for each in client(ledger).list_artifacts(run.info.run_id)}
    assert names == {
        *("arrays.safetensors", "cell.json", "result.json", "curves.csv", "readings.csv"),
    }
    assert (ledger.artifacts / run.info.run_id).is_dir()


def test_what_people_compare_comes_first(ledger, cell, finished):
    """`mlflow ui` draws the first parameters that differ, by name, and the first metric."""
    ledger.deliver([finished(cell(seed, head)) for seed in (0, 1) for head in ("psc", "etf")])
    first, *_ = found = runs(ledger)
    names = sorted({name for run in found for name in run.data.params})
    differ = [n for n in names if len({run.data.params.get(n) for run in found}) > 1]
    assert differ[:2] == ["head", "seed"]
    assert next(iter(first.data.metrics)) == "accuracy"
    (images,) = first.inputs.dataset_inputs
    assert (images.dataset.name, images.dataset.digest) == ("digits 1:20", "abc")


def test_descriptions(ledger, cell, finished):
    asking = Ledger(ledger.uri, ledger.artifacts, lambda name: f"{name}: does it work?\nCost a lot")
    record = finished(cell())
    record.tag("mine")
    asking.deliver([record])
    (run,) = runs(ledger)
    told = run.data.tags["mlflow.note.content"]
    assert "Suite **mine**: does it work?" in told and "Cost" not in told
    assert f"replay {record.key}" in told and "at commit abc-dirty" in told
    experiment = client(ledger).get_experiment_by_name(EXPERIMENT)
    assert "one head on one data set" in experiment.tags["mlflow.note.content"]
    record.tag("other")
    assert asking.deliver([record]) == 0
    (run,) = runs(ledger)
    assert "Suite **other**" in run.data.tags["mlflow.note.content"]


def test_what_people_wrote_stays(ledger, cell, finished):
    record = finished(cell())
    ledger.deliver([record])
    (run,) = runs(ledger)
    own = client(ledger)
    own.set_tag(run.info.run_id, "mlflow.note.content", "look at this one")
    own.set_experiment_tag(run.info.experiment_id, "mlflow.note.content", "ours")
    record.tag("other")
    ledger.deliver([record])
    (run,) = runs(ledger)
    assert run.data.tags["mlflow.note.content"] == "look at this one"
    assert list(ledger.read("other")["key"]) == [record.key]
    assert own.get_experiment_by_name(EXPERIMENT).tags["mlflow.note.content"] == "ours"


def test_a_run_of_an_older_form_is_read_and_is_completed(ledger, cell, finished, monkeypatch):
    """As version 0.1 left them: sizes, key and label as bare parameters, fewer files, no note."""
    record = finished(cell())
    with monkeypatch.context() as patch:
        patch.setattr(delivery, "_sizes", lambda result: dict(result["size"]))
        patch.setattr(delivery, "FORM", "1")
        patch.setattr(delivery, "files", lambda *of: {"result.json": b"{}"})
        ledger.deliver([record])
    (run,) = runs(ledger)
    own = client(ledger)
    for name in ("benchmark.label", "mlflow.note.content", "benchmark.form"):
        own.delete_tag(run.info.run_id, name)
    own.log_param(run.info.run_id, "label", cell().label)
    before = ledger.read()
    assert list(before["label"]) == [cell().label] and list(before["flops"]) == [10**10]
    assert ledger.deliver([record]) == 1
    pd.testing.assert_frame_equal(ledger.read(), before)  # the same run, its id included
    names = {each.path for each in own.list_artifacts(run.info.run_id)}
    assert {"curves.csv", "readings.csv", "cell.json"} < names
    (run,) = runs(ledger)
    assert cell().method in run.data.tags["mlflow.note.content"]
    assert ledger.deliver([record]) == 0


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
    monkeypatch.setattr(module, "_known", lambda store, keys: few(store, keys * 21))
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
            own.log_artifacts = None  # the connection ends in the middle
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
        for name in ("log_batch", "log_artifacts", "set_tag", "set_terminated"):
            call = getattr(own, name)

            def noted(*args, call=call, name=name, **named):
                calls.append((name, [tag.key for tag in named.get("tags", ())]))
                return call(*args, **named)

            setattr(own, name, noted)
        return own

    monkeypatch.setattr(module._asking, "__enter__", enter)
    ledger.deliver([finished(cell())])
    assert calls[-1] == ("log_batch", ["benchmark.committed"])
    assert sum("benchmark.committed" in tags for _, tags in calls) == 1


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


def test_what_is_renewed_is_delivered_then_read_and_searched_once_where_nothing_is_new(
    ledger, cell, finished, monkeypatch
):
    searches = []
    search = module._Store.runs
    monkeypatch.setattr(
        module._Store, "runs", lambda store: searches.append(store) or search(store)
    )

    def renewed(found, suite=None):
        searches.clear()
        frame = ledger.renew(found, suite)
        times = len(searches)
        pd.testing.assert_frame_equal(frame, ledger.read(suite))
        return list(frame["key"]), times

    first, second = finished(cell(0)), finished(cell(1))
    assert renewed([first]) == ([first.key], 2)
    assert renewed([first]) == ([first.key], 1)
    assert renewed([]) == ([first.key], 1)
    keys, times = renewed([first, second])
    assert set(keys) == {first.key, second.key} and times == 2
    second.tag("mine")  # no new result, and yet another frame
    assert renewed([first, second], "mine") == ([second.key], 2)
    assert renewed([first, second], "mine") == ([second.key], 1)


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
