"""Cells on other machines, of which a few lines here stand for the scheduler."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmark.commands import desk
from benchmark.engines import away, errand
from benchmark.engines.away import Away
from benchmark.engines.errand import Errand, carry_out, versions
from benchmark.engines.local import MACHINES, Local
from benchmark.engines.patience import Patience
from benchmark.engines.ray_cluster import Ray
from benchmark.engines.ray_connection import connected
from benchmark.engines.worker import Settings
from benchmark.records.record import Record

PATIENCE = Patience(grace=0.0)
LOOKS = 3000  # of an engine, at most: then it hangs


class Carrier:
    """A scheduler that does what a function (errand) says: gives messages, or why it is lost."""

    device, readers, room = "cpu", 0, 2

    def __init__(self, do):
        self.do, self.sent, self.said, self.lost = do, [], {}, {}
        self.cancelled, self.orders = [], []

    def send(self, ticket, label, text):
        self.sent.append(Errand.unpacked(text))
        found = self.do(self.sent[-1])
        if isinstance(found, str):
            self.lost[ticket] = found
        else:
            self.said[ticket] = found

    def take(self, seconds):
        said, self.said = self.said, {}
        return said

    def over(self, ticket):
        return self.lost.get(ticket)

    def order(self, ticket, word):
        self.orders.append(word)

    def cancel(self, ticket):
        self.cancelled.append(ticket)
        self.lost[ticket] = "taken back"


@pytest.fixture
def settings(tmp_path):
    (tmp_path / "runs").mkdir()
    files = (tmp_path / "mine.py",)
    words = {"digits": tmp_path / "words.npy"}
    return Settings(tmp_path / "runs", tmp_path / "data", files, "cpu", 1, words, 2)


@pytest.fixture
def train(settings):
    """Give a function (do, cells): how they ended, the carrier, and all events."""

    def run(do, cells, patience=PATIENCE, during=lambda run: None):
        carrier = Carrier(do)
        events = []
        crew = Away(settings, 0, patience, carrier)
        engine = Local(settings, 1, events.append, patience=patience, crew=crew)
        looks = iter(range(LOOKS))

        def tell(event):
            assert next(looks, None) is not None, "it never ends"
            during(engine)
            if event is not None:
                events.append(event)

        engine.tell = tell
        ended = engine.run(cells)
        assert list(settings.runs.glob(".run.*")) == [] and crew.workers == []
        return [ended.get(cell.key) for cell in cells], carrier, events

    return run


def finish(errand):
    """Do as a machine that trains."""
    from benchmark.planning.cell import Cell

    cell = Cell.from_json(dict(errand.cell))
    record = Record(errand.settings.runs / cell.key)
    record.begin(cell)
    record.finish({"state": "done", "metrics": {}}, {}, {})
    return [("begun", {}), ("done", {"seconds": 1.0})]


def test_what_is_packed_comes_out_again(faulty, settings):
    (cell,) = faulty("psc")
    before = Errand(cell.to_json(), ("a", "b"), settings, Patience(step=7.0), "token", versions())
    after = Errand.unpacked(before.packed())
    assert replace(after, cell={}) == replace(before, cell={})
    assert type(cell).from_json(dict(after.cell)) == cell


def test_a_cell_comes_after_its_trunk_and_names_it(faulty, train):
    trunk, pair = cells = faulty("[psc, psc > ncm]")
    ended, carrier, _ = train(finish, cells)
    assert ended == ["done", "done"]
    assert [sent.under for sent in carrier.sent] == [(), (trunk.key,)]


def test_a_cell_that_loses_machine_after_machine_fails_in_the_end(faulty, train, settings):
    once, always = cells = faulty("[psc, {psc: {dim: 4}}]")
    lost = []

    def do(errand):
        mine = errand.cell == json.loads(json.dumps(once.to_json()))
        if mine and lost:
            return finish(errand)
        lost.extend([1] * mine)
        return "its machine is gone"

    ended, _, events = train(do, cells)
    assert ended == ["done", "failed"]
    starts = [event.cell for event in events if event.kind == "started"]
    assert (starts.count(once), starts.count(always)) == (2, MACHINES)
    reason = Record(settings.runs / always.key).failure()["reason"]
    assert reason == f"its machine is gone, {MACHINES} times"


def test_a_record_that_others_wrote_is_waited_for(faulty, train, settings):
    """A network file system shows it when it pleases."""
    (cell,) = cells = faulty("psc")
    kept, looks = [], []

    def later(engine):
        looks.append(engine._ended)
        if len(looks) == 3 and kept:
            finish(kept[0])

    def do(errand):
        kept.append(errand)
        return [("begun", {}), ("done", {"seconds": 1.0})]

    assert train(do, cells, during=later)[0] == ["done"]
    assert len(looks) > 3


def test_a_record_that_nobody_sees_is_a_failure(faulty, train, settings, monkeypatch):
    monkeypatch.setattr(away, "APPEARS", -1.0)
    (cell,) = cells = faulty("psc")
    ended, _, _ = train(lambda errand: [("begun", {}), ("done", {})], cells)
    assert ended == ["failed"]
    assert "Look whether all machines share" in Record(settings.runs / cell.key).failure()["reason"]


def test_what_waits_for_a_machine_is_not_hung_and_is_taken_back_on_ctrl_c(faulty, train):
    cells = faulty("psc")
    looks = []

    def during(engine):
        looks.append(1)
        if len(looks) == 50:
            engine._interrupt(2)

    patience = Patience(step=0.0, other=0.0, grace=0.0)
    ended, carrier, _ = train(lambda errand: [], cells, patience, during)
    assert ended == ["stopped"] and len(carrier.cancelled) == 1 and len(carrier.sent) == 1


def test_what_does_not_obey_is_taken_back(faulty, train, monkeypatch):
    monkeypatch.setattr(away, "AT_ONCE", -1.0)
    cells = faulty("psc")
    looks = []

    def during(engine):
        looks.append(1)
        if len(looks) in (3, 6):
            engine._interrupt(2)

    ended, carrier, _ = train(lambda errand: [("begun", {})], cells, during=during)
    assert ended == ["stopped"] and carrier.orders == ["stop", "kill"] and carrier.cancelled


def say(found):
    """An exchange that keeps what it is told."""
    return lambda news: found.extend(news) or []


def test_a_machine_without_the_folder_says_so(faulty, settings):
    (cell,) = faulty("psc")
    found = []
    carry_out(
        Errand(cell.to_json(), (), settings, Patience(), "no", versions()).packed(), say(found)
    )
    assert [kind for kind, _ in found] == ["begun", "unfit"]
    assert "does not see the folder" in found[1][1]["reason"]


@pytest.mark.parametrize(
    "orders, answer",
    [(["stop"], "stopped"), (["recall"], "recalled"), (["stop", "kill"], "stopped")],
)
def test_what_is_ordered_before_it_begins_is_obeyed(faulty, settings, orders, answer):
    """Whoever takes back an errand may be late by a moment: then it is not begun."""
    (cell,) = faulty("psc")
    (settings.runs / "token").touch()
    found = []

    def exchange(said):
        found.extend(said)
        return orders if found[-1][0] == "begun" else []

    carry_out(
        Errand(cell.to_json(), (), settings, Patience(), "token", versions()).packed(), exchange
    )
    assert [kind for kind, _ in found] == ["begun", answer]
    assert not (settings.runs / cell.key).exists()


def test_a_machine_with_another_torch_says_so(faulty, settings):
    (cell,) = faulty("psc")
    (settings.runs / "token").touch()
    other = {**versions(), "torch": "1.0"}
    found = []
    carry_out(Errand(cell.to_json(), (), settings, Patience(), "token", other).packed(), say(found))
    reason = found[-1][1]["reason"]
    assert f"has torch {versions()['torch']}" in reason and "with 1.0" in reason


def test_a_machine_that_does_not_see_the_trunk_says_so(faulty, settings, monkeypatch):
    monkeypatch.setattr(errand, "APPEARS", -1.0)
    trunk, pair = faulty("[psc, psc > ncm]")
    (settings.runs / "token").touch()
    text = Errand(pair.to_json(), (trunk.key,), settings, Patience(), "token", versions()).packed()
    found = []
    carry_out(text, say(found))
    assert f"does not see the record {settings.runs / trunk.key}" in found[-1][1]["reason"]


OPTIONS = desk.Options(
    *("tiny", (), (), Path("runs"), Path("data"), None, "cpu", 0, 1, True, False, False, False)
)


@pytest.mark.parametrize(
    "given, said",
    [
        ({"engine": "spark"}, "unknown engine 'spark'. Give local, ray or slurm."),
        ({"address": "a:1"}, "--address a:1 names a Ray cluster, and the engine is local"),
        ({"engine": "slurm", "address": "a:1"}, "the engine is slurm"),
        ({"engine": "ray", "device": "cuda:1"}, "Ray chooses which GPU"),
        ({"engine": "ray", "device": "tpu"}, "Give --device auto, cpu or cuda"),
        ({"engine": "ray", "address": "ray://a:1"}, "an address of Ray Client"),
    ],
)
def test_what_does_not_go_together(given, said):
    with pytest.raises(ValueError) as caught:
        desk._carrier(replace(OPTIONS, **given))
    assert said in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("address", [None, "127.0.0.1:1"])
def test_without_ray(monkeypatch, tmp_path, address):
    for name in ("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.setenv(name, "")  # and so it is afterwards what it was
    for name in ("RAY_ADDRESS", "RAY_NUM_REDIS_GET_RETRIES", "RAY_USAGE_STATS_ENABLED"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"--engine ray needs Ray, .*\[ray\]"):
        Ray(address, "cpu", 1, 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("address", ["nowhere", "a:b", ":1", "a:99999"])
def test_what_is_no_address(monkeypatch, address):
    monkeypatch.setattr("benchmark.engines.ray_connection._imported", lambda: None)
    monkeypatch.setenv("RAY_NUM_REDIS_GET_RETRIES", "1")
    with pytest.raises(ValueError, match="is no address of a Ray cluster"):
        connected(address)
