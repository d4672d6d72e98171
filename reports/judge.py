"""Verdicts on claims: supported, refuted, undecided, untested. Pure functions of samples by seed.

    d_s   the effect at seed s: a weighted sum of terms at one seed, so that subset, first network
          and batches are the same on both sides
    t     (d̄ − bound) / (s / √n), n − 1 degrees of freedom                    (Student 1908)

An effect has to lie in an open region, above a margin or within ± a margin. Its 95 % interval
decides: supported if it lies in the region, refuted if it lies outside, else undecided. That is one
t test of 2.5 % against each bound; within ± a margin, the two one-sided tests (Schuirmann 1987).
Wrong support and wrong refutation have a chance of at most 2.5 % each.

Of the k settings of a claim m must hold: all (`every`) or more than half (`most`). "At least m of
k" is supported by p = (k − m + 1) p₍ₘ₎, and refuted, as "at least k − m + 1 do not hold", in that
way (Benjamini and Heller 2008, from Bonferroni); for all of k this is the largest p, the
intersection-union test (Berger 1982). The parts of one setting all have to hold. `mean` averages
the settings at each seed first.

Over all claims of a paper, 2 min(p of support, p of refutation) is adjusted by Holm (1979) at 5 %.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from scipy import stats as distributions
from statsmodels.stats.multitest import multipletests

from reports import stats
from reports.claims import Claim, Part
from reports.grounds import Cells, Ground, Sample
from reports.power import POWER, paired_seeds

SIDE = (1 - stats.LEVEL) / 2
"""Error of one side; 2.5 %, what a 95 % interval leaves on each."""

MOST = 1000
"""Seeds beyond which a claim counts as not to be decided by seeds; ours."""

NEVER = math.inf


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the cells say of one effect; in the unit of print.

    n         seeds that have all its terms
    support   p of the test that it lies in its region; 1 where there is none, NaN where not run
    refute    p of the test that it lies outside; likewise
    toward    1: the mean lies in the region, −1: outside, 0: nothing is known
    seeds     more seeds of which about 80 % chance of a decision is expected; 0: decided; inf
    lost      a seed diverged or failed
    """

    setting: str
    part: Part
    n: int
    mean: float
    low: float
    high: float
    support: float
    refute: float
    toward: int
    seeds: float
    lost: bool
    exact: bool
    keys: tuple[str, ...]
    effects: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """The verdict on a claim on one ground.

    whole     of `mean`: the effect averaged over settings; else None
    verdict   supported, refuted, undecided
    reason    why undecided; else ''
    seeds     more seeds that would decide, None where none or nobody knows
    support   p of the tests that it holds, together
    refute    p of the tests that it does not
    p         two-sided, of the claim as a whole; NaN where there is no chance in it or no test
    holm      p adjusted over all claims of the paper
    after     the verdict at the adjusted p
    variant       heads that are not the nearest to print
    """

    claim: Claim
    ground: Ground
    outcomes: tuple[Outcome, ...]
    whole: Outcome | None
    verdict: str
    reason: str
    seeds: int | None
    support: float
    refute: float
    p: float
    variant: tuple[str, ...]
    holm: float = math.nan
    after: str = ""


def judge(claims: Sequence[Claim], cells: Cells) -> list[Finding]:
    """Every claim on every ground where some of its effects have cells, nearest to print first."""
    found = []
    for claim in claims:
        terms = {t for setting in claim.settings for part in setting.parts for t in part.terms}
        samples = {term: cells.samples(term) for term in terms}
        grounds = {ground for each in samples.values() for ground in each}
        for ground in sorted(grounds, key=lambda words: (len(words), words)):
            here = {term: each.get(ground) for term, each in samples.items()}
            finding = _finding(claim, ground, here)
            if any(each.n or each.lost for each in finding.outcomes):
                found.append(finding)
    return _adjusted(found)


def tried(part: Part, samples: Sequence[Sample | None], setting: str = "") -> Outcome:
    """One effect on the samples of its terms, None for a term without cells."""
    known = [each for each in samples if each is not None]
    if len(known) < len(samples):
        return _nothing(part, setting)
    seeds = set.intersection(*(set(each.values) for each in known))
    effects = tuple(
        (
            seed,
            sum(w * s.values[seed] for w, s in zip(part.weights, known, strict=True))
            + part.constant,
        )
        for seed in sorted(seeds)
    )
    used = {seed for each in known for seed in each.lost} | seeds
    keys = {each.cells[seed] for each in known for seed in used if seed in each.cells}
    lost, exact = any(each.lost for each in known), all(each.exact for each in known)
    return outcome(part, effects, setting, lost=lost, exact=exact, keys=tuple(sorted(keys)))


def outcome(
    part: Part,
    effects: Sequence[tuple[str, float]],
    setting: str = "",
    *,
    lost: bool = False,
    exact: bool = False,
    keys: tuple[str, ...] = (),
) -> Outcome:
    """The tests on an effect by seed.

    lost: a seed is missing, so that there is no verdict. exact: nothing was trained, so that one
    set of points is a verdict.
    """
    values = [value for _, value in effects]
    n, mean, sd = len(values), stats.mean(values), stats.sd(values)
    low, high = stats.interval(values)
    blank = replace(_nothing(part, setting), lost=lost, exact=exact, keys=keys)
    if lost:
        blank = replace(blank, support=1.0, refute=1.0)
    if n == 0:
        return blank
    inside = part.low < mean < part.high
    blank = replace(blank, n=n, mean=mean, toward=1 if inside else -1, effects=tuple(effects))
    if exact and not (n > 1 and sd > 0):
        sure = {"support": float(not inside), "refute": float(inside)}
        return replace(blank, low=mean, high=mean, seeds=0.0, **sure)
    blank = replace(blank, exact=False, support=1.0, refute=1.0)
    if n == 1 or sd == 0:
        return blank
    blank = replace(blank, low=low, high=high)
    if lost:
        return blank
    error = sd / math.sqrt(n)
    above = float(distributions.t.sf((mean - part.low) / error, n - 1))
    below = float(distributions.t.cdf((mean - part.high) / error, n - 1))
    refute = min(1 - above, 1 - below)
    seeds = 0.0 if min(max(above, below), refute) < SIDE else _more(part, mean, sd, n)
    return replace(blank, support=max(above, below), refute=refute, seeds=seeds)


def combined(support: Sequence[float], refute: Sequence[float], least: int) -> tuple[float, float]:
    """Of "at least so many hold" the p, and the p of its contrary.

    support, refute: p of each, (k,); NaN for one that was not run, which is not among the tests.
    """
    against = len(support) - least + 1
    return _at_least(least, support), _at_least(against, refute)


def _at_least(least: int, p: Sequence[float]) -> float:
    """Of p each, NaN where nothing was run, the p of "at least so many of them"."""
    known = sorted(each for each in p if not math.isnan(each))
    if not known:
        return math.nan
    return min(1.0, (len(known) - least + 1) * known[least - 1]) if len(known) >= least else 1.0


def deciding(items: Sequence[tuple[int, float]], least: int) -> tuple[int, float]:
    """Which way a claim of which `least` must hold would go, and after how many more seeds.

    items: `toward` and `seeds` of each.
    """
    holding = sorted(seeds for toward, seeds in items if toward > 0)
    failing = sorted(seeds for toward, seeds in items if toward < 0)
    if len(holding) >= least:
        return 1, holding[least - 1]
    if len(failing) > len(items) - least:
        return -1, failing[len(items) - least]
    return 0, NEVER


def _finding(claim: Claim, ground: Ground, samples: dict) -> Finding:
    outcomes: list[Outcome] = []
    tests: list[tuple[float, float]] = []
    ways: list[tuple[int, float]] = []
    for setting in claim.settings:
        mine = [
            tried(part, [samples[term] for term in part.terms], setting.label)
            for part in setting.parts
        ]
        outcomes += mine
        p = combined([each.support for each in mine], [each.refute for each in mine], len(mine))
        tests.append(p)
        ways.append(deciding([(each.toward, each.seeds) for each in mine], len(mine)))
    whole = _mean(claim, outcomes) if claim.judge == "mean" else None
    if whole is not None:
        tests, ways = [(whole.support, whole.refute)], [(whole.toward, whole.seeds)]
    least = len(tests) // 2 + 1 if claim.judge == "most" else len(tests)
    support, refute = combined([p for p, _ in tests], [p for _, p in tests], least)
    verdict = "supported" if support < SIDE else "refuted" if refute < SIDE else "undecided"
    _, seeds = deciding(ways, least)
    open_ = verdict == "undecided"
    chance = not all(each.exact for each in outcomes if each.n) and min(support, refute) < 1
    kept = {each.variant for each in samples.values() if each is not None and each.variant}
    return Finding(
        claim,
        ground,
        tuple(outcomes),
        whole,
        verdict,
        _reason(outcomes, seeds) if open_ else "",
        int(seeds) if open_ and 0 < seeds < NEVER else None,
        support,
        refute,
        min(1.0, 2 * min(support, refute)) if chance else math.nan,
        tuple(sorted(kept)),
    )


def _mean(claim: Claim, outcomes: Sequence[Outcome]) -> Outcome:
    """The effects of all settings averaged at each seed that they share."""
    parts = [each.part for each in outcomes]
    effects = [dict(each.effects) for each in outcomes]
    shared = sorted(set.intersection(*(set(each) for each in effects)))
    part = replace(
        parts[0],
        label="mean",
        low=stats.mean([each.low for each in parts]),
        high=stats.mean([each.high for each in parts]),
        printed=stats.mean([each.printed for each in parts]),
    )
    averaged = [(seed, stats.mean([each[seed] for each in effects])) for seed in shared]
    return outcome(
        part,
        averaged,
        lost=any(each.lost for each in outcomes),
        exact=all(each.exact for each in outcomes),
        keys=tuple(sorted({key for each in outcomes for key in each.keys})),
    )


def _reason(outcomes: Sequence[Outcome], seeds: float) -> str:
    """Why a claim is undecided, the first that holds of what stands in its way."""
    if any(each.lost for each in outcomes):
        return "a seed was lost"
    missing = [_named(each) for each in outcomes if each.n == 0]
    if missing and len(missing) < len(outcomes) and seeds == NEVER:
        return f"not run: {', '.join(missing)}"
    if any(each.n == 1 and not each.exact for each in outcomes):
        return "n = 1"
    if 0 < seeds < NEVER:
        return f"about {seeds:.0f} more {'seed' if seeds == 1 else 'seeds'}"
    if any(each.n > 1 and len({value for _, value in each.effects}) == 1 for each in outcomes):
        return "every seed the same: no spread to judge by"
    if seeds == NEVER:
        return f"more than {MOST} seeds"
    return "clear in one test, not in all together"


def _named(each: Outcome) -> str:
    return ", ".join(filter(None, [each.setting, each.part.label]))


def _more(part: Part, mean: float, sd: float, n: int) -> float:
    """More seeds until the interval is likely to be clear of the nearest bound."""
    distance = min(abs(mean - part.low), abs(mean - part.high))
    if distance / sd < 0.0887:  # more than MOST at 80 %
        return NEVER
    # between two bounds both tests must reject: each gets half of the error
    power = 1 - (1 - POWER) / 2 if part.low < mean < part.high < math.inf else POWER
    return float(max(paired_seeds(sd, distance, power, 2 * SIDE) - n, 1))


def _nothing(part: Part, setting: str) -> Outcome:
    nan = math.nan
    return Outcome(setting, part, 0, nan, nan, nan, nan, nan, 0, NEVER, False, False, (), ())


def _adjusted(found: list[Finding]) -> list[Finding]:
    """The findings with Holm's adjustment over those of each paper in which there is chance."""
    made = []
    papers = dict.fromkeys(each.claim.paper for each in found)
    known: dict[int, float] = {}
    for paper in papers:
        spots = [
            nth
            for nth, each in enumerate(found)
            if each.claim.paper == paper and not math.isnan(each.p)
        ]
        if spots:
            raw = [found[nth].p for nth in spots]
            known |= dict(zip(spots, multipletests(raw, method="holm")[1], strict=True))
    for nth, each in enumerate(found):
        p = float(known.get(nth, math.nan))
        open_ = not math.isnan(p) and p >= 2 * SIDE
        made.append(replace(each, holm=p, after="undecided" if open_ else each.verdict))
    return made
