"""Reliability diagrams: how often a head is right when it says how sure it is.

Guo, Pleiss, Sun, Weinberger. "On Calibration of Modern Neural Networks." ICML 2017,
arXiv:1706.04599, section 2 and figure 1:

    acc(B_m) = right answers in B_m / |B_m|        conf(B_m) = mean confidence in B_m
    ECE = Σ_m |B_m| / N · |acc(B_m) − conf(B_m)|

    B_m  examples whose confidence, the largest softmax, lies in bin m of 15 equal ones

Where we differ: lines instead of bars, so that several heads share a panel; the examples of all
seeds are pooled in a curve, while ECE is a mean over seeds.
"""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from pandas import DataFrame

from reports import ink, stats, style, trace
from reports.evidence import Evidence
from reports.exhibits import Exhibit, chosen
from reports.exhibits.chosen import Curve
from reports.frames import single

SHOWN = 30
"""Bins of fewer examples are left out of the curve: the standard error of their accuracy may exceed
nine points, √(0.25 / 30); ours."""

COLUMNS = (
    *("id", "ratio", "head", "dim", "bin", "above", "up_to", "n", "examples", "share"),
    *("confidence", "accuracy", "ece_mean", "ece_sd", "keys"),
)
PERCENT = dict.fromkeys(("share", "confidence", "accuracy", "ece_mean", "ece_sd"), 1)

Found = dict[tuple[Curve, float], DataFrame]


def reliability(runs: DataFrame, name: str, evidence: Evidence | None = None) -> list[Exhibit]:
    """Accuracy against confidence, with the share of examples below, a row of panels per ratio.

    runs: tidy frame of one setting. name: begins that of the files. evidence: 'reliability' of the
    cells; no exhibit where no finished cell kept it. Raises ValueError for several settings.
    """
    setting = single(runs)
    found: Found = {}
    for (ratio, *_), part in runs.groupby(["ratio"], sort=True):
        for curve in chosen.curves(part):
            cells, tables = chosen.kept(curve.of(part), evidence, "reliability")
            if tables:
                place = {"ratio": ratio, "head": curve.head, "dim": curve.dim}
                rows = _rows(np.sum(tables, axis=0), cells)
                found[curve, ratio] = rows.assign(**place, keys=trace.keys_of(cells))
    if not found:
        return []
    shown, left = chosen.drawn(sorted({curve for curve, _ in found}, key=Curve.place))
    every = sorted({ratio for _, ratio in found})
    ratios = chosen.spread(every)
    drawn = {place: rows for place, rows in found.items() if place[0] in shown}
    cells = {(c, r): c.of(runs[runs["ratio"] == r]) for c, r in drawn}
    with matplotlib.rc_context(style.SETTINGS):
        figure = _draw(drawn, ratios, cells)
        chosen.entitle(figure, "Accuracy against confidence", setting)
    title = f"Calibration on {setting.data}: accuracy against confidence"
    counts = [int(drawn[c, r]["n"].iloc[0]) for c, r in drawn if r in ratios]
    caption = ink.join(
        f"{title}, in 15 equal bins of softmax confidence; on the dashed diagonal a head is as "
        "often right as it says.",
        "Below: share of the test examples in each bin.",
        f"Examples of all seeds are pooled; bins of fewer than {SHOWN} are left out of the curves.",
        "ECE: expected calibration error in per cent, mean ± standard deviation over seeds;"
        if max(counts) > 1
        else "ECE: expected calibration error in per cent;",
        f"n = {counts[0]}." if len(set(counts)) == 1 else "n differs, see the csv.",
        chosen.gone([cells[c, r] for c, r in drawn if r in ratios]),
        chosen.left_out(left),
        chosen.some_ratios(every, ratios),
        ink.protocol(setting),
    )
    look = "Look for curves below the diagonal: those heads are surer than they are right."
    long = trace.identified(chosen.stack([*found.values()]), ["head", "dim", "ratio", "spot"])
    return [
        Exhibit(
            name=f"{name}-reliability",
            title=title,
            look=look,
            table=None,
            latex=None,
            csv=trace.csv(long[[*COLUMNS]]),
            figure=figure,
            caption=caption,
            percent=PERCENT,
        )
    ]


def _rows(table: np.ndarray, cells: DataFrame) -> DataFrame:
    """One row per bin that has examples; table: (bins, 3), summed over the seeds."""
    bins = len(table)
    examples, confidence, right = table.T
    ece = cells["ece"].dropna().to_numpy()
    filled = examples > 0
    nth = np.arange(1, bins + 1)
    rows = DataFrame({"bin": nth, "above": (nth - 1) / bins, "up_to": nth / bins})
    rows["spot"] = [f"bin {k}" for k in nth]
    rows["n"] = len(cells)
    rows["examples"] = examples.astype(np.int64)
    rows["share"] = examples / examples.sum()
    rows = rows[filled].assign(
        confidence=confidence[filled] / examples[filled], accuracy=right[filled] / examples[filled]
    )
    return rows.assign(ece_mean=stats.mean(ece), ece_sd=stats.sd(ece))


def _draw(drawn: Found, ratios: list[float], cells: dict[tuple[Curve, float], DataFrame]) -> Figure:
    legend = chosen.legend_size([f"{curve.label}, ECE 00.0 ± 0.0" for curve, _ in drawn])[0]
    figure = Figure(figsize=(3.6 + legend, 0.5 + 4.0 * len(ratios)), layout="constrained")
    axes = figure.subplots(2 * len(ratios), 1, sharex=True, height_ratios=[4, 1] * len(ratios))
    for top, strip, ratio in zip(axes[::2], axes[1::2], ratios, strict=True):
        top.plot([0, 100], [0, 100], color="#555555", linewidth=0.8, linestyle=(0, (4, 3)))
        for (curve, at), rows in drawn.items():
            if at == ratio:
                _curve(top, strip, curve, rows, cells[curve, at])
        top.set_ylim(0, 100)
        top.set_xlim(0, 100)
        top.set_ylabel("Accuracy (%)")
        top.set_title(ink.ratio(ratio), loc="left")
        strip.set_ylim(bottom=0)
        strip.set_ylabel("Examples\n(%)")
        strip.tick_params(labelbottom=True)
        strip.set_xlabel("Confidence (%)")
        top.legend(loc="upper left", bbox_to_anchor=(1.02, 1.02), handlelength=3)
    return figure


def _curve(top: Axes, strip: Axes, curve: Curve, rows: DataFrame, cells: DataFrame) -> None:
    look = style.look(curve.head)
    mean, spread = rows[["ece_mean", "ece_sd"]].iloc[0]
    ece = f"ECE {ink.percent(mean)}"
    if len(cells) > 1 and not np.isnan(spread):
        ece += f" ± {ink.percent(spread)}"
    points = rows[rows["examples"] >= SHOWN]
    top.plot(
        *(100 * points["confidence"], 100 * points["accuracy"]),
        color=look.colour,
        marker=look.marker,
        markersize=4,
        linestyle=look.dashes,
        label=f"{chosen.legend_label(curve, cells)}, {ece}",
    )
    places = (rows["above"] + rows["up_to"]) / 2
    strip.plot(
        *(100 * places, 100 * rows["share"]),
        color=look.colour,
        linestyle=look.dashes,
        linewidth=1,
        drawstyle="steps-mid",
    )
