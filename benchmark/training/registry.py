"""The table of heads for a run: those of the tree, and those in files that a user names."""

import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmark.planning.plan import Registry
from heads import HEADS
from heads.base import Head


def registry(files: Sequence[Path] = ()) -> Registry:
    """All heads, with the digest of each one's source file.

    files  Python files outside the tree, each defining one head; it is named as its file

    Raises ValueError: the file is missing, does not import, defines no or several heads, or bears
    the name of a head of the tree.
    """
    heads = dict(HEADS)
    digests = {name: _digest(Path(inspect.getfile(head))) for name, head in HEADS.items()}
    outside = {}
    for file in files:
        name, head = outsider(file)
        if name in HEADS:
            raise ValueError(
                f"{file} is named as the head {name!r} of the tree. Rename the file; "
                "a head is named as its file."
            )
        heads[name] = head
        digests[name] = outside[name] = _digest(file)
    return Registry(heads, digests, outside)


def outsider(file: Path) -> tuple[str, type[Head]]:
    """The one head that a file defines, with its name, the file's stem.

    Raises ValueError in one sentence where there is none.
    """
    name = file.stem
    if not file.is_file() or file.suffix != ".py" or not name.isidentifier():
        raise ValueError(f"no head in {str(file)!r}. Give the path of a Python file, my_head.py.")
    spec = importlib.util.spec_from_file_location(f"outside_heads.{name}", file)
    if spec is None or spec.loader is None:
        raise ValueError(f"{file} is not a Python module. Give the path of a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # whatever a stranger's file raises is the answer to show
        raise ValueError(
            f"{file} does not import ({type(error).__name__}: {error}). Mend it, "
            f"then try `python -m benchmark check {file}`."
        ) from error
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Head)
        and value.__module__ == spec.name
        and not inspect.isabstract(value)
    ]
    if len(found) != 1:
        raise ValueError(
            f"{file} defines {len(found)} complete heads. Define one subclass of heads.base.Head "
            "with score and loss."
        )
    return name, found[0]


def _digest(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()
