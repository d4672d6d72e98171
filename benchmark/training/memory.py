"""Memory that a step gives back stays with the process, for the next step asks for it again.

glibc hands large blocks back to the system at once and takes them anew, each time as pages of
zeros: of a step of ResNet-32 on a CPU that was a sixth. What is kept does not show in results.
"""

import ctypes
from functools import cache
from typing import Any

TRIM, MAP = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD: malloc.h
KEPT = 2**31 - 1  # bytes at most that lie unused, the largest number it takes; ours
LARGE = 2**28  # bytes from which a block is the system's all the same: whole data sets; ours
USUAL = 2**25  # bytes to which glibc by itself raises the latter; mallopt(3), on 64 bits


def keep() -> bool:
    """From here on, in this process; whether the C library knows how."""
    return _set(LARGE, KEPT)


def usual() -> bool:
    """As in a process that has said nothing about it, once it has worked with large blocks."""
    return _set(USUAL, 2 * USUAL)


def _set(large: int, kept: int) -> bool:
    tune = _tune()
    return tune is not None and bool(tune(MAP, large)) and bool(tune(TRIM, kept))


@cache
def _tune() -> Any:
    try:
        return ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc: it has its own way
        return None
