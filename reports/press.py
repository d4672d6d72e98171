"""Figures into print, in this process or in others beside it; the bytes are the same.

Drawing is half of the work of a report. Other processes are for a program to ask for, never for
`build` to start unasked: a script that starts some must be safe to import, and not every one is.
"""

import gc
import multiprocessing
import os
import pickle
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait
from signal import SIG_IGN, SIGINT, signal
from threading import Thread

from matplotlib.figure import Figure

from reports import style
from reports.exhibits import Exhibit

MOST = 4
"""Processes, at most: a report has some 13 figures, and each process takes 100 MB. Ours."""

Prints = tuple[bytes, bytes]
"""A figure as PNG and as PDF."""


class Press:
    """Prints each figure once, at the latest when its print is asked for.

    pool: begins to print in other processes as soon as an exhibit is handed in.
    """

    def __init__(self, pool: Executor | None = None):
        self._pool = pool
        self._begun: dict[str, Future[Prints]] = {}
        self._done: dict[str, Prints] = {}

    def begin(self, exhibits: Iterable[object]) -> None:
        """Hand in what was made; what has no figure is let pass."""
        for each in exhibits:
            if self._pool is None or not isinstance(each, Exhibit) or each.figure is None:
                continue
            try:
                # here and now, not in the pool's own thread, while this one goes on drawing
                copied = pickle.dumps(each.figure)
                self._begun[each.name] = self._pool.submit(_of_copy, copied)
            except (BrokenProcessPool, RuntimeError, OSError):
                self._pool = None  # it cannot start, or is gone: the rest is printed here
            except (pickle.PicklingError, AttributeError, TypeError):
                pass  # a figure that cannot be copied is printed here

    def prints(self, exhibit: Exhibit) -> Prints:
        """The figure of an exhibit as PNG and as PDF."""
        if exhibit.name not in self._done:
            assert exhibit.figure is not None, exhibit.name
            begun = self._begun.pop(exhibit.name, None)
            try:
                made = _of_figure(exhibit.figure) if begun is None else begun.result()
            except BrokenProcessPool:  # killed, perhaps for memory
                made = _of_figure(exhibit.figure)
            self._done[exhibit.name] = made
        return self._done[exhibit.name]


@contextmanager
def beside() -> Iterator[Executor | None]:
    """Processes that print, one a CPU; None for one CPU, or where they cannot be had.

    What they import is imported from now on, so that they are ready when the first figure is; they
    are gone when the context is left, however it is left.
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
        context.set_forkserver_preload(["reports.press"])  # once for all of them
        pool = ProcessPoolExecutor(processes, context, initializer=_settle)
        pool.submit(int)  # the first task starts the server, and that the imports
    except (ValueError, ImportError, NotImplementedError, OSError, RuntimeError):
        return None  # no fork server, no semaphores: everything is printed here
    return pool


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


def _of_copy(copied: bytes) -> Prints:
    return _of_figure(pickle.loads(copied))


def _of_figure(figure: Figure) -> Prints:
    return style.png(figure), style.pdf(figure)
