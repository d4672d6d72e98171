"""bundle and merge, as typed."""

import shutil
import sqlite3


def test_carried_to_another_folder(tracked, tiny_runs, call):
    said = call("bundle", "all.tar", "--runs", tiny_runs)
    assert said.code == 0 and said.out.startswith("2 cells, ") and "all.tar" in said.out
    said = call("merge", "all.tar")
    assert said.code == 0 and "2 taken, 0 here, 0 refused" in said.out
    with sqlite3.connect("mlflow.db") as database:
        tags = database.execute("select value from tags where key = 'benchmark.committed'")
        assert len(tags.fetchall()) == 2
    said = call("merge", "all.tar", "all.tar", "--offline")
    assert said.code == 0 and "0 taken, 4 here, 0 refused" in said.out
    assert call("plan", "--suite", "tiny.yaml", "--json").out.count('"state": "done"') == 2


def test_a_refusal_is_said_and_shows_in_the_exit_code(place, tiny_runs, call):
    shutil.copytree(tiny_runs, place / "runs")
    assert call("bundle", "all.tar", "--suite", "other").code == 2
    call("bundle", "all.tar")
    path = next((place / "runs").glob("*/result.json"))
    path.write_text(path.read_text().replace('"state": "done"', '"state": "odd"'))
    said = call("merge", "all.tar", "--offline")
    assert said.code == 1 and "1 refused" in said.out and "is damaged" in said.out
    (place / "no.tar").write_bytes(b"nothing")
    said = call("merge", "no.tar")
    assert said.code == 2 and "no.tar is no bundle" in said.err
    assert call("merge", "absent.tar").code == 2
