"""Nothing that is read runs code, nothing is named into another place, nobody sees test labels."""

import ast
import hashlib
import json
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import fields, replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from benchmark.planning import plan, suite
from benchmark.planning.cell import Cell
from benchmark.records.record import Record
from benchmark.training import checkpoint, runner
from benchmark.training.registry import registry
from benchmark.training.runner import Place
from datasets import DATASETS, MissingData
from datasets.base import Split
from datasets.pickled import Damaged, batch
from heads.base import Problem
from tests.test_identity import ALWAYS, BASE, HYPER, of_head

ROOT = Path(__file__).resolve().parent.parent
OURS = ("benchmark", "heads", "datasets", "reports", "studies")

# What runs code, or what a file says, wherever it stands; and where it may stand, with the reason.
MODULES = frozenset(
    (
        *("pickle", "_pickle", "cPickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"),
        *("code", "codeop", "runpy", "pty", "commands", "xmlrpc", "zipimport", "dbm"),
    )
)
CALLS = frozenset(
    (
        *("eval", "exec", "compile", "__import__", "execfile", "breakpoint"),
        *("os.system", "os.popen", "os.startfile", "pd.read_pickle", "pandas.read_pickle"),
        *(
            "yaml.load",
            "yaml.load_all",
            "yaml.full_load",
            "yaml.unsafe_load",
            "yaml.add_constructor",
        ),
        *("torch.hub.load", "torch.jit.load", "torch.package.PackageImporter", "np.fromregex"),
        *("shutil.unpack_archive", "tempfile.mktemp", "subprocess.getoutput"),
        *("subprocess.getstatusoutput", "pd.eval", "numexpr.evaluate"),
    )
)
METHODS = frozenset(("extractall", "extract", "exec_module", "read_pickle", "to_pickle"))
ALLOWED = {
    ("datasets/pickled.py", "import pickle"): "CIFAR's own files, after their MD5; see there",
    ("reports/press.py", "import pickle"): "what one process asks of another; nothing of a file",
    ("benchmark/training/registry.py", ".exec_module"): "the head that a user names with --with",
}


def dangers(tree: ast.AST) -> list[str]:
    """What of all this stands in a program."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [f"import {a.name}" for a in node.names if a.name.split(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").split(".")[0] in MODULES:
                found.append(f"import {node.module}")
            found += [
                f"import {node.module}.{a.name}"
                for a in node.names
                if f"{node.module}.{a.name}" in CALLS or a.name in ("system", "popen")
            ]
        elif isinstance(node, ast.Call):
            found += _call(node)
    return found


def _call(node: ast.Call) -> Iterator[str]:
    name = ast.unparse(node.func)
    last = name.rpartition(".")[2]
    given = {each.arg: each.value for each in node.keywords}
    if name in CALLS or re.match(r"os\.(exec|spawn|posix_spawn)", name):
        yield name
    if isinstance(node.func, ast.Attribute) and last in METHODS:
        yield f".{last}"
    if name == "importlib.import_module" and not isinstance(node.args[0], ast.Constant):
        yield name
    if name == "torch.load" and not _is(given.get("weights_only"), True):
        yield name
    if "shell" in given and not _is(given["shell"], False):
        yield "shell"
    if "allow_pickle" in given and not _is(given["allow_pickle"], False):
        yield "allow_pickle"
    if "unpickler" in last.lower():
        yield last


def _is(node: ast.expr | None, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def test_nothing_in_the_product_runs_what_it_reads():
    found = {
        (str(path.relative_to(ROOT)), danger)
        for folder in OURS
        for path in sorted((ROOT / folder).rglob("*.py"))
        for danger in dangers(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert found == set(ALLOWED)


@pytest.mark.parametrize(
    "line",
    [
        *("import pickle", "from pickle import loads", "import joblib.hashing", "import marshal"),
        *("from os import system", "os.system('x')", "os.execvp('x', [])", "eval('1')", "exec(x)"),
        *("torch.load(f)", "torch.load(f, weights_only=False)", "torch.load(f, weights_only=x)"),
        *(
            "yaml.load(t, Loader=yaml.Loader)",
            "yaml.unsafe_load(t)",
            "np.load(f, allow_pickle=True)",
        ),
        *(
            "subprocess.run('x', shell=True)",
            "run(x, shell=y)",
            "tar.extractall(p)",
            "z.extract(m)",
        ),
        *("pd.read_pickle(p)", "frame.to_pickle(p)", "spec.loader.exec_module(m)"),
        *("importlib.import_module(name)", "__import__(n)", "pickle.Unpickler(f)"),
    ],
)
def test_the_scan_sees_what_it_is_for(line):
    assert dangers(ast.parse(line))


# pickles in the place of something else


class Made:
    """Pickled: makes a folder when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


class Command:
    """Pickled: runs a program when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class Told:
    """Pickled: evaluates a text when it is read."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return eval, (f"__import__('os').mkdir({str(self.path)!r})",)


EVIL = (Made, Command, Told)


@pytest.fixture
def touched(tmp_path) -> Iterator[Path]:
    """A path that no test may bring into being."""
    path = tmp_path / "touched"
    yield path
    assert not path.exists()


@pytest.mark.parametrize("kind", EVIL)
def test_the_pickles_work(tmp_path, kind):
    """Without that, nothing that follows says anything."""
    pickle.loads(pickle.dumps(kind(tmp_path / "x")))
    assert (tmp_path / "x").exists()


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("kind", EVIL)
def test_a_pickle_in_the_place_of_cifar(tmp_path, touched, kind, protocol):
    """First with a checksum that is another; then as if MD5 were no protection at all."""
    path = tmp_path / "batch"
    for value in (kind(touched), {"data": kind(touched), "labels": []}, [kind(touched)]):
        raw = pickle.dumps(value, protocol)
        path.write_bytes(raw)
        with pytest.raises(Damaged, match="its checksum is another"):
            batch(path, "0" * 32)
        with pytest.raises(Damaged, match="it names"):
            batch(path, hashlib.md5(raw).hexdigest())


def test_a_pickle_that_uses_the_names_that_are_known(tmp_path, touched):
    """The four names stand for ours, so that nothing of numpy's or of codecs' can be reached."""
    attacks = (
        b"cnumpy\ndtype.__class__\n.",
        b"c_codecs\ndecode\n(S'x'\nS'rot13'\ntR.",
        b"cnumpy\nndarray\n(S'a'\nS'b'\ntR.",
        b"cnumpy._core.multiarray\n_reconstruct\n(S'a'\ntR(dS'__class__'\nS'x'\nsb.",
        b"cbuiltins\ngetattr\n(cnumpy\ndtype\nS'__init__'\ntR.",
    )
    for raw in (*attacks, b"", b".", b"(" * 1000, b"\x80\x05\x95" + b"\xff" * 8):
        (tmp_path / "batch").write_bytes(raw)
        with pytest.raises(Damaged):
            batch(tmp_path / "batch", hashlib.md5(raw).hexdigest())


def test_a_whole_data_set_of_pickles(tmp_path, touched, monkeypatch):
    """As `run` reads it; with --download too, which only adds what is missing."""
    from torchvision.datasets import CIFAR10

    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    raw = pickle.dumps(Command(touched))
    for name, _ in (*CIFAR10.train_list, *CIFAR10.test_list):
        (folder / name).write_bytes(raw)
    (folder / "batches.meta").write_bytes(raw)
    monkeypatch.setattr(CIFAR10, "download", lambda self: None)
    for download in (False, True):
        with pytest.raises(MissingData, match="its checksums are not those of CIFAR-10"):
            DATASETS["cifar10"].read(tmp_path, download=download)


@pytest.mark.parametrize("kind", EVIL)
def test_a_pickle_in_the_place_of_a_checkpoint(tmp_path, touched, kind):
    checkpoint.write(tmp_path, "key", checkpoint.Checkpoint({"w": torch.ones(2)}, {"step": 1}))
    (path,) = tmp_path.glob("checkpoint-*")
    content = path.read_bytes()
    head, _, packed = content.partition(b"\n")
    evil = pickle.dumps(kind(touched))
    seal = {**json.loads(head), "checksum": hashlib.sha256(evil).hexdigest()}
    torch.save(kind(touched), tmp_path / "saved")
    for attack in (evil, head + b"\n" + evil, (tmp_path / "saved").read_bytes()):
        path.write_bytes(attack)
        said: list[str] = []
        assert checkpoint.read(tmp_path, "key", said.append) is None and len(said) == 1
    path.write_bytes(json.dumps(seal).encode() + b"\n" + evil)  # well sealed: still no program
    with suppress(ValueError):
        assert checkpoint.read(tmp_path, "key") is None


@pytest.mark.parametrize("kind", EVIL)
def test_a_pickle_in_the_place_of_weights(tmp_path, touched, kind):
    record = Record(tmp_path / "runs" / "0123456789abcdef")
    record.folder.mkdir(parents=True)
    ones = {"w": np.ones(2)}
    record.finish({"state": "done", "metrics": {}}, ones, ones)
    for name in ("weights", "arrays"):
        (record.folder / f"{name}.safetensors").write_bytes(pickle.dumps(kind(touched)))
    for read in (record.weights, record.arrays):
        with pytest.raises(ValueError, match="does not match its result"):
            read()


# what names may do


HOSTILE = (
    "</script><img src=x onerror=alert(1)>",
    r"\input{/etc/passwd}\write18{id}%",
    "../../../tmp/x",
    "/etc/cron.d/x",
    "a\nb",
    "javascript:alert(1)//https://example.org",
    "[link=file:///etc/passwd]x[/link]",
    '" onmouseover="alert(1)',
    "\u202egnp.exe",
)


def hostile_runs() -> pd.DataFrame:
    """Finished cells in whose every name somebody has written something."""
    rows = []
    for number, name in enumerate(HOSTILE):
        for seed in range(2):
            accuracy = 0.5 + 0.01 * number + 0.001 * seed
            rows.append(
                {
                    **{"key": f"{number:08x}{seed:08x}", "suites": name, "state": "done"},
                    **{"data": name, "ratio": 10.0, "profile": "exponential", "largest": 500},
                    **{"backbone": name, "head": name, "dim": 8, "seed": str(seed)},
                    **{"recipe": name, "epochs": 2, "classes": 10, "train_images": 100},
                    **{"group_rule": "many > 100, few < 20", "accuracy": accuracy},
                    **{"many": accuracy, "medium": accuracy, "few": accuracy, "top5": 0.9},
                    **{"ece": 0.1, "nc1": 1.0, "nc2": 0.2, "nc3": 0.3, "nc4": 0.1},
                    **{"oracle": accuracy, "flip": accuracy, "parameters": 10.0, "flops": 10.0},
                    **{"width": 8, "seconds": 1.0, "images_per_second": 10.0},
                    **{"peak_memory_mb": 1.0, "finished": "2026-01-02T03:04:05"},
                    **{"diverged_step": np.nan, "label": f"{name} seed {seed}"},
                }
            )
    return pd.DataFrame(rows)


class Tags(HTMLParser):
    """The tags of a page with their attributes, and what stands in each script."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[str | None, str]] = []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data):
        if self.cdata_elem == "script":
            self.scripts.append((self.found[-1][1].get("type"), data))


@pytest.fixture(scope="module")
def findings(tmp_path_factory) -> Path:
    from reports.build import build

    out = tmp_path_factory.mktemp("findings") / "out"
    papers = {name: name for name in HOSTILE}
    build(hostile_runs(), out, papers, about={name: name for name in HOSTILE})
    return out


def test_names_reach_no_tag_of_the_page(findings):
    page = Tags()
    page.feed((findings / "index.html").read_text(encoding="utf-8"))
    assert [kind for kind, _ in page.scripts].count(None) == 1  # that of the page itself
    for kind, content in page.scripts:
        if kind is None:
            assert not any(name in content for name in HOSTILE)
        else:  # numbers for that script, which no name can end
            assert kind == "application/json" and isinstance(json.loads(content), dict)
    for tag, attributes in page.found:
        assert not any(name.startswith("on") for name in attributes), (tag, attributes)
        for name in ("src", "href"):
            target = attributes.get(name) or "#"
            assert target.startswith(("#", "data:image/png;base64,")), (tag, attributes)


def test_names_reach_no_command_of_latex(findings):
    files = [*findings.rglob("*.tex")]
    assert len(files) > 3
    for file in files:
        text = file.read_text(encoding="ascii")
        named = re.findall(r"\\(?:input|includegraphics)[^{]*\{([^}]*)\}", text)
        mine = r"((tables|figures|cost)/)?[a-z0-9.-]+"
        assert all(re.fullmatch(mine, path) and ".." not in path for path in named), file
        assert "\\write" not in text and "\\input{/" not in text
        assert all(
            re.fullmatch(r"(tab|fig):[a-z0-9-]+", x) for x in re.findall(r"\\label\{(.*?)\}", text)
        )


def test_names_reach_no_path(findings):
    """Every file is below the folder of the findings, and none of its names is a stranger's."""
    assert {path.name for path in findings.parent.iterdir()} == {"out"}
    for path in findings.rglob("*"):
        assert re.fullmatch(r"[a-z0-9.-]+", path.name), path


def test_names_of_cells_are_held_to_letters():
    """What a suite names reaches file names and arguments: heads, recipes, backbones, options."""
    for name in HOSTILE:
        for field in (f"head={json.dumps([name])}", f"head={json.dumps([{name: {'dim': 8}}])}"):
            with pytest.raises(ValueError):
                changed(BASE, field)
        with pytest.raises(ValueError):
            changed(BASE, f"head={json.dumps([{'psc': {name: 8}}])}")
        with pytest.raises(ValueError):
            changed(BASE, f"recipe={json.dumps(name)}")


def changed(text: str, *settings: str) -> Cell:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mine.yaml"
        file.write_text(text)
        return suite.read(str(file), settings).cells[-1]


# the test set is sealed


class Sealed:
    """In the place of the test set: whoever asks it for anything has broken the seal."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"the test set was asked for its {name}")

    def __len__(self) -> int:
        raise AssertionError("the test set was asked for its length")


@pytest.fixture
def small(tmp_path, monkeypatch) -> Callable[..., Cell]:
    """Give a function (*settings): a cell of one small suite; and no machine's own cache."""
    monkeypatch.setenv("BENCHMARK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(runner, "_commit", lambda: "unknown")

    def build(*settings: str) -> Cell:
        return plan.complete(
            changed(BASE, *ALWAYS, *settings),
            registry(),
            lambda name: DATASETS[name].largest,
            lambda name: {"channels": 32, "taper": 1.0},
            words=lambda name: True,
        )

    return build


def trained(cell: Cell, runs: Path, test: Callable[[Split], Any], monkeypatch) -> Record:
    """The record of a cell that was trained with something else in the place of the test set."""
    real = runner.material
    with monkeypatch.context() as patched:
        patched.setattr(
            runner,
            "material",
            lambda data, root: (lambda found: replace(found, test=test(found.test)))(
                real(data, root)
            ),
        )
        patched.setenv("BENCHMARK_CACHE", str(runs.parent / f"cache-{runs.name}"))  # kept features
        for each, _ in plan.with_foundations([cell]):
            runner.run(each, place(runs))
    return Record(runs / cell.key)


def place(runs: Path) -> Place:
    words = runs.parent / "words.npy"
    if not words.is_file():
        np.save(words, np.random.default_rng(0).standard_normal((10, 12)))
    return Place(runs, runs.parent / "data", registry(), words={"": words})


def same_weights(one: Record, other: Record) -> bool:
    ours, theirs = one.weights(), other.weights()
    return ours.keys() == theirs.keys() and all(
        np.array_equal(ours[name], theirs[name]) for name in ours
    )


def garbage(test: Split) -> Split:
    """The test images, with labels that have nothing to do with them."""
    generator = torch.Generator().manual_seed(1)
    return Split(test.images, torch.randint(10, (len(test),), generator=generator))


HEADS = sorted(registry().heads)
SOME = ("psc", "dl2pa", "dnc", "ncm")


@pytest.mark.parametrize(
    "head", [name if name in SOME else pytest.param(name, marks=pytest.mark.long) for name in HEADS]
)
def test_test_labels_reach_no_weight(small, tmp_path, monkeypatch, head):
    """Garbage for labels, and accuracy tested after every epoch: the same weights to the bit."""
    hyper = HYPER[head]
    cell = small("recipe.quick.oracle=1", of_head(head, hyper.usual, hyper.before))
    with torch.random.fork_rng():
        one = trained(cell, tmp_path / "a", lambda test: test, monkeypatch)
        other = trained(cell, tmp_path / "b", garbage, monkeypatch)
    assert same_weights(one, other)
    told = [record.result()["metrics"]["accuracy"] for record in (one, other)]
    assert told[0] != told[1]  # the labels were others indeed


def test_training_never_asks_for_the_test_set(small, tmp_path, monkeypatch):
    """Up to the last step: it is `finish` that opens it, for the first time."""
    cell = small("head=dnc")
    monkeypatch.setattr(runner._Job, "finish", lambda self, progress: None)
    trained(cell, tmp_path / "runs", lambda test: Sealed(), monkeypatch)
    monkeypatch.undo()
    monkeypatch.setattr(runner, "_commit", lambda: "unknown")
    with pytest.raises(AssertionError, match="the test set was asked for"):
        trained(cell, tmp_path / "again", lambda test: Sealed(), monkeypatch)


@pytest.mark.parametrize("head", ["psc", "dl2pa", "psc > ncm"])
def test_a_search_never_asks_for_the_test_set(small, tmp_path, monkeypatch, head):
    """With a share carved off for validation a cell is trained and judged to its end without it."""
    cell = small(
        *("data.validation=0.3", "recipe.quick.oracle=1", "recipe.quick.flip=true"), f"head={head}"
    )
    one = trained(cell, tmp_path / "a", lambda test: test, monkeypatch)
    other = trained(cell, tmp_path / "b", lambda test: Sealed(), monkeypatch)
    assert same_weights(one, other)
    results = [record.result() for record in (one, other)]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert "validation" in results[0]["metrics"]
    assert not {"accuracy", "oracle"} & results[0]["metrics"].keys()


def test_every_search_that_is_shipped_selects_on_validation():
    from studies import holes
    from studies.holes import Choice, Range

    searched = [study for study in map(holes.read, holes.names()) if study.search]
    assert searched
    for study in searched:
        assert 0 < study.search.validation < 1
        values = {
            address: hole.low if isinstance(hole, Range) else hole.values[0]
            for address, hole in study.holes.items()
            if isinstance(hole, (Range, Choice))
        }
        cells = study.filled(values, validation=study.search.validation).cells
        assert cells
        assert {dict(cell.data)["validation"] for cell in cells} == {study.search.validation}


def test_a_head_is_told_nothing_of_the_test_set():
    """`Problem` is all that a head may know: these fields, and each of them from training."""
    known = {"width", "counts", "names", "words", "source", "seed", "points"}
    assert {each.name for each in fields(Problem)} == known
    for path in (ROOT / "heads").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in ("benchmark", "datasets"), path


# no network, no telemetry


GUARD = """\
import os, sys

def _hook(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.bind"):
        address = arguments[1]
        local = isinstance(address, (str, bytes)) or str(address[0]) in ("127.0.0.1", "::1")
    elif event in ("socket.getaddrinfo", "socket.gethostbyname"):
        address = arguments[0]
        local = address in (None, "localhost", "127.0.0.1", "::1", b"localhost")
    elif event == "urllib.Request":
        address, local = arguments[0], False
    else:
        return
    if not local:
        with open(os.environ["WHERE_IT_CALLED"], "a") as file:
            file.write(f"{event} {address} {sys.argv}\\n")
        raise OSError(f"no network here: {event} {address}")

sys.addaudithook(_hook)
"""


@pytest.fixture
def alone(tmp_path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Give a function (*words): Python in a process that, with all its children, has no network."""
    hooks = tmp_path / "hooks"
    hooks.mkdir()
    (hooks / "sitecustomize.py").write_text(GUARD)
    drop = ("CI", "GITHUB_ACTIONS", "PYTEST_CURRENT_TEST", "DO_NOT_TRACK", "MLFLOW_TRACKING_URI")
    drop += ("MLFLOW_DISABLE_TELEMETRY", "BENCHMARK_DATA")  # so that nothing else holds it back
    env = {name: value for name, value in os.environ.items() if name not in drop}
    env |= {
        **{"PYTHONPATH": os.pathsep.join([str(hooks), str(ROOT)]), "OMP_NUM_THREADS": "1"},
        **{"WHERE_IT_CALLED": str(tmp_path / "calls"), "HOME": str(tmp_path)},
        "BENCHMARK_CACHE": str(tmp_path / "cache"),
    }

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *words],
            **{"cwd": tmp_path, "env": env, "capture_output": True, "text": True, "timeout": 600},
        )

    return run


@pytest.mark.long
def test_the_guard_holds(alone, tmp_path):
    code = "import urllib.request; urllib.request.urlopen('http://example.org')"
    assert "no network here" in alone("-c", code).stderr
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {code!r}])"
    assert "no network here" in alone("-c", child).stderr
    assert len((tmp_path / "calls").read_text().splitlines()) == 2


@pytest.mark.long
def test_the_quick_suite_needs_no_network(alone, tmp_path):
    """Trained, delivered to MLflow and reported; and nobody so much as asks for an address."""
    short = ("--set", "recipe.quick.epochs=1", "--set", "seeds=[0]", "--set", "data.ratio=20")
    done = alone("-m", "benchmark", "run", "--suite", "quick", *short, "--jobs", "2")
    assert done.returncode == 0, done.stdout + done.stderr
    done = alone("-m", "benchmark", "report")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (tmp_path / "findings" / "index.html").is_file()
    assert (tmp_path / "mlflow.db").is_file()
    assert not (tmp_path / "calls").exists(), (tmp_path / "calls").read_text()
    assert not list(tmp_path.rglob("telemetry*"))


def test_telemetry_is_off_before_mlflow_can_be_imported():
    code = (
        "import os; os.environ.pop('MLFLOW_DISABLE_TELEMETRY', None); import benchmark.records;"
        "print(os.environ['MLFLOW_DISABLE_TELEMETRY'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.strip() == "true", done.stderr


def test_nothing_tells_anyone_to_open_a_server_to_all():
    """MLflow without authentication is for this machine alone."""
    texts = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md", ROOT / "Makefile"]
    texts += [path for folder in OURS for path in (ROOT / folder).rglob("*.py")]
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert "0.0.0.0" not in text and "--host ::" not in text, path
        for command in re.findall(r"mlflow (?:server|ui)[^\n`]*", text):
            assert "--host" not in command or "--host 127.0.0.1" in command, path


def test_the_lock_pins_everything_with_hashes():
    """What `make` installs is what was locked, or nothing."""
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    names = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert len(names) > 50
    for line in names:
        assert re.match(r"[A-Za-z0-9._-]+==[^ ]+ .*\\$", line), line
    hashed = sum(line.strip().startswith("--hash=sha256:") for line in lines)
    assert hashed >= len(names)
    assert "--require-hashes" in (ROOT / "Makefile").read_text(encoding="utf-8")
