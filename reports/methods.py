"""Heads as text, taken apart: which options a cell's head states, and whether it is what we ask.

A head is 'dl2pa assignment=fixed reduction=sum'. A pattern is the same with stars: 'scale=*' allows
any scale, '*' any option that the pattern does not name.
"""

from collections.abc import Callable

from pandas import Series

DEFAULTS = {
    "psc": "projection=needed cosine=False scale=30 uniformity=0",
    "etf": "projection=needed reduction=half_mean class_weights=True batch_norm=True",
    "hpn": "projection=needed placement=separation reduction=sum",
    "one_hot": "projection=needed reduction=sum",
    "fixed": "projection=needed points=energy batch_norm=False",
    "word2vec": "projection=needed reduction=sum",
    "dl2pa": "projection=needed prototypes=spread means=batch momentum=0.95 updates_per_epoch=1 "
    "start=random assignment=dynamic reduction=half_mean class_weights=True batch_norm=True",
}
"""Options at their default, which a head's text may state or leave out."""


def stated(head: str) -> tuple[str, dict[str, str]]:
    """'dl2pa reduction=sum' -> its name and the options in its text."""
    name, *words = head.split()
    return name, {key: value for key, _, value in (word.partition("=") for word in words)}


def options(head: str) -> dict[str, str]:
    """The options that are not at their default, in alphabetical order."""
    name, found = stated(head)
    usual = _usual(name)
    return {key: value for key, value in sorted(found.items()) if usual.get(key) != value}


def canonical(head: str) -> str:
    """A head of one stage without the options that are at their default; a pipe as it stands."""
    if ">" in head:
        return head
    words = [f"{key}={value}" for key, value in options(head).items()]
    return " ".join([head.split(" ")[0], *words])


def fits(head: str, pattern: str) -> bool:
    """Whether a head of one stage is what a pattern names: the same options, defaults included."""
    (name, found), (wanted_name, wanted) = stated(head), stated(pattern)
    if name != wanted_name or ">" in head:
        return False
    usual = _usual(name)
    for key in {*found, *wanted} - {"*"}:
        demand = wanted.get(key, "*" if "*" in wanted else usual.get(key))
        if demand not in ("*", found.get(key, usual.get(key))):
            return False
    return True


def that(heads: Series, test: Callable[[str], bool]) -> Series:
    """Which of the heads pass a test, as a mask on their index; also for none at all."""
    return Series([test(head) for head in heads], index=heads.index, dtype=bool)


def _usual(name: str) -> dict[str, str]:
    return stated(f"{name} {DEFAULTS.get(name, '')}")[1]
