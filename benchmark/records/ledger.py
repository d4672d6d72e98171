"""Deliver records to MLflow, find, read, rebuild: the only file that knows MLflow.

MLflow is written from the record on disk and is what people see and reports read. A run is
committed by its last tag, the checksum of the result that it was written from; MLflow's own run
status is not evidence, and readers take committed runs only.
"""

import json
import math
import os
import re
import sqlite3
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.numpy import load_file

from benchmark.planning.cell import PROTOCOL, Cell
from benchmark.records.record import Record, Torn, digest, records

EXPERIMENT = "classifier heads"
_KEY, _SUITES, _COMMITTED = "benchmark.key", "benchmark.suites", "benchmark.committed"
_REASON = "benchmark.reason"
_ARRAYS = "arrays.safetensors"
_TEXT = ("key", "label", "data", "profile", "backbone", "head", "recipe", "seed", "group_rule")
_WHOLE = ("largest", "dim", "epochs", "classes", "train_images", "parameters", "flops", "width")
MEASURED = (
    *("accuracy", "many", "medium", "few", "top5", "ece", "nc1", "nc2", "nc3", "nc4"),
    *("train_accuracy", "validation", "oracle", "flip"),
    *("cosine_max", "cosine_min", "cosine_mean", "cosine_sd", "angle_mean", "uniformity"),
)
COST = ("seconds", "images_per_second", "peak_memory_mb", "assignment_seconds")


class Unreachable(RuntimeError):
    """The tracking store does not answer; what could not be delivered stays in the records."""


def default_uri(folder: Path) -> str:
    """What `mlflow ui` opens in that folder without any flag."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve() / 'mlflow.db'}"


@dataclass(frozen=True, slots=True)
class Ledger:
    """MLflow at one address.

    uri        tracking address; a local SQLite file or a server
    artifacts  folder of artifacts, for an experiment that is new in a local file
    """

    uri: str
    artifacts: Path

    def open(self) -> str:
        """Create and migrate the database and the experiment; gives the experiment's id.

        To be called by the parent before workers start: a fresh SQLite file that several processes
        open at once breaks.

        Raises Unreachable.
        """
        with _asking(self.uri) as client:
            found = client.get_experiment_by_name(EXPERIMENT)
            if found is not None:
                return str(found.experiment_id)
            where = self.artifacts.resolve().as_uri() if self.uri.startswith("sqlite") else None
            return str(client.create_experiment(EXPERIMENT, artifact_location=where))

    def deliver(self, found: Iterable[Record]) -> int:
        """Bring what the store does not have yet: new results, failures, suites; gives how many.

        Running it twice is running it once. Raises Unreachable.
        """
        experiment = self.open()
        waiting = [record for record in found if _deliverable(record)]
        with _asking(self.uri) as client:
            known = _known(client, experiment, [record.key for record in waiting])
            return sum(_deliver(client, experiment, each, known.get(each.key)) for each in waiting)

    def begin(self, cell: Cell, suites: Sequence[str]) -> str:
        """Show a cell that is being trained: its run with parameters; gives the run's id."""
        experiment = self.open()
        with _asking(self.uri) as client:
            found = _known(client, experiment, [cell.key]).get(cell.key)
            if found is None:
                return _create(client, experiment, cell, suites)
            client.update_run(found.info.run_id, status="RUNNING")
            if _REASON in found.data.tags:
                client.delete_tag(found.info.run_id, _REASON)
            return str(found.info.run_id)

    def follow(self, run: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show epochs of a cell that is being trained: one batch. Raises Unreachable."""
        with _asking(self.uri) as client:
            _log(client, run, _curves(rows))

    def leave(self, run: str, reason: str) -> None:
        """Show that a cell's training was given up: a pruned trial. Raises Unreachable."""
        with _asking(self.uri) as client:
            client.set_tag(run, _REASON, reason)
            client.set_terminated(run, "KILLED")

    def read(self, suite: str | None = None) -> pd.DataFrame:
        """One row per committed cell, in the order of labels; columns as `columns()`.

        suite  only cells that this suite asked for

        Raises Unreachable.
        """
        experiment = self.open()
        with _asking(self.uri) as client:
            rows = [_row(run) for run in _runs(client, experiment) if _COMMITTED in run.data.tags]
        frame = pd.DataFrame([row for row in rows if row is not None], columns=columns())
        if suite is not None:
            asked = [suite in each.split(",") for each in frame["suites"]]
            frame = frame.loc[pd.Series(asked, index=frame.index, dtype=bool)]
        # two processes that deliver at once can commit the same result twice
        frame = frame.sort_values(["label", "key", "run_id"]).drop_duplicates("key")
        return frame.astype({name: "Int64" for name in _WHOLE}).reset_index(drop=True)

    def series(self, run: str, name: str) -> pd.DataFrame:
        """History of one metric of a run: step, epoch and value, in the order of steps.

        name   as MLflow shows it: head/moved, train/loss
        epoch  counted from 1, NaN where the run does not say how long an epoch is

        Raises Unreachable.
        """
        with _asking(self.uri) as client:
            found = client.get_metric_history(run, name)
            params = client.get_run(run).data.params
        points = sorted((each.step, each.value) for each in found)
        frame = pd.DataFrame(points, columns=["step", "value"])
        steps = math.nan if name.startswith("train/") else float(params.get("steps", math.nan))
        length = steps / max(int(params.get("stage_epochs", params["epochs"])), 1)
        epoch = frame["step"] if name.startswith("train/") else frame["step"] / length
        return frame.assign(epoch=epoch.astype(float))[["step", "epoch", "value"]]

    def arrays(self, run: str) -> dict[str, Any]:
        """Arrays of a run's record by name: class vectors, confusion, …; raises Unreachable."""
        with _asking(self.uri) as client, tempfile.TemporaryDirectory() as folder:
            if not any(each.path == _ARRAYS for each in client.list_artifacts(run)):
                return {}
            return load_file(client.download_artifacts(run, _ARRAYS, folder))

    def check(self) -> str | None:
        """What is wrong with a local database file, None if nothing is."""
        if not self.uri.startswith("sqlite:///"):
            return None
        path = Path(self.uri.removeprefix("sqlite:///"))
        if not path.is_file():
            return None
        try:
            with closing(sqlite3.connect(path)) as connection:
                (answer,) = connection.execute("pragma quick_check").fetchone()
        except sqlite3.DatabaseError as error:
            return f"{path} is not a database ({error})"
        return None if answer == "ok" else f"{path}: {answer}"


def columns() -> list[str]:
    """Names of the columns of `Ledger.read`."""
    texts = ["key", "label", "suites", "state", "data", "ratio", "profile", "largest", "backbone"]
    texts += ["head", "dim", "seed", "recipe", "epochs", "classes", "train_images", "group_rule"]
    sizes = ["parameters", "flops", "width"]
    return [*texts, *MEASURED, *sizes, *COST, "finished", "diverged_step", "run_id"]


def describe(cell: Cell) -> dict[str, Any]:
    """A cell as parameters for people: what they compare, filter and plot by."""
    data = dict(cell.data)
    first = cell.stages[0]
    name = " ".join(part for part in cell.material.split(" ") if not part.startswith("1:"))
    return {
        "key": cell.key,
        "label": cell.label,
        "data": " ".join(part for part in name.split(" ") if not part.startswith(_OWN)),
        "ratio": data["ratio"],
        "profile": data["profile"],
        "largest": data["largest"] or 0,
        "group_rule": data["groups"],
        "backbone": cell.network,
        "head": _method(cell),
        "recipe": first.protocol,
        "epochs": dict(first.recipe).get("epochs", 0),
        "stage_epochs": dict(cell.stages[-1].recipe).get("epochs", 0),
        "seed": cell.seed_label,
        "protocol": PROTOCOL,
    }


def _method(cell: Cell) -> str:
    """The heads without the last stated `dim`, which has a column of its own."""
    stages = list(cell.stages)
    for position in reversed(range(len(stages))):
        kept = tuple(pair for pair in stages[position].hyper if pair[0] != "dim")
        if kept != stages[position].hyper:
            stages[position] = replace(stages[position], hyper=kept)
            break
    return replace(cell, stages=tuple(stages)).method


_OWN = ("profile=", "groups=")  # have parameters of their own


class _asking:
    """The door to MLflow: imported here, and whatever it raises becomes one sentence."""

    def __init__(self, uri: str):
        self.uri = uri

    def __enter__(self) -> Any:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "10")
        try:
            import logging

            logging.getLogger("alembic").setLevel(logging.WARNING)
            from mlflow.tracking import MlflowClient
        except ImportError as error:
            raise Unreachable(f"mlflow cannot be imported ({error}). Install it.") from None
        try:
            logging.getLogger("mlflow").setLevel(logging.WARNING)
            return MlflowClient(tracking_uri=self.uri)
        except Exception as error:  # mlflow raises whatever its store raises
            raise self._sentence(error) from error

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, Unreachable):
            raise self._sentence(error) from error

    def _sentence(self, error: BaseException) -> Unreachable:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return Unreachable(
            f"MLflow at {self.uri} does not answer ({first}). The records are safe; "
            "`python -m benchmark doctor` delivers them later."
        )


def _runs(client: Any, experiment: str) -> list[Any]:
    found: list[Any] = []
    token = None
    while True:
        page = client.search_runs([experiment], max_results=1000, page_token=token)
        found.extend(page)
        token = page.token
        if not token:
            return found


def _known(client: Any, experiment: str, keys: Sequence[str]) -> dict[str, Any]:
    """Runs by the key of their cell; one query a key for a few, all runs at once for many."""
    if len(keys) > 20:
        return {run.data.tags.get(_KEY, ""): run for run in _runs(client, experiment)}
    found = {}
    for key in keys:
        for run in client.search_runs([experiment], f"tags.`{_KEY}` = '{key}'", max_results=1):
            found[key] = run
    return found


def _deliver(client: Any, experiment: str, record: Record, run: Any) -> bool:
    cell, suites = record.cell(), ",".join(record.suites())
    result = record.result()
    failure = record.failure()
    seal = digest(json.dumps(result, sort_keys=True).encode()) if result else "failed"
    tags = run.data.tags if run is not None else {}
    if result is None and failure is not None and tags.get(_REASON) == failure["reason"][:4000]:
        return False
    if tags.get(_COMMITTED) == seal:
        if tags.get(_SUITES) != suites:
            client.set_tag(run.info.run_id, _SUITES, suites)
        return False
    points = _points(record, cell, result) if result else []
    if _COMMITTED in tags or not _agrees(client, run, points):  # of an older try: written anew
        client.delete_run(run.info.run_id)
        run, tags = None, {}
    if run is None:
        name = _create(client, experiment, cell, record.suites(), _start(result))
    else:  # begun or half delivered
        name = str(run.info.run_id)
        client.set_tag(name, _SUITES, suites)
    if result is None:
        assert failure is not None
        client.log_text(name, failure["traceback"], "traceback.txt")
        client.set_tag(name, _REASON, failure["reason"][:4000])
        client.set_terminated(name, "FAILED")
        return True
    if _REASON in tags:
        client.delete_tag(name, _REASON)  # of an earlier try
    _log(client, name, points)
    _result(client, name, cell, result)
    if (record.folder / _ARRAYS).exists():
        client.log_artifact(name, str(record.folder / _ARRAYS))
    client.set_tag(name, _COMMITTED, seal)
    return True


def _agrees(client: Any, run: Any, points: Sequence["Point"]) -> bool:
    """Whether a run shows nothing but these points; a cell begun anew has others of its own."""
    if run is None or not points:
        return True
    mine = {(name, when, step) for name, _, when, step in points}
    return all(
        (name, each.timestamp, each.step) in mine
        for name in run.data.metrics
        for each in client.get_metric_history(run.info.run_id, name)
    )


def _start(result: Mapping[str, Any] | None) -> int | None:
    """When a cell's training began, milliseconds since the epoch, from its record."""
    if result is None:
        return None
    return _finished(result) - int(1000 * result["cost"]["seconds"])


def _finished(result: Mapping[str, Any]) -> int:
    return int(datetime.fromisoformat(result["cost"]["finished"]).timestamp() * 1000)


def _create(
    client: Any, experiment: str, cell: Cell, suites: Sequence[str], start: int | None = None
) -> str:
    from mlflow.entities import Param

    tags = {_KEY: cell.key, _SUITES: ",".join(suites)}
    material, network, method, *rest = cell.label.split(" · ")
    name = " · ".join([method, material, network, *rest])  # columns are narrow: the head first
    run = client.create_run(experiment, run_name=name, tags=tags, start_time=start)
    facts = describe(cell)
    hyper = {f"{stage.head}.{name}": value for stage in cell.stages for name, value in stage.hyper}
    params = [Param(key, str(value)[:5000]) for key, value in {**facts, **hyper}.items()]
    client.log_batch(run.info.run_id, params=params)
    return str(run.info.run_id)


def _points(record: Record, cell: Cell, result: Mapping[str, Any]) -> list["Point"]:
    """Everything of a result that is drawn: curves, readings, final numbers."""
    when, cost = _finished(result), result["cost"]
    final = {**result["metrics"], **{name: cost[name] for name in COST if name in cost}}
    known = {name: float(value) for name, value in final.items() if not math.isnan(value)}
    step = int(describe(cell)["epochs"])
    points = [(name, value, when, step) for name, value in known.items()]
    for reading in result["readings"]:
        at = int(reading["step"])
        points += [(_name(f"head/{k}"), v, when, at) for k, v in reading.items() if k != "step"]
    return [*_curves(record.curves()), *points]


def _name(text: str) -> str:
    """A name of a metric as MLflow takes it: a head's readings are named freely."""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)


def _result(client: Any, run: str, cell: Cell, result: dict[str, Any]) -> None:
    from mlflow.entities import Param, RunTag

    when, cost, size = _finished(result), result["cost"], result["size"]
    tags = {
        "benchmark.state": result["state"],
        "benchmark.finished": cost["finished"],
        "benchmark.diverged_step": str(result.get("diverged_step", "")),
        "benchmark.commit": result["commit"],
        "benchmark.device": cost["device"],
        "benchmark.images": result["digests"]["images"],
        **{f"version.{name}": value for name, value in result["versions"].items()},
    }
    params = [Param(name, str(value)) for name, value in size.items()]
    client.log_batch(run, params=params, tags=[RunTag(*pair) for pair in tags.items()])
    client.log_dict(run, cell.to_json(), "cell.json")
    client.log_dict(run, {k: v for k, v in result.items() if k != "readings"}, "result.json")
    client.set_terminated(run, "FINISHED" if result["state"] == "done" else "FAILED", end_time=when)


Point = tuple[str, float, int, int]


def _curves(rows: Sequence[Mapping[str, Any]]) -> list[Point]:
    return [
        (_name(f"train/{name}"), float(value), int(row["time"]), int(row["epoch"]))
        for row in rows
        for name, value in row.items()
        if name not in ("epoch", "step", "time")
    ]


def _log(client: Any, run: str, points: Sequence[Point]) -> None:
    from mlflow.entities import Metric

    metrics = [Metric(*point) for point in points]
    for begin in range(0, len(metrics), 1000):  # a server takes no more at once
        client.log_batch(run, metrics=metrics[begin : begin + 1000])


def _row(run: Any) -> dict[str, Any] | None:
    params, tags, metrics = run.data.params, run.data.tags, run.data.metrics
    if "protocol" not in params or int(params["protocol"]) != PROTOCOL:
        return None
    step = tags.get("benchmark.diverged_step")
    return {
        **{name: params[name] for name in _TEXT},
        **{name: int(params[name]) for name in _WHOLE},
        **{name: metrics.get(name, math.nan) for name in (*MEASURED, *COST)},
        "ratio": float(params["ratio"]),
        "suites": tags.get(_SUITES, ""),
        "state": tags["benchmark.state"],
        "finished": tags["benchmark.finished"],
        "diverged_step": float(step) if step else math.nan,
        "run_id": run.info.run_id,
    }


def undelivered(runs: Path) -> list[Record]:
    """Records that have something to deliver, whole ones only."""
    return [each for each in records(runs) if _deliverable(each)]


def _deliverable(record: Record) -> bool:
    try:
        record.cell(), record.suites(), record.curves()
        return record.result() is not None or record.failure() is not None
    except Torn:
        return False
