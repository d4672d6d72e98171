"""One record into MLflow: what is written, and in which order. The store is handed in.

A call costs some 25 ms however much it carries, so everything with a name goes in one batch, and
all files in another. The tag that commits a run comes last.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

from benchmark.planning.cell import Cell
from benchmark.records.describe import describe, note, parameters, run_name
from benchmark.records.evidence import curve, files, measures, reading
from benchmark.records.record import Record, Torn, digest
from benchmark.records.rows import (
    COMMITTED,
    COST,
    FINISHED,
    KEY,
    LABEL,
    MEASURED,
    REMARKED,
    STATE,
    STEP,
    SUITES,
)

FORM = "2"
"""Of what a run shows beside its numbers: runs of an older form are completed where they stand."""

NOTE = "mlflow.note.content"
_FORM, _REASON = "benchmark.form", "benchmark.reason"

Metric = tuple[str, float, int, int]  # name, value, milliseconds since the epoch, step


class Store(Protocol):
    """What a delivery asks of MLflow; runs are named by their id."""

    def create(self, name: str, tags: Mapping[str, str], start: int | None) -> str:
        """Begin a run; gives its id."""

    def log(
        self,
        run: str,
        metrics: Sequence[Metric] = (),
        params: Mapping[str, Any] = ...,
        tags: Mapping[str, str] = ...,
    ) -> None:
        """Write in as few batches as a server takes."""

    def dataset(self, run: str, name: str, digest: str, profile: Mapping[str, int]) -> None:
        """Name the images that a run was trained on."""

    def attach(self, run: str, contents: Mapping[str, bytes]) -> None:
        """Keep files with a run."""

    def untag(self, run: str, tag: str) -> None:
        """Take a tag away."""

    def end(self, run: str, status: str, when: int | None = None) -> None:
        """Set a run's status: FINISHED, FAILED, KILLED."""

    def delete(self, run: str) -> None:
        """Hide a run that another one replaces."""

    def history(self, run: str, metric: str) -> list[tuple[int, int]]:
        """When, and at which step, each value of a metric was written."""


def begin(store: Store, cell: Cell, suites: Sequence[str], asks: Callable[[str], str]) -> str:
    """A new run that shows a cell in training; gives its id."""
    run = store.create(run_name(cell), _stated(cell, suites, note(cell, suites, asks)), None)
    store.log(run, params=parameters(cell))
    return run


def again(store: Store, run: Any) -> None:
    """Show that a cell is in training once more."""
    store.end(run.info.run_id, "RUNNING")
    if _REASON in run.data.tags:
        store.untag(run.info.run_id, _REASON)


def leave(store: Store, run: str, reason: str) -> None:
    """Show that a cell's training was given up."""
    store.log(run, tags={_REASON: reason})
    store.end(run, "KILLED")


def deliver(store: Store, record: Record, run: Any, asks: Callable[[str], str]) -> bool:
    """Bring what a record has and its run, None if there is none, does not; whether anything.

    A damaged record is left alone: `doctor` names it.

    asks  the comment of a suite by its name, empty where it is not known
    """
    try:
        return _deliver(store, record, run, asks)
    except Torn:  # nothing is written before everything is read
        return False


def _deliver(store: Store, record: Record, run: Any, asks: Callable[[str], str]) -> bool:
    cell, suites = record.cell(), record.suites()
    result, failure = record.result(), record.failure()
    tags = dict(run.data.tags) if run is not None else {}
    if result is None:
        return failure is not None and _fail(store, cell, suites, failure, run, asks)
    seal = digest(json.dumps(result, sort_keys=True).encode())
    if tags.get(COMMITTED) == seal:
        if run.info.status == "RUNNING":  # begun by one who did not know that it was finished
            store.end(str(run.info.run_id), _status(result), _finished(result))
        return _complete(store, record, cell, result, run, asks)
    kept = files(record, cell, result)
    points = _points(record, cell, result)
    if COMMITTED in tags or not _agrees(store, run, points):  # of an older try: written anew
        store.delete(run.info.run_id)
        run, tags = None, {}
    told = _stated(cell, suites, note(cell, suites, asks, result))
    told |= {**_tags(result), _FORM: FORM}
    when = _finished(result)
    if run is None:
        start = when - int(1000 * result["cost"]["seconds"])
        name, told = store.create(run_name(cell), told, start), {}
    else:  # begun or half delivered
        name = str(run.info.run_id)
    store.log(name, points, {**parameters(cell), **_sizes(result)}, told)
    if _REASON in tags:
        store.untag(name, _REASON)  # of an earlier try
    _images(store, name, cell, result)
    store.attach(name, kept)
    store.end(name, _status(result), when)
    store.log(name, tags={COMMITTED: seal})
    return True


def _complete(
    store: Store,
    record: Record,
    cell: Cell,
    result: Mapping[str, Any],
    run: Any,
    asks: Callable[[str], str],
) -> bool:
    """What a committed run may lack: suites that asked for it later, files of a newer form."""
    tags, name, suites = run.data.tags, str(run.info.run_id), record.suites()
    before, whole = tags.get(SUITES, ""), tags.get(_FORM) == FORM
    if whole and before == ",".join(suites):
        return False
    told = _stated(cell, suites, note(cell, suites, asks, result))
    ours = note(cell, [each for each in before.split(",") if each], asks, result)
    if tags.get(NOTE, ours) != ours:
        del told[NOTE]  # somebody's own words
    if not whole:
        store.attach(name, files(record, cell, result))
        _images(store, name, cell, result)
        told |= {**_tags(result), _FORM: FORM}
    store.log(name, tags=told)
    return not whole


def _fail(
    store: Store,
    cell: Cell,
    suites: Sequence[str],
    failure: Mapping[str, str],
    run: Any,
    asks: Callable[[str], str],
) -> bool:
    """A failure is shown with its traceback, and is not committed."""
    tags = run.data.tags if run is not None else {}
    reason = failure["reason"][:4000]
    if tags.get(_REASON) == reason:
        return False
    if COMMITTED in tags:
        store.delete(run.info.run_id)
        run = None
    name = begin(store, cell, suites, asks) if run is None else str(run.info.run_id)
    store.attach(name, {"traceback.txt": failure["traceback"].encode()})
    store.log(name, tags={SUITES: ",".join(suites), _REASON: reason})
    store.end(name, "FAILED")
    return True


def _agrees(store: Store, run: Any, points: Sequence[Metric]) -> bool:
    """Whether a run shows nothing but these points; a cell begun anew has others of its own."""
    if run is None:
        return True
    mine = {(name, when, step) for name, _, when, step in points}
    return all(
        (name, when, step) in mine
        for name in run.data.metrics
        for when, step in store.history(run.info.run_id, name)
    )


def curves(rows: Sequence[Mapping[str, Any]]) -> list[Metric]:
    """Rows of epochs as points; rows need not measure the same."""
    return [
        (curve(name), value, int(row["time"]), int(row["epoch"]))
        for row in rows
        for name, value in measures(row)
    ]


def _points(record: Record, cell: Cell, result: Mapping[str, Any]) -> list[Metric]:
    """Everything of a result that is drawn: curves, readings, final numbers."""
    when, cost, step = _finished(result), result["cost"], int(describe(cell)["epochs"])
    final = {**result["metrics"], **{name: cost[name] for name in COST if name in cost}}
    order = (*MEASURED, *final)  # accuracy first: `mlflow ui` shows the first metric unasked
    final = {name: float(final[name]) for name in dict.fromkeys(order) if name in final}
    return [
        *((name, value, when, step) for name, value in final.items() if not math.isnan(value)),
        *curves(record.curves()),
        *(
            (reading(name), value, when, int(row["step"]))
            for row in result["readings"]
            for name, value in measures(row)
        ),
    ]


def _status(result: Mapping[str, Any]) -> str:
    return "FINISHED" if result["state"] == "done" else "FAILED"


def _finished(result: Mapping[str, Any]) -> int:
    return int(datetime.fromisoformat(result["cost"]["finished"]).timestamp() * 1000)


def _stated(cell: Cell, suites: Sequence[str], told: str) -> dict[str, str]:
    """Tags of a cell whether or not it is finished."""
    source = f"python -m benchmark replay {cell.key}"
    return {
        **{KEY: cell.key, LABEL: cell.label, SUITES: ",".join(suites)},
        **{NOTE: told, "mlflow.source.name": source},
    }


def _sizes(result: Mapping[str, Any]) -> dict[str, int]:
    """The embedding's length has a name of its own, the others are called size.flops."""
    size = result["size"]
    return {"dim" if name == "dim" else f"size.{name}": value for name, value in size.items()}


def _tags(result: Mapping[str, Any]) -> dict[str, str]:
    cost = result["cost"]
    return {
        STATE: result["state"],
        FINISHED: cost["finished"],
        **{tag: str(cost[name]) for name, tag in REMARKED.items() if name in cost},
        **({STEP: str(result["diverged_step"])} if "diverged_step" in result else {}),
        "benchmark.commit": result["commit"],
        "benchmark.device": cost["device"],
        "benchmark.images": result["digests"]["images"],
        **{f"version.{name}": value for name, value in result["versions"].items()},
    }


def _images(store: Store, run: str, cell: Cell, result: Mapping[str, Any]) -> None:
    """The images, told apart by their digest: 'cifar100 1:100' with 10,847 of them."""
    profile = {name: int(result["size"][name]) for name in ("train_images", "classes")}
    store.dataset(run, cell.material, result["digests"]["images"][:8], profile)
