"""Adapters from outside data sets to the tables, one module each, named after the data set.

A module has KIND (which table it feeds), RULE (what it does, in a sentence), SETS (the upstream sets
it is for), Rules (its pair rules, every one a parameter) and a pure function `items(rows, rules)`, which
may go through the rows more than once. To add a source, write such a module; nothing registers it.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import UserError
from pipeline.items import Items
from pipeline.params import Params
from pipeline.raw import RawRow
from pipeline.upstream import Upstream


class Adapter(Protocol):
    """What a module of this package is."""

    KIND: str
    RULE: str
    SETS: tuple[Upstream, ...]
    Rules: type[Params]

    def items(self, rows: Iterable[RawRow], rules: Any) -> Items:
        """Every raw row, once, with its items and drops."""
        ...


#: What a module of this package must have.
PARTS = ("KIND", "RULE", "SETS", "Rules", "items")


def names() -> list[str]:
    """The adapters there are."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")


def adapter(name: str) -> Adapter:
    """The adapter module `name`; UserError lists those there are, or says what the module lacks."""
    if name not in (known := names()):
        raise UserError(
            f"expected an adapter, one of {', '.join(known)}; found {name!r}; "
            "correct the name (in params.yaml, the key adapter)"
        )
    module: Any = import_module(f"{__name__}.{name}")
    if missing := [part for part in PARTS if not hasattr(module, part)]:
        raise UserError(
            f"pipeline/sources/{name}.py: expected {', '.join(PARTS)}, found no {', '.join(missing)}; "
            "add it, as docs/guide/curate.md does"
        )
    return module
