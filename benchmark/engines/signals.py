"""The signals that ask a run to stop.

SIGINT   Ctrl-C
SIGTERM  a machine that is taken away, `kill`
SIGUSR1  Slurm, some time before the limit of a job that may be queued again

A command that was stopped ends with 128 + the signal's number: 130, 143, 138.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


@contextmanager
def heard(hear: Callable[[int], None]) -> Iterator[None]:
    """Have these signals go to `hear` with their number; afterwards all is as it was before."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    for number in STOPPING:
        signal.signal(number, lambda number, frame: hear(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def leaving(say: Callable[[int], None]) -> Iterator[None]:
    """Outside of training: a signal ends the process in order, with 128 + its number.

    Where somebody listens already, who knows more of what is to be saved, nothing is changed.
    """

    def leave(number: int) -> NoReturn:
        raise _Left(128 + number)

    if signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield
        return
    try:
        with heard(leave):
            yield
    except _Left as left:
        say(left.code - 128)  # not where it was heard: that may be amidst a line
        raise


class _Left(SystemExit):
    """The end of a process by a signal, with its exit code."""

    code: int


@contextmanager
def held_back(*numbers: signal.Signals) -> Iterator[None]:
    """What is started meanwhile is deaf to SIGINT, SIGUSR1 and SIGUSR2, from its first moment on.

    A terminal sends Ctrl-C to every process, Slurm its signal to all of a job, submitit's is
    SIGUSR2: it is the parent that is meant, and it tells its workers with SIGTERM. Signals to this
    process come afterwards.

    numbers  these instead
    """
    deaf = set(numbers) or {signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, deaf)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
