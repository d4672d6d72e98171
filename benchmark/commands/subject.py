"""What `chaos` disturbs: `python -m benchmark` in processes of its own, all of them found again."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

import benchmark
from benchmark.engines.signals import heard
from benchmark.records.faults import ONCE, VARIABLE

MARK = "BENCHMARK_CHAOS"  # environment variable of all our processes, by which they are found
GONE = 10.0  # seconds, at most, that a process takes to go after SIGKILL; ours


class Subject:
    """Commands on the records of one folder, and everything that they start.

    They are in sessions of their own: Ctrl-C reaches the one who disturbs them, and not them. To be
    entered with `with`, which leaves nothing of them running.

    temporary  where they put what is not to stay; goes with them. Not in the folder: names of
               sockets may have 100 characters, and lie here
    """

    def __init__(self, place: Path):
        """place: the folder; it is created where it is not there."""
        place.mkdir(parents=True, exist_ok=True)
        self.place, self.runs, self.findings = place, place / "runs", place / "findings"
        self.tracking = f"sqlite:///{place / 'mlflow.db'}"
        self.log = place / "log.txt"
        self.process: subprocess.Popen[bytes] | None = None
        self.temporary = Path(tempfile.mkdtemp(prefix="chaos-"))

    def __enter__(self) -> "Subject":
        """Nothing is started yet."""
        return self

    def __exit__(self, *how: object) -> None:
        """End all; a second Ctrl-C has to wait for that."""
        with heard(lambda number: None):
            self._end()

    def start(
        self, command: Sequence[str], more: Mapping[str, str] | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a command on this folder; what it says goes to the log.

        more  of the environment
        """
        own = {name: v for name, v in os.environ.items() if name not in (VARIABLE, ONCE)}
        root = str(Path(benchmark.__file__).resolve().parents[1])
        path = os.pathsep.join(filter(None, [root, own.get("PYTHONPATH")]))
        own |= {"PYTHONPATH": path, "TMPDIR": str(self.temporary), MARK: str(self.place)}
        here = [f"--runs={self.runs}", f"--tracking-uri={self.tracking}"]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmark", *command, *here],
                env={**own, **(more or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return self.process

    def workers(self) -> list[psutil.Process]:
        """Those that train, and the readers of images that they started; oldest first."""
        return [each for each in self.family() if _trains(each)]

    def family(self) -> list[psutil.Process]:
        """All that the command started and that is there still."""
        if self.process is None:
            return []
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return sorted(found, key=lambda each: each.pid)

    def alive(self) -> list[psutil.Process]:
        """All of our processes, whoever their parent is now."""
        return [each for each in psutil.process_iter() if self._ours(each) and running(each)]

    def said(self, lines: int = 5) -> str:
        """The last that was said."""
        told = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(told[-lines:])

    def _end(self) -> None:
        until = time.monotonic() + GONE
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        while (left := self.alive()) and time.monotonic() < until:
            for each in left:
                try:
                    each.kill()
                except psutil.NoSuchProcess:
                    pass
            psutil.wait_procs(left, timeout=1)
        shutil.rmtree(self.temporary, ignore_errors=True)

    def _ours(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(MARK) == str(self.place)
        except (psutil.Error, OSError):
            return False


def running(process: psutil.Process) -> bool:
    """Whether it is there, and more than an entry that nobody has read yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _trains(process: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(process.cmdline())
    except psutil.Error:
        return False
