"""A run that is killed again and again: the disturbed half of `chaos`."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from benchmark.commands.display import duration
from benchmark.commands.kills import Kill, Pace, Queue
from benchmark.commands.subject import Subject, running
from benchmark.engines.patience import Patience
from benchmark.records.faults import ONCE, VARIABLE
from benchmark.records.files import digest

LINE = 10.0  # seconds between two lines on where it stands; ours
TICK = 0.05  # seconds between two looks; ours: a cell of the quick suite takes two
ORPHANS = Patience().step + Patience().grace  # seconds in which workers without a parent must go


class Broken(RuntimeError):
    """The run did what it must not do under any kill; a sentence."""


@dataclass(slots=True)
class Siege:
    """One suite, its kills, and what was seen meanwhile.

    command  words of the run
    cells    key -> label of all that is planned
    say      called with a line for people
    made     the kills so far; seals: key -> digest of the result as it was when it first appeared
    runs     how often the run was started
    """

    command: Sequence[str]
    cells: Mapping[str, str]
    pace: Pace
    queue: Queue
    say: Callable[[str], None]
    made: list[Kill] = field(default_factory=list)
    seals: dict[str, str] = field(default_factory=dict)
    runs: int = 0
    seconds: float = 0.0
    subject: Subject = field(init=False)
    _total: int = 0
    _armed: tuple[Kill, Path] | None = None
    _clock: float = 0.0
    _moved: float = 0.0
    _trains: float = 0.0
    _said: float = 0.0

    def go(self, subject: Subject) -> None:
        """Start the run until it is over and nobody disturbs it any more; Broken if that fails."""
        self.subject = subject
        began = self._moved = self._said = time.monotonic()
        self._total = len(self.queue)
        try:
            self._until_over()
            self.await_orphans(self.subject.alive())
        finally:
            self.seconds = time.monotonic() - began

    @property
    def unfinished(self) -> list[str]:
        """Keys of the planned cells that have no result yet."""
        return [key for key in self.cells if key not in self.seals]

    def _until_over(self) -> None:
        early = True
        while True:
            before = len(self.made)
            early = early and bool(self.queue.starts)
            code = self._once(self.queue.starts[0] if early else None)
            early = not early  # every other run gets so far that it trains
            self._look()
            self._fired()
            self._judge(code, len(self.made) > before)
            if code == 0:
                return

    def _judge(self, code: int, killed: bool) -> None:
        """Broken where an exit code is not true: 0 with something left to do, another without."""
        left = len(self.unfinished)
        if code == 0 and left:
            raise Broken(f"a run ended with 0, and {left} cells have no result")
        if code > 0 and not (killed and left):
            what = f"{left} cells have no result" if left else "every cell has its result"
            raise Broken(
                f"a run {'' if killed else 'that nobody killed '}ended with {code}, and {what}:\n"
                f"{self.subject.said()}"
            )
        if code < 0 and not killed:
            raise Broken(f"a run ended by signal {-code}, which was not ours")

    def await_orphans(self, orphans: Sequence[psutil.Process]) -> None:
        """Wait for processes to go by themselves; Broken if they do not."""
        until = time.monotonic() + ORPHANS
        while left := [each for each in orphans if running(each)]:
            if time.monotonic() > until:
                pids = ", ".join(str(each.pid) for each in left)
                raise Broken(f"{duration(ORPHANS)} after their parent there were still {pids}")
            time.sleep(TICK)

    def _once(self, early: Kill | None) -> int:
        """One run from its start to its end; early: kills it before it trains."""
        self._disarm()
        self.runs += 1
        process = self.subject.start(self.command, {} if early else self._arm())
        began = before = self._moved = time.monotonic()
        self._trains = 0.0
        while (code := process.poll()) is None:
            now = time.monotonic()
            elapsed, before = now - before, now
            self._look()
            self._fired()
            training = self._training(process.pid)
            if early and (training or now - began > early.choice * self.pace.start):
                self._kill_parent(process, early)
            elif training and not early:
                self._trains = self._trains or now
                self._strike(process, elapsed, training)
            self._watch(now)
            time.sleep(TICK)
        return code

    def _strike(
        self, process: "subprocess.Popen[bytes]", elapsed: float, training: Mapping[int, str]
    ) -> None:
        """Kill if it is time. The waiting time is exponential at a rate that follows the suite."""
        kill = self.queue.due(self._armed[0] if self._armed else None, self._lurks)
        if kill is None:
            return
        self._clock += elapsed / max(self.queue.mean(self.pace.room(self.unfinished)), 1e-6)
        if self._clock < kill.wait:
            return
        if kill.kind == "worker":
            self._kill_worker(kill, training)
        elif not self._armed or kill.point != self._armed[0].point or self._disarm():
            self._kill_parent(process, kill)

    @property
    def _lurks(self) -> bool:
        """Whether the armed point is waited for: it comes once a cell, or more often.

        Not so where as many kills as cells are left: the cells would be over before the kills.
        """
        waited = time.monotonic() - self._trains
        time_left = waited < 2 * max(self.pace.spans.values())
        return self._armed is not None and time_left and len(self.queue) < len(self.unfinished)

    def _kill_worker(self, kill: Kill, training: Mapping[int, str]) -> None:
        workers = self.subject.workers()
        if not workers:
            return
        victim = workers[int(kill.choice * len(workers))]
        key = training.get(victim.pid)
        does = f"which trains {self.cells[key]}" if key else "which trains nothing yet"
        self._tell(f"worker {victim.pid}, {does}")
        try:
            victim.kill()
        except psutil.NoSuchProcess:
            return  # it went by itself: another one's turn
        self._note(kill)

    def _kill_parent(self, process: "subprocess.Popen[bytes]", kill: Kill) -> None:
        process.send_signal(signal.SIGSTOP)  # it starts none while its children are counted
        orphans = self.subject.family()
        waits = kill.choice < 0.5
        then = "whose end is waited for" if waits else "beside which the next run starts"
        when = "before it trains, " if kill.kind == "start" else ""
        self._tell(f"the parent {process.pid}, {when}with {len(orphans)} processes, {then}")
        process.kill()
        process.wait()
        self._note(kill)
        if waits:
            self.await_orphans(orphans)

    def _arm(self) -> dict[str, str]:
        """What the next run has in its environment, to be killed at the next point."""
        if not self.queue.points:
            return {}
        self.queue.points.rotate(-1)  # the one that could not be made yet has its turn later
        kill = self.queue.points[-1]
        passing = kill.passing(self.pace.steps, len(self.unfinished))
        token = self.subject.temporary / f"fault-{self.runs}"
        self._armed = kill, token
        self.say(f"armed: passing {passing} of {kill.point!r}")
        return {VARIABLE: f"kill {passing} {kill.point}", ONCE: str(token)}

    def _fired(self) -> None:
        """Take note if the armed point was passed."""
        if self._armed and self._armed[1].exists():
            kill, _ = self._armed
            self._armed = None
            self._tell(f"whoever passed {kill.point!r}")
            self._note(kill)

    def _disarm(self) -> bool:
        """See to it that nobody is killed at the armed point any more; False if one just was."""
        if not self._armed:
            return True
        try:
            os.close(os.open(self._armed[1], os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        except FileExistsError:
            self._fired()
            return False
        self._armed = None
        return True

    def _note(self, kill: Kill) -> None:
        self.made.append(kill)
        self.queue.made(kill)
        self._clock, self._moved = 0.0, time.monotonic()

    def _look(self) -> None:
        """Take note of the results that are new."""
        for key in self.unfinished:
            path = self.subject.runs / key / "result.json"
            if path.is_file():
                self.seals[key] = digest(path.read_bytes())
                self._moved = time.monotonic()

    def _training(self, parent: int) -> dict[int, str]:
        """Workers of this run that hold a cell without a result, and its key."""
        found = {}
        for key in self.unfinished:
            try:
                pid = json.loads((self.subject.runs / key / "claim.json").read_text())["pid"]
                if psutil.Process(pid).ppid() == parent:
                    found[pid] = key
            except (FileNotFoundError, psutil.NoSuchProcess):
                continue
        return found

    def _watch(self, now: float) -> None:
        """Say where it stands, now and then; Broken where nothing moves."""
        if now - self._said > LINE:
            self._said = now
            self.say(f"        {len(self.made)} of {self._total} kills · {self._standing}")
        limit = ORPHANS + 10 * self.pace.seconds
        if now - self._moved > limit:
            raise Broken(f"nothing was finished for {duration(limit)}:\n{self.subject.said()}")

    @property
    def _standing(self) -> str:
        left = self.pace.left(self.unfinished) + len(self.queue) * self.pace.start / 2
        return f"{len(self.seals)}/{len(self.cells)} cells · about {duration(left)} left"

    def _tell(self, what: str) -> None:
        self._said = time.monotonic()
        self.say(f"kill {len(self.made) + 1} of {self._total}: {what} · {self._standing}")
