"""Work done in other processes: the same bytes, and nothing left behind."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from test_build import PAPERS, contents

from reports import press
from reports.build import build
from reports.exhibits import Exhibit, Prints
from reports.press import asked, beside, pressed, prints

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def two(monkeypatch):
    """Two CPUs, whatever there are."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


def drawn(name: str = "drawn", title: str = "") -> list[Exhibit]:
    figure = Figure(layout="constrained")
    figure.subplots().plot([0, 1], label="a line")
    figure.axes[0].set_title(title)
    figure.legend(loc="outside right upper")
    return [Exhibit(name, name, "Look.", None, None, "id\n", figure, "A caption.")]


def pid(*_: object) -> int:
    return os.getpid()


class Uncopied:
    def __reduce__(self):
        raise TypeError("no copies")


def gone(pid: int) -> bool:
    """Whether a process ends in some seconds; a zombie has ended."""
    stat = Path(f"/proc/{pid}/stat")
    for _ in range(200):
        try:
            if stat.read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except OSError:
            return True
        time.sleep(0.1)
    return False


def test_a_build_beside_writes_the_same_bytes(full, tmp_path, two, monkeypatch):
    build(full, tmp_path / "here", PAPERS)
    with beside() as pool:
        # whatever is printed here is printed twice
        monkeypatch.setattr(press, "style", None)
        build(full, tmp_path / "there", PAPERS, pool=pool)
    assert contents(tmp_path / "here") == contents(tmp_path / "there")


def test_one_cpu_prints_here(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    with beside() as pool:
        assert pool is None


@pytest.mark.parametrize("error", [ValueError, NotImplementedError, OSError])
def test_a_system_without_such_processes_prints_here(two, monkeypatch, error):
    def refuse(*_, **__):
        raise error("not here")

    monkeypatch.setattr(press, "ProcessPoolExecutor", refuse)
    with beside() as pool:
        assert pool is None


def test_what_is_asked_is_done_beside(two):
    with beside() as pool:
        assert asked(pool, pid)() != os.getpid()
    assert asked(None, pid)() == os.getpid()


def test_what_cannot_be_copied_is_done_here(two):
    with beside() as pool:
        for odd in (lambda: None, Uncopied()):
            assert asked(pool, pid, odd)() == os.getpid()


def test_a_table_is_not_printed_and_a_figure_once(full):
    table = Exhibit("t", "t", "Look.", None, "latex", "id\n", None)
    (figure,), (kept,) = pressed(drawn), pressed(lambda: [table])
    assert kept is table and isinstance(figure.figure, Prints)
    assert prints(figure.figure) is figure.figure == prints(drawn()[0].figure)


def test_a_killed_pool_loses_nothing(two):
    expected = pressed(drawn)[0].figure
    with beside() as pool:
        assert isinstance(pool, ProcessPoolExecutor)
        answers = [asked(pool, time.sleep, 600), asked(pool, time.sleep, 600)]
        waiting = asked(pool, pressed, drawn, "waiting")
        for process in [*pool._processes.values()]:
            process.kill()
        assert waiting()[0].figure == expected  # begun, and done again here
        assert asked(pool, pressed, drawn, "later")()[0].figure == expected
        assert len(answers) == 2


def test_an_error_is_told_as_it_is(two):
    with beside() as pool:
        answer = asked(pool, pressed, drawn, "broken", "$\\unknown$")
        with pytest.raises(ValueError, match="unknown"):
            answer()


def test_nothing_is_left_behind(two):
    with pytest.raises(KeyboardInterrupt), beside() as pool:
        assert pool is not None
        other = pool.submit(os.getpid).result()
        assert other != os.getpid()
        raise KeyboardInterrupt
    assert gone(other)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="asks /proc")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_outlives_a_killed_parent(tmp_path, number):
    script = tmp_path / "parent.py"
    script.write_text(f"""
import os, time
from reports.press import beside

if __name__ == "__main__":
    os.sched_getaffinity = lambda _: {{0, 1}}
    with beside() as pool:
        pool.submit(time.sleep, 60)
        print(pool.submit(os.getpid).result(), flush=True)
        os.kill(os.getpid(), {int(number)})
        time.sleep(60)
""")
    done = subprocess.run(
        [sys.executable, script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert done.returncode == -number and gone(int(done.stdout))
