"""Published numbers beside ours: which of our cells answer which number, and what follows.

    answer    the cells that are nearest to what was printed: one line per printed number
    variant   other cells that answer the same number, shown below it: another form of the head

    difference    our mean − the printed number, with the 95 % t interval of our mean; the printed
                  number is taken as exact, for hardly any paper says what it scatters
    reproduced    the interval of the difference holds 0
    above, below  it does not
    no verdict    one seed, a lost seed, or an interval wider than ± 2 points, which could hold
                  anything: the gaps that these papers claim are smaller
    not comparable: …    something differs that is known to move the number, or the printed number
                  cannot be right; our numbers are shown all the same
    interpretation       details of the method are not published

What differs for a whole table (epochs, images, network) makes a table of its own, so that one table
is one protocol; what differs for single numbers stands in their verdict. What sets a printed number
apart from the others of its table (an ensemble, more epochs) stands beside it.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from pandas import DataFrame, Series

from reports import ink, latex, stats, trace
from reports.evidence import Evidence
from reports.exhibits import Exhibit, Item
from reports.exhibits.arithmetic import noted
from reports.frames import geometric, searches, slug
from reports.methods import canonical, fits, recipes

MARGIN = 0.02
"""Half width of an interval beyond which there is no verdict; 2 points, ours."""

METRICS = {"accuracy": "accuracy", "max_cosine": "cosine_max", "min_cosine": "cosine_min"}
"""Name in print -> column of the frame, over all classes."""

SHARES = ("accuracy", "many", "medium", "few")
"""Columns of the frame that are shown in per cent."""

ASIDE = {"best_epoch": ("oracle", "best test epoch"), "flip": ("flip", "with its mirror image")}
"""How print was read, and never our result -> column of the frame, and its name in a table."""

IN_PRINT = ("backbone", "split", "method")
"""Columns of print that run to the right in the order of print; others are sorted."""

SILENT = ("oracle", "flip", "precision")  # fields of a recipe that leave the training as it is

GROUP = ["head", "dim", "data", "backbone", "recipe", "epochs", "largest", "ratio", "profile"]
GROUP += ["group_rule"]

LONG = [
    *("table", "role", "method", "features", "dataset", "ratio", "dim", "network", "metric"),
    *("published", "published_sd", "corrected", "source", "error"),
    *("head", "our_dim", "data", "backbone", "recipe", "epochs", "largest"),
    *("parameters", "cells", "n", "diverged", "failed", *ink.SPREAD, *ASIDE),
    *("difference", "difference_low", "difference_high", "verdict", "keys"),
]

PERCENT = dict.fromkeys(
    (
        *("published", "published_sd", "corrected", *ink.SPREAD, *ASIDE),
        *("difference", "difference_low", "difference_high"),
    ),
    2,
)

PLACE = ["method", "features", "dataset", "ratio", "dim", "network", "metric"]
"""Columns of LONG that say which number of print a row is about."""


@dataclass(frozen=True, slots=True)
class Where:
    """The surroundings of printed numbers, as our columns; in each tuple nearest to print first.

    data       what stands for the data set; a later one is not comparable, `because`
    backbones  networks; another one is a deviation of the whole table
    recipes    names of recipes; a longer name that begins so is another form of it
    full       images of the largest class in print; 0: not stated
    only       no other network will do
    ratio      ours, where lists of images fix the imbalance; None: as in print
    because    data, network or recipe that is no answer to single numbers -> why not
    always     why print is not comparable, whatever we run
    later      recipes of later stages that are as good as the one that bears their head's name
    """

    data: tuple[str, ...]
    backbones: tuple[str, ...]
    recipes: tuple[str, ...]
    full: int = 0
    only: bool = False
    ratio: float | None = None
    because: Mapping[str, str] = field(default_factory=dict)
    always: str = ""
    later: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a paper, and how it is to be answered.

    number    as in print
    what      what it shows
    look      one sentence saying what to look for
    command   what makes its cells
    heads     method, or 'method d=100' for one length, or 'method on WD' for one kind of features
              -> patterns of heads, nearest to print first
    where     method, network, 'WD features' or data set, the first that is there -> surroundings
    rows      columns of print that name a row, beside data set and method
    column    column of print that runs to the right
    unsure    heads whose details are not published
    dims      'method dataset d=100' -> our length, where it has to be another
    """

    number: str
    what: str
    look: str
    command: str
    heads: Mapping[str, tuple[str, ...]]
    where: Mapping[str, Where]
    rows: tuple[str, ...] = ()
    column: str = "dim"
    unsure: tuple[str, ...] = ()
    dims: Mapping[str, int] = field(default_factory=dict)


def item(paper: str, table: Table, section: str) -> Item:
    """The table among a paper's items, in the section that discusses it."""
    name = f"Table {table.number}"
    made = partial(_made, paper, table)
    return Item(name, section, table.what, table.command, made)


def _made(
    paper: str, table: Table, runs: DataFrame, printed: DataFrame, evidence: Evidence | None
) -> list[Exhibit]:
    return exhibits(paper, table, noted(printed), runs)


def exhibits(paper: str, table: Table, printed: DataFrame, runs: DataFrame) -> list[Exhibit]:
    """One exhibit for each protocol under which cells of that table exist; none if there are none.

    printed: rows of `reports.printed`. runs: tidy frame.
    """
    rows = printed[printed["table"] == table.number]
    found = answers(table, rows, runs)
    if found.empty:
        return []
    protocols = sorted(found["deviation"].unique(), key=lambda text: (text != "", text))
    return [_exhibit(paper, table, rows, found, deviation) for deviation in protocols]


def answers(table: Table, rows: DataFrame, runs: DataFrame) -> DataFrame:
    """Every group of cells (all its seeds) that answers a printed number.

    rows: of `reports.printed`, one table. runs: tidy frame. Returns the index of the printed row as
    `place`, GROUP, rank (lowest is the answer), deviation (of the table), because (of the number),
    and the columns of `stats.summary` with done, the finished seeds, and the means of ASIDE.
    """
    runs = runs[~searches(runs) & runs["state"].isin(["done", "diverged", "failed"])]
    if (rows["metric"] == "accuracy").all():
        runs = runs[~geometric(runs)]
    # a default written out makes another cell, but not another seed
    runs = runs.assign(head=runs["head"].map(canonical)).drop_duplicates([*GROUP, "seed"])
    groups = [(dict(zip(GROUP, key, strict=True)), part) for key, part in runs.groupby(GROUP)]
    lines = []
    for place, row in rows.iterrows():
        names = (row["method"], row["backbone"], f"{row['features']} features", row["dataset"])
        where = next(table.where[name] for name in names if name in table.where)
        for facts, part in groups:
            if not _same_dim(facts, row, table.dims):
                continue
            near = _surroundings(facts, row, where)
            pipe, later = recipes(facts["head"])
            head = _rank(pipe, _patterns(table, row))
            if head is None or near is None:
                continue
            rank, deviation, reasons = near
            reasons += _later(later, where.later)
            metric = measure(row)
            summary = stats.summary(part, ["head"], metric).iloc[0].to_dict()
            done = part[part["state"] == "done"]
            whole = metric == "accuracy"  # of groups, and of points, nobody has these
            lines.append(
                summary
                | facts
                | {"place": place, "rank": (head, *rank, len(later)), "deviation": deviation}
                | {"because": ", ".join(reasons), "done": len(done)}
                | {"parameters": part["parameters"].max()}
                | {
                    name: stats.mean(done[column].dropna().to_numpy()) if whole else math.nan
                    for name, (column, _) in ASIDE.items()
                }
            )
    return DataFrame(lines)


def measure(row: Series) -> str:
    """The column of the frame that answers a printed number, a row of `reports.printed`."""
    return METRICS[row["metric"]] if row["split"] in ("", "all") else str(row["split"])


def verdict(
    row: Series, ours: Mapping[str, object], because: str = "", unsure: bool = False
) -> str:
    """What our cells say about a printed number.

    row: of `reports.printed`. ours: cells, n, mean, low, high as from `stats.summary`, and done.
    because: what differs and is known to move the number. unsure: the method is an interpretation.
    """
    if ours["n"] == 0 and ours["done"]:
        return "no verdict (no class in this group)"
    if ours["n"] == 0:
        return f"no verdict (0 of {ours['cells']} seeds finished)"
    if math.isnan(row["truth"]):
        return "no printed number"
    if unsure:
        return "interpretation"
    reasons = [because] if because else []
    if not row["comparable"]:
        reasons.insert(0, f"the printed number is {row['error']}")
    if reasons:
        return f"not comparable: {'; '.join(reasons)}"
    if ours["n"] < ours["cells"]:
        return f"no verdict ({ours['n']} of {ours['cells']} seeds finished)"
    low, high = _difference(row, ours)
    if math.isnan(low):
        return "no verdict (n = 1)"
    if high - low > 2 * MARGIN:
        return f"no verdict (interval ± {50 * (high - low):.1f} points)"
    slack = row["half"] * (1 + 1e-6)  # what the rounding of print may hide
    if low - slack <= 0 <= high + slack:
        return "reproduced"
    return "above" if low > 0 else "below"


def _difference(row: Series, ours: Mapping[str, object]) -> tuple[float, float]:
    """Interval of our mean over the printed number; a set of points is one number, without one."""
    low, high = float(ours["low"]), float(ours["high"])
    if row["metric"] != "accuracy" and ours["n"] == 1:
        low = high = float(ours["mean"])
    return low - row["truth"], high - row["truth"]


def _patterns(table: Table, row: Series) -> tuple[str, ...]:
    method = row["method"]
    names = (f"{method} d={row['dim']:g}", f"{method} on {row['features']}", method)
    return next(table.heads[name] for name in names if name in table.heads)


def _rank(head: str, patterns: Sequence[str]) -> int | None:
    """Which pattern a head fits, None if it fits none."""
    return next((i for i, each in enumerate(patterns) if fits(head, each)), None)


def _same_dim(facts: Mapping[str, object], row: Series, dims: Mapping[str, int]) -> bool:
    words = [row["method"], row["dataset"], f"d={row['dim']:g}"]
    wanted = dims.get(" ".join(filter(None, words)), row["dim"])
    return bool(math.isnan(wanted) or facts["dim"] == wanted)


def _surroundings(
    facts: Mapping[str, object], row: Series, where: Where
) -> tuple[tuple[int, ...], str, list[str]] | None:
    """Rank, deviation and reasons of a group in the surroundings of a printed number, or None."""
    known = [i for i, each in enumerate(where.data) if _begins(facts["data"], each)]
    data = max(known, key=lambda i: len(where.data[i]), default=None)  # with the most words
    recipe, *changes = str(facts["recipe"]).split(" ")
    near = [i for i, each in enumerate(where.recipes) if recipe == each]
    near += [len(where.recipes) for each in where.recipes if recipe.startswith(f"{each}_")]
    if data is None or not near:
        return None
    ratio = row["ratio"] if where.ratio is None else where.ratio
    balanced = ratio == 1
    if not balanced and not math.isnan(ratio) and facts["ratio"] != ratio:
        return None
    network = str(facts["backbone"])
    if where.only and network not in where.backbones:
        return None
    differs = str(facts["data"]).split(" ")[len(where.data[data].split(" ")) :]
    planned = re.search(r"_(\d+)", recipe)  # recipes are named after their epochs
    for change in changes:
        name, _, value = change.partition("=")
        if name == "epochs" and planned:
            differs.append(f"{value} of {planned[1]} epochs")
        elif name not in SILENT:
            differs.append(change)
    if where.full and facts["largest"] not in (0, where.full):
        differs.append(f"largest class {facts['largest']} of {where.full} images")
    if balanced and facts["ratio"] != 1:
        differs.append(f"ratio {ink.ratio(facts['ratio'])} where print has balanced classes")
    if facts["ratio"] != 1 and facts["profile"] not in ("", "exponential"):
        differs.append(f"profile {facts['profile']}")
    if where.backbones and network not in where.backbones:
        differs.append(f"network {network} where print has {where.backbones[0]}")
    if row["metric"] != "accuracy":
        differs = []  # fixed points lie where they lie, however long one trains
    names = (where.data[data], network, recipe)
    reasons = [where.because[name] for name in names if name in where.because]
    reasons += [where.always] if where.always else []
    if min(near) == len(where.recipes):
        reasons.append(f"recipe {recipe}")
    if planned and row["epochs"] and planned[1] not in row["epochs"].split(" or "):
        reasons.append(f"{planned[1]} epochs where print states {row['epochs']}")
    backbone = where.backbones.index(network) if network in where.backbones else 9
    return (data, min(near), backbone), ", ".join(differs), reasons


def _later(stages: Mapping[str, str], allowed: Sequence[str]) -> list[str]:
    """How later stages were trained in another way than by the recipe that bears their name."""
    reasons = []
    for name, text in stages.items():
        recipe, *changes = text.split(" ")
        reasons += [f"{name} by recipe {recipe}"] if recipe not in (name, *allowed) else []
        told = [each for each in changes if each.partition("=")[0] not in SILENT]
        reasons += [f"{name} with {', '.join(told)}"] if told else []
    return reasons


def _begins(text: object, words: str) -> bool:
    return f"{text} ".startswith(f"{words} ")


def _exhibit(
    paper: str, table: Table, rows: DataFrame, found: DataFrame, deviation: str
) -> Exhibit:
    here = found[found["deviation"] == deviation]
    lines = _lines(table, rows, here, deviation)
    name = slug(paper, "table", table.number, *([deviation] if deviation else []))
    shown, ids = _wide(table, rows, lines)
    title = f"Table {table.number}: {table.what}"
    if deviation:
        title += f" ({deviation})"
    caption = _caption(table, rows, lines, title, deviation)
    marks = DataFrame("", index=shown.index, columns=shown.columns)
    block = "data" if "data" in shown else ""
    return Exhibit(
        name=name,
        title=title,
        look=table.look,
        table=shown,
        latex=latex.fragment(shown, marks, caption, name, block=block),
        csv=trace.csv(lines[["id", *LONG]]),
        figure=None,
        caption=caption,
        marks=marks,
        block=block,
        percent=PERCENT if (rows["metric"] == "accuracy").any() else {},
        ids=ids,
    )


def _lines(table: Table, rows: DataFrame, here: DataFrame, deviation: str) -> DataFrame:
    """Long form: for each printed number its answer, or that it was not run, and its variants."""
    lines = []
    for place, row in rows.iterrows():
        print_ = {
            **{"table": table.number, "method": row["method"], "dataset": row["dataset"]},
            **{"features": row["features"]},
            **{"ratio": row["ratio"], "dim": row["dim"], "network": row["backbone"]},
            **{"metric": measure(row), "published": row["value"]},
            **{"published_sd": row["std"], "corrected": row["corrected"]},
            **{"source": row["source"], "error": row["error"], "place": place},
        }
        mine = here[here["place"] == place]
        mine = mine.sort_values(["rank", *GROUP], kind="stable")
        if mine.empty:
            lines.append(print_ | {"role": "answer", "n": 0, "verdict": "not run", "keys": ""})
        for nth, (_, ours) in enumerate(mine.iterrows()):
            reason = ", ".join(each for each in (deviation, ours["because"]) if each)
            unsure = ours["head"].split(" ")[0] in table.unsure
            low, high = _difference(row, ours)
            lines.append(
                print_
                | {name: ours[name] for name in ("head", "data", "backbone", "recipe", "epochs")}
                | {name: ours[name] for name in ("largest", "n", "mean", "sd", "low", "high")}
                | {"bound": ours["bound"] if measure(row) in SHARES else math.nan}
                | {"diverged": ours["n_diverged"], "failed": ours["n_failed"]}
                | {"our_dim": ours["dim"], "parameters": ours["parameters"]}
                | {name: ours[name] for name in ASIDE}
                | {"difference": ours["mean"] - row["truth"]}
                | {"difference_low": low, "difference_high": high}
                | {"role": "variant" if nth else "answer", "cells": ours["cells"]}
                | {"because": ours["because"], "keys": ours["keys"]}
                | {"as": _as(ours) if nth else ""}
                | {"verdict": verdict(row, ours, reason, unsure)}
            )
    long = DataFrame(lines, columns=[*LONG, "place", "because", "as"])
    long = trace.identified(long, [*PLACE, "as"])
    wholes = ("dim", "our_dim", "epochs", "largest", "n", "diverged", "failed", "cells")
    for name in (*wholes, "parameters"):
        long[name] = long[name].astype("Int64")
    for name in (*ink.SPREAD, *ASIDE, "published", "published_sd"):
        long[name] = long[name].astype("float64").round(9)
    for name in ("difference", "difference_low", "difference_high", "corrected"):
        long[name] = long[name].astype("float64").round(9)
    return long


def _as(ours: Series) -> str:
    """What tells a variant from the answer and from other variants, for its id."""
    return " ".join(str(ours[name]) for name in ("head", "data", "backbone", "recipe"))


def _wide(table: Table, rows: DataFrame, lines: DataFrame) -> tuple[DataFrame, DataFrame]:
    """Close to print: for each of its rows what was printed, what we found, and the difference.

    Returns the table, and in the same shape the ids of the lines that its numbers stand in.
    """
    named = [name for name in ("method", *table.rows) if name != table.column]
    keys = ["dataset", *named]
    across = rows if table.column in IN_PRINT else rows.sort_values(table.column)
    several = table.column != "backbone" and lines["backbone"].nunique() > 1
    columns = list(dict.fromkeys(_column(table, row) for _, row in across.iterrows()))
    out: list[list[str]] = []
    ids: list[list[str]] = []
    printed = lines[lines["role"] == "answer"].set_index("place")["id"]
    sets = [*dict.fromkeys(rows["dataset"])]
    groups = rows.groupby(keys, sort=False, dropna=False)
    for key, part in sorted(groups, key=lambda group: sets.index(group[0][0])):
        at = {place: _column(table, row) for place, row in part.iterrows()}
        mine = lines[lines["place"].isin(part.index) & lines["cells"].notna()]
        ours = mine[mine["role"] == "answer"]
        apart = "; ".join(dict.fromkeys(filter(None, part["apart"])))
        texts = {at[place]: _printed(row) for place, row in part.iterrows()}
        places = {at[place]: printed[place] for place in part.index}
        blocks = [(f"print ({apart})" if apart else "print", texts, places)]
        for network, some in ours.groupby("backbone", sort=False) if several else [("", ours)]:
            blocks += _ours(f"here, {network}" if several else "here", some, at)
        others = mine[mine["role"] == "variant"]
        other = ["head", "data", "recipe", "backbone"]
        others = others.assign(nth=others.groupby([*other, "place"]).cumcount())
        for name, variant in others.groupby([*other, "nth"], sort=False):
            blocks += _ours(f"here, as {_short(name, ours)}", variant, at)
        words = [text if isinstance(text, str) else ink.number(text) for text in key]
        for nth, (what, texts, places) in enumerate(blocks):
            head = words if nth == 0 else [words[0], *[""] * (len(words) - 1)]
            out.append([*head, what, *(texts.get(column, "") for column in columns)])
            mine = [places[column] if column in texts else "" for column in columns]
            ids.append([*[""] * (len(words) + 1), *mine])
    names = ["data", *("d" if name == "dim" else name for name in named)]
    names += ["value", *columns]
    wide, marked = (DataFrame(part, columns=names, dtype=object) for part in (out, ids))
    alone = ["data"] if wide["data"].nunique() == 1 else []
    return wide.drop(columns=alone), marked.drop(columns=alone)


Row = tuple[str, dict[str, str], dict[str, str]]
"""Of print: what it shows, its texts and the ids of their lines, by column."""


def _ours(what: str, lines: DataFrame, at: Mapping[int, str]) -> list[Row]:
    """Rows of print for some of our groups: means, those of ASIDE where known, differences."""
    if lines.empty:
        return []
    spots = [at[place] for place in lines["place"]]
    means = dict(zip(spots, [_mean(line) for _, line in lines.iterrows()], strict=True))
    gaps = dict(zip(spots, [_gap(line) for _, line in lines.iterrows()], strict=True))
    ids = dict(zip(spots, lines["id"], strict=True))
    rows = [(what, means, ids)]
    for name, (_, title) in ASIDE.items():
        known = {
            spot: f"{100 * line[name]:.2f}"
            for spot, (_, line) in zip(spots, lines.iterrows(), strict=True)
            if not math.isnan(line[name])
        }
        rows += [(title, known, ids)] if known else []
    return [*rows, ("difference", gaps, ids)]


def _short(name: tuple[str, ...], ours: DataFrame) -> str:
    """What sets a variant apart from the answers: its head, and what else differs."""
    columns = ("data", "recipe", "backbone")
    others = [
        value
        for column, value in zip(columns, name[1:4], strict=True)
        if value not in set(ours[column])
    ]
    return ", ".join([name[0], *others])


def _printed(row: Series) -> str:
    text = str(row["text"]).replace("-", "−") or ink.NOTHING
    return f"{text} ± {row['std_text']}" if row["std_text"] else text


def _mean(line: Series) -> str:
    lost = line["n"] < line["cells"]
    count = f"({line['n']}/{line['cells']}{ink.LOST})" if lost else f"({line['n']})"
    if line["n"] == 0:
        return f"{ink.NOTHING} {count}"
    digits, scale = (2, 100) if line["metric"] in SHARES else (4, 1)
    text = f"{scale * line['mean']:.{digits}f}".replace("-", "−")
    spread = f" ± {scale * line['sd']:.{digits}f}" if line["n"] > 1 else ""
    return f"{text}{spread} {count}"


def _gap(line: Series) -> str:
    word = re.split(r"[:(]", line["verdict"])[0].strip()
    if line["n"] == 0 or math.isnan(line["difference"]):
        return word
    digits, scale = (2, 100) if line["metric"] in SHARES else (4, 1)

    def signed(value: float) -> str:
        return f"{round(scale * value, digits) + 0.0:+.{digits}f}".replace("-", "−")

    text = signed(line["difference"])
    if line["n"] > 1:
        text += f" [{signed(line['difference_low'])}, {signed(line['difference_high'])}]"
    return f"{text} {word}"


def _column(table: Table, row: Series) -> str:
    """Heading of the column that a printed number stands in."""
    value = row[table.column]
    if table.column == "ratio":
        return ink.ratio(value)
    if isinstance(value, str):
        return {"max_cosine": "largest cosine", "min_cosine": "smallest cosine"}.get(value, value)
    return f"d = {ink.number(value)}" if table.column == "dim" else ink.number(value)


def _caption(table: Table, rows: DataFrame, lines: DataFrame, title: str, deviation: str) -> str:
    percent = (rows["metric"] == "accuracy").any()
    ran = lines[lines["n"] > 0]
    used = dict.fromkeys(zip(ran["method"], ran["head"], strict=True))
    recipes = ", ".join(dict.fromkeys(ran["recipe"]))
    networks = ", ".join(dict.fromkeys(ran["backbone"]))
    wanted = rows["value"].notna()
    missing = int((lines["verdict"].eq("not run") & lines["published"].notna()).sum())
    return ink.join(
        f"{title}{', in per cent' if percent else ''}.",
        f"Print: {_list(rows['source'])}; networks {_list(rows['network'])}; read at: "
        f"{_list(rows['selection'])}."
        if percent
        else f"Print: {_list(rows['source'])}.",
        f"Here: {networks}; recipe {recipes}; "
        + ("last epoch, one view, nothing selected on test; " if percent else "")
        + "; ".join(f"{method} by {head}" for method, head in used)
        + ".",
        f"Not comparable with print: {deviation}." if deviation else "",
        "± is the standard deviation over seeds, their number in brackets; the difference has the "
        "95 % t interval of our mean over the printed number: reproduced if that holds 0, no "
        f"verdict if it is wider than ± {100 * MARGIN:g} points."
        if percent
        else "A set of points is one number: reproduced if it is what print rounds to.",
        "A best test epoch is chosen on test: it is how print was read, and never our result."
        if percent and ran["best_epoch"].notna().any()
        else "",
        "Scores averaged over an image and its mirror image are no result of ours either."
        if percent and ran["flip"].notna().any()
        else "",
        _reasons(rows, lines),
        _errors(rows),
        f"Not run: {missing} of {wanted.sum()} numbers; {table.command} makes them."
        if missing
        else "",
    )


def _reasons(rows: DataFrame, lines: DataFrame) -> str:
    """Why single numbers are not comparable: what does not hold for the whole table."""
    told: dict[str, list[int]] = {}
    for _, line in lines.dropna(subset="because").iterrows():
        if line["because"]:
            told.setdefault(line["because"], []).append(line["place"])
    return " ".join(
        f"Not comparable, {_spots(rows, places)}: {why}." for why, places in told.items()
    )


def _errors(rows: DataFrame) -> str:
    """What is known to be wrong in print, each error once with the places where it stands."""
    told: dict[str, list[int]] = {}
    for place, row in rows.iterrows():
        for error in filter(None, row["error"].split("; ")):
            told.setdefault(error, []).append(place)
    notes = [f"{_spots(rows, places)}: {error}" for error, places in told.items()]
    return f"Of the print: {'; '.join(notes)}." if notes else ""


PLACES: Mapping[str, Callable[[Iterable], str]] = {
    "features": lambda values: f"on {', '.join(values)}",
    "ratio": lambda values: ", ".join(map(ink.ratio, values)),
    "dim": lambda values: f"d = {', '.join(map(ink.number, values))}",
    "split": ", ".join,
    "backbone": ", ".join,
}
"""Columns of print that may tell the numbers of a method apart, and how that is written."""


def _spots(rows: DataFrame, places: Sequence[int]) -> str:
    """Where in a table, as shortly as it can be said: 'HPN', 'PSC cifar100 d = 10, 25'."""
    spots = []
    for method, part in rows.loc[[*dict.fromkeys(places)]].groupby("method", sort=False):
        mine = rows[rows["method"] == method]
        if len(part) == len(mine):
            spots.append(method)
            continue
        for data, some in part.groupby("dataset", sort=False):
            here = mine[mine["dataset"] == data]
            words = [method] + ([data] if mine["dataset"].nunique() > 1 else [])
            for name, write in PLACES.items():
                values = dict.fromkeys(some[name].dropna())
                if len(values) < here[name].dropna().nunique():
                    words.append(write(values))
            spots.append(" ".join(words))
    return ", ".join(spots)


def _list(column: Series) -> str:
    return "; ".join(dict.fromkeys(text for text in column if text)) or "not stated"
