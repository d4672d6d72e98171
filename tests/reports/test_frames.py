"""What the border lets in, and what may stand in one table."""

import numpy as np
import pandas as pd
import pytest
from pandas import DataFrame

from reports.frames import COLUMNS, COMPARABLE, settings, single, slug, tidy


def test_tidy_orders_columns_and_rows_whatever_their_order_was(full):
    shuffled = full.sample(frac=1, random_state=0)[list(reversed(full.columns))]
    once = tidy(full)
    assert list(once.columns) == list(COLUMNS)
    pd.testing.assert_frame_equal(once, tidy(shuffled))
    pd.testing.assert_frame_equal(once, tidy(once))


def test_tidy_types(make_runs):
    runs = make_runs(seeds=11).astype({"dim": float, "epochs": object})
    tidied = tidy(runs)
    assert tidied["dim"].dtype == "int64" and tidied["epochs"].dtype == "int64"
    assert list(tidied["seed"].unique()) == [str(seed) for seed in range(11)]  # 2 before 10


def test_empty_frame_says_what_to_run():
    with pytest.raises(ValueError, match=r"no finished cells .*run --suite quick"):
        tidy(DataFrame())


def test_missing_columns_are_named(make_runs):
    with pytest.raises(ValueError, match="lacks few, nc3;"):
        tidy(make_runs().drop(columns=["nc3", "few"]))


@pytest.mark.parametrize(
    ("column", "value", "told"),
    [
        ("accuracy", 62.1, r"fraction in \[0, 1\], got 62.1"),
        ("accuracy", "high", "must hold numbers, got 'high'"),
        ("accuracy", np.nan, "done cells have an accuracy"),
        ("state", "running", "unknown state 'running'"),
        ("state", "diverged", "is diverged with accuracy"),
        ("dim", 12.5, "whole numbers, got 12.5"),
        ("dim", np.nan, "column dim is empty in row 0"),
        ("head", None, "column head is empty in row 0"),
        ("key", None, "column key is empty"),
    ],
)
def test_wrong_values_are_named(make_runs, column, value, told):
    runs = make_runs().astype({column: object})
    runs.loc[0, column] = value
    with pytest.raises(ValueError, match=told):
        tidy(runs)


def test_one_seed_twice_is_not_two_seeds(make_runs):
    runs = make_runs()
    with pytest.raises(ValueError, match="stands in two rows"):
        tidy(pd.concat([runs, runs.head(1)], ignore_index=True))
    again = runs.head(1).assign(key="feed")
    with pytest.raises(ValueError, match="look alike to a report"):
        tidy(pd.concat([runs, again], ignore_index=True))


@pytest.mark.parametrize("column", COMPARABLE)
def test_cells_that_differ_never_share_a_setting(make_runs, column):
    other = {"epochs": 30, "largest": 250}.get(column, "other one")
    runs = tidy(pd.concat([make_runs(), make_runs(**{column: other})], ignore_index=True))
    found = settings(runs)
    assert len(found) == 2
    assert sum(len(setting.runs) for setting in found) == len(runs)
    assert len({setting.slug for setting in found}) == 2
    for setting in found:
        assert (setting.runs[list(COMPARABLE)].nunique() == 1).all()
    with pytest.raises(ValueError, match=f"differ in {column}; split"):
        single(runs)


def test_ratio_head_dim_and_seed_share_a_setting(full):
    assert len(settings(tidy(full))) == 1


def test_slugs_are_safe_file_names():
    assert slug("cifar100", "resnet32 channels=32") == "cifar100-resnet32-channels-32"
    assert slug("../../etc", "a/b\\c", "~") == "etc-a-b-c"
    assert slug("%%%") == "setting"
    long = slug("x" * 100)
    assert len(long) <= 80 and long != slug("x" * 101)


def test_settings_whose_slugs_collide_get_a_hash_each(make_runs):
    runs = pd.concat([make_runs(recipe="a b"), make_runs(recipe="a_b")], ignore_index=True)
    slugs = [setting.slug for setting in settings(tidy(runs))]
    assert len(set(slugs)) == 2 and all("a-b-" in found for found in slugs)
