"""From a suite to the findings, and back again: run, plan, report, doctor, check, list."""

import json
import shutil
from pathlib import Path

import pytest

from benchmark.commands import agenda
from benchmark.records.record import Record, digest, records

ROOT = Path(__file__).resolve().parents[3]
HEAD = ROOT / "heads" / "psc.py"
RUN = ("run", "--suite", "tiny.yaml", "--device", "cpu", "--jobs", "1")
PLAN = ("plan", "--suite", "tiny.yaml", "--json")


def stamps() -> dict[str, int]:
    """When each result was written."""
    return {
        path.parent.name: path.stat().st_mtime_ns for path in Path("runs").glob("*/result.json")
    }


def states(answer) -> list[str]:
    assert answer.code == 0, answer
    return [row["state"] for row in json.loads(answer.out)]


def ledger(folder=Path()):
    from benchmark.records.ledger import Ledger, default_uri

    return Ledger(default_uri(folder), folder.resolve() / "mlartifacts")


def walk(ask):
    """Everything a first user does, in order."""
    assert states(ask(*PLAN)) == ["missing", "missing"]
    assert not Path("runs").exists()  # to plan writes nothing
    said = ask(*RUN)
    assert said.code == 0, said
    assert "2 cells: 2 missing" in said.out and "2 done" in said.out
    written = stamps()
    assert len(written) == 2

    rows = json.loads(ask(*PLAN).out)
    assert [row["state"] for row in rows] == ["done", "done"]
    assert {row["key"] for row in rows} == set(written)
    assert set(rows[0]) == {"key", "label", "state", "reason", "seconds", "basis", "asked"}
    assert "psc > ncm" in rows[1]["label"]
    table = ask("plan", "--suite", "tiny.yaml")
    assert all(key in table.out for key in written) and "0 to train" in table.out

    again = ask(*RUN)
    assert again.code == 0 and "nothing to do" in again.out
    assert stamps() == written

    said = ask("report", "--suite", "tiny")
    assert said.code == 0, said
    for path in ("index.html", "cells.csv", "all.tex"):
        assert (Path("findings") / path).stat().st_size > 0
    assert list(Path("findings").glob("tables/*.tex"))
    assert list(Path("findings").glob("figures/*.p*"))
    assert "psc > ncm" in said.out and str(Path("findings") / "index.html") in said.out

    said = ask("doctor")
    assert said.code == 0 and "2 records, 0 delivered" in said.out
    frame = ledger().read("tiny")
    assert set(frame["key"]) == set(written)
    for record in records(Path("runs")):
        row = frame[frame["key"] == record.key].iloc[0]
        assert row["accuracy"] == record.result()["metrics"]["accuracy"]
        assert record.suites() == ("tiny",)


def test_the_walk(tracked, call):
    walk(call)


@pytest.mark.long
def test_the_walk_in_processes(place, command):
    walk(command)


def test_offline_needs_neither_mlflow_nor_optuna(tracked, command, call):
    stubs = tracked / "stubs"
    for name in ("mlflow", "optuna"):
        (stubs / name).mkdir(parents=True)
        (stubs / name / "__init__.py").write_text("raise ImportError('not on this machine')")
    before = (tracked / "mlflow.db").read_bytes()
    said = command(*RUN, "--offline", first=stubs)
    assert said.code == 0 and "2 done" in said.out, said
    assert (tracked / "mlflow.db").read_bytes() == before
    assert not (tracked / "mlartifacts").exists()
    said = call("doctor")
    assert said.code == 0 and "2 records, 2 delivered" in said.out
    assert len(ledger().read("tiny")) == 2


@pytest.mark.long
def test_without_mlflow_cells_are_trained_all_the_same(place, command):
    (place / "stubs" / "mlflow").mkdir(parents=True)
    (place / "stubs" / "mlflow" / "__init__.py").write_text("raise ImportError('not here')")
    said = command(*RUN, first=place / "stubs")
    assert said.code == 0 and said.err == "" and "2 done" in said.out, said
    assert "not delivered: mlflow cannot be imported (not here)" in said.out


# a head of one's own


def test_an_own_head_is_identified_by_its_content(place, call):
    mine = place / "mine.py"
    mine.write_text(HEAD.read_text())
    words = (*PLAN, "--with", "mine.py", "--set", "head=[mine, mine > ncm]")
    keys = []
    for text in (HEAD.read_text(), HEAD.read_text() + "\n# a remark\n", HEAD.read_text()):
        mine.write_text(text)
        keys.append([row["key"] for row in json.loads(call(*words).out)])
    assert keys[0] == keys[2]
    assert not set(keys[0]) & set(keys[1])
    plain = [row["key"] for row in json.loads(call(*PLAN).out)]
    assert not set(plain) & {*keys[0], *keys[1]}


@pytest.mark.long
def test_an_own_head_is_trained(tracked, call):
    (tracked / "mine.py").write_text(HEAD.read_text())
    words = ("--with", "mine.py", "--set", "head=[mine, mine > ncm]")
    assert call(*RUN, *words).code == 0
    assert states(call(*PLAN, *words)) == ["done", "done"]
    (tracked / "mine.py").write_text(HEAD.read_text() + "\n# a remark\n")
    assert states(call(*PLAN, *words)) == ["missing", "missing"]
    assert call(*RUN, *words).code == 0
    assert len(stamps()) == 4


def test_check(place, call):
    good = call("check", "psc")
    assert good.code == 0 and "broken" not in good.out
    text = HEAD.read_text()
    assert text.count("= functional.cross_entropy") == 1
    (place / "mine.py").write_text(
        text.replace("= functional.cross_entropy", "= 0 * functional.cross_entropy")
    )
    bad = call("check", "mine.py")
    assert bad.code == 1 and "broken" in bad.out and bad.err == ""


@pytest.mark.long
def test_check_of_a_good_file(place, call):
    (place / "mine.py").write_text(HEAD.read_text())
    good = call("check", "mine.py")
    assert good.code == 0 and "mine: " in good.out, good.out


# what is declined, failed, changed


def trained_with(head: str, digest: str) -> None:
    """Say of all finished cells that this head's source was another one."""
    for record in records(Path("runs")):
        result = record.result()
        if result is not None and head in result["digests"]["heads"]:
            result["digests"]["heads"][head] = digest
            record.finish(result, record.arrays(), record.weights())


def test_what_is_missing_is_declined(place, call):
    words = ("--set", "data=[{name: digits, largest: 10}, {name: cifar10, ratio: 10}]")
    rows = json.loads(call(*PLAN, *words).out)
    assert [row["state"] for row in rows] == ["missing", "missing", "declined", "declined"]
    assert all("cifar" in row["reason"] for row in rows[2:])


@pytest.mark.long
def test_skip_missing_trains_the_rest(place, call):
    words = ("--set", "data=[{name: digits, largest: 10}, {name: cifar10, ratio: 10}]")
    said = call(*RUN, *words, "--set", "head=psc", "--skip-missing", "--offline")
    assert said.code == 0, said
    assert "declined cifar10 1:10" in said.out and "1 done" in said.out
    assert len(list(Path("runs").iterdir())) == 1


@pytest.fixture
def trained(tracked, tiny_runs):
    """A folder in which the tiny suite is done, offline."""
    shutil.copytree(tiny_runs, tracked / "runs")
    return tracked


def test_changed_cells_wait_for_refresh_with_all_that_stands_on_them(trained, call):
    trained_with("psc", "0" * 64)
    assert states(call(*PLAN)) == ["changed", "changed"]
    written = stamps()
    said = call(*RUN, "--offline")
    assert said.code == 0 and "nothing to do" in said.out and "--refresh" in said.out
    assert stamps() == written
    said = call("report")
    assert said.code == 2 and "left out, changed" in said.out
    words = ([], [], Path("runs"), Path("data"))
    work = agenda.read("tiny.yaml", *words, skip_missing=False, load=False, refresh=True)
    assert [item.state for item in work.items] == ["changed", "changed"]
    (pair,) = [each for each in records(Path("runs")) if "ncm" in each.cell().label]
    pair.clear()
    work = agenda.read("tiny.yaml", *words, skip_missing=False, load=False, refresh=True)
    assert [item.state for item in work.items] == ["changed", "missing"]


@pytest.mark.long
def test_refresh_trains_them(trained, call):
    trained_with("psc", "0" * 64)
    said = call(*RUN, "--offline", "--refresh")
    assert said.code == 0 and "2 done" in said.out, said
    assert states(call(*PLAN)) == ["done", "done"]


def test_what_stands_on_a_changed_or_diverged_trunk_is_declined(trained, call):
    (pair,) = [each for each in records(Path("runs")) if "ncm" in each.cell().label]
    pair.clear()
    trained_with("psc", "0" * 64)
    assert states(call(*PLAN)) == ["changed", "declined"]
    (trunk,) = [each for each in records(Path("runs")) if each.result()]
    trunk.finish({**trunk.result(), "state": "diverged", "metrics": {}}, {}, {})
    trained_with("psc", digest(HEAD.read_bytes()))
    words = ("--set", "head=[psc, psc > ncm, psc > psc@quick > ncm]")
    found = states(call(*PLAN, *words))
    assert found == ["diverged", "declined", "declined", "declined"]


def test_reasons_with_brackets_are_shown_as_they_are(trained, call):
    (pair,) = [each for each in records(Path("runs")) if "ncm" in each.cell().label]
    pair.clear()
    pair.fail("RuntimeError: [enforce fail] at [/somewhere]", "…")
    said = call("plan", "--suite", "tiny.yaml")
    assert said.code == 0 and "failed: RuntimeError: [enforce fail] at [/somewhere]" in said.out


def test_reports_of_nothing(tracked, call):
    for words in ((), ("--suite", "tiny")):
        said = call("report", *words)
        assert said.code == 2 and said.err.count("\n") == 1
        assert "there are no finished cells" in said.err and "Traceback" not in said.err
    assert not Path("findings").exists()


def test_an_address_where_nobody_answers(trained, call):
    said = call("doctor", "--tracking-uri", "http://127.0.0.1:1")
    assert said.code == 2 and said.err.count("\n") == 1
    assert "The records are safe" in said.err


# doctor


def test_doctor_finds_and_mends(trained, call):
    assert "2 delivered" in call("doctor").out
    first, second = records(Path("runs"))
    path = first.folder / "weights.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    (second.folder / ".result.json.123.abc.tmp").write_bytes(b"half")
    said = call("doctor")
    assert said.code == 1
    assert f"{path} does not match its result" in said.out and ".tmp was left" in said.out
    assert path.exists()  # looking mends nothing
    assert call("doctor", "--fix").code == 0
    assert not path.exists() and first.result() is None
    assert not list(second.folder.glob(".*.tmp")) and second.result() is not None
    assert call("doctor").code == 0
    assert sorted(states(call(*PLAN))) == ["done", "missing"]


@pytest.mark.long
def test_doctor_makes_a_new_database_from_the_records(trained, call):
    Path("broken.db").write_bytes(b"not a database at all, whatever its name says" * 30)
    uri = f"sqlite:///{Path('broken.db').resolve()}"
    said = call("doctor", "--tracking-uri", uri)
    assert said.code == 1 and "is not a database" in said.out and "--rebuild" in said.out
    assert Path("broken.db").read_bytes().startswith(b"not a database")
    said = call("doctor", "--tracking-uri", uri, "--rebuild")
    assert said.code == 0 and "2 records, 2 delivered" in said.out
    assert Path("broken.db.old").read_bytes().startswith(b"not a database")
    assert "2 records, 0 delivered" in call("doctor", "--tracking-uri", uri).out


@pytest.mark.long
def test_doctor_makes_a_healthy_database_anew(trained, call):
    assert "2 delivered" in call("doctor").out
    before = ledger().read()
    said = call("doctor", "--rebuild")
    assert said.code == 0 and "2 records, 2 delivered" in said.out
    assert "the old one is kept as" in said.out and Path("mlflow.db.old").is_file()
    after = ledger().read()
    assert list(after["key"]) == list(before["key"])
    assert not set(after["run_id"]) & set(before["run_id"])


def test_doctor_rebuilds_no_server(trained, call):
    said = call("doctor", "--rebuild", "--tracking-uri", "http://127.0.0.1:1")
    assert said.code == 2 and said.err.count("\n") == 1 and "is a server" in said.err


# list


@pytest.mark.parametrize(
    "what, words",
    [
        ("heads", ("psc", "dl2pa", "arXiv:2403.16937", "momentum")),
        ("datasets", ("digits", "cifar100", "image_folder")),
        ("backbones", ("small_cnn", "resnet32_hpn")),
        ("recipes", ("long_tail_200_released", "balanced_250", "weight_decay")),
        ("suites", ("quick", "long_tail", "balanced", "--set 'seeds=[0]'")),
    ],
)
def test_lists(place, call, what, words):
    said = call("list", what)
    assert said.code == 0 and said.err == ""
    for word in words:
        assert word in said.out


# minutes


@pytest.mark.long
def test_side_by_side_is_one_after_the_other(place, command):
    words = ("--set", "seeds=[0, 1]", "--set", "head=[psc, psc > ncm, {etf: {dim: 16}}]")
    digests = []
    for jobs in (1, 2):
        said = command(
            *("run", "--suite", "tiny.yaml", "--device", "cpu", "--jobs", jobs, "--offline"),
            *("--runs", f"runs{jobs}", *words),
        )
        assert said.code == 0, said
        found = list(records(place / f"runs{jobs}"))
        digests.append(
            {
                (each.key, name): digest  # curves have times
                for each in found
                for name, digest in each.result()["files"].items()
                if name != "curves.json"
            }
        )
    assert len(digests[0]) == 12 and digests[0] == digests[1]


@pytest.mark.long
def test_a_failing_head_ends_in_exit_code_1(tracked, call):
    text = HEAD.read_text()
    assert text.count("cost = functional.cross_entropy") == 1
    (tracked / "mine.py").write_text(
        text.replace("cost = functional", "raise RuntimeError('no'); cost = functional")
    )
    words = ("--with", "mine.py", "--set", "head=[mine, psc, mine > ncm]")
    said = call(*RUN, *words)
    assert said.code == 1 and "1 done" in said.out and "2 failed" in said.out
    assert "failed: digits 1:1" in said.out
    assert sorted(states(call(*PLAN, *words))) == ["done", "failed", "failed"]
    assert len(ledger().read()) == 1
    (tracked / "mine.py").write_text(HEAD.read_text())
    assert call(*RUN, *words).code == 0


def test_records_are_named_by_their_keys(trained):
    for record in records(Path("runs")):
        assert record.key == record.cell().key
        assert Record(record.folder).result()["state"] == "done"
