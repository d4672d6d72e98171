"""A folder of findings: complete, repeatable, and careful with what is not ours."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest

from reports.build import MANIFEST, build
from reports.frames import COST

PAPERS = {"psc": "the baseline", "etf": ("Yang et al.", "arXiv:2203.09081")}
COSTLY = {"cost.csv", "index.html", MANIFEST}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_frame_gives_the_same_bytes(full, tmp_path):
    """In whatever order the rows come; and a rerun elsewhere moves the cost and nothing else."""
    full = full[~full["head"].isin(["dl2pa", "psc > ncm"])]
    built = build(full, tmp_path / "a", PAPERS)
    build(full.sample(frac=1, random_state=1), tmp_path / "b", PAPERS)
    once = contents(tmp_path / "a")
    assert once == contents(tmp_path / "b")
    dearer = full.assign(seconds=9.0, images_per_second=1.0, finished="2030", peak_memory_mb=1.0)
    build(dearer, tmp_path / "c", PAPERS)
    again = contents(tmp_path / "c")
    assert {name for name in once if once[name] != again[name]} == COSTLY
    cost = re.compile(rb'<td class="cost".*?</td>')
    assert cost.sub(b"", once["index.html"]) == cost.sub(b"", again["index.html"])

    assert {str(p.relative_to(tmp_path / "a")) for p in (*built.tables, *built.csvs)} == {
        name for name in once if name.endswith((".csv", ".tex")) and name != "all.tex"
    }
    assert {path.suffix for path in built.figures} == {".pdf", ".png"}
    assert built.page.is_file() and len(built.exhibits) == 4 and built.notes == ()
    assert not [name for name in once if Path(name).name.startswith(".")]  # no temporary file left


def test_measures_and_cost_are_kept_apart(full, tmp_path):
    build(full, tmp_path, PAPERS)
    cells, cost = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("cells", "cost"))
    assert not set(COST) & set(cells.columns) and set(COST) < set(cost.columns)
    assert set(cells["key"]) == set(cost["key"]) == set(full["key"])
    assert cells.loc[cells["state"] == "diverged", "diverged_step"].tolist() == [17.0]


def test_only_our_own_unchanged_stale_files_are_removed(make_runs, tmp_path):
    two = pd.concat([make_runs(), make_runs(data="digits")], ignore_index=True)
    build(two, tmp_path, PAPERS)
    (tmp_path / "tables" / "mine.tex").write_text("by hand")
    edited = next((tmp_path / "tables").glob("digits*accuracy.tex"))
    edited.write_text("edited by hand")
    outside = tmp_path.parent / "outside.txt"
    outside.write_text("elsewhere")
    manifest = json.loads((tmp_path / MANIFEST).read_text())
    manifest["files"]["../outside.txt"] = "0"
    (tmp_path / MANIFEST).write_text(json.dumps(manifest))
    build(make_runs(), tmp_path, PAPERS)
    left = {name for name in contents(tmp_path) if "digits" in name or "mine" in name}
    assert left == {"tables/mine.tex", str(edited.relative_to(tmp_path))}
    assert outside.exists()
    (tmp_path / MANIFEST).write_text("{ torn")
    build(make_runs(), tmp_path, PAPERS)
    assert (tmp_path / "tables" / "mine.tex").exists()


def test_an_empty_frame_writes_nothing(make_runs, tmp_path):
    with pytest.raises(ValueError, match="no finished cells"):
        build(make_runs().head(0), tmp_path / "out", PAPERS)
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_drawn_is_noted(make_runs, lose_cells, tmp_path):
    runs = make_runs(heads=["psc"], ratios=[1], seeds=1)
    built = build(lose_cells(runs, runs["seed"] == "0", "failed"), tmp_path, {})
    assert len(built.notes) == 3 and len(built.exhibits) == 1 and built.figures == ()
    assert built.exhibits[0].table["balanced"].item() == "– (0/1†)"
    assert built.notes[0].split(": ")[1].split(",")[0] in built.page.read_text()


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_all_tex_compiles(full, tmp_path):
    build(full, tmp_path, PAPERS)
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-2000:]
    assert "Missing character" not in (tmp_path / "all.log").read_text(errors="replace")
