"""Remaining time on a terminal, for steps that can take longer than a glance.

Nothing is shown where stderr is not a terminal, nor for steps that end within a moment.
"""

from tqdm import tqdm

SILENT_SECONDS = 2.0


def progress(title: str, total: int, unit: str) -> tqdm:
    """A bar to `update` by the units done; a context manager."""
    return tqdm(
        total=total,
        desc=title,
        unit=f" {unit}",
        unit_scale=True,
        leave=False,
        delay=SILENT_SECONDS,
        disable=None,
    )
