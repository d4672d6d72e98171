"""Work for other processes beside this one; what comes of it is the same.

Making exhibits and printing their figures is most of the work of a report. Other processes are for
a program to ask for, never for `build` to start unasked: a script that starts some must be safe to
import, and not every one is.
"""

import gc
import multiprocessing
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial
from multiprocessing.connection import wait
from signal import SIG_IGN, SIGINT, signal
from threading import Thread
from typing import Any, TypeVar

from matplotlib.figure import Figure

from reports import style
from reports.exhibits import Exhibit, Prints

T = TypeVar("T")

GONE = (BrokenProcessPool, RuntimeError, OSError)
"""What a pool raises that cannot start, or is no more."""

UNCOPIED = (pickle.PicklingError, AttributeError, TypeError)
"""What pickle raises of what cannot be copied."""

MOST = 4
"""Processes, at most: a report has some 13 figures, and each process takes 100 MB. Ours."""


def asked(pool: Executor | None, make: Callable[..., T], *args: Any) -> Callable[[], T]:
    """Begin `make(*args)` in a process of the pool; what is given back waits for the answer.

    Done here, when the answer is wanted, where there is no pool, where it is gone, or where what
    is asked cannot be copied. Errors of `make` are raised where the answer is wanted.
    """
    here = partial(make, *args)
    if pool is None:
        return here
    with suppress(*GONE, *UNCOPIED):
        # copied now, and not in the pool's own thread, while this one goes on changing it
        begun = pool.submit(_answer, pickle.dumps(here))

        def answer() -> T:
            try:
                return begun.result()
            except BrokenProcessPool:  # killed, perhaps for memory
                return here()

        return answer
    return here


def pressed(make: Callable[..., list[Exhibit]], *args: Any) -> list[Exhibit]:
    """What a function makes, with its figures printed, so that it can be copied."""
    return [
        replace(each, figure=prints(each.figure)) if isinstance(each.figure, Figure) else each
        for each in make(*args)
    ]


def prints(figure: Figure | Prints) -> Prints:
    """A figure as PNG and as PDF."""
    if isinstance(figure, Prints):
        return figure
    return Prints(style.png(figure), style.pdf(figure))


@contextmanager
def beside() -> Iterator[Executor | None]:
    """Processes to ask, one a CPU; None for one CPU, or where they cannot be had.

    What they import is imported from now on, so that they are ready when the first question is.
    They are gone when the context is left, however it is left.
    """
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    pool = _started(min(cpus, MOST)) if cpus > 1 else None
    try:
        yield pool
    finally:
        if pool is not None:
            pool.shutdown(wait=True, cancel_futures=True)


def _started(processes: int) -> Executor | None:
    try:
        # a fork of this process would inherit the locks of torch's threads, without the threads
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["reports.build"])  # once for all of them
        pool = ProcessPoolExecutor(processes, context, initializer=_settle)
    except (ValueError, ImportError, NotImplementedError, OSError, RuntimeError):
        return None  # no fork server, no semaphores: everything is done here
    # the first task starts the server, and that the imports, which it waits for
    Thread(target=_begin, args=(pool,), daemon=True).start()
    return pool


def _begin(pool: Executor) -> None:
    with suppress(*GONE):
        pool.submit(int)


def _settle() -> None:
    """In a process of the pool: the parent hears an interrupt and says so; without it, we end."""
    signal(SIGINT, SIG_IGN)
    gc.disable()  # a dozen figures' worth of cycles, and then it ends
    parent = multiprocessing.parent_process()
    if parent is not None:
        Thread(target=_end_with, args=(parent.sentinel,), daemon=True).start()


def _end_with(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)


def _answer(copied: bytes) -> Any:
    return pickle.loads(copied)()
