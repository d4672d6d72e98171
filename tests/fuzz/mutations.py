"""Strategies that take something that is right and make it wrong."""

import copy
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

BYTES = st.binary(max_size=12)


@st.composite
def damaged(draw: st.DrawFn, seeds: Sequence[bytes]) -> bytes:
    """One of some whole files, cut, bent or with something in between."""
    content = bytearray(draw(st.sampled_from(list(seeds))))
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(len(content) - 1, 0)))
        how = draw(st.sampled_from(["cut", "byte", "insert", "remove", "repeat", "ends", "zero"]))
        if how == "cut":
            del content[place:]
        elif how == "byte" and content:
            content[place] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFF]) | st.integers(0, 255))
        elif how == "insert":
            content[place:place] = draw(BYTES)
        elif how == "remove":
            del content[place : place + draw(st.integers(1, 40))]
        elif how == "repeat":
            content[place:place] = content[place : place + 40] * draw(st.integers(1, 20))
        elif how == "ends":
            content += draw(BYTES)
        elif how == "zero":
            length = draw(st.integers(1, 16))
            content[place : place + length] = bytes(length)
    return bytes(content)


@st.composite
def bent(draw: st.DrawFn, seeds: Sequence[str], tokens: Sequence[str]) -> str:
    """One of some texts, with lines and tokens moved, dropped, doubled and put in."""
    text = draw(st.sampled_from(list(seeds)))
    for _ in range(draw(st.integers(1, 5))):
        how = draw(st.sampled_from(["token", "token", "drop", "double", "swap", "cut", "text"]))
        lines = text.split("\n")
        line = draw(st.integers(0, len(lines) - 1))
        place = draw(st.integers(0, len(text)))
        if how == "token":
            text = text[:place] + draw(st.sampled_from(list(tokens))) + text[place:]
        elif how == "text":
            text = text[:place] + draw(st.text(max_size=6)) + text[place:]
        elif how == "cut":
            text = text[:place]
        else:
            if how == "drop":
                del lines[line]
            elif how == "double":
                lines.insert(line, lines[line])
            else:
                other = draw(st.integers(0, len(lines) - 1))
                lines[line], lines[other] = lines[other], lines[line]
            text = "\n".join(lines)
    return text


def paths(value: Any, here: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Addresses of all parts of a nested value."""
    found = [here]
    if isinstance(value, dict):
        found += [path for key in value for path in paths(value[key], (*here, key))]
    elif isinstance(value, list):
        found += [path for k in range(len(value)) for path in paths(value[k], (*here, k))]
    return found


@st.composite
def reshaped(draw: st.DrawFn, value: Any, others: st.SearchStrategy[Any]) -> Any:
    """A nested value with some parts replaced, dropped, doubled, wrapped, or put elsewhere."""
    root = [copy.deepcopy(value)]
    for _ in range(draw(st.integers(1, 3))):
        addresses = paths(root)[1:]
        if not addresses:
            break
        *above, last = draw(st.sampled_from(addresses))
        parent: Any = root
        for key in above:
            parent = parent[key]
        how = draw(st.sampled_from(["replace", "replace", "drop", "wrap", "move", "rename"]))
        if how == "replace":
            parent[last] = draw(others)
        elif how == "drop" and len(above) > 0:
            del parent[last]
        elif how == "wrap":
            parent[last] = [parent[last], draw(others)]
        elif how == "move":
            source: Any = root
            for key in draw(st.sampled_from(addresses)):
                source = source[key] if _has(source, key) else source
            parent[last] = copy.deepcopy(source)
        elif how == "rename" and isinstance(parent, dict):
            name = draw(st.text(max_size=3) | st.sampled_from(list(parent)))
            parent[name] = parent.pop(last)
    return root[0] if root else None


def _has(value: Any, key: Any) -> bool:
    if isinstance(value, list):
        return isinstance(key, int) and key < len(value)
    return isinstance(value, dict) and key in value
