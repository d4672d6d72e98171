"""Optuna over a study: what it has tried is kept in `notebook/NAME.journal`, beside the records.

A journal and not SQLite, because one process alone writes it: no database to be migrated, and the
240 ms that a trial with five reports costs in SQLite are 38 in a journal. Its own lock outlives a
killed process by half a minute, so ours is the kernel's. A journal has no heartbeat and needs none:
a trial that is open when a study begins is one that nobody trains.

The sampler is seeded anew for each trial, from the study's seed and the trial's number: a study
that goes on where it was interrupted would else draw its first numbers again.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.importance import get_param_importances
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState, create_trial

from studies.holes import Choice, Grid, Hole, Range, Search, Value

FINISHED = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
STARTUP = 5  # trials that are never pruned, Optuna's default
WARMUP = 5  # a fifth of the epochs is never pruned, ours: the first rate decides their order


TELLING = 10  # finished trials from which importances are said, ours: of fewer they are noise
PRUNED = "worse than the median of the trials before it"
LEFT = "its process is gone"  # a trial that is failed for that is asked for again
AGAIN = "again"  # user attribute of such a one: the number of the trial that it stands for


class Taken(ValueError):
    """A process has this journal open, and works on what is open in it."""


class _Held:
    """No lock for each line: whoever opened the journal holds it until the end."""

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        pass


class Book:
    """Where trials are kept, once it is open."""

    storage: optuna.storages.BaseStorage

    def study(self, name: str, pruner: optuna.pruners.BasePruner) -> optuna.Study:
        """The trials under one name."""
        return optuna.create_study(
            storage=self.storage,
            study_name=name,
            direction="maximize",
            load_if_exists=True,
            pruner=pruner,
        )


class Journal(Book):
    """The file of one study's trials, which one process at a time may have open."""

    def __init__(self, path: Path):
        """path: created where it is missing."""
        self.path = path

    def __enter__(self) -> "Journal":
        """Open and lock it; ValueError: another process has it, or it cannot be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.handle = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise ValueError(
                f"cannot write to {self.path} ({error.strerror}). Choose another --runs: the "
                "notebook lies beside it."
            ) from None
        try:
            fcntl.flock(self.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self.handle)
            raise Taken(
                f"study {self.path.stem} is run by another process, which has {self.path} open. "
                "Wait for it, or stop it."
            ) from None
        self._mend()
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        try:
            self.storage = JournalStorage(JournalFileBackend(str(self.path), _Held()))
        except Exception as error:  # optuna raises whatever a torn line leads it to
            os.close(self.handle)
            raise ValueError(
                f"{self.path} cannot be read ({error}). Move it away: finished trials are found "
                "again by their records."
            ) from None
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close it, which frees it."""
        os.close(self.handle)

    def _mend(self) -> None:
        """Cut off a last line that was not written to its end, as after a power cut."""
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            os.truncate(self.path, whole)


def left_open(path: Path, *, fail: bool = False) -> list[str]:
    """Trials that Optuna believes to be running, and nobody trains: by study and number.

    fail  fail them; a study that goes on asks for each of them again, with the same values

    Raises Taken where a process has the journal, ValueError where it cannot be read.
    """
    found = []
    with Journal(path) as journal:
        for name in optuna.get_all_study_names(journal.storage):
            study = optuna.load_study(study_name=name, storage=journal.storage)
            for trial in study.get_trials(deepcopy=False):
                if trial.state not in FINISHED:
                    found.append(f"{name}, trial {trial.number}")
                    if fail:
                        journal.storage.set_trial_user_attr(trial._trial_id, "why", LEFT)
                        study.tell(trial.number, state=TrialState.FAIL)
    return found


def identity(name: str, facts: Any) -> str:
    """The name under which trials are kept: that of the study, and a digest of what it asks.

    Trials of another question, or from before a change of a head's source, do not mix with these.
    """
    text = json.dumps(facts, sort_keys=True, default=repr)
    return f"{name} {hashlib.sha256(text.encode()).hexdigest()[:8]}"


class Mirror:
    """A grid study in Optuna: written from the records, for people to look at."""

    def __init__(self, book: Book, name: str, holes: Mapping[str, Hole]):
        """name: from `identity`; holes: the grids by address."""
        self.study = book.study(name, optuna.pruners.NopPruner())
        self.grids = {address: g.values for address, g in holes.items() if isinstance(g, Grid)}
        self.known = {trial.user_attrs["cell"] for trial in self.study.get_trials(deepcopy=False)}

    def note(
        self, key: str, label: str, values: Mapping[str, Value], accuracy: float | None
    ) -> None:
        """Write a finished cell down, once; accuracy: None where it diverged."""
        if key in self.known:
            return
        self.known.add(key)
        own = {a: v for a, v in values.items() if v in self.grids[a]}
        self.study.add_trial(
            create_trial(
                state=TrialState.FAIL if accuracy is None else TrialState.COMPLETE,
                value=accuracy,
                params=own,
                distributions={address: _axis(self.grids[address]) for address in own},
                user_attrs={"cell": key, "label": label},
            )
        )


@dataclass(slots=True)
class Draw:
    """A trial that is open: what was drawn, the epochs reported, whether the pruner stopped it."""

    trial: Trial
    values: dict[str, Value]
    reported: set[int]
    stopped: bool = False

    @property
    def number(self) -> int:
        """Its number, from 0."""
        return int(self.trial.number)


class Searching:
    """A search in Optuna: ask, report, tell."""

    def __init__(
        self, book: Book, name: str, search: Search, space: Mapping[str, Hole], epochs: int
    ):
        """name: from `identity`; space: what is drawn, by address; epochs: of one trial."""
        pruner = (
            optuna.pruners.NopPruner()
            if search.pruner == "none"
            else optuna.pruners.MedianPruner(STARTUP, n_warmup_steps=epochs // WARMUP)
        )
        self.study = book.study(name, pruner)
        self.search, self.space, self.epochs = search, space, epochs

    @property
    def trials(self) -> list[FrozenTrial]:
        """All trials so far, open ones too."""
        return list(self.study.get_trials(deepcopy=False))

    def open(self) -> list[Draw]:
        """Trials that an earlier process left open."""
        left = [trial for trial in self.trials if trial.state not in FINISHED]
        return [self._draw(self._place(each), each) for each in left]

    def ask(self) -> Draw | None:
        """The next trial; None where all that were asked for are begun."""
        trials = self.trials
        replaced = {trial.user_attrs.get(AGAIN) for trial in trials}
        for trial in trials:
            if trial.user_attrs.get("why") == LEFT and trial.number not in replaced:
                return self._again(trial)
        place = len(trials) - len(replaced - {None})
        return self._draw(place, None) if place < self.search.trials else None

    def _again(self, lost: FrozenTrial) -> Draw:
        """A trial in the place of one that was failed because its process was gone."""
        self.study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params=lost.params,
                distributions=lost.distributions,
                user_attrs={AGAIN: lost.number},
            )
        )
        return self._draw(self._place(lost), self.trials[-1])

    def _place(self, trial: FrozenTrial) -> int:
        """The number that a trial would have, had none been failed: from it values are drawn."""
        trials = self.trials
        while (number := trial.user_attrs.get(AGAIN)) is not None:
            trial = trials[number]
        return trial.number - sum(AGAIN in each.user_attrs for each in trials[: trial.number])

    def _draw(self, number: int, left: FrozenTrial | None) -> Draw:
        text = f"{self.search.seed} {number}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "little")
        self.study.sampler = (
            optuna.samplers.RandomSampler(seed=seed)
            if self.search.sampler == "random"
            else optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        )
        # A process that was killed while it drew leaves some values out: they are drawn now.
        trial = self.study.ask() if left is None else Trial(self.study, left._trial_id)
        values = {address: _suggest(trial, address, hole) for address, hole in self.space.items()}
        reported = set(left.intermediate_values) if left else set()
        return Draw(trial, values, reported, self._is_stopped(trial, reported))

    def _is_stopped(self, trial: Trial, reported: set[int]) -> bool:
        """Whether the pruner had stopped a trial when the process that saw it was killed."""
        return bool(reported) and max(reported) < self.epochs and trial.should_prune()

    def name(self, draw: Draw, key: str, label: str) -> None:
        """Say which cell a trial is."""
        draw.trial.set_user_attr("cell", key)
        draw.trial.set_user_attr("label", label)

    def report(self, draw: Draw, rows: Sequence[Mapping[str, Any]]) -> bool:
        """Take in epochs of a trial, up to the one after which the pruner stops it, if it does.

        However late the epochs arrive, the verdict is the same: what is trained meanwhile is not
        looked at.
        """
        for row in rows:
            if draw.stopped:
                break
            if "validation" in row and row["epoch"] not in draw.reported:
                self._note(draw, row["epoch"], row["validation"])
                draw.stopped = row["epoch"] < self.epochs and draw.trial.should_prune()
        return draw.stopped

    def _note(self, draw: Draw, epoch: int, validation: float) -> None:
        draw.reported.add(epoch)
        draw.trial.report(validation, epoch)

    def complete(self, draw: Draw, validation: float) -> None:
        """A trial is over, with its accuracy on the validation images; pruned if it was stopped."""
        if draw.stopped:
            self.prune(draw)
        else:
            self.study.tell(draw.trial, validation)

    def prune(self, draw: Draw, why: str = PRUNED) -> None:
        """A trial is stopped, or diverged: the sampler takes it for worse than finished ones."""
        draw.trial.set_user_attr("why", why)
        self.study.tell(draw.trial, state=TrialState.PRUNED)

    def twin(self, key: str) -> FrozenTrial | None:
        """The finished trial that was the same cell, if there is one."""
        for trial in self.trials:
            told = trial.state in (TrialState.COMPLETE, TrialState.PRUNED)
            if told and trial.user_attrs.get("cell") == key:
                return trial
        return None

    def copy(self, draw: Draw, twin: FrozenTrial) -> None:
        """End a trial as the finished one that is the same cell."""
        for epoch, validation in sorted(twin.intermediate_values.items()):
            if epoch not in draw.reported:
                self._note(draw, epoch, validation)
        if twin.state is TrialState.COMPLETE:
            self.study.tell(draw.trial, twin.value)
        else:
            self.prune(draw, twin.user_attrs.get("why", PRUNED))

    def count(self) -> dict[str, int]:
        """How many trials are finished, pruned, open."""
        states = [trial.state for trial in self.trials]
        done, pruned = states.count(TrialState.COMPLETE), states.count(TrialState.PRUNED)
        left = sum(state not in FINISHED for state in states)
        return {"finished": done, "pruned": pruned, "open": left}

    def best(self) -> tuple[dict[str, Value], float] | None:
        """The choice: the best finished trial's values and validation accuracy."""
        done = [trial for trial in self.trials if trial.state is TrialState.COMPLETE]
        if not done:
            return None
        chosen = max(done, key=lambda trial: (trial.value, -trial.number))
        return dict(chosen.params), float(chosen.value)

    def importances(self) -> dict[str, float]:
        """Share of each parameter in how good a trial is (PED-ANOVA); empty for too few trials."""
        if self.count()["finished"] < TELLING:
            return {}
        try:
            return dict(get_param_importances(self.study))
        except (ValueError, RuntimeError):
            return {}


def _suggest(trial: Trial, address: str, hole: Hole) -> Value:
    if isinstance(hole, Range) and hole.whole:
        low, high, step = int(hole.low), int(hole.high), int(hole.step or 1)
        return trial.suggest_int(address, low, high, step=step, log=hole.log)
    if isinstance(hole, Range):
        return trial.suggest_float(address, hole.low, hole.high, step=hole.step, log=hole.log)
    assert isinstance(hole, Choice)
    return trial.suggest_categorical(address, hole.values)


def _axis(values: Sequence[Value]) -> BaseDistribution:
    """What Optuna draws a grid on: a scale where it holds numbers."""
    if any(isinstance(value, bool | str) for value in values):
        return CategoricalDistribution(tuple(values))
    if all(isinstance(value, int) for value in values):
        return IntDistribution(min(values), max(values))
    return FloatDistribution(float(min(values)), float(max(values)))
