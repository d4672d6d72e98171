"""Who may import whom, held against every import statement of the tree, also inside functions."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
OURS = ("benchmark", "heads", "datasets", "reports", "studies")

# of the standard library alone: who may write, how files are written, how that can be made to fail
KEPT = ("claims", "faults", "files")

# folder or module -> (ours, theirs) that it may import beside itself, nearest entry first
TABLE: dict[str, tuple[set[str], set[str]]] = {
    "heads": (set(), {"torch", "scipy.optimize"}),
    "datasets": (set(), {"torch", "torchvision", "numpy", "PIL", "sklearn"}),
    "benchmark.backbones": (set(), {"torch", "torchvision"}),
    "benchmark.planning.cell": (set(), {"yaml", "pydantic"}),
    "benchmark.planning.recipes": ({"benchmark.planning.cell"}, {"yaml", "pydantic"}),
    "benchmark.planning.document": (set(), {"yaml"}),
    "benchmark.planning.suite": (
        {
            *("benchmark.planning.cell", "benchmark.planning.recipes"),
            "benchmark.planning.document",
        },
        {"yaml", "pydantic"},
    ),
    "benchmark.planning.forecast": ({"benchmark.planning.cell", "heads.base"}, set()),
    "benchmark.planning.plan": ({"benchmark.planning", "benchmark.records", "heads"}, set()),
    "benchmark.records.faults": (set(), set()),
    "benchmark.records.files": ({"benchmark.records.faults"}, set()),
    "benchmark.records.lease": ({"benchmark.records.files"}, set()),
    "benchmark.records.claims": ({"benchmark.records.lease"}, set()),
    "benchmark.records.record": (
        {"benchmark.planning.cell", *(f"benchmark.records.{name}" for name in KEPT)},
        {"numpy", "safetensors"},
    ),
    "benchmark.records": ({"benchmark.planning.cell"}, {"numpy", "safetensors"}),
    "benchmark.records.ledger": (
        {"benchmark.planning.cell", "benchmark.records"},
        {"mlflow", "pandas"},
    ),
    "benchmark.records.rebuild": ({"benchmark.records.ledger", "benchmark.records.record"}, set()),
    "benchmark.training": (
        {
            *("benchmark.planning", "benchmark.records.record", "benchmark.backbones"),
            *("heads", "datasets", *(f"benchmark.records.{name}" for name in KEPT)),
        },
        {"torch", "numpy", "safetensors"},
    ),
    "benchmark.engines": (
        {"benchmark.planning", "benchmark.training", "benchmark.records"},
        {"psutil", "ray", "submitit"},
    ),
    "benchmark.commands": (set(OURS), {"typer", "rich"}),
    "benchmark.__main__": (set(OURS), {"typer", "rich"}),
    "studies": ({"benchmark"}, {"optuna", "sqlalchemy", "yaml"}),
    "reports": (
        {"benchmark.records.ledger"},
        {
            *("pandas", "numpy", "scipy", "statsmodels", "scikit_posthocs", "safetensors"),
            *("yaml", "matplotlib", "seaborn"),
        },
    ),
}

# What the table does not say, each with its reason; a reason that is gone is an error too.
DEVIATIONS: dict[tuple[str, str], str] = {
    ("benchmark", "benchmark.training.runner"): "benchmark.load, the package's one door, lazily",
    ("heads.pairs", "scipy.sparse"): "the assignment on cheap pairs is scipy's sparse solver's",
    ("benchmark.training.runner", "psutil"): "peak memory of a cell, measured where it is trained",
    ("benchmark.commands.agenda", "torch"): "class counts of the stand-in problem",
    ("benchmark.commands.matching", "torch"): "cost matrices, timed",
    ("benchmark.commands.matching", "scipy"): "the solver that ours is compared with",
    ("benchmark.commands.outlook", "torch"): "`--device auto` asks whether there is an accelerator",
    ("benchmark.commands.together", "torch"): "a GPU for each process: how many there are",
    ("benchmark.commands.report", "pandas"): "the ledger's frame, handed on to reports",
    ("benchmark.commands.evidence", "pandas"): "histories, handed on to reports as frames",
    ("benchmark.commands.replay", "numpy"): "arrays of two records, compared to the last bit",
    ("benchmark.commands.alike", "numpy"): "arrays of two runs, compared to the last bit",
    ("benchmark.commands.subject", "psutil"): "processes that outlive their parent, found again",
    ("benchmark.commands.siege", "psutil"): "which of those processes lives, and which is killed",
}

DOORS = {
    "mlflow": ("benchmark.records.ledger",),
    "optuna": ("studies",),
    "torchvision": ("datasets", "benchmark.backbones"),
    "matplotlib": ("reports",),
    "seaborn": ("reports",),
}


@dataclass(frozen=True)
class Import:
    """target: what is imported, with the name where that is a module of ours.

    late  inside a function; typing  only for readers of annotations
    """

    source: str
    target: str
    late: bool
    typing: bool

    @property
    def foreign(self) -> bool:
        return self.target.split(".")[0] not in OURS


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {
    module_name(path): path for folder in OURS for path in sorted((ROOT / folder).rglob("*.py"))
}


def imports_of(source: str, text: str) -> Iterator[Import]:
    """All imports of a text, at whatever depth; standard library left out."""

    def visit(node: ast.AST, late: bool, typing: bool) -> Iterator[Import]:
        for target in targets(node):
            if target.split(".")[0] not in sys.stdlib_module_names:
                yield Import(source, target, late, typing)
        late = late or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            for child in node.body:
                yield from visit(child, late, True)
            for child in node.orelse:
                yield from visit(child, late, typing)
            return
        for child in ast.iter_child_nodes(node):
            yield from visit(child, late, typing)

    yield from visit(ast.parse(text), False, False)


def targets(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.level == 0 and node.module, "relative import: write the whole name"
        for alias in node.names:
            whole = f"{node.module}.{alias.name}"
            known = whole in MODULES or node.module.split(".")[0] not in OURS
            yield whole if known else node.module
    elif isinstance(node, ast.Call):
        name = ast.unparse(node.func).split(".")[-1]
        if name in ("import_module", "__import__", "importorskip") and node.args:
            assert isinstance(node.args[0], ast.Constant), "an import whose name is computed"
            yield str(node.args[0].value)


IMPORTS = [
    found for name, path in MODULES.items() for found in imports_of(name, path.read_text("utf-8"))
]


def within(module: str, folder: str) -> bool:
    return module == folder or module.startswith(folder + ".")


def room(module: str) -> str:
    """The nearest entry of the table for a module; the module itself where there is none."""
    return max((key for key in TABLE if within(module, key)), key=len, default=module)


def allowed(each: Import) -> bool:
    own = room(each.source)
    if own not in TABLE:
        return False
    ours, theirs = TABLE[own]
    if each.foreign:
        return any(within(each.target, package) for package in theirs)
    return within(each.target, own) or any(within(each.target, folder) for folder in ours)


def excused(each: Import) -> set[tuple[str, str]]:
    return {
        (source, target)
        for source, target in DEVIATIONS
        if source == each.source and within(each.target, target)
    }


def test_the_walk_sees_every_form():
    text = """
import os, torch.nn as nn
from heads import geometry, HEADS
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import pandas
def f():
    from mlflow.tracking import MlflowClient
    class A:
        import optuna
    return importlib.import_module("seaborn")
"""
    found = {(each.target, each.late, each.typing) for each in imports_of("x", text)}
    assert found == {
        ("torch.nn", False, False),
        ("heads.geometry", False, False),
        ("heads", False, False),
        ("pandas", False, True),
        ("mlflow.tracking.MlflowClient", True, False),
        ("optuna", True, False),
        ("seaborn", True, False),
    }
    for bad in ("from . import x", "importlib.import_module(name)"):
        with pytest.raises(AssertionError):
            list(imports_of("x", bad))


def test_the_table_forbids():
    def each(source, target):
        return Import(source, target, False, False)

    assert allowed(each("heads.psc", "heads.base")) and allowed(each("heads.x", "torch.nn"))
    assert allowed(each("heads.dl2pa", "scipy.optimize.linear_sum_assignment"))
    assert not allowed(each("heads.psc", "scipy.stats"))
    assert not allowed(each("heads.psc", "numpy"))
    assert not allowed(each("heads.psc", "benchmark.training.points"))
    assert not allowed(each("benchmark.planning.cell", "benchmark.planning.suite"))
    assert not allowed(each("benchmark.planning.recipes", "benchmark.planning.suite"))
    assert not allowed(each("benchmark.training.train", "benchmark.records.ledger"))
    assert not allowed(each("benchmark.records.ledger", "torch"))
    assert not allowed(each("reports.page", "benchmark.records.record"))
    assert not allowed(each("benchmark.newcomer", "torch"))


def test_the_tree_is_there():
    assert {"benchmark.__main__", "heads.psc", "datasets.base", "reports.build"} < set(MODULES)
    assert len(IMPORTS) > 300


def test_every_import_is_in_the_table():
    strange = [
        f"{each.source} imports {each.target}"
        for each in IMPORTS
        if not each.typing and not allowed(each) and not excused(each)
    ]
    assert strange == []


def test_readers_of_annotations_are_held_to_the_table_too():
    strange = [
        f"{each.source} imports {each.target}"
        for each in IMPORTS
        if each.typing and not allowed(each) and not excused(each)
    ]
    assert strange == []


def test_every_deviation_is_still_one():
    used = {pair for each in IMPORTS if not allowed(each) for pair in excused(each)}
    assert used == set(DEVIATIONS)


@pytest.mark.parametrize("package", DOORS)
def test_each_foreign_framework_has_one_door(package):
    users = {each.source for each in IMPORTS if within(each.target, package)}
    assert [user for user in users if not any(within(user, d) for d in DOORS[package])] == []


def test_no_head_imports_another():
    table = {"heads", "heads.base", "heads.checks", "heads.geometry", "heads.layers"}
    table |= {"heads.matching", "heads.pairs"}
    papers = {name for name in MODULES if within(name, "heads")} - table
    assert "heads.psc" in papers
    crossing = [
        e for e in IMPORTS if e.source != "heads" and any(within(e.target, p) for p in papers)
    ]
    assert [each for each in crossing if within(each.source, "heads")] == []


def test_the_composition_root_is_lazy():
    early = [e.target for e in IMPORTS if e.source == "benchmark.__main__" and not e.late]
    assert {target.split(".")[0] for target in early} == {"typer", "rich"}
    assert [e for e in IMPORTS if e.source == "benchmark" and not e.late and not e.typing] == []


def cycle(edges: dict[str, set[str]]) -> list[str]:
    """One cycle of a graph, or nothing."""
    done: set[str] = set()

    def walk(node: str, path: list[str]) -> list[str]:
        if node in path:
            return [*path[path.index(node) :], node]
        if node in done:
            return []
        for after in sorted(edges.get(node, ())):
            found = walk(after, [*path, node])
            if found:
                return found
        done.add(node)
        return []

    for node in sorted(edges):
        found = walk(node, [])
        if found:
            return found
    return []


def module_of(target: str) -> str:
    """The module of ours that a target names."""
    while target not in MODULES:
        target = target.rpartition(".")[0]
    return target


def test_cycles_are_found():
    assert cycle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c", "b"]
    assert cycle({"a": {"b", "c"}, "b": {"c"}, "c": set()}) == []


def test_no_module_imports_itself_in_a_circle():
    """Late imports count: a circle that is cut by laziness is a circle."""
    edges: dict[str, set[str]] = {}
    for each in IMPORTS:
        if not each.foreign and not each.typing:
            edges.setdefault(each.source, set()).add(module_of(each.target))
    assert cycle(edges) == []


def test_no_circle_of_folders():
    def folder(module):
        parts = module.split(".")
        if parts[0] != "benchmark":
            return parts[0]
        # a package's own modules are rooms of the table: record and plan are on either side
        return module if room(module) == module else ".".join(parts[:2])

    edges: dict[str, set[str]] = {}
    for each in IMPORTS:
        if not each.foreign and not each.typing:
            source, target = folder(each.source), folder(module_of(each.target))
            if source != target:
                edges.setdefault(source, set()).add(target)
    assert cycle(edges) == []


def fresh(code: str, *options: str, cwd: Path = ROOT) -> str:
    """What a fresh interpreter prints."""
    command = [sys.executable, *options, "-c", code]
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


LOADED = "print(sorted({name.split('.')[0] for name in sys.modules}))"


@pytest.mark.parametrize(
    "statement, absent",
    [
        ("import benchmark.records.ledger", {"torch", "matplotlib", "heads"}),
        ("import benchmark", {"torch", "mlflow", "pandas", "numpy"}),
        ("import benchmark.planning.suite", {"torch", "mlflow", "pandas", "numpy"}),
        ("import benchmark.records.record", {"torch", "mlflow", "pandas"}),
        ("import benchmark.engines.local", {"torch", "mlflow", "pandas"}),
        ("import reports.build", {"torch", "mlflow", "benchmark"}),
        ("import benchmark.training.runner", {"mlflow", "pandas", "optuna", "matplotlib"}),
    ],
)
def test_importing_is_as_light_as_it_should_be(statement, absent):
    loaded = set(ast.literal_eval(fresh(f"import sys; {statement}; {LOADED}")))
    assert loaded & absent == set()


def test_help_is_light():
    code = f"""
import runpy, sys
sys.argv = ["benchmark", "--help"]
try:
    runpy.run_module("benchmark", run_name="__main__", alter_sys=True)
except SystemExit as end:
    assert not end.code
{LOADED}
"""
    *said, loaded = fresh(code).strip().splitlines()
    assert any("doctor" in line for line in said)
    heavy = {"torch", "mlflow", "pandas", "matplotlib", "numpy", "heads", "datasets"}
    assert set(ast.literal_eval(loaded)) & heavy == set()


def test_others_work_beside_our_datasets(tmp_path):
    """The Hugging Face package of the same name is hidden by ours; nobody may trip over it."""
    code = f"""
import pathlib, os
os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
import datasets
assert pathlib.Path(datasets.__file__) == pathlib.Path({str(ROOT / "datasets" / "__init__.py")!r})

import mlflow
from mlflow.tracking import MlflowClient
client = MlflowClient("sqlite:///{tmp_path}/mlflow.db")
run = client.create_run(client.create_experiment("beside"))
client.log_metric(run.info.run_id, "accuracy", 0.5)
assert client.get_run(run.info.run_id).data.metrics == {{"accuracy": 0.5}}

import optuna
study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=0))
study.optimize(lambda trial: trial.suggest_float("x", -1, 1) ** 2, n_trials=12)
assert study.best_value < 0.5

import matplotlib
matplotlib.use("agg")
import pandas, seaborn
frame = pandas.DataFrame({{"x": [1, 2, 3, 1, 2, 3], "y": [1.0, 2, 2, 2, 1, 3]}})
seaborn.lineplot(frame, x="x", y="y", errorbar="sd").figure.savefig({str(tmp_path / "a.png")!r})
assert os.path.getsize({str(tmp_path / "a.png")!r}) > 1000

import sys
assert sys.modules["datasets"] is datasets and datasets.DATASETS["digits"].name == "digits"
print("well")
"""
    assert fresh(code).strip().endswith("well")
