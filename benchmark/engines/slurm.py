"""The Slurm engine: each cell is a job, by way of submitit.

The job only looks after a process of the usual kind (see errand.py); words go both ways through
files in a folder that all machines share. A job whose time is over, or that is preempted, has its
cell saved and is queued again; jobs go on also where the run that submitted them is gone.

`BENCHMARK_SLURM=local` takes submitit's local executor instead, to try this on one machine.
"""

import json
import math
import os
import secrets
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from benchmark.engines.crew import Crew
from benchmark.engines.errand import EVERY, Message, carry_out
from benchmark.engines.signals import held_back
from benchmark.engines.worker import Settings
from benchmark.records.files import writer

ROOT = Path(__file__).resolve().parents[2]

QUEUED = 100  # jobs at a time, where --jobs names no number; ours, below what sites allow a user
MINUTES = 12 * 60  # of a job, unless SBATCH_TIMELIMIT says otherwise; ours, it is queued again
SAVING = 90  # seconds before that at which a cell is told to save; submitit's own
ENDING = 10.0  # seconds for jobs that have answered to end; ours
AGAIN = 100  # times that a job whose time was over is queued again; ours, 50 days


class Slurm:
    """Jobs of this run; see `away.Carrier`."""

    def __init__(self, runs: Path, device: str, threads: int, jobs: int):
        """Nothing is submitted yet.

        runs     folder of the records; the jobs' own folder is made beside it
        device   cpu or cuda, with one GPU for each job
        threads  CPUs of each job
        jobs     how many at a time; 0: `QUEUED`

        Raises ValueError: one sentence.
        """
        if device not in ("cpu", "cuda"):
            raise ValueError(
                f"--device {device} is not to be told here: this machine does not see those that "
                "Slurm gives. Use --device cpu or --device cuda, with one GPU for each cell."
            )
        try:
            import submitit
        except ImportError as error:
            raise ValueError(
                f"--engine slurm needs submitit, which cannot be imported ({error}). Install it: "
                "pip install 'classifier-heads-benchmark[slurm]'."
            ) from None
        cluster = os.environ.get("BENCHMARK_SLURM", "slurm")
        if cluster not in ("slurm", "local"):
            raise ValueError(
                f"BENCHMARK_SLURM is {cluster!r}. Leave it out, or set it to local to try jobs on "
                "this machine."
            )
        if cluster == "slurm" and not (shutil.which("srun") and shutil.which("sbatch")):
            raise ValueError(
                "there is no Slurm on this machine: srun and sbatch are not in the PATH. Give the "
                "command on a login node, or use --engine local."
            )
        minutes = _minutes(os.environ.get("SBATCH_TIMELIMIT", ""))
        self.device, self.readers, self._jobs = device, 0, jobs or QUEUED
        name = f"{writer()}-{secrets.token_hex(4)}"
        self.folder = runs.resolve().parent / "slurm" / name
        (self.folder / "words").mkdir(parents=True)
        path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
        python = shlex.join(["env", f"PYTHONPATH={path}", sys.executable])
        self._executor = submitit.AutoExecutor(
            self.folder / "jobs",
            cluster=cluster,
            **{f"{cluster}_max_num_timeout": AGAIN, f"{cluster}_python": python},
        )
        self._executor.update_parameters(
            name="cells",
            timeout_min=minutes,
            slurm_cpus_per_task=threads,
            slurm_signal_delay_s=SAVING,
            **({"gpus_per_node": 1} if device == "cuda" else {}),
        )
        self._local = cluster == "local"
        self._sent: dict[str, Any] = {}
        self._read: dict[str, int] = {}

    @property
    def room(self) -> int:
        """Jobs at a time."""
        return self._jobs

    def send(self, ticket: str, label: str, text: str) -> None:
        """Submit a job."""
        for path in _words(self.folder, ticket):
            path.touch()
        with held_back(signal.SIGINT, signal.SIGUSR1):  # of a job that is a process of this machine
            self._sent[ticket] = self._executor.submit(Job(str(self.folder), ticket), text)
        self._read[ticket] = 0

    def take(self, seconds: float) -> Mapping[str, list[Message]]:
        """What jobs have written; a line that is not whole yet comes later."""
        time.sleep(seconds)
        found: dict[str, list[Message]] = {}
        for ticket, start in list(self._read.items()):
            lines, self._read[ticket] = _lines(_words(self.folder, ticket)[0], start)
            if lines:
                found[ticket] = [(kind, values) for kind, values in map(json.loads, lines)]
        return found

    def over(self, ticket: str) -> str | None:
        """Why a job is over; whatever it wrote was written before."""
        job = self._sent.get(ticket)
        if job is None:
            return ""
        if not job.done():
            return None
        del self._sent[ticket]
        said = (job.stderr() or "").strip().splitlines()
        return f"job {job.job_id} is over ({job.state}) {said[-1] if said else ''}".strip()

    def order(self, ticket: str, word: str) -> None:
        """Write it where the job looks."""
        _append(_words(self.folder, ticket)[1], [word])

    def cancel(self, ticket: str) -> None:
        """Have Slurm end a job, or take it from the queue."""
        job = self._sent.get(ticket)
        if job is None:
            return
        if not self._local:
            job.cancel(check=False)
            return
        with suppress(psutil.NoSuchProcess):  # it is over already
            process = psutil.Process(int(job.job_id))
            for each in [process, *process.children(recursive=True)]:
                each.kill()

    def check(self, settings: Settings, token: str) -> None:
        """Nothing: which machines there will be is known when a job begins, and it looks then."""

    def close(self) -> None:
        """Remove the folder of the jobs, unless some go on."""
        until = time.monotonic() + ENDING
        while not (over := all(job.done() for job in self._sent.values())):
            if time.monotonic() > until:
                break
            time.sleep(EVERY)
        if over:
            shutil.rmtree(self.folder, ignore_errors=True)
            with suppress(OSError):
                self.folder.parent.rmdir()


class Job:
    """What submitit calls on the machine that Slurm gives."""

    def __init__(self, folder: str, ticket: str):
        """folder: of the run's jobs; plain text, for this is pickled."""
        self.folder, self.ticket = folder, ticket
        self._crew: Crew | None = None

    def __call__(self, text: str) -> None:
        """Carry out an errand."""
        said, orders = _words(Path(self.folder), self.ticket)
        read = 0

        def exchange(news: list[Message]) -> list[str]:
            nonlocal read
            if news:
                _append(said, news)
            lines, read = _lines(orders, read)
            return [json.loads(line) for line in lines]

        carry_out(text, exchange, self._begun)

    def _begun(self, crew: Crew) -> None:
        self._crew = crew

    def checkpoint(self, text: str) -> Any:
        """The job's time is over, or it is preempted: save, and be queued again.

        Called by submitit in the midst of `__call__`, which ends after it.
        """
        from submitit.helpers import DelayedSubmission

        if self._crew is not None:
            for worker in self._crew.workers:
                worker.end()
            self._crew.close()
        _append(_words(Path(self.folder), self.ticket)[0], [("waits", {})])
        return DelayedSubmission(Job(self.folder, self.ticket), text)


def _words(folder: Path, ticket: str) -> tuple[Path, Path]:
    """Files of what a job says, and of what it is told."""
    return folder / "words" / f"{ticket}.said", folder / "words" / f"{ticket}.orders"


def _append(path: Path, values: list[Any]) -> None:
    with open(path, "a", encoding="utf-8") as file:
        file.writelines(json.dumps(value) + "\n" for value in values)
        file.flush()
        os.fsync(file.fileno())


def _lines(path: Path, start: int) -> tuple[list[str], int]:
    """Whole lines from a position in bytes on, and the next position.

    The file is opened anew each time: that is when NFS asks for what other machines wrote.
    """
    with open(path, "rb") as file:
        file.seek(start)
        whole, newline, _ = file.read().rpartition(b"\n")
    if not newline:
        return [], start
    return whole.decode().split("\n"), start + len(whole) + 1


def _minutes(given: str) -> int:
    """Of a time limit in Slurm's notations: minutes, [hours:]minutes:seconds, days-hours[:…]."""
    if not given:
        return MINUTES
    days, dash, rest = given.rpartition("-")
    try:
        parts = [int(part) for part in rest.split(":")]
        if not dash:
            parts = [0] * (3 - len(parts)) + parts if len(parts) > 1 else [0, *parts]
        hours, minutes, seconds = [*parts, *[0] * (3 - len(parts))]
        return max(1, (int(days or 0) * 24 + hours) * 60 + minutes + math.ceil(seconds / 60))
    except ValueError:
        raise ValueError(
            f"SBATCH_TIMELIMIT is {given!r}. Give minutes, hours:minutes:seconds or days-hours."
        ) from None
