"""A YAML document from a stranger: plain values, or what is wrong with it.

Beside what `yaml.safe_load` refuses, which is everything that could run code:

    a key that stands twice in a mapping: YAML forbids it, PyYAML takes the last; what comes through
    a merge key `<<` may be overridden as ever
    what contains itself, nests too deep or grows too large when its aliases are written out: ten
    lines of aliases of aliases are a billion values
    numbers and words that nothing here can hold: beyond 64 bits; with control characters
"""

import unicodedata
from typing import Any

import yaml
from yaml.constructor import ConstructorError
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

LONGEST = 100_000  # characters; ours: the longest suite that comes with the benchmark has 3,700
MOST = 30_000  # values, aliases written out; ours: 300 in the largest of these suites
DEEPEST = 24  # ours: a list of a hyper-parameter in a pipe is the eighth level
DIGITS = 400  # characters of a number; ours: PyYAML takes quadratic time for those in base 60


def load(text: str) -> Any:
    """The one document of a text.

    Raises yaml.YAMLError, or what else PyYAML's constructors raise; `problem` and `line` tell what
    is wrong, and where.
    """
    if len(text) > LONGEST:
        raise yaml.YAMLError(f"it has {len(text):,} characters, and at most {LONGEST:,} are read")
    loader = _Loader(text)
    try:
        return loader.get_single_data()
    finally:
        loader.dispose()


def problem(error: Exception) -> str:
    """What is wrong, on one line that is not too long."""
    return " ".join(str(getattr(error, "problem", None) or error).split())[:300]


def line(error: Exception) -> str:
    """', line 3' where that is known, else nothing."""
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}" if mark else ""


class _Loader(yaml.SafeLoader):
    def __init__(self, text: str):
        super().__init__(text)
        self.depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        self.depth += 1
        if self.depth > DEEPEST:
            raise _refused(f"values are nested more than {DEEPEST} levels deep", self.get_mark())
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def get_single_node(self) -> Node | None:
        node = super().get_single_node()
        if node is not None:  # before anything is constructed, or merged
            _written_out(node, {})
        return node

    def whole(self, node: ScalarNode) -> int:
        _short(node)
        value = self.construct_yaml_int(node)
        if not -(2**63) <= value < 2**63:
            raise _refused("a whole number has more than 64 bits", node.start_mark)
        return value

    def number(self, node: ScalarNode) -> float:
        _short(node)
        return self.construct_yaml_float(node)

    def word(self, node: ScalarNode) -> str:
        value = self.construct_yaml_str(node)
        odd = [c for c in value if unicodedata.category(c) in ("Cc", "Cs") and c not in "\n\t"]
        if odd:
            raise _refused(f"a word holds the control character {odd[0]!r}", node.start_mark)
        return value


for _kind, _build in (("int", _Loader.whole), ("float", _Loader.number), ("str", _Loader.word)):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_kind}", _build)


def _written_out(node: Node, sizes: dict[int, int]) -> int:
    """Values that a node stands for, counted once for every alias that names it.

    sizes  of the nodes that were counted, by identity; 0 for one that is being counted
    """
    if isinstance(node, ScalarNode):
        return 1
    if id(node) in sizes:
        if not sizes[id(node)]:
            raise _refused("a list or mapping contains itself; write it out", node.start_mark)
        return sizes[id(node)]
    sizes[id(node)] = 0
    parts: list[Node] = []
    if isinstance(node, MappingNode):
        _unique(node)
        parts = [part for pair in node.value for part in pair]
    elif isinstance(node, SequenceNode):
        parts = node.value
    total = 1 + sum(_written_out(part, sizes) for part in parts)
    if total > MOST:
        raise _refused(
            f"it stands for more than {MOST:,} values when its aliases are written out",
            node.start_mark,
        )
    sizes[id(node)] = total
    return total


def _unique(node: MappingNode) -> None:
    seen: dict[tuple[str, str], int] = {}
    for key, _ in node.value:
        if isinstance(key, ScalarNode):
            name = (key.tag, key.value)
            if name in seen:
                raise _refused(
                    f"the key {key.value[:50]!r} stands twice in one mapping, first in line "
                    f"{seen[name]}",
                    key.start_mark,
                )
            seen[name] = key.start_mark.line + 1


def _short(node: ScalarNode) -> None:
    if len(node.value) > DIGITS:
        raise _refused(f"a number has more than {DIGITS} characters", node.start_mark)


def _refused(what: str, mark: Any) -> ConstructorError:
    return ConstructorError(None, None, what, mark)
