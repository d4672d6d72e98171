"""Reading many runs: what makes it quick, seen without a clock."""

import gc

import pytest

from benchmark.records import ledger as module
from benchmark.records.ledger import Unreachable


@pytest.fixture
def searching(monkeypatch):
    """Whether Python looked for garbage, at each search for runs."""
    from mlflow.tracking import MlflowClient

    seen = []
    search = MlflowClient.search_runs

    def watched(self, *args, **kwargs):
        seen.append(gc.isenabled())
        return search(self, *args, **kwargs)

    monkeypatch.setattr(MlflowClient, "search_runs", watched)
    return seen


@pytest.mark.parametrize("before", [True, False])
def test_no_search_for_garbage_where_there_is_none(ledger, finished, cell, searching, before):
    ledger.deliver([finished(cell())])
    searching.clear()
    try:
        gc.enable() if before else gc.disable()
        assert len(ledger.read()) == 1
        assert gc.isenabled() is before
    finally:
        gc.enable()
    assert searching == [False]


def test_it_goes_on_after_a_failure(ledger, monkeypatch):
    ledger.open()

    def broken(self, *args, **kwargs):
        raise ConnectionError("no answer")

    monkeypatch.setattr("mlflow.tracking.MlflowClient.search_runs", broken)
    with pytest.raises(Unreachable):
        ledger.read()
    assert gc.isenabled()


def test_pages_follow_each_other(ledger, finished, cell, searching, monkeypatch):
    ledger.deliver([finished(cell(seed=seed)) for seed in range(3)])
    searching.clear()
    monkeypatch.setattr(module, "PAGE", 2)
    assert len(ledger.read()) == 3
    assert len(searching) == 2
