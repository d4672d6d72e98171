"""Figures printed in other processes: the same bytes, and nothing left behind."""

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
from reports.exhibits import Exhibit
from reports.press import Press, beside

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def two(monkeypatch):
    """Two CPUs, whatever there are."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)


def exhibit(name: str = "drawn") -> Exhibit:
    figure = Figure(layout="constrained")
    figure.subplots().plot([0, 1], label="a line")
    figure.legend(loc="outside right upper")
    return Exhibit(name, name, "Look.", None, None, "id\n", figure, "A caption.")


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
        # whatever is drawn here is drawn twice
        monkeypatch.setattr(press, "_of_figure", None)
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


def test_a_figure_that_cannot_be_copied_is_printed_here(two):
    odd = exhibit()
    odd.figure.axes[0].xaxis.set_major_formatter(lambda value, place: f"{value:g}")
    expected = Press().prints(exhibit())
    with beside() as pool:
        prints = Press(pool)
        prints.begin([odd, "a sentence", exhibit("other")])
        assert prints.prints(odd)[0] and prints.prints(exhibit("other")) == expected


def test_a_killed_pool_loses_no_figure(two):
    one, other = exhibit("one"), exhibit("other")
    expected = Press().prints(exhibit())
    with beside() as pool:
        assert isinstance(pool, ProcessPoolExecutor)
        with pytest.raises(RuntimeError):
            pool.submit(os._exit, 1).result()
        prints = Press(pool)
        prints.begin([one, other])
        assert prints.prints(one) == prints.prints(other) == expected


def test_an_error_of_drawing_is_told_as_it_is(two):
    broken = exhibit()
    broken.figure.axes[0].set_title("$\\unknown$")
    with beside() as pool:
        prints = Press(pool)
        prints.begin([broken])
        with pytest.raises(ValueError, match="unknown"):
            prints.prints(broken)


def test_nothing_is_left_behind(two):
    with pytest.raises(KeyboardInterrupt), beside() as pool:
        assert pool is not None
        pid = pool.submit(os.getpid).result()
        assert pid != os.getpid()
        raise KeyboardInterrupt
    assert gone(pid)


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
