"""The Ray engine on a real cluster: two nodes on this machine, each with its own raylet."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import psutil
import pytest
from safetensors.numpy import load_file

from benchmark.engines.local import Local
from benchmark.engines.worker import Settings
from benchmark.records.record import Record
from tests.benchmark.engines.test_interruptions import lines_until, nobody_left, until_there

ROOT = Path(__file__).resolve().parents[3]
STEPS = 10  # of each cell
needs_ray = pytest.mark.skipif(find_spec("ray") is None, reason="the extra `ray` is not installed")

# Two nodes, and as many more as lines are read; the end of the input is the end of the cluster.
CLUSTER = """
import json, sys
from ray.cluster_utils import Cluster

each = dict(num_cpus=1, num_gpus=0, object_store_memory=80 * 2**20, include_log_monitor=False)
cluster = Cluster(initialize_head=True, head_node_args=dict(
    each, include_dashboard=False, no_monitor=True))
nodes = [cluster.head_node]
while True:
    nodes.append(cluster.add_node(**each))
    raylets = [node.all_processes["raylet"][0].process.pid for node in nodes]
    print(json.dumps({"address": cluster.address, "raylets": raylets}), flush=True)
    if not sys.stdin.readline():
        break
    for started in nodes[-1].all_processes.values():
        started[0].process.wait()  # of the node that was killed nothing is to stay
cluster.shutdown()
"""


class Cluster:
    """A head and another node, each of one CPU, on loopback only."""

    def __init__(self, folder: Path):
        self.folder = folder
        (folder / "ray").mkdir()
        (folder / "token").write_text("0123456789abcdef" * 4)
        self.env = {
            **os.environ,
            "RAY_USAGE_STATS_ENABLED": "0",
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
            "RAY_TMPDIR": str(folder),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "OMP_NUM_THREADS": "1",
        }
        with open(folder / "said", "w") as said:
            self.process = subprocess.Popen(
                [sys.executable, "-c", CLUSTER],
                env=self.env,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=said,
                text=True,
                start_new_session=True,
            )
        try:
            self.hear()
        except RuntimeError:
            self.close()
            raise

    def hear(self) -> None:
        """Wait until the nodes are there."""
        for line in self.process.stdout:
            if line.startswith("{"):
                found = json.loads(line)
                self.address, (self.head, *_, self.other) = found["address"], found["raylets"]
                return
        raise RuntimeError((self.folder / "said").read_text())

    def replace(self) -> None:
        """One node more."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.hear()

    @property
    def family(self) -> list[psutil.Process]:
        """All processes of this cluster."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if str(self.folder) in process.environ().get("RAY_TMPDIR", ""):
                    found.append(process)
        return found

    def close(self) -> None:
        family = self.family
        self.process.communicate(timeout=60)  # nothing more is read: it ends
        alive = psutil.wait_procs(family, timeout=30)[1]
        for process in alive:
            process.kill()
        assert alive == []


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # short, for it holds sockets
    try:
        for _ in range(3):  # where the machine is busy, Ray's 30 s may not do
            with suppress(RuntimeError):
                found = Cluster(folder)
                break
            shutil.rmtree(folder / "ray")
        yield found
        found.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def run(cluster, tmp_path):
    """Give a function (*words, **env): a command on that cluster, in this folder."""
    started = []

    def start(*words: object, **env: str) -> "subprocess.Popen[str]":
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmark", *map(str, words)],
            cwd=tmp_path,
            env={**cluster.env, **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        process.communicate()


def words(cluster) -> tuple[str, ...]:
    where = ("--engine", "ray", "--address", cluster.address)
    return ("run", "--suite", "tiny.yaml", "--with", "mine.py", "--offline", *where)


@contextmanager
def none_left(cluster):
    """All that trains on the nodes goes by itself."""
    found = trainers(cluster)
    assert found
    yield
    assert psutil.wait_procs(found, timeout=60)[1] == []


def trainers(cluster) -> list[psutil.Process]:
    found = []
    for process in cluster.family:
        with suppress(psutil.Error):
            if "spawn_main" in " ".join(process.cmdline()):
                found.append(process)
    return found


def trainer(cell, runs) -> int:
    """The process that trains a cell."""
    return json.loads((runs / cell.key / "claim.json").read_text())["pid"]


@needs_ray
@pytest.mark.long
def test_a_node_is_taken_away_and_all_ends_as_on_one_machine(
    faulty, cluster, run, tmp_path, trained
):
    """Each cell has one result, with the bits of the local engine."""
    cells = faulty("[{mine: {fault: waits once, size: [1, 2]}}, psc, psc > ncm]")
    first = run(*words(cluster))
    until_there(first, tmp_path / "waits-1", tmp_path / "waits-2")
    by_raylet = {}
    for cell in cells[:2]:
        pid = trainer(cell, tmp_path / "runs")
        above = {parent.pid for parent in psutil.Process(pid).parents()}
        (raylet,) = above & {cluster.head, cluster.other}
        by_raylet[raylet] = psutil.Process(pid)
    assert set(by_raylet) == {cluster.head, cluster.other}  # one on each
    os.kill(cluster.other, signal.SIGKILL)
    said = ""
    while "it goes on elsewhere" not in said:
        said += (line := first.stdout.readline())
        assert line, said
    orphan = by_raylet[cluster.other]
    assert orphan.is_running()  # in the midst of its step still, after which it saves and goes
    (tmp_path / "go").touch()
    said += first.communicate(timeout=280)[0]
    assert psutil.wait_procs([orphan], timeout=60)[1] == []
    cluster.replace()
    assert first.returncode == 0 and "4 done" in said and "(raylet)" not in said, said
    assert trained() == {"waits once 1": STEPS, "waits once 2": STEPS}  # none is taken twice
    settings = Settings(tmp_path / "calm", tmp_path / "data", (tmp_path / "mine.py",), "cpu", 1)
    assert set(Local(settings, 2, lambda event: None).run(cells).values()) == {"done"}
    for cell in cells:
        there, here = Record(tmp_path / "runs" / cell.key), Record(tmp_path / "calm" / cell.key)
        assert not there.held and there.failure() is None
        assert there.result()["metrics"] == here.result()["metrics"]
        for name in ("arrays", "weights"):
            one, other = (load_file(r.folder / f"{name}.safetensors") for r in (there, here))
            assert {n: v.tobytes() for n, v in one.items()} == {
                n: v.tobytes() for n, v in other.items()
            }
    assert len(list(tmp_path.glob("runs/*/result.json"))) == len(cells)


@needs_ray
@pytest.mark.long
def test_ctrl_c_once_saves_on_the_nodes_and_the_same_command_goes_on(
    faulty, cluster, run, tmp_path, trained
):
    cells = faulty("[{mine: {fault: slow once, size: [1, 2, 3]}}]")
    first = run(*words(cluster), "--jobs", 3)  # one of them waits for a CPU
    while len(list(tmp_path.glob("slow-*"))) < 2:
        assert first.poll() is None, first.communicate()[0]
        time.sleep(0.1)
    with none_left(cluster):
        os.killpg(first.pid, signal.SIGINT)
        said, _ = first.communicate(timeout=200)
    assert first.returncode == 130, said
    assert "interrupted; the same command goes on" in said and "Traceback" not in said
    assert list(trained().values()) == [2, 2]
    for cell in cells:
        record = Record(tmp_path / "runs" / cell.key)
        assert record.result() is None and record.failure() is None and not record.held
    assert len(list(tmp_path.glob("runs/*/checkpoint-*"))) == 2
    for number in (1, 2, 3):
        (tmp_path / f"slow-{number}").touch()  # the third has not been slow yet, nor is it to be
    second = run(*words(cluster))
    said, _ = second.communicate(timeout=200)
    assert second.returncode == 0 and "3 done" in said, said
    assert list(trained().values()) == [STEPS] * 3  # none is taken twice


@needs_ray
@pytest.mark.long
def test_ctrl_c_twice_means_now(faulty, cluster, run, tmp_path):
    (cell,) = faulty("[{mine: {fault: sleeps}}]")
    first = run(*words(cluster))
    until_there(first, tmp_path / "steps.log")
    with none_left(cluster):
        os.killpg(first.pid, signal.SIGINT)
        said = lines_until(first, "interrupted: each cell finishes its step")
        os.killpg(first.pid, signal.SIGINT)
        said += first.communicate(timeout=120)[0]
    assert first.returncode == 130 and "Traceback" not in said, said
    record = Record(tmp_path / "runs" / cell.key)
    assert record.result() is None and record.failure() is None and not record.held


@needs_ray
@pytest.mark.long
def test_a_search_on_the_cluster(faulty, cluster, run, tmp_path):
    """Trials are asked for as machines have room, followed by their epochs, and told."""
    faulty("psc")
    (tmp_path / "mine.yaml").write_text(
        "# mine: why?\n- data: {name: digits, largest: 10}\n"
        "  backbone: {small_cnn: {channels: 4}}\n  recipe: {quick: {epochs: 2, batch: 20}}\n"
        "  seeds: 0\n  head: {psc: {dim: {choice: [4, 8]}}}\n"
        "- search: {trials: 2, final: [0]}\n"
    )
    process = run(
        "study", "mine.yaml", "--offline", "--engine", "ray", "--address", cluster.address
    )
    said, _ = process.communicate(timeout=280)
    assert process.returncode == 0, said
    assert "the choice on test" in said


@needs_ray
@pytest.mark.long
def test_a_cluster_of_ones_own_stays_on_loopback_and_leaves_nothing(faulty, run, tmp_path):
    """One cell fails: exit code 1, as with the local engine."""
    cells = faulty("[{mine: {fault: waits}}, {mine: {fault: raises}}]")
    home, temporary = tmp_path / "home", Path(tempfile.mkdtemp(prefix="own"))
    home.mkdir()
    alone = {"RAY_AUTH_MODE": "", "RAY_AUTH_TOKEN_PATH": "", "HOME": str(home)}
    alone |= {"RAY_TMPDIR": "", "TMPDIR": str(temporary)}
    plain = ("run", "--suite", "tiny.yaml", "--with", "mine.py", "--offline", "--engine", "ray")
    process = run(*plain, **alone)
    try:
        until_there(process, tmp_path / "steps.log")
        family = [p := psutil.Process(process.pid), *p.children(recursive=True)]
        sockets = [c for each in family for c in each.net_connections("inet")]
        open_ports = [c.laddr.ip for c in sockets if c.status == psutil.CONN_LISTEN]
        assert len(open_ports) > 3
        assert {ip.removeprefix("::ffff:") for ip in open_ports} == {"127.0.0.1"}
        raylet = next(each for each in family if each.name() == "raylet").environ()
        assert raylet["RAY_USAGE_STATS_ENABLED"] == "0" and raylet["RAY_AUTH_MODE"] == "token"
        assert not any("include-dashboard=true" in " ".join(each.cmdline()) for each in family)
        (tmp_path / "go").touch()
        with nobody_left(process):
            said, _ = process.communicate(timeout=200)
        assert process.returncode == 1 and "1 done, 1 failed" in said, said
        reason = Record(tmp_path / "runs" / cells[1].key).failure()["reason"]
        assert reason == "RuntimeError: no loss today"
        assert list(temporary.glob("ray*")) == [] and list(home.rglob("*token*")) == []
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@needs_ray
@pytest.mark.long
def test_an_address_where_no_cluster_answers_is_one_sentence(faulty, run, tmp_path):
    """Nobody listens, or somebody who never says a word."""
    faulty("psc")
    plain = ("run", "--suite", "tiny.yaml", "--offline", "--engine", "ray", "--address")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        mute = run(*plain, f"127.0.0.1:{port}")
        said, _ = mute.communicate(timeout=200)
    assert mute.returncode == 2, said
    assert "no Ray cluster answers at 127.0.0.1" in said and "Traceback" not in said
    dead = run(*plain, f"127.0.0.1:{port}")
    said, _ = dead.communicate(timeout=60)
    assert dead.returncode == 2 and said.count("\n") == 1, said
    assert "no Ray cluster answers at 127.0.0.1" in said and "refused" in said


@needs_ray
@pytest.mark.long
def test_a_cluster_of_another_version_is_one_sentence(faulty, cluster, run):
    """The last of these tests: the cluster believes it from now on."""
    faulty("psc")
    forge = (
        f"import json, ray; ray.init({cluster.address!r}, log_to_driver=False)\n"
        "kv = ray._private.worker.global_worker.gcs_client\n"
        "from ray._common.usage import usage_lib\n"
        "found = usage_lib.get_cluster_metadata(kv)\n"
        "found['ray_version'] = '2.1.0'\n"
        "kv.internal_kv_put(b'CLUSTER_METADATA', json.dumps(found).encode(), True, b'cluster')\n"
    )
    subprocess.run([sys.executable, "-c", forge], env=cluster.env, check=True, timeout=120)
    process = run(*words(cluster))
    said, _ = process.communicate(timeout=200)
    assert process.returncode == 2 and "Traceback" not in said, said
    assert "another version of Ray or Python" in said and "2.1.0" in said
