"""A real PostgreSQL on loopback, in a folder that goes with it."""

import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROLE = "tester"


def _free_port() -> int:
    with closing(socket.socket()) as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    """Give a function: a port of loopback that nobody has."""
    return _free_port


def _tool(name: str) -> str:
    """A program of PostgreSQL, which distributions keep off the path."""
    found = shutil.which(name) or max(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), default="")
    if not found:
        pytest.skip("no PostgreSQL is installed")
    return str(found)


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """The address of a server without any database of ours: postgresql://…/."""
    pytest.importorskip("psycopg2")
    initdb, control = _tool("initdb"), _tool("pg_ctl")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    # it refuses to be run by root
    other = pwd.getpwnam("postgres").pw_name if not os.geteuid() else None
    if other:
        shutil.chown(folder, other)

    def run(*words: str) -> None:
        subprocess.run(
            words, check=True, user=other, cwd=folder, stdout=subprocess.DEVNULL, timeout=120
        )

    port = _free_port()
    try:
        run(initdb, "-D", f"{folder}/data", "-U", ROLE, "--auth=trust", "--no-sync")
        options = f"-p {port} -h 127.0.0.1 -k {folder} -F"
        run(control, "-D", f"{folder}/data", "-l", f"{folder}/log", "-w", "-o", options, "start")
        try:
            yield f"postgresql://{ROLE}@127.0.0.1:{port}/"
        finally:
            run(control, "-D", f"{folder}/data", "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def database(server: str) -> Callable[[str], str]:
    """Give a function (name): the address of a new, empty database."""
    import psycopg2

    def create(name: str) -> str:
        with closing(psycopg2.connect(f"{server}postgres")) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
                cursor.execute(f"CREATE DATABASE {name}")
        return server + name

    return create


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Give a function (*words): a Python module begun in a process; all are ended afterwards."""
    begun: list[subprocess.Popen[str]] = []
    hidden = ("BENCHMARK_DATA", "MLFLOW_TRACKING_URI")
    own = {name: value for name, value in os.environ.items() if name not in hidden}
    own |= {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}

    def start(*words: object) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", *map(str, words)],
            cwd=tmp_path,
            env=own,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        begun.append(process)
        return process

    yield start
    for process in begun:
        if process.poll() is None:
            os.killpg(process.pid, 9)
        process.communicate()
