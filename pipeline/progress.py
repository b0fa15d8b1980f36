"""Remaining time of steps that can take longer than a glance.

On a terminal it is a bar; `counted` also says it in the log elsewhere, less often the longer it takes.
"""

import logging
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager

from tqdm import tqdm

log = logging.getLogger(__name__)

SILENT_SECONDS = 2.0
FIRST_LINE_SECONDS = 60.0
LINE_GROWTH = 1.5
"""Time of a log line over that of the line before: a day is 18 lines."""


def progress(title: str, total: int, unit: str) -> tqdm:
    """A bar to `update` by the units done, on a terminal only; a context manager."""
    return tqdm(
        total=total,
        desc=title,
        unit=f" {unit}",
        unit_scale=True,
        leave=False,
        delay=SILENT_SECONDS,
        disable=None,
    )


@contextmanager
def counted(
    title: str, total: int, clock: Callable[[], float] = time.monotonic
) -> Generator[Callable[[int], None]]:
    """Within it, a function to be told of rows done: it moves a bar or, off a terminal, logs now and then."""
    started, done, due = clock(), 0, FIRST_LINE_SECONDS
    with progress(title, total, "rows") as bar:

        def advance(rows: int) -> None:
            nonlocal done, due
            done += rows
            bar.update(rows)
            if bar.disable and (seconds := clock() - started) >= due:
                due = seconds * LINE_GROWTH
                left = tqdm.format_interval(seconds / max(done, 1) * (total - done))
                log.info("%s: %d of %d rows, %.3g rows/s, %s left", title, done, total, done / seconds, left)

        yield advance
