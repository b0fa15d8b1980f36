"""Drawings of judges: how confidence stands to accuracy, and how scores stand to lengths."""

from collections.abc import Sequence

import numpy as np
from markupsafe import Markup

from pipeline.calibration import Calibration
from pipeline.figures import line, px, rectangle, short, svg, text

SHADES = 8
"""Steps of the heatmap's colour; the style sheet gives each its opacity as heat1 to heat8."""


def reliability(found: Calibration, title: str) -> Markup:
    """A dot per bin: its mean confidence across, its accuracy with the 95% interval upwards.

    A calibrated judge has its dots on the dashed diagonal; below it, it is too sure.
    """
    left, top, side = 46.0, 24.0, 170.0
    body = [text(0, 12, title, "head")]
    if not found.bins:
        return svg(left + side, 40, title, [*body, text(0, 32, "no pairs", "axis")])

    def place(confidence: float, accuracy: float) -> tuple[float, float]:
        return left + side * (confidence - 0.5) * 2, top + side * (1 - accuracy)

    for accuracy in (0.0, 0.5, 1.0):
        y = place(0.5, accuracy)[1]
        body += [line(left, y, left + side, y, "grid"), text(left - 5, y + 4, short(accuracy), "axis", "end")]
    body.append(line(*place(0.5, 0.5), *place(1.0, 1.0), "mark"))
    for one in found.bins:
        x, y = place(one.confidence, one.accuracy.mean)
        hint = (
            f"confidence {short(one.low)} to {short(one.high)}: right {short(one.accuracy.mean)} of "
            f"{one.pairs:,} pairs"
        )
        body += [
            line(x, place(0.5, one.accuracy.low)[1], x, place(0.5, one.accuracy.high)[1], "trace"),
            f'<circle cx="{px(x)}" cy="{px(y)}" r="4" class="dot"><title>{hint}</title></circle>',
        ]
    foot = top + side
    body += [text(left, foot + 15, "0.5", "axis"), text(left + side, foot + 15, "1", "axis", "end")]
    body.append(text(left + side / 2, foot + 30, "accuracy by confidence", "axis", "middle"))
    return svg(left + side + 6, foot + 36, title, body)


def heatmap(
    across: np.ndarray, upwards: np.ndarray, title: str, labels: Sequence[str], bins: tuple[int, int]
) -> Markup:
    """How many points fall into each cell: `across` from -1 to 1, `upwards` over its own range.

    labels: what stands across, and what stands upwards. The dashed line is the mean of `across`.
    """
    left, top, wide, tall = 64.0, 24.0, 320.0, 170.0
    body = [text(0, 12, title, "head")]
    if across.size == 0:
        return svg(left + wide, 40, title, [*body, text(0, 32, "no values", "axis")])
    low, high = float(upwards.min()), float(upwards.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, xs, ys = np.histogram2d(across, upwards, bins=bins, range=((-1.0, 1.0), (low, high)))
    step, rise = wide / bins[0], tall / bins[1]
    for i, j in zip(*np.nonzero(counts), strict=True):
        n = int(counts[i, j])
        shade = 1 + round((SHADES - 1) * n / int(counts.max()))
        hint = f"{short(xs[i])} to {short(xs[i + 1])}, {short(ys[j])} to {short(ys[j + 1])}: {n:,}"
        y = top + tall - (j + 1) * rise
        body.append(rectangle(left + i * step, y, step - 1, rise - 1, f"ink heat{shade}", hint))
    middle, mean = left + wide / 2, left + wide * (float(across.mean()) + 1) / 2
    foot = top + tall
    body += [
        line(left, foot, left + wide, foot, "rule"),
        line(middle, top, middle, foot, "grid"),
        line(mean, top, mean, foot, "mark"),
        *(text(x, foot + 15, words, "axis", "middle") for x, words in ((left, "-1"), (middle, "0"))),
        text(left + wide, foot + 15, "1", "axis", "end"),
        text(left - 6, foot, short(low), "axis", "end"),
        text(left - 6, top + 10, short(high), "axis", "end"),
        text(left + wide / 2, foot + 30, f"{labels[0]}; upwards: {labels[1]}", "axis", "middle"),
    ]
    return svg(left + wide + 6, foot + 36, title, body)
