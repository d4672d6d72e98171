"""What a team shares: studies in PostgreSQL, and MLflow's server on it, with several who write."""

import multiprocessing
import time
import urllib.request
from pathlib import Path

import optuna
import pytest

from benchmark.records.ledger import Ledger
from benchmark.records.record import records
from studies.database import Database
from studies.holes import Range, Search
from studies.search import Journal, Searching, Taken

pytestmark = pytest.mark.long
SEARCH = Search(trials=6, sampler="tpe", pruner="none", seed=3, validation=0.2)
SPACE = {"head.tau": Range(0.1, 2.0, log=True), "head.dim": Range(2, 64)}
TINY = """\
# tiny: does it run?
- data: {name: digits, largest: 10}
  backbone: {small_cnn: {channels: 4}}
  recipe: {quick: {epochs: 1}}
  head: [psc]
  seeds: [0]
"""


def value(values):
    """What a trial is worth."""
    return -((values["head.tau"] - 1) ** 2) + values["head.dim"] / 1000


def search(book, name, until=6):
    """Trials up to so many, from where the study stands; gives what was drawn."""
    searching = Searching(book, name, SEARCH, SPACE, 1)
    drawn = searching.open()
    while drawn or (len(searching.trials) < until and (one := searching.ask()) and [one]):
        draw = drawn.pop() if drawn else one
        searching.name(draw, f"{draw.number:x}", "")
        searching.complete(draw, value(draw.values))
    return [trial.params for trial in searching.trials]


def test_a_study_draws_what_it_draws_in_a_file(database, tmp_path):
    with Journal(tmp_path / "one.journal") as book:
        expected = search(book, "one")
    url = database("one")
    with Database(url, "one") as book:
        assert search(book, "one", until=2) == expected[:2]
    with Database(url, "one") as book:  # another process goes on
        assert search(book, "one") == expected
        assert Searching(book, "one", SEARCH, SPACE, 1).count() == {
            **{"finished": 6, "pruned": 0, "open": 0}
        }


def test_one_process_works_on_a_study(database):
    url = database("held")
    with Database(url, "one"):
        with Database(url, "other") as book:
            assert len(search(book, "other", until=1)) == 1
        with (
            pytest.raises(Taken, match="study one is run by another process"),
            Database(url, "one"),
        ):
            pass
    with Database(url, "one"):
        pass


def _race(url, name, start, told):
    start.wait()
    with Database(url, name) as book:
        told.put((name, search(book, name)))


def test_several_studies_begin_at_once_on_an_empty_database(database, tmp_path):
    url = database("raced")
    context = multiprocessing.get_context("forkserver")
    start, told = context.Barrier(4), context.SimpleQueue()
    names = [f"study {n}" for n in range(4)]
    racers = [context.Process(target=_race, args=(url, name, start, told)) for name in names]
    for racer in racers:
        racer.start()
    found = dict(told.get() for _ in racers)
    for racer in racers:
        racer.join(60)
    with Journal(tmp_path / "one.journal") as book:
        expected = search(book, "any")
    assert found == dict.fromkeys(names, expected) and {each.exitcode for each in racers} == {0}


def test_a_killed_one_lets_its_study_go(database):
    url = database("killed")
    context = multiprocessing.get_context("forkserver")
    start = context.Barrier(2)
    holder = context.Process(target=_hold, args=(url, start))
    holder.start()
    start.wait()
    with pytest.raises(Taken), Database(url, "one"):
        pass
    holder.kill()
    holder.join()
    for _ in range(100):  # the server notices that the connection is gone
        try:
            with Database(url, "one") as book:
                assert len(search(book, "one")) == 6
            return
        except Taken:
            time.sleep(0.1)
    raise AssertionError("ten seconds after its holder the study is held")


def _hold(url, start):
    with Database(url, "one"):
        start.wait()
        time.sleep(600)


@pytest.mark.parametrize(
    "url, sentence",
    [
        ("sqlite:///here.db", "wants a PostgreSQL address, got 'sqlite:///here.db'"),
        ("nonsense", "wants a PostgreSQL address, got 'nonsense'"),
        ("postgresql://me:secret@127.0.0.1:1/none", r"me:\*\*\*@127.0.0.1:1/none does not answer"),
    ],
)
def test_addresses_that_are_none(url, sentence):
    with pytest.raises(ValueError, match=sentence) as caught, Database(url, "one"):
        pass
    assert "secret" not in str(caught.value)


def test_a_server_that_goes_away_in_the_middle(database):
    import psycopg2

    url = database("gone")
    with pytest.raises(ValueError, match="went away in the middle of study one. When it is back"):
        with Database(url, "one") as book:
            search(book, "one", until=1)
            with psycopg2.connect(url.rpartition("/")[0] + "/postgres") as other:
                other.autocommit = True
                other.cursor().execute("ALTER DATABASE gone WITH ALLOW_CONNECTIONS false")
                other.cursor().execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'gone'"
                )
            search(book, "one")


def test_the_command_keeps_its_trials_there(database, begin, tmp_path):
    url = database("digits")
    words = ("study", "digits", "--offline", "--device", "cpu", "--jobs", "1", "--storage", url)
    short = ("--set", "search.trials=2", "--set", "search.final=[]", "--set", "recipe.epochs=1")
    first = begin("benchmark", *words, *short)
    said, _ = first.communicate(timeout=300)
    assert first.returncode == 0, said
    assert not (tmp_path / "notebook").exists()
    study = optuna.load_study(study_name=None, storage=_named(url))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE"] * 2


def test_three_runs_write_to_one_tracking_server(database, begin, free_port, tmp_path):
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    (tmp_path / "tiny.yaml").write_text(TINY)
    flags = ("--artifacts-destination", tmp_path / "artifacts", "--workers", "2")
    server = begin(
        *("mlflow", "server", "--backend-store-uri", _named(database("mlflow")), *flags),
        *("--host", "127.0.0.1", "--port", port),
    )
    until = time.monotonic() + 180
    while not _answers(address):
        assert server.poll() is None and time.monotonic() < until, server.communicate()[0]
        time.sleep(0.2)
    words = ("--suite", "tiny.yaml", "--device", "cpu", "--jobs", "1", "--tracking-uri", address)
    teams = [
        begin(
            "benchmark",
            "run",
            *words,
            "--runs",
            f"runs{n}",
            "--set",
            f"seeds=[{2 * n},{2 * n + 1}]",
        )
        for n in range(3)
    ]
    for team in teams:
        said, _ = team.communicate(timeout=300)
        assert team.returncode == 0 and "not delivered" not in said, said
    keys = sorted(each.key for n in range(3) for each in records(tmp_path / f"runs{n}"))
    frame = Ledger(address, Path("nowhere")).read()
    assert sorted(frame["key"]) == keys and len(keys) == 6
    assert set(frame["state"]) == {"done"} and frame["accuracy"].notna().all()


def _named(url):
    """With its driver, which MLflow leaves to SQLAlchemy."""
    return url.replace("postgresql:", "postgresql+psycopg2:")


def _answers(address):
    try:
        with urllib.request.urlopen(f"{address}/health", timeout=5) as answer:
            return answer.status == 200
    except OSError:
        return False
