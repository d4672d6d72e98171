"""Heads as text, taken apart: which options a cell's head states, and whether it is what we ask.

A head is 'dl2pa assignment=fixed reduction=sum', or a pipe of such: 'psc >> dro_lt > crt'. A
pattern is the same with stars: 'scale=*' allows any scale, '*' any option that the pattern does not
name, in its own stage.
"""

import re
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
    "focal": "projection=needed gamma=2",
    "ldam": "projection=needed largest=0.5 scale=30 deferred=False",
    "logit_adjustment": "form=loss tau=1 projection=needed",
    "balanced_softmax": "projection=needed",
    "ncm": "transform=none",
    "max_norm": "beta=0.9999 threshold=0.1",
    "disalign": "rho=1.2",
    "tau_norm": "tau=1 bias=False",
    "prototypes": "distance=euclidean scale=0.5 temperatures=True form=released adjust=0.25 "
    "prototype_lr=4 temperature_lr=0.005 temperature_decay=0.0002",
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
    """A head, or each stage of a pipe, without the options that are at their default."""
    parts = _parts(head)
    for nth in range(0, len(parts), 2):
        words = [f"{key}={value}" for key, value in options(parts[nth]).items()]
        parts[nth] = " ".join([parts[nth].split(" ")[0], *words])
    return "".join(parts)


def fits(head: str, pattern: str) -> bool:
    """Whether a head is what a pattern names: the same stages and options, defaults included."""
    own, wanted = _parts(head), _parts(pattern)
    if len(own) != len(wanted) or own[1::2] != wanted[1::2]:
        return False
    return all(_fits(*pair) for pair in zip(own[::2], wanted[::2], strict=True))


def recipes(head: str) -> tuple[str, dict[str, str]]:
    """A pipe without the recipes that it states, and those by the name of their stage.

    'psc > crt recipe=crt,epochs=3' -> 'psc > crt' and {'crt': 'crt epochs=3'}.
    """
    found = {}
    parts = _parts(head)
    for nth in range(0, len(parts), 2):
        name, stage = stated(parts[nth])
        if "recipe" in stage:
            found[name] = stage.pop("recipe").replace(",", " ")
        parts[nth] = " ".join([name, *(f"{key}={value}" for key, value in stage.items())])
    return "".join(parts), found


def that(heads: Series, test: Callable[[str], bool]) -> Series:
    """Which of the heads pass a test, as a mask on their index; also for none at all."""
    return Series([test(head) for head in heads], index=heads.index, dtype=bool)


def _usual(name: str) -> dict[str, str]:
    return stated(f"{name} {DEFAULTS.get(name, '')}")[1]


def _parts(head: str) -> list[str]:
    """Stages, and between them the arrows."""
    return re.split(r"( >> | > )", head)


def _fits(head: str, pattern: str) -> bool:
    (name, found), (wanted_name, wanted) = stated(head), stated(pattern)
    if name != wanted_name:
        return False
    usual = _usual(name)
    for key in {*found, *wanted} - {"*"}:
        demand = wanted.get(key, "*" if "*" in wanted else usual.get(key))
        if demand not in ("*", found.get(key, usual.get(key))):
            return False
    return True
