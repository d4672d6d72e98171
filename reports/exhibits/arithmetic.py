"""A paper's own arithmetic: what it prints for groups of classes must make what it prints for all.

    A = Σ n_g A_g / Σ n_g        g  many, medium, few     n_g  classes of that group

Test sets are balanced, so this is exact; rounding hides half a unit of each last digit. A row that
is further off cannot be one measurement: its numbers stem from different runs or epochs, or one of
them is a slip. Which one, arithmetic cannot tell.
"""

from functools import partial

from pandas import DataFrame, Series

from reports import ink, latex, trace
from reports.counts import GROUPS, sizes, weighted
from reports.evidence import Evidence
from reports.exhibits import Exhibit, Item

PLACE = ["table", "method", "dataset", "ratio"]


def item(paper: str) -> Item:
    """The check among a paper's items; it needs no cells."""
    return Item(
        *("Arithmetic", "The arithmetic of print", "groups of classes against all classes"),
        *("Nothing is to be run.", partial(_exhibits, paper)),
    )


def sums(printed: DataFrame) -> DataFrame:
    """One row for each place where print has all groups and the whole.

    printed: rows of `reports.printed`. Returns PLACE, many, medium, few, all as fractions and their
    text, with the suffix _text; classes, the sizes of the groups; sum, what the groups make; gap,
    that minus what is printed; slack, what rounding may hide; off, whether the gap is beyond it.
    """
    rows = []
    known = printed[(printed["metric"] == "accuracy") & printed["value"].notna()]
    for key, part in known.groupby(PLACE, sort=False):
        facts = dict(zip(PLACE, key, strict=True))
        classes = sizes(facts["dataset"], facts["ratio"])
        at = part.drop_duplicates("split").set_index("split")
        if classes is None or not {*GROUPS, "all"} <= set(at.index):
            continue
        groups = at.loc[list(GROUPS)]
        total = weighted(groups["truth"], classes)
        slack = weighted(groups["half"], classes) + at["half"]["all"]
        gap = total - at["truth"]["all"]
        rows.append(
            facts
            | {name: at["truth"][name] for name in (*GROUPS, "all")}
            | {f"{name}_text": at["text"][name] for name in (*GROUPS, "all")}
            | {"classes": "/".join(map(str, classes)), "sum": total, "gap": gap, "slack": slack}
            | {"off": bool(abs(gap) > slack * (1 + 1e-6))}
        )
    return DataFrame(rows)


def noted(printed: DataFrame) -> DataFrame:
    """The printed rows; where the groups do not make the whole, its `error` says what they make."""
    found = sums(printed)
    printed = printed.copy()
    for _, line in found[found["off"]].iterrows() if len(found) else ():
        here = (printed[PLACE] == line[PLACE]).all(axis=1) & (printed["split"] == "all")
        for place in printed.index[here]:
            told = f"its groups add up to {100 * line['sum']:.2f}"
            error = printed.loc[place, "error"]
            printed.loc[place, "error"] = f"{error}; {told}" if error else told
    return printed


def _exhibits(
    paper: str, runs: DataFrame, printed: DataFrame, evidence: Evidence | None
) -> list[Exhibit]:
    found = sums(printed)
    if found.empty:
        return []
    shown = DataFrame([_line(row) for _, row in found.iterrows()])
    marks = DataFrame("", index=shown.index, columns=shown.columns)
    name, title = f"{paper.replace('_', '-')}-arithmetic", "Groups of classes against all classes"
    used = found.drop_duplicates("classes")
    caption = ink.join(
        f"{title}, as printed, in per cent.",
        "Sum: the groups weighted by their number of classes, many/medium/few: "
        + ", ".join(f"{r['dataset']} {r['classes']}" for _, r in used.iterrows())
        + ".",
        "Off: further from the printed total than its digits and those of the groups can hide.",
        f"{found['off'].sum()} of {len(found)} rows are off.",
    )
    plain = found.drop(columns=[name for name in found if name.endswith("_text")]).round(9)
    named = trace.identified(plain, PLACE)
    ids = DataFrame({name: named["id"] for name in shown})
    ids[["table", "method", "verdict"]] = ""
    return [
        Exhibit(
            name=name,
            title=title,
            look="Look at the rows that are off: no single run can have given all four numbers.",
            table=shown,
            latex=latex.fragment(shown, marks, caption, name, block="table"),
            csv=trace.csv(named),
            figure=None,
            caption=caption,
            marks=marks,
            block="table",
            percent=dict.fromkeys((*GROUPS, "all", "sum", "gap", "slack"), 2),
            ids=ids,
        )
    ]


def _line(row: Series) -> dict[str, str]:
    gap = f"{round(100 * row['gap'], 2) + 0.0:+.2f}".replace("-", "−")
    return {
        "table": row["table"],
        "method": row["method"],
        **{name: row[f"{name}_text"] for name in GROUPS},
        "sum": f"{100 * row['sum']:.2f}",
        "all": row["all_text"],
        "sum − all": gap,
        "verdict": "off" if row["off"] else "adds up",
    }
