"""What a run expected travels from the record to the ledger's frame."""

import math


def test_predictions_travel_and_older_records_have_none(finished, ledger, cell):
    first, second = cell(0), cell(1)
    cost = {
        **{"seconds": 9.0, "images_per_second": 1e3, "peak_memory_mb": 1.0, "device": "x86_64"},
        **{"finished": "2026-01-02T03:04:05+00:00", "threads": 1, "jobs": 2},
        **{"beside_seconds": 1.5, "predicted_seconds": 12.25, "predicted_from": "pilot"},
        **{"execution": "eager", "features": "read"},
    }
    ledger.deliver([finished(first, cost=cost), finished(second)])
    rows = ledger.read().set_index("key")
    names = ["predicted_seconds", "beside_seconds", "jobs", "predicted_from"]
    told = rows.loc[first.key, [*names, "execution", "features"]]
    assert told.tolist() == [12.25, 1.5, 2, "pilot", "eager", "read"]
    assert math.isnan(rows.loc[second.key, "predicted_seconds"])
    assert rows.loc[second.key, "predicted_from"] == ""
