"""A folder of findings: complete, repeatable, and careful with what is not ours."""

import io
import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from fake_evidence import FakeEvidence

from reports import build as building
from reports import latex, style
from reports.build import MANIFEST, SCHEMA, build
from reports.exhibits import Exhibit, curves, table
from reports.exhibits.table import accuracy_table
from reports.frames import COST, tidy

PAPERS = {"psc": "the baseline", "etf": ("Yang et al.", "arXiv:2203.09081")}
COSTLY = {"cost.csv", "index.html", MANIFEST}
COSTLY |= {"cost/predictions.csv", "cost/predictions.tex", "cost/numbers.tex"}


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def no_ink(monkeypatch):
    """Figures as empty files: drawing them takes long."""
    for form in ("png", "pdf"):
        monkeypatch.setattr(style, form, lambda figure: b"")


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
    cost = re.compile(
        rb'<td class="cost".*?</td>|<script [^>]*id="cost">.*?</script>'
        rb'|<article [^>]*class="cost">.*?</article>',
        re.S,
    )
    assert cost.sub(b"", once["index.html"]) == cost.sub(b"", again["index.html"])

    assert {str(p.relative_to(tmp_path / "a")) for p in (*built.fragments, *built.csvs)} == {
        name
        for name in once
        if name.endswith((".csv", ".tex")) and not name.endswith(("all.tex", "numbers.tex"))
    }
    assert {path.suffix for path in built.figures} == {".pdf", ".png"}
    assert built.page.is_file() and [each.name.split("200-")[-1] for each in built.exhibits] == [
        *("accuracy", "groups", "against-ratio", "against-dim", "differences", "forest", "ranks"),
        *("collapse", "critical-difference", "mean-ranks", "profiles", "interquartile-means"),
        *("improvement", "predictions"),
    ]
    assert [each.name[-8:] for each in built.leading] == ["accuracy", "0-groups"]
    assert len(built.notes) == 5 and all("no " in note for note in built.notes)  # no evidence
    assert not [name for name in once if Path(name).name.startswith(".")]  # no temporary file left


def test_measures_and_cost_are_kept_apart(full, tmp_path, monkeypatch):
    no_ink(monkeypatch)
    build(full, tmp_path, PAPERS)
    cells, cost = (pd.read_csv(tmp_path / f"{name}.csv") for name in ("cells", "cost"))
    assert not set(COST) & set(cells.columns) and set(COST) < set(cost.columns)
    assert set(cells["key"]) == set(cost["key"]) == set(full["key"])
    assert cells.loc[cells["state"] == "diverged", "diverged_step"].tolist() == [17.0]


def test_only_our_own_unchanged_stale_files_are_removed(make_runs, tmp_path, monkeypatch):
    no_ink(monkeypatch)
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


def test_seeds_in_place_of_findings(full, tmp_path, monkeypatch):
    no_ink(monkeypatch)
    built = build(full, tmp_path, PAPERS, seeds=True)
    assert [each.name[-12:] for each in built.exhibits] == ["seeds-needed"] and len(
        built.leading
    ) == 1
    assert built.notes[-1].endswith("python -m benchmark run --suite crossed")


def test_cells_with_seeds_varied_apart_stand_in_no_table(make_runs, tmp_path, monkeypatch):
    no_ink(monkeypatch)
    runs = make_runs(heads=["psc", "etf"], ratios=[20])
    apart = runs.assign(
        key=runs["key"] + "x", seed=[f"backbone={s} order=0" for s in runs["seed"]], accuracy=0.9
    )
    built = build(pd.concat([runs, apart]), tmp_path, PAPERS)
    assert built.notes[-1].startswith(f"{len(apart)} cells have their seeds varied apart")
    accuracy = built.exhibits[0]
    assert "0.9" not in accuracy.csv and set(accuracy.table["head"]) == {"psc", "etf"}


def test_every_exhibit_is_listed():
    listed = dict(building.contents())
    assert "accuracy_table" in listed and "dl2pa Table 1" in listed and "components" in listed
    assert all(text for text in listed.values())


def test_what_cannot_be_drawn_is_noted(make_runs, lose_cells, tmp_path):
    runs = make_runs(heads=["psc"], ratios=[1], seeds=1)
    built = build(lose_cells(runs, runs["seed"] == "0", "failed"), tmp_path, {})
    assert len(built.notes) == 10 and len(built.exhibits) == 1 and built.figures == ()
    assert built.exhibits[0].table["balanced"].item() == "– (0/1†)"
    assert built.notes[0].split(": ")[1].split(",")[0] in built.page.read_text()


def test_csv_and_parquet_say_the_same_and_state_their_version(full, tmp_path, monkeypatch):
    no_ink(monkeypatch)
    build(full, tmp_path, PAPERS)
    typed = pd.read_parquet(tmp_path / "cells.parquet")
    assert typed.attrs == {"schema": SCHEMA}
    assert json.loads((tmp_path / MANIFEST).read_text())["schema"] == SCHEMA
    text = {name: str for name in typed if not pd.api.types.is_numeric_dtype(typed[name])}
    whole = {name: "Int64" for name in typed if typed[name].dtype == "Int64"}
    numbers = {name: "float64" for name in typed if typed[name].dtype == "float64"}
    plain = pd.read_csv(
        tmp_path / "cells.csv",
        dtype=text | whole | numbers,
        keep_default_na=False,
        na_values={name: [""] for name in typed if name not in text},
    )
    pd.testing.assert_frame_equal(plain, typed, check_dtype=False, rtol=1e-15)
    expected = tidy(full)[[*typed.columns]]
    pd.testing.assert_frame_equal(typed, expected, check_dtype=False, check_exact=True)


def test_run_ids_stand_with_the_costs_only(make_runs, tmp_path, monkeypatch):
    no_ink(monkeypatch)
    runs = make_runs(ratios=[1])
    build(runs, tmp_path / "a", {})
    build(runs.assign(run_id=[f"run{key}" for key in runs["key"]]), tmp_path / "b", {})
    before, after = contents(tmp_path / "a"), contents(tmp_path / "b")
    assert {name for name in before if before[name] != after[name]} <= {*COSTLY}
    cost = pd.read_csv(tmp_path / "b" / "cost.csv")
    assert (cost["run"] == "run" + cost["key"]).all()


def test_every_number_of_every_exhibit_has_a_macro(full, tmp_path, monkeypatch):
    no_ink(monkeypatch)
    built = build(full, tmp_path, PAPERS)
    texts = [(tmp_path / name).read_text() for name in ("numbers.tex", "cost/numbers.tex")]
    parts = [part for text in texts for part in text.split("\n\\findings{")[1:]]
    assert [part.partition("}")[0] for part in parts] == [each.name for each in built.exhibits]
    rows = 0
    for exhibit, part in zip(built.exhibits, parts, strict=True):
        defined = re.findall(r"findingis\{([^}]+)\}\{([^}]+)\}", part)
        told = dict(defined)
        assert len(told) == len(defined)
        data = pd.read_csv(io.StringIO(exhibit.csv), dtype={"id": str, "keys": str})
        numbers = data.select_dtypes("number", exclude="bool")
        assert set(told) == {
            f"{data['id'][at]}.{name}" for name in numbers for at in data.index[data[name].notna()]
        }
        if exhibit.name.endswith(("accuracy", "groups")):
            for row in data.dropna(subset="mean").itertuples():
                assert told[f"{row.id}.mean"] == f"{100 * row.mean:.1f}"
                rows += 1
    assert rows > 100


def test_functions_across_settings_get_a_section_and_evidence(make_runs, tmp_path, monkeypatch):
    no_ink(monkeypatch)
    asked = []

    def across(runs, evidence):
        asked.append((len(runs), evidence))
        return [Exhibit("both", "Both", "look", None, None, "id,keys\n", None, "n = 3.")]

    parts = (("Over all", across, ""), ("Claims", lambda *_: [], "nothing to hold them against."))
    monkeypatch.setattr(building, "ACROSS", parts)
    shown = {}

    def page(sections, runs, papers, **other):
        return shown.update(sections=[heading for heading, _ in sections], **other) or "page"

    monkeypatch.setattr(building, "page", page)
    two = pd.concat([make_runs(ratios=[1]), make_runs(data="digits", ratios=[1])])
    evidence = FakeEvidence(told={two["key"].iloc[0]: {"run": "r1"}})
    built = build(two, tmp_path, {}, evidence=evidence)
    assert asked == [(30, evidence)] and {"run": "r1"} in shown["known"].cost["facts"]
    assert len(shown["sections"]) == 3 and shown["sections"][-1] == "Over all"
    assert built.notes[-1] == "Claims: nothing to hold them against."
    listed = json.loads((tmp_path / MANIFEST).read_text())["exhibits"]
    assert listed["both"] == {"title": "Both", "csv": "tables/both.csv"}


def test_a_table_at_odds_with_its_data_is_not_written(make_runs, tmp_path, monkeypatch):
    def wrong(runs, name, evidence):
        (exhibit,) = accuracy_table(runs, name, evidence)
        return [replace(exhibit, csv=exhibit.csv.replace(",0.6", ",0.5"))]

    monkeypatch.setattr(building, "OF_A_SETTING", ((wrong, ""),))
    with pytest.raises(ValueError, match="a mistake of the report, .* is no number of"):
        build(make_runs(), tmp_path / "out", {})
    monkeypatch.setattr(building, "OF_A_SETTING", ((accuracy_table, ""), (accuracy_table, "")))
    with pytest.raises(ValueError, match="two exhibits are named"):
        build(make_runs(), tmp_path / "out", {})
    assert not (tmp_path / "out").exists()


def test_captions_state_protocol_number_of_seeds_and_what_the_bars_are(full):
    runs = tidy(full)
    tables = [*table.accuracy_table(runs, "x"), *table.group_table(runs, "x")]
    figures = [*curves.accuracy_against_ratio(runs, "x"), *curves.accuracy_against_dim(runs, "x")]
    for exhibit in (*tables, *figures):
        for words in ("recipe long_tail_200; 200 epochs", "test set, last epoch", "n = 3"):
            assert words in exhibit.caption, exhibit.name
    assert all("± standard deviation (n − 1" in each.caption for each in tables)
    assert all("bars are 95 % t intervals" in each.caption for each in figures)


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="pdflatex is not installed")
def test_each_fragment_compiles_alone_and_all_of_them_together(full, tmp_path):
    built = build(full, tmp_path, PAPERS)

    def compiled(name: str) -> None:
        words = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", name]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout[-2000:]
        log = tmp_path / Path(name).with_suffix(".log")
        assert "Missing character" not in log.read_text(errors="replace")

    assert len(built.fragments) == len(built.exhibits) > 10
    for nth, path in enumerate(built.fragments):
        (tmp_path / f"{nth}.tex").write_text(latex.document([path.read_text()]))
        compiled(f"{nth}.tex")
    whole = (tmp_path / "all.tex").read_text()
    number = rf"\finding{{{built.exhibits[0].name}/psc-d50-1-100.mean}}"
    (tmp_path / "all.tex").write_text(whole.replace(r"\end{document}", number + r"\end{document}"))
    compiled("all.tex")
