"""Ledger rows -> tidy frames, and tidy frames -> groups that may stand in one table.

One row is one cell. Accuracy and its relatives are fractions in [0, 1]; per cent is for ink.
"""

import hashlib
import math
import re
from dataclasses import dataclass

import pandas as pd
from pandas import DataFrame, Series

STATES = ("done", "diverged", "failed", "pruned")

TEXTS = ("key", "label", "state", "data", "backbone", "head", "seed", "recipe")
# these may be empty
REMARKS = ("suites", "profile", "group_rule", "finished", "predicted_from", "execution", "features")
WHOLES = ("largest", "dim", "epochs")
COUNTS = ("classes", "train_images", "width")  # whole, unknown where a cell failed early
SHARES = ("accuracy", "many", "medium", "few", "top5", "ece", "oracle", "flip", "validation")

GEOMETRY = ("cosine_max", "cosine_min", "cosine_mean", "cosine_sd", "angle_mean", "uniformity")
"""Of the class vectors over all pairs: cosines, mean angle, log of the mean Gaussian potential."""

FORETOLD = (
    *("beside_seconds", "predicted_seconds", "predicted_from", "jobs", "execution", "features"),
)
"""What a cell took beside its loop, what its run expected and why, cells side by side, whether its
backbone was compiled, and `read` where another cell had computed its features.
"""

LATER = (*GEOMETRY, "validation", "assignment_seconds", *FORETOLD)
"""Columns that older frames lack; there they are unknown."""

COST = (
    *("seconds", "images_per_second", "peak_memory_mb", "assignment_seconds", *FORETOLD),
    "finished",
)
"""What a cell cost and when: belongs to the machine, so it is kept apart from what was measured."""

COLUMNS = (
    *("key", "label", "suites", "state", "data", "ratio", "profile", "largest", "backbone"),
    *("head", "dim", "seed", "recipe", "epochs", "classes", "train_images", "group_rule"),
    *("accuracy", "many", "medium", "few", "top5", "ece", "nc1", "nc2", "nc3", "nc4"),
    *("oracle", "flip", "validation", *GEOMETRY, "parameters", "flops", "width"),
    *COST,
    "diverged_step",
)

COMPARABLE = ("data", "backbone", "recipe", "epochs", "profile", "largest", "group_rule")
"""What must be equal for two cells to share a table; ratio, head, length and seed may differ."""


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """One data set under one protocol: everything in `runs` may stand in one table.

    slug    lower-case letters, digits and hyphens; unique among the settings of a frame
    stated  options that every cell of a head has here, left out of its name: 'hpn reduction=sum'
    runs    the tidy rows; the fields before it are what they have in common
    """

    slug: str
    data: str
    backbone: str
    recipe: str
    epochs: int
    profile: str
    largest: int
    group_rule: str
    stated: tuple[str, ...]
    runs: DataFrame


def tidy(runs: DataFrame) -> DataFrame:
    """The ledger's rows, checked, typed, and in an order that does not depend on theirs.

    Returns a new frame with exactly COLUMNS, one row per cell; columns beyond these are left out,
    those of LATER may be missing.
    Raises ValueError, in one sentence, for an empty frame, a missing column, a wrong type, an
    unknown state, a fraction outside [0, 1], or two cells that this report could not tell apart.
    """
    if len(runs) == 0:
        raise ValueError(
            "no finished cells to report on, run first: python -m benchmark run --suite quick"
        )
    runs = runs.assign(**{name: math.nan for name in LATER if name not in runs.columns})
    missing = [name for name in COLUMNS if name not in runs.columns]
    if missing:
        raise ValueError(
            f"the frame of runs lacks {', '.join(missing)}; a report needs these columns: "
            f"{', '.join(COLUMNS)}."
        )
    frame = DataFrame({name: _typed(runs[name].reset_index(drop=True), name) for name in COLUMNS})
    _check_values(frame)
    frame["order"] = frame["seed"].map(lambda seed: (len(seed), seed))  # 2 before 10
    by = [*COMPARABLE, "ratio", "head", "dim", "order", "key"]
    frame = frame.sort_values(by, ignore_index=True).drop(columns="order")
    _check_distinct(frame)
    return frame


def settings(runs: DataFrame) -> tuple[Setting, ...]:
    """Split a tidy frame into groups of comparable cells, one per data set and protocol.

    Rows of one setting agree in COMPARABLE and may differ in ratio, head, dim and seed.
    Slugs name data, backbone and recipe; where two settings would share a slug, each gets six
    digits of a hash of all that sets it apart. An option that every cell of a head has in a
    setting tells nothing apart there: it is moved from the head's name to `stated`.
    """
    groups = [
        (tuple(v if isinstance(v, str) else int(v) for v in key), shortened(part))
        for key, part in runs.groupby([*COMPARABLE], sort=True)
    ]
    plain = [slug(*key[:3]) for key, _ in groups]
    return tuple(
        Setting(
            name if plain.count(name) == 1 else f"{name}-{_digest(key)}",
            **dict(zip(COMPARABLE, key, strict=True)),
            stated=tuple(sorted({text for text in part["stated"] if text})),
            runs=part,
        )
        for name, (key, part) in zip(plain, groups, strict=True)
    )


def shortened(runs: DataFrame) -> DataFrame:
    """Heads by what tells them apart: options that all cells of a head share move to `stated`.

    'dl2pa reduction=sum' and 'dl2pa assignment=fixed reduction=sum' become 'dl2pa' and
    'dl2pa assignment=fixed', both stating 'dl2pa reduction=sum'. Twice is the same as once.
    """
    frame = runs.reset_index(drop=True)
    if "stated" not in frame:
        frame["stated"] = ""
    parsed = [re.split(r"( >> | > )", head) for head in frame["head"]]
    names = [
        "".join(part.split(" ")[0] if i % 2 == 0 else part for i, part in enumerate(parts))
        for parts in parsed
    ]
    for name in dict.fromkeys(names):
        rows = [row for row, other in enumerate(names) if other == name]
        own = [[part.split(" ")[1:] for part in parsed[row][::2]] for row in rows]
        shared = [set.intersection(*(set(each[i]) for each in own)) for i in range(len(own[0]))]
        if not any(shared):
            continue
        for row in rows:
            kept = [
                " ".join(word for word in part.split(" ") if word not in shared[i // 2])
                if i % 2 == 0
                else part
                for i, part in enumerate(parsed[row])
            ]
            frame.loc[row, "head"] = "".join(kept)
            frame.loc[row, "stated"] = f"{name} {' '.join(sorted(set().union(*shared)))}"
    return frame


def searches(runs: DataFrame) -> Series:
    """Which cells are judged on images carved off the training set: they stand in no table."""
    return runs["data"].str.contains(r"(?:^| )validation=", regex=True).astype(bool)


def geometric(runs: DataFrame) -> Series:
    """Which cells are about points on the sphere, so that their accuracy means nothing.

    Those of no epoch at all, and those on the data set sphere, which has no images.
    """
    sphere = runs["data"].str.split(" ").str[0] == "sphere"
    return ((runs["epochs"] == 0) | sphere).astype(bool)


def single(runs: DataFrame) -> Setting:
    """The one setting of a frame that is meant for one table.

    Raises ValueError if the frame mixes settings.
    """
    found = settings(runs)
    if len(found) != 1:
        differ = [name for name in COMPARABLE if runs[name].nunique() > 1]
        raise ValueError(
            f"one table holds one setting, got {len(found)} that differ in {', '.join(differ)}; "
            "split the frame with reports.frames.settings first."
        )
    return found[0]


def slug(*words: str) -> str:
    """Words -> a file name of lower-case ASCII letters, digits and hyphens, at most 80 long."""
    text = "-".join(words)
    safe = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "setting"
    return safe if len(safe) <= 80 else f"{safe[:73].rstrip('-')}-{_digest(text)}"


def _digest(value: object) -> str:
    return hashlib.sha256(repr(value).encode()).hexdigest()[:6]


def _typed(column: Series, name: str) -> Series:
    if name in TEXTS or name in REMARKS:
        if name in TEXTS and column.isna().any():
            raise ValueError(f"column {name} is empty in row {column.isna().idxmax()}.")
        return column.astype(object).where(column.notna(), "").map(str).astype(object)
    numbers = pd.to_numeric(column.astype(object), errors="coerce")
    wrong = numbers.isna() & column.notna()
    if wrong.any():
        raise ValueError(f"column {name} must hold numbers, got {column[wrong.idxmax()]!r}.")
    if name in WHOLES or name == "ratio":
        if numbers.isna().any():
            raise ValueError(f"column {name} is empty in row {numbers.isna().idxmax()}.")
    numbers = numbers.astype("float64")
    if name in WHOLES or name in COUNTS:
        broken = numbers.notna() & (numbers % 1 != 0)
        if broken.any():
            raise ValueError(
                f"column {name} must hold whole numbers, got {column[broken.idxmax()]!r}."
            )
        return numbers.astype("int64" if name in WHOLES else "Int64")
    return numbers


def _check_values(frame: DataFrame) -> None:
    for name in SHARES:
        outside = (frame[name] < 0) | (frame[name] > 1)
        if outside.any():
            row = frame.loc[outside.idxmax()]
            raise ValueError(
                f"{name} must be a fraction in [0, 1], got {row[name]:g} for {row['label']}."
            )
    strange = ~frame["state"].isin(STATES)
    if strange.any():
        row = frame.loc[strange.idxmax()]
        raise ValueError(
            f"unknown state {row['state']!r} of {row['label']}; a report knows {', '.join(STATES)}."
        )
    judged = ~searches(frame) & ~geometric(frame)  # the others may have no accuracy on test
    torn = (frame["state"] == "done") != frame["accuracy"].notna()
    torn &= judged | (frame["state"] != "done")
    if torn.any():
        row = frame.loc[torn.idxmax()]
        raise ValueError(
            f"{row['label']} is {row['state']} with accuracy {row['accuracy']}; "
            "done cells have an accuracy and no others do."
        )


def _check_distinct(frame: DataFrame) -> None:
    """Two cells of one seed in one place would count as two seeds, and make the interval a lie."""
    if frame["key"].duplicated().any():
        raise ValueError(
            f"key {frame['key'][frame['key'].duplicated().idxmax()]} stands in two rows; "
            "hand in each cell once."
        )
    same = frame.duplicated([*COMPARABLE, "ratio", "head", "dim", "seed"], keep=False)
    if same.any():
        first, second = frame.loc[same, "key"].iloc[:2]
        label = frame.loc[same, "label"].iloc[0]
        raise ValueError(
            f"cells {first} and {second} ({label}) look alike to a report but are different cells; "
            "report their suites separately."
        )
