"""The claims of a paper with their verdicts: one table, and every effect behind it as data."""

import math
import re
from collections.abc import Sequence
from functools import cache

import pandas as pd
from pandas import DataFrame

from reports import ink, latex
from reports.claims import Claim, Part, Setting, read
from reports.evidence import Evidence
from reports.exhibits import Exhibit
from reports.grounds import Cells
from reports.judge import SIDE, Finding, Outcome, judge
from reports.trace import identified

VERDICTS = ("supported", "refuted", "undecided", "untested")

LONG = [
    *("role", "claim", "paper", "where", "test", "judge", "ground", "setting", "part"),
    *("unit", "printed", "above", "below", "effect", "low", "high", "n", "lost"),
    *("p_supported", "p_refuted", "p", "p_holm", "verdict", "after_holm", "reason", "more_seeds"),
    *("heads", "command", "keys"),
]

WIDTHS = {
    **{"claim": 0.135, "where": 0.08, "what the paper says": 0.205, "verdict": 0.12},
    **{"effect [95 %]": 0.195, "scope": 0.155},
}
"""Of the columns of the LaTeX table that break their lines, as shares of the line; ours."""

HEAD = r"""\begingroup
\scriptsize
\setlength{\tabcolsep}{3pt}
\setlength{\LTcapwidth}{\linewidth}
\begin{longtable}{%s}
\caption{%s}
\label{tab:%s} \\
\toprule
%s \\
\midrule
\endhead
"""


def claims(paper: str, runs: DataFrame, evidence: Evidence | None = None) -> list[Exhibit]:
    """The table of a paper's claims, those of all protocols that were run, in its own order.

    paper: as in `reports.printed.FILES`. runs: the whole tidy frame, points on the sphere included.
    evidence: for claims about norms and readings; without it they are untested.
    """
    asked = [each for each in _every() if each.paper == paper]
    if not asked:
        return []
    findings = judge(asked, Cells(runs, evidence))
    return [exhibit(paper, asked, findings)]


@cache
def _every() -> tuple[Claim, ...]:
    return read()


def exhibit(paper: str, asked: Sequence[Claim], findings: Sequence[Finding]) -> Exhibit:
    """The table of claims that were asked, with what was found on each ground."""
    name = f"{paper.replace('_', '-')}-claims"
    title = f"Claims of {paper}"
    long = _long(asked, findings)
    shown = _wide(asked, findings)
    caption = ink.join(f"{title}.", summary(asked, findings), _rules(findings))
    blank = DataFrame("", index=shown.index, columns=shown.columns)
    return Exhibit(
        name=name,
        title=title,
        look="Look at the scope before the verdict: a claim is judged at each protocol by itself, "
        "and only the one that is as in print speaks of the paper's own numbers.",
        table=shown,
        latex=_latex(shown, caption, name),
        csv=str(long.to_csv(index=False, lineterminator="\n")),
        figure=None,
        caption=caption,
        marks=blank,
        block="",
        ids=_ids(asked, findings, long, blank),
    )


def summary(asked: Sequence[Claim], findings: Sequence[Finding]) -> str:
    """How many claims came out how, each by its verdict nearest to print."""
    nearest: dict[str, Finding] = {}
    for each in findings:
        nearest.setdefault(each.claim.id, each)
    told = []
    for where, mine in (
        ("as in print", [each for each in nearest.values() if not each.ground]),
        ("at other protocols only", [each for each in nearest.values() if each.ground]),
    ):
        verdicts = [each.verdict for each in mine]
        counts = [f"{verdicts.count(word)} {word}" for word in VERDICTS if word in verdicts]
        told += [f"{where} {', '.join(counts)}"] if counts else []
    untested = len(asked) - len(nearest)
    told += [f"{untested} untested"] if untested else []
    return f"Of {len(asked)} claims: {'; '.join(told)}."


def scope(finding: Finding) -> str:
    """Under which protocol a verdict was found: 'at 30 of 200 epochs; n = 3'."""
    counts = sorted({each.n for each in finding.outcomes if each.n})
    points = all(each.exact for each in finding.outcomes if each.n)
    n = f"n = {'–'.join(map(str, dict.fromkeys([counts[0], counts[-1]])))}" if counts else "n = 0"
    words = [f"at {', '.join(finding.ground)}" if finding.ground else "as in print"]
    words += [f"by {', '.join(finding.variant)}"] if finding.variant else []
    return "; ".join([*words, "one set of points" if points else n])


def _wide(asked: Sequence[Claim], findings: Sequence[Finding]) -> DataFrame:
    rows = []
    for claim in asked:
        mine = [each for each in findings if each.claim is claim]
        text = f"{claim.text} ({claim.note})" if claim.note else claim.text
        for finding in mine:
            verdict = f"{finding.verdict}: {finding.reason}".removesuffix(": ")
            if finding.after != finding.verdict:
                verdict += f" ({finding.after} after Holm)"
            effects = [_effect(each, claim.unit) for each in _shown(finding)]
            rows.append([claim.id, claim.where, text, verdict, "; ".join(effects), scope(finding)])
        if not mine:
            made = [f"python -m benchmark {each}" for each in (claim.command, claim.small) if each]
            told = [_promised(setting, claim.unit) for setting in claim.settings]
            effect = "; ".join(filter(None, told))
            made = [made[0], *(f"shortened: {each}" for each in made[1:])]
            rows.append([claim.id, claim.where, text, "untested", effect, "; ".join(made)])
    return DataFrame(rows, columns=[*WIDTHS], dtype=object)


def _ids(
    asked: Sequence[Claim], findings: Sequence[Finding], long: DataFrame, blank: DataFrame
) -> DataFrame:
    """Which row of the data an effect is, where a row of the table shows one alone."""
    verdicts = long[long["role"] == "claim"]
    names = {
        (row.claim, row.ground): row.id for row in verdicts.itertuples(index=False, name="Row")
    }
    column = []
    for claim in asked:
        mine = [each for each in findings if each.claim is claim]
        for finding in mine:
            (first, *more) = _shown(finding)
            alone = not (more or first.setting or first.part.label)
            column.append(names[claim.id, ", ".join(finding.ground)] if alone else "")
        column += [] if mine else [""]
    return blank.assign(**{"effect [95 %]": column})


def _shown(finding: Finding) -> list[Outcome]:
    """The effects that a row shows: of a mean also the mean."""
    whole = [finding.whole] if finding.whole is not None and finding.whole.n else []
    return [*whole, *finding.outcomes]


def _promised(setting: Setting, unit: str) -> str:
    """What print has for a setting that nobody ran: 'd = 10: print +6.11'."""
    told = []
    for part in setting.parts:
        label = ", ".join(filter(None, [setting.label, part.label]))
        value = _printed(part, unit)
        told += [f"{label}: {value}" if label else value] if value else []
    return "; ".join(told)


def _effect(each: Outcome, unit: str) -> str:
    """'d = 10: +4.78 [+2.05, +7.51] (print +6.11)'."""
    label = ", ".join(filter(None, [each.setting, each.part.label]))
    text = "not run"
    if each.n:
        text = _signed(each.mean, unit)
        if not each.exact and not math.isnan(each.low):
            text += f" [{_signed(each.low, unit)}, {_signed(each.high, unit)}]"
    if each.lost:
        text += f" {ink.LOST}"
    text = f"{label}: {text}" if label else text
    told = _printed(each.part, unit)
    return f"{text} ({told})" if told else text


def _printed(part: Part, unit: str) -> str:
    return "" if math.isnan(part.printed) else f"print {_signed(part.printed, unit)}"


def _signed(value: float, unit: str) -> str:
    return f"{round(value, 2 if unit else 4) + 0.0:+.{2 if unit else 4}f}".replace("-", "−")


def _long(asked: Sequence[Claim], findings: Sequence[Finding]) -> DataFrame:
    """One row for each verdict, and one for each effect behind it; an untested claim has one."""
    rows = []
    for claim in asked:
        usual = {"claim": claim.id, "paper": claim.paper, "where": claim.where}
        usual |= {"test": claim.test, "judge": claim.judge, "unit": claim.unit}
        usual |= {"command": f"python -m benchmark {claim.command}", "ground": "", "heads": ""}
        mine = [each for each in findings if each.claim is claim]
        if not mine:
            rows.append(usual | {"role": "claim", "verdict": "untested", "n": 0, "keys": ""})
        for finding in mine:
            usual |= {"ground": ", ".join(finding.ground), "heads": ", ".join(finding.variant)}
            shown = _shown(finding)
            keys = sorted({key for each in shown for key in each.keys})
            told = {"role": "claim", "verdict": finding.verdict, "reason": finding.reason}
            told |= {"after_holm": finding.after, "p": finding.p, "p_holm": finding.holm}
            told |= {"p_supported": finding.support, "p_refuted": finding.refute}
            told |= {"more_seeds": finding.seeds, "keys": " ".join(keys)}
            told |= {"lost": any(each.lost for each in finding.outcomes)}
            alone = shown[0] if len(shown) == 1 or finding.whole is not None else None
            rows.append(usual | (_numbers(alone) if alone is not None else {}) | told)
            for each in shown if len(shown) > 1 else ():
                rows.append(usual | {"role": "effect"} | _numbers(each))
    long = DataFrame(rows, columns=LONG)
    for name in ("printed", "above", "below", "effect", "low", "high"):
        long[name] = long[name].astype("float64").round(9)
    for name in ("p_supported", "p_refuted", "p", "p_holm"):
        long[name] = [float(f"{p:.6g}") for p in long[name].astype("float64")]
    for name in ("n", "more_seeds"):
        long[name] = long[name].astype("Int64")
    long["lost"] = [bool(each) and not pd.isna(each) for each in long["lost"]]
    brief = [re.sub(r"network (\S+).* for .*", r"\1", each) for each in long["ground"]]
    named = long.assign(brief=[each.replace("largest class ", "") for each in brief])
    return identified(named, ["claim", "brief", "setting", "part"]).drop(columns="brief")


def _numbers(each: Outcome) -> dict[str, object]:
    """What the data say of one effect: between `above` and `below` the claim has it."""
    return {
        **{"setting": each.setting, "part": each.part.label, "printed": each.part.printed},
        **{"above": _finite(each.part.low), "below": _finite(each.part.high)},
        **{"effect": each.mean, "low": each.low, "high": each.high, "n": each.n},
        **{"p_supported": each.support, "p_refuted": each.refute, "lost": each.lost},
        **{"keys": " ".join(each.keys)},
    }


def _finite(bound: float) -> float:
    return math.nan if math.isinf(bound) else bound


def _rules(findings: Sequence[Finding]) -> str:
    return ink.join(
        "An effect is paired by seed, in points or in its own unit, with the 95 % t interval; "
        "supported where the claim's side of its margin holds the whole interval, refuted where "
        f"the other side does ({100 * SIDE:g} % error on each side); of several settings "
        "all must hold, unless their mean is shown first or the claim is of most.",
        "After Holm: the verdict with that error over all claims of the paper together.",
        "More seeds: for an 80 % chance of a verdict, should effect and spread be what they seem.",
        "As in print: its network, epochs and images; ours is the last epoch, one subset for all.",
        f"{ink.LOST} a seed diverged or failed, which takes the verdict away."
        if any(each.lost for finding in findings for each in finding.outcomes)
        else "",
    )


def _latex(table: DataFrame, caption: str, label: str) -> str:
    r"""The table over as many pages as it needs: wants booktabs and longtable in the preamble."""
    align = "".join(rf"p{{{width}\linewidth}}" for width in WIDTHS.values())
    heading = " & ".join(map(latex.escape, table.columns))
    lines = [
        " & ".join(
            [
                *(rf"\raggedright {latex.escape(str(text))}" for text in row[:-1]),
                latex.escape(str(row[-1])),
            ]
        )
        + r" \\"
        for row in table.itertuples(index=False, name=None)
    ]
    # names with underscores are long, and TeX breaks no line there by itself
    lines = [line.replace(r"\_", r"\_\allowbreak{}") for line in lines]
    head = HEAD % (align, latex.escape(caption), label, heading)
    return head + "\n".join(lines) + "\n\\bottomrule\n\\end{longtable}\n\\endgroup\n"
