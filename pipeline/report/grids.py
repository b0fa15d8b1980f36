"""Tables and numbers as a reader wants to see them: the caption says what, numbers stand to the right."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from pipeline.intervals import Interval

NONE = "\u2013"
"""What stands where there is nothing to measure."""


@dataclass(frozen=True)
class Grid:
    """A table of cells that are ready to show; columns named in `numeric` are aligned to the right."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | Markup]]
    words: int = 1
    """How many columns from the left hold words; the others hold numbers."""
    marked: int | None = None
    """The row to set off."""
    note: str = ""


def count(value: int) -> str:
    """12,345."""
    return f"{value:,}"


def number(value: float | None, digits: int = 3) -> str:
    """A number with that many decimals."""
    return NONE if value is None or not math.isfinite(value) else f"{value:,.{digits}f}"


def share(value: float) -> str:
    """A part of the whole, in percent."""
    return NONE if not math.isfinite(value) else f"{100 * value:.1f}%"


def ratio(part: int, whole: int) -> str:
    """`part` of `whole` in percent."""
    return share(part / whole) if whole else NONE


def spread(interval: Interval, digits: int = 3) -> str | Markup:
    """A mean with its interval."""
    if not math.isfinite(interval.mean):
        return NONE
    ends = f"{number(interval.low, digits)} to {number(interval.high, digits)}"
    return Markup('{} <span class="ci">{}</span>').format(number(interval.mean, digits), ends)


def percent(interval: Interval) -> str | Markup:
    """A share with its interval, in percent."""
    return spread(interval.times(100), 1)


def rounded(values: object) -> object:
    """Nested figures for metrics.json: six digits, and nothing where nothing was measured."""
    if isinstance(values, Interval):
        return rounded({"mean": values.mean, "low": values.low, "high": values.high})
    if isinstance(values, Mapping):
        clean = {str(key): rounded(value) for key, value in values.items()}
        return {key: value for key, value in clean.items() if value is not None and value != {}}
    if isinstance(values, float):
        return round(values, 6) if math.isfinite(values) else None
    return values
