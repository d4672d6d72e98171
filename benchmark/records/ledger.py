"""Deliver records to MLflow, find, read, rebuild: the only file that knows MLflow.

MLflow is written from the record on disk and is what people see and reports read. A run is
committed by its last tag, the checksum of the result that it was written from; MLflow's own run
status is not evidence, and readers take committed runs only.
"""

import gc
import json
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urlparse

import pandas as pd

from benchmark.planning.cell import Cell
from benchmark.records import delivery
from benchmark.records.describe import EXPERIMENT_NOTE
from benchmark.records.evidence import Histories, Point, epochs_of
from benchmark.records.fresh import appear
from benchmark.records.record import Record, Torn, records
from benchmark.records.rows import COMMITTED, KEY, WHOLE, columns, row, size

EXPERIMENT = "classifier heads"
EXPERIMENT_TAGS = {
    delivery.NOTE: EXPERIMENT_NOTE,
    "mlflow.experimentKind": "custom_model_development",  # else the page is one for language models
    "mlflow.experiment.primaryMetric.name": "accuracy",
}
PAGE = 1000  # runs that are asked for at a time; ours, a server takes up to 50,000
BATCH = 1000  # metrics, parameters and tags together; a server takes no more at once


class Unreachable(RuntimeError):
    """The tracking store does not answer; what could not be delivered stays in the records."""


def default_uri(folder: Path) -> str:
    """What `mlflow ui` opens in that folder without any flag."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder.resolve() / 'mlflow.db'}"


def _file(uri: str) -> Path | None:
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def _unknown(suite: str) -> str:
    return ""


@dataclass(frozen=True, slots=True)
class Ledger:
    """MLflow at one address.

    uri        tracking address; a local SQLite file or a server
    artifacts  folder of artifacts, for an experiment that is new in a local file
    asks       the comment of a suite by its name, for descriptions; empty where it is not known
    """

    uri: str
    artifacts: Path
    asks: Callable[[str], str] = _unknown

    def open(self) -> str:
        """Create and migrate the database and the experiment; gives the experiment's id.

        To be called by the parent before workers start: a fresh SQLite file that several processes
        open at once breaks.

        Raises Unreachable.
        """
        with _asking(self.uri) as client:
            return str(self._experiment(client).experiment_id)

    def deliver(self, found: Iterable[Record]) -> int:
        """Bring what the store does not have yet: new results, failures, suites; gives how many.

        Running it twice is running it once. Raises Unreachable.
        """
        waiting = list(found)
        with self._store() as store:
            known = _known(store, [record.key for record in waiting])
            return sum(
                delivery.deliver(store, each, known.get(each.key), self.asks) for each in waiting
            )

    def renew(self, found: Iterable[Record], suite: str | None = None) -> pd.DataFrame:
        """`deliver`, then `read`; where nothing was waiting, one search serves both.

        Raises Unreachable.
        """
        with self._store() as store:
            runs = store.runs()
            known = _by_key(runs)
            touched = _Touched(store)
            for each in found:
                delivery.deliver(touched, each, known.get(each.key), self.asks)
            return _frame(store.runs() if touched.yes else runs, suite)

    def begin(self, cell: Cell, suites: Sequence[str]) -> str:
        """Show a cell that is being trained: its run with parameters; gives the run's id."""
        with self._store() as store:
            found = _known(store, [cell.key]).get(cell.key)
            if found is None:
                return delivery.begin(store, cell, suites, self.asks)
            delivery.again(store, found)
            return str(found.info.run_id)

    def follow(self, run: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Show epochs of a cell that is being trained: one batch. Raises Unreachable."""
        with _asking(self.uri) as client:
            _Store(client, "").log(run, delivery.curves(rows))

    def leave(self, run: str, reason: str) -> None:
        """Show that a cell's training was given up: a pruned trial. Raises Unreachable."""
        with _asking(self.uri) as client:
            delivery.leave(_Store(client, ""), run, reason)

    def read(self, suite: str | None = None) -> pd.DataFrame:
        """One row per committed cell, in the order of labels; columns as `columns()`.

        suite  only cells that this suite asked for

        Raises Unreachable.
        """
        with self._store() as store:
            return _frame(store.runs(), suite)

    def places(self) -> tuple[Path, ...]:
        """Folders of this machine where a run may have its files, as <run>/artifacts.

        A database names its folder of artifacts by an absolute path; one that was moved together
        with its artifacts has them beside it. Raises Unreachable.
        """
        with _asking(self.uri) as client:
            where = urlparse(str(self._experiment(client).artifact_location))
        named = [Path(unquote(where.path))] if where.scheme in ("", "file") else []
        return (*named, self.artifacts)

    def fetch(self, run: str, into: Path) -> None:
        """Download the files of a run, from wherever they lie; raises Unreachable."""
        with _asking(self.uri) as client:
            if client.list_artifacts(run):
                client.download_artifacts(run, "", str(into))

    def histories(self, run: str) -> Histories:
        """Every curve and reading of a run, by name, asked for one by one; raises Unreachable.

        For runs that kept no files of them: see `evidence.histories`.
        """
        with _asking(self.uri) as client:
            data = client.get_run(run).data
            names = [name for name in data.metrics if name.startswith(("train/", "head/"))]
            found = {name: client.get_metric_history(run, name) for name in names}
        epochs = int(data.params.get("stage_epochs", data.params["epochs"]))
        steps = float(size(data.params, "steps"))
        return {
            name: sorted(
                Point(
                    each.step,
                    each.step if name.startswith("train/") else epochs_of(each.step, steps, epochs),
                    each.value,
                )
                for each in points
            )
            for name, points in found.items()
        }

    def running(self) -> dict[str, str]:
        """Runs that MLflow shows in training: id -> key of the cell. Raises Unreachable."""
        with self._store() as store:
            found = [run for run in store.runs() if run.info.status == "RUNNING"]
            return {run.info.run_id: run.data.tags[KEY] for run in found if KEY in run.data.tags}

    def check(self) -> str | None:
        """What is wrong with a local database file, None if nothing is, or if it is locked."""
        path = self.file
        if path is None or not path.is_file():
            return None
        try:
            with closing(sqlite3.connect(path, timeout=1.0)) as connection:
                (answer,) = connection.execute("pragma quick_check").fetchone()
            if answer == "ok":
                self.open()
        except (sqlite3.DatabaseError, Unreachable) as error:
            reason = str(error.__cause__ or error).strip().splitlines()[0]
            locked = "database is locked" in reason
            return None if locked else f"{path} is not a database that MLflow can use ({reason})"
        return None if answer == "ok" else f"{path}: {answer}"

    @property
    def file(self) -> Path | None:
        """The local database, None for a server."""
        return _file(self.uri)

    def release(self) -> None:
        """Close what MLflow keeps open of a local database, so that its file may be replaced."""
        _release(self.uri)

    @contextmanager
    def _store(self) -> "Iterator[_Store]":
        with _asking(self.uri) as client:
            yield _Store(client, str(self._experiment(client).experiment_id))

    def _experiment(self, client: Any) -> Any:
        """The experiment, made and described if need be."""
        found = client.get_experiment_by_name(EXPERIMENT)
        if found is None:
            where = self.artifacts.resolve().as_uri() if self.uri.startswith("sqlite") else None
            try:
                client.create_experiment(EXPERIMENT, artifact_location=where)
            except Exception:  # mlflow's own, where another process has made it at this moment
                if client.get_experiment_by_name(EXPERIMENT) is None:
                    raise
            found = client.get_experiment_by_name(EXPERIMENT)
        for tag, value in EXPERIMENT_TAGS.items():
            if tag not in found.tags:  # what somebody changed stays as it is
                _beside_others(client.set_experiment_tag, found.experiment_id, tag, value)
        return found


class _asking:
    """The door to MLflow: imported here, and whatever it raises becomes one sentence."""

    def __init__(self, uri: str):
        self.uri = uri

    def __enter__(self) -> Any:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
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
            logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)  # tracebacks
            if (path := _file(self.uri)) is not None and not path.exists():
                _release(self.uri)  # of one that was deleted
                appear(path, self._make)
            return MlflowClient(tracking_uri=self.uri)
        except Exception as error:  # mlflow raises whatever its store raises
            raise self._sentence(error) from error

    def __exit__(self, kind: type | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, Unreachable):
            raise self._sentence(error) from error

    @staticmethod
    def _make(path: Path) -> None:
        from mlflow.tracking import MlflowClient

        MlflowClient(tracking_uri=f"sqlite:///{path}").search_experiments()
        _release(f"sqlite:///{path}")

    def _sentence(self, error: BaseException) -> Unreachable:
        first = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        return Unreachable(
            f"MLflow at {self.uri} does not answer ({first}). The records are safe; "
            "`python -m benchmark doctor` delivers them later."
        )


@dataclass(frozen=True, slots=True)
class _Store:
    """What `delivery.Store` asks for, by one client; experiment: its id."""

    client: Any
    experiment: str

    def runs(self) -> list[Any]:
        found: list[Any] = []
        token = None
        while True:
            with _uncollected():
                page = self.client.search_runs(
                    [self.experiment], max_results=PAGE, page_token=token
                )
            found.extend(page)
            token = page.token
            if not token:
                return found

    def with_key(self, key: str) -> Any:
        return next(
            iter(self.client.search_runs([self.experiment], f"tags.`{KEY}` = '{key}'")), None
        )

    def create(self, name: str, tags: Mapping[str, str], start: int | None) -> str:
        made = self.client.create_run(self.experiment, start, dict(tags), name)
        return str(made.info.run_id)

    def log(
        self,
        run: str,
        metrics: Sequence[delivery.Metric] = (),
        params: Mapping[str, Any] = MappingProxyType({}),
        tags: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        told = {
            "params": [Param(name, str(value)[:5000]) for name, value in params.items()],
            "tags": [RunTag(name, value) for name, value in tags.items()],
        }
        points = [Metric(*each) for each in metrics]
        room = BATCH - len(params) - len(tags)
        _beside_others(self.client.log_batch, run, metrics=points[:room], **told)
        for begin in range(room, len(points), BATCH):
            self.client.log_batch(run, metrics=points[begin : begin + BATCH])

    def dataset(self, run: str, name: str, digest: str, profile: Mapping[str, int]) -> None:
        from mlflow.entities import Dataset, DatasetInput, InputTag

        images = Dataset(
            name, digest, "local", json.dumps({"uri": name}), None, json.dumps(dict(profile))
        )
        inputs = [DatasetInput(images, [InputTag("mlflow.data.context", "training")])]
        _beside_others(self.client.log_inputs, run, datasets=inputs)

    def attach(self, run: str, contents: Mapping[str, bytes]) -> None:
        with tempfile.TemporaryDirectory() as folder:
            for name, content in contents.items():
                (Path(folder) / name).write_bytes(content)
            self.client.log_artifacts(run, folder)

    def untag(self, run: str, tag: str) -> None:
        self.client.delete_tag(run, tag)

    def end(self, run: str, status: str, when: int | None = None) -> None:
        if status == "RUNNING":
            self.client.update_run(run, status=status)
        else:
            self.client.set_terminated(run, status, when)

    def delete(self, run: str) -> None:
        self.client.delete_run(run)

    def history(self, run: str, metric: str) -> list[tuple[int, int]]:
        found = self.client.get_metric_history(run, metric)
        return [(each.timestamp, each.step) for each in found]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without Python's search for garbage: of a page's 300,000 objects none is, and it takes longer
    to look through them, again and again while they become more, than to make them.
    """
    asked = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if asked:
            gc.enable()


def _beside_others(call: Callable[..., None], *args: Any, **kwargs: Any) -> None:
    """Ask MLflow to write what another process may be writing at this moment.

    It looks whether a row is there, and writes it if not: of two that look at once, one fails on a
    row that it would find now. So it is asked once more.
    """
    from mlflow.exceptions import MlflowException

    try:
        call(*args, **kwargs)
    except MlflowException as error:
        if "unique" not in str(error).lower():
            raise
        call(*args, **kwargs)


def _release(uri: str) -> None:
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    if (engine := SqlAlchemyStore._engine_map.get(uri)) is not None:
        engine.dispose()


class _Touched:
    """A store that remembers whether it was asked anything: of a run that is whole it is not."""

    def __init__(self, store: _Store):
        self._store = store
        self.yes = False

    def __getattr__(self, name: str) -> Any:
        self.yes = True
        return getattr(self._store, name)


def _frame(runs: Iterable[Any], suite: str | None) -> pd.DataFrame:
    """What `Ledger.read` gives, of runs as MLflow has them."""
    found = [row(run) for run in runs if COMMITTED in run.data.tags]
    frame = pd.DataFrame([each for each in found if each is not None], columns=columns())
    if suite is not None:
        asked = [suite in each.split(",") for each in frame["suites"]]
        frame = frame.loc[pd.Series(asked, index=frame.index, dtype=bool)]
    # two processes that deliver at once can commit the same result twice
    frame = frame.sort_values(["label", "key", "run_id"]).drop_duplicates("key")
    return frame.astype({name: "Int64" for name in WHOLE}).reset_index(drop=True)


def _by_key(runs: Iterable[Any]) -> dict[str, Any]:
    return {run.data.tags.get(KEY, ""): run for run in runs}


def _known(store: _Store, keys: Sequence[str]) -> dict[str, Any]:
    """Runs by the key of their cell; one query a key for a few, all runs at once for many."""
    if len(keys) > 20:
        return _by_key(store.runs())
    found = {key: store.with_key(key) for key in keys}
    return {key: run for key, run in found.items() if run is not None}


def undelivered(runs: Path) -> list[Record]:
    """Records that have something to deliver, whole ones only."""
    return [each for each in records(runs) if deliverable(each)]


def deliverable(record: Record) -> bool:
    """Whether a record is whole and has a result or a failure."""
    try:
        record.cell(), record.suites(), record.curves()
        return record.result() is not None or record.failure() is not None
    except Torn:
        return False
