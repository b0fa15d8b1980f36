"""Adapters from outside data sets to the tables, one module each, named after the data set.

A module has KIND (which table it feeds), Rules (its pair rules, every one a parameter) and a pure
function `items(rows, rules)`. To add a source, write such a module; nothing registers it.
"""

from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from pipeline.errors import UserError
from pipeline.items import Items
from pipeline.params import Params
from pipeline.raw import RawRow


class Adapter(Protocol):
    """What a module of this package is."""

    KIND: str
    Rules: type[Params]

    def items(self, rows: Iterable[RawRow], rules: Any) -> Items:
        """Every raw row, once, with its items and drops."""
        ...


def adapter(name: str) -> Adapter:
    """The adapter module `name`; UserError lists those there are."""
    known = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem != "__init__")
    if name not in known:
        raise UserError(f"params.yaml: expected an adapter, one of {', '.join(known)}; found {name!r}")
    module: Any = import_module(f"{__name__}.{name}")
    return module
