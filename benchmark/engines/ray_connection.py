"""A connection to Ray: to a cluster that is there, or to one of this machine's own.

What Ray reads when it is imported is set here before, so nobody else imports it.
"""

import os
import secrets
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from benchmark.engines.signals import STOPPING, held_back

ANSWER = 10.0  # seconds for a machine to take a connection; ours
STORE = 80 * 2**20  # bytes of Ray's object store, which nothing is put into; 75 MiB is its least
STARTS = 3  # attempts to start a cluster of one's own: on a busy machine Ray's 30 s may not do


def started(folder: Path) -> Any:
    """Ray, with a cluster that it starts here and that ends with this process.

    folder  an empty one, for its files; short, since it holds sockets. Raises ValueError.
    """
    _alone(folder)
    ray = _imported()
    for attempt in range(STARTS):
        try:
            with held_back(), handlers_kept():
                ray.init(
                    address="local",
                    num_cpus=_cores(),
                    object_store_memory=STORE,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="critical",
                    _temp_dir=str(folder),
                )
            return ray
        except Exception as error:
            with handlers_kept():
                ray.shutdown()
            if attempt == STARTS - 1:
                raise ValueError(
                    f"Ray does not start on this machine: {line(error)}. "
                    "Use --engine local, or give the --address of a cluster."
                ) from None


def connected(address: str) -> Any:
    """Ray, with a cluster that is there: host:port, or auto. Raises ValueError within a minute."""
    if "://" in address:
        raise ValueError(
            f"{address} is an address of Ray Client, and cells are told what to do by a program "
            "inside the cluster. Give the command on one of its machines, with --address auto."
        )
    # Where something else answers, Ray asks twenty times, for 40 seconds each.
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    ray = _imported()
    if address != "auto":
        _answers(address)
    try:
        with handlers_kept():
            ray.init(address=address, log_to_driver=False, logging_level="critical")
    except Exception as error:
        raise ValueError(_unconnected(address, str(error))) from None
    return ray


@contextmanager
def handlers_kept() -> Iterator[None]:
    """Ray takes SIGTERM for itself where it connects; the engine is to hear it."""
    before = {number: signal.getsignal(number) for number in STOPPING}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def line(error: BaseException) -> str:
    """An error in one line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:300] if lines else ''}"


def _alone(folder: Path) -> None:
    """Have a cluster that this process starts listen to loopback, and to its own words only.

    Ray 2.60 binds to all interfaces, whatever node address it is given, unless it believes that
    this machine can be in no cluster of several: then it knows of 127.0.0.1 alone. Others on this
    machine could still reach that; they have no token. All this is read when Ray is imported.
    """
    token = folder / "token"
    with open(os.open(token, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "w") as file:
        file.write(secrets.token_hex(32))
    os.environ.update(
        RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0",
        RAY_AUTH_MODE="token",
        RAY_AUTH_TOKEN_PATH=str(token),
    )
    os.environ.pop("RAY_AUTH_TOKEN", None)  # it would count for more


def _imported() -> Any:
    """Ray itself, which is to send no statistics."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    try:
        with handlers_kept():
            import ray
    except ImportError as error:
        raise ValueError(
            f"--engine ray needs Ray, which cannot be imported ({error}). Install it: "
            "pip install 'classifier-heads-benchmark[ray]'."
        ) from None
    # A node that dies is told on standard output with the end of its log, whatever the options say.
    ray._private.worker.print_to_stdstream = lambda *given, **named: None
    return ray


def _answers(address: str) -> None:
    """Find out whether a cluster is there: Ray itself would ask for minutes, and again.

    Raises ValueError.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise ValueError(
            f"{address!r} is no address of a Ray cluster. Give host:port, as `ray start --head` "
            "prints it, or auto."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), ANSWER).close()
    except OSError as error:
        raise ValueError(_unconnected(address, str(error.strerror or error))) from None


def _unconnected(address: str, said: str) -> str:
    said = " ".join(said.split())[:300]
    if "ersion mismatch" in said:
        return (
            f"the cluster at {address} has another version of Ray or Python than this machine: "
            f"{said} Install the same lock on all machines."
        )
    return (
        f"no Ray cluster answers at {address} ({said}). Look with `ray status` whether it runs, "
        "set RAY_AUTH_TOKEN_PATH where it asks for a token, or leave --address out."
    )


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
