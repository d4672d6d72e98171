"""Checks at the border: an error says what is wrong, what was given, and what to do."""

from collections.abc import Sequence
from difflib import get_close_matches


def one_of(name: str, value: object, choices: Sequence[str]) -> None:
    """Raise ValueError unless the value is one of the choices; a near miss is suggested."""
    if value in choices:
        return
    near = get_close_matches(str(value), choices, n=1)
    hint = f"Did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"unknown {name} {value!r}. {hint}Choose one of: {', '.join(choices)}.")
