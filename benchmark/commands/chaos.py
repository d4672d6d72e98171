"""chaos: a suite whose processes are killed ends with what an undisturbed one ends with.

Both runs lie in one folder:

    undisturbed/  runs, mlflow.db, findings, log.txt, and whole.json: how it was trained, and when
    seed-0-…/     the same, but for the last, of a run that was killed
"""

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path

from rich.console import Console

from benchmark.commands import agenda, alike
from benchmark.commands.desk import Options
from benchmark.commands.display import duration
from benchmark.commands.kills import KINDS, Pace, Queue, schedule, union
from benchmark.commands.siege import LINE, TICK, Broken, Siege
from benchmark.commands.subject import Subject
from benchmark.engines.signals import leaving
from benchmark.planning import suite as suites
from benchmark.planning.plan import DONE
from benchmark.records.files import write_whole
from benchmark.records.record import Record

Say = Callable[[str], None]


def chaos(
    options: Options, console: Console, *, kills: int, seed: int, keep: Path | None = None
) -> int:
    """Train a suite undisturbed, then killed so many times, and compare all that was measured.

    options  of its folder and its tracker nothing is used: both runs have their own
    seed     of the kills; what is trained has its own
    keep     folder of both runs, which stay there; an undisturbed one that is there already is not
             trained again. None: a folder of this command, which goes where nothing differs

    Gives 0 where all is identical, 1 where something differs, 128 + signal where interrupted.
    Raises ValueError, MissingData: one sentence, before anything is killed.
    """

    def say(line: str) -> None:
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    place = (keep or Path(tempfile.mkdtemp(prefix="chaos-", dir="."))).resolve()
    told: list[str] = []
    try:
        with leaving(lambda number: say("interrupted: nothing of it is running any more")):
            calm = place / "undisturbed"
            cells = _planned(options, calm / "runs")
            if not (calm / WHOLE).is_file():
                _train(calm, options, cells, say)
            pace = _pace(calm, options, cells)
            wild = Path(tempfile.mkdtemp(prefix=f"seed-{seed}-", dir=place))
            siege = Siege(_run(options), cells, pace, Queue.of(schedule(kills, seed)), say)
            told = _besiege(siege, wild, calm, options)
        _account(siege, kills, say)
        for line in told or ["identical"]:
            say(line)
    finally:
        if told or keep:
            say(f"both runs are in {place}")
        else:
            shutil.rmtree(place)
    return 1 if told else 0


WHOLE = "whole.json"
"""Beside an undisturbed run, once it is over: its words, and when it began and ended."""


def _planned(options: Options, calm: Path) -> dict[str, str]:
    """Key -> label of all that is to be trained; ValueError where it cannot be, or compared."""
    work = agenda.of(
        suites.read(options.suite, options.changes),
        options.files,
        calm,
        options.data_root,
        skip_missing=options.skip_missing,
        load=True,
        words=agenda.vector_files(options.words),
    )
    items = [item for item in work.items if item.state != "declined"]
    if not items:
        raise ValueError(
            f"nothing of suite {options.suite!r} can be trained here. "
            f"`python -m benchmark plan --suite {options.suite}` says why."
        )
    fit = {*DONE} if (calm.parent / WHOLE).is_file() else {"missing"}
    for item in items:
        if item.state not in fit:
            raise ValueError(
                f"{calm.parent} cannot stand for an undisturbed run: {item.cell.label} is "
                f"{item.state}. Remove that folder, or give another --keep."
            )
    return {item.cell.key: item.cell.label for item in items}


def _train(calm: Path, options: Options, cells: Mapping[str, str], say: Say) -> None:
    """The undisturbed run; ValueError where it does not end well."""
    say(f"undisturbed: {len(cells)} cells")
    began = said = time.time()
    with Subject(calm) as subject:
        process = subject.start(_run(options))
        while process.poll() is None:
            time.sleep(TICK)
            now = time.time()
            if now - said > LINE:
                said = now
                done = sum((subject.runs / key / "result.json").is_file() for key in cells)
                rest = duration((now - began) * (len(cells) / done - 1)) if done else "unknown time"
                say(f"        {done}/{len(cells)} cells · about {rest} left")
        if process.returncode:
            raise ValueError(
                f"without any kill the run ended with {process.returncode}, so that there is "
                f"nothing to compare with: {subject.said()}"
            )
    note = {"words": _run(options), "began": began, "ended": time.time()}
    write_whole(calm / WHOLE, json.dumps(note, indent=1).encode())


def _pace(calm: Path, options: Options, cells: Mapping[str, str]) -> Pace:
    """How the undisturbed run went, from what it left; ValueError where it was another one."""
    note = json.loads((calm / WHOLE).read_text(encoding="utf-8"))
    if note["words"] != _run(options):
        raise ValueError(
            f"{calm} was trained by `{' '.join(note['words'])}`, and is to be compared with "
            f"`{' '.join(_run(options))}`. Give the same options, or another --keep."
        )
    spans = {key: _span(Record(calm / "runs" / key)) for key in cells}
    steps = [(Record(calm / "runs" / key).result() or {})["size"]["steps"] for key in cells]
    return Pace(
        seconds=note["ended"] - note["began"],
        start=min(begin for begin, _ in spans.values()) - note["began"],
        spans={key: end - begin for key, (begin, end) in spans.items()},
        busy=union([*spans.values()]),
        steps=min(filter(None, steps), default=1),
    )


def _span(record: Record) -> tuple[float, float]:
    """When a cell was claimed, and when it had its result: seconds of the clock on the wall."""
    note = json.loads((record.folder / "claim.json").read_text(encoding="utf-8"))
    finished = (record.result() or {})["cost"]["finished"]
    return float(note["since"]), datetime.fromisoformat(finished).timestamp()


def _run(options: Options) -> list[str]:
    """The words of `run`, but for those that name a folder of its own."""
    flags = {
        "suite": options.suite,
        "data-root": options.data_root,
        "device": options.device,
        "jobs": max(options.jobs, 0),  # no pilot: what is besieged is its cells
        "threads": options.threads,
    }
    words = ["run", *(f"--{name}={value}" for name, value in flags.items())]
    words += [f"--set={change}" for change in options.changes]
    words += [f"--with={file}" for file in options.files]
    words += [f"--words={file}" for file in options.words]
    return [*words, *(["--skip-missing"] if options.skip_missing else [])]


def _besiege(siege: Siege, wild: Path, calm: Path, options: Options) -> list[str]:
    """The disturbed run; gives a sentence for each promise that it broke."""
    siege.say(f"disturbed: {len(siege.queue)} kills")
    with Subject(wild) as subject, Subject(calm) as other:
        try:
            siege.go(subject)
        except Broken as error:
            return [str(error)]
        told = [*alike.records(other.runs, subject.runs, siege.cells)]
        told += alike.retrained(siege.seals, subject.runs, siege.cells)
        told += alike.leftovers(other.place, subject.place)
        if told:  # the findings differ too, then
            return told
        for each in (other, subject):
            words = ["report", f"--out={each.findings}"]
            if code := each.start([*words, *(f"--with={file}" for file in options.files)]).wait():
                return [f"report ended with {code}: {each.said()}"]
        return [*alike.findings(other.findings, subject.findings)]


def _account(siege: Siege, kills: int, say: Say) -> None:
    """Kills by kind, and the time that they took."""
    made = Counter(kill.kind for kill in siege.made)
    kinds = ", ".join(f"{made[kind]} {KINDS[kind]}" for kind in KINDS if made[kind])
    say(f"{len(siege.made)} kills in {siege.runs} runs: {kinds or 'none'}")
    points = sorted({kill.point for kill in siege.made if kill.kind == "point"})
    if points:
        say(f"points: {', '.join(points)}")
    if len(siege.made) < kills:
        say(f"not {kills} kills: every cell had its result before the others could be made")
    lost = siege.seconds - siege.pace.seconds
    say(
        f"{duration(siege.pace.seconds)} undisturbed, {duration(siege.seconds)} disturbed: "
        f"{duration(max(lost, 0))} lost"
    )
