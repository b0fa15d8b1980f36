"""Drawings for a static page: inline SVG that takes its colours from the page's style sheet.

Every figure has a title for screen readers, numbers rounded to a tenth of a pixel, and no script, no
font and no address. Colours are classes (`kept`, `lost`, `ink`, ...), so that one drawing is right in the
light and in the dark.
"""

import math
from collections.abc import Sequence

import numpy as np
from markupsafe import Markup, escape

from pipeline.intervals import Interval

Point = tuple[float, float]


def px(value: float) -> str:
    """A coordinate."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


def short(value: float) -> str:
    """A number for an axis: three digits, or a power of ten where it is tiny or huge."""
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.3g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:.1e}"


def svg(width: float, height: float, title: str, body: list[str]) -> Markup:
    """A drawing of at most `width` pixels that shrinks with the window."""
    return Markup(
        f'<svg role="img" viewBox="0 0 {px(width)} {px(height)}" style="max-width:{px(width)}px">'
        f"<title>{escape(title)}</title>{''.join(body)}</svg>"
    )


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    """Escaped words at a place."""
    return f'<text x="{px(x)}" y="{px(y)}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    """A straight line."""
    return f'<line x1="{px(x1)}" y1="{px(y1)}" x2="{px(x2)}" y2="{px(y2)}" class="{kind}"/>'


def rectangle(x: float, y: float, width: float, height: float, kind: str, hint: str = "") -> str:
    """A filled rectangle, with words that show when the pointer rests on it."""
    told = f"<title>{escape(hint)}</title>" if hint else ""
    return (
        f'<rect x="{px(x)}" y="{px(y)}" width="{px(max(width, 0))}" height="{px(max(height, 0))}" '
        f'class="{kind}">'
        f"{told}</rect>"
    )


def share_bar(kept: int, dropped: dict[str, int], title: str) -> Markup:
    """One bar: what was kept, then each reason; the widths are shares of what came in."""
    width, height, total = 260.0, 14.0, kept + sum(dropped.values())
    if total == 0:
        return svg(width, height, title, [rectangle(0, 0, width, height, "empty")])
    x = width * kept / total
    body = [rectangle(0, 0, x, height, "kept", f"kept: {kept:,}")]
    for i, (reason, count) in enumerate(dropped.items()):
        step = width * count / total
        body.append(rectangle(x, 0, step, height, f"lost shade{i % 4}", f"{reason}: {count:,}"))
        x += step
    return svg(width, height, title, body)


def stacked(
    values: dict[str, int], height: float, gap: float, least: float
) -> dict[str, tuple[float, float]]:
    """Top and height of each node of a column, in order."""
    total = sum(values.values()) or 1
    room = max(height - gap * (len(values) - 1), 1.0)
    top, places = 0.0, {}
    for name, value in values.items():
        size = max(room * value / total, least)
        places[name] = (top, size)
        top += size + gap
    return places


def sankey(links: Sequence[tuple[str, str, int]], kept: Sequence[str], title: str) -> Markup:
    """Flows from the names on the left to those on the right; `kept` are the good ends.

    Nodes stand in the order of their first link; widths are shares of the whole, at least a hairline.
    """
    left: dict[str, int] = {}
    right: dict[str, int] = {}
    for source, target, count in links:
        left[source] = left.get(source, 0) + count
        right[target] = right.get(target, 0) + count
    x1, x2, width, bar = 200.0, 640.0, 900.0, 9.0
    tall = max(120.0, 30.0 * max(len(left), len(right)))
    starts, ends = (stacked(side, tall, 14.0, 1.5) for side in (left, right))
    body, out, into = [], dict.fromkeys(left, 0.0), dict.fromkeys(right, 0.0)
    for source, target, count in links:
        (top_1, size_1), (top_2, size_2) = starts[source], ends[target]
        thick_1, thick_2 = size_1 * count / left[source], size_2 * count / right[target]
        y1, y2 = top_1 + out[source], top_2 + into[target]
        out[source] += thick_1
        into[target] += thick_2
        body.append(
            ribbon(
                x1 + bar, x2, (y1, thick_1), (y2, thick_2), target in kept, f"{source} to {target}: {count:,}"
            )
        )
    for name, (top, size) in starts.items():
        body.append(rectangle(x1, top, bar, size, "ink"))
        body.append(text(x1 - 8, top + size / 2 + 4, f"{name}  {left[name]:,}", anchor="end"))
    for name, (top, size) in ends.items():
        body.append(rectangle(x2, top, bar, size, "kept" if name in kept else "lost"))
        body.append(text(x2 + bar + 8, top + size / 2 + 4, f"{name}  {right[name]:,}"))
    deep = max(top + size for side in (starts, ends) for top, size in side.values())
    margin = 10.0
    return svg(width, deep + 2 * margin, title, [f'<g transform="translate(0 {px(margin)})">', *body, "</g>"])


def ribbon(x1: float, x2: float, start: Point, end: Point, good: bool, hint: str) -> str:
    """A band from (top, thickness) on the left to that on the right."""
    (y1, t1), (y2, t2), middle = start, end, (x1 + x2) / 2
    m = px(middle)
    path = (
        f"M{px(x1)} {px(y1)}C{m} {px(y1)} {m} {px(y2)} {px(x2)} {px(y2)}"
        f"V{px(y2 + t2)}C{m} {px(y2 + t2)} {m} {px(y1 + t1)} {px(x1)} {px(y1 + t1)}Z"
    )
    return f'<path d="{path}" class="band {"kept" if good else "lost"}"><title>{escape(hint)}</title></path>'


def histogram(values: np.ndarray, title: str, label: str, bins: int = 24) -> Markup:
    """How often each range of `values` occurs; the dashed line is the mean."""
    width, tall, foot = 420.0, 130.0, 34.0
    if values.size == 0:
        return svg(width, 40, title, [text(0, 24, "no values", "axis")])
    low, high = float(values.min()), float(values.max())
    if low == high:
        low, high = low - 0.5, high + 0.5
    counts, edges = np.histogram(values, bins=bins, range=(low, high))
    step, most = width / bins, max(int(counts.max()), 1)
    body = [
        rectangle(
            i * step + 0.5, tall - tall * n / most, step - 1, tall * n / most, "ink",
            f"{short(edges[i])} to {short(edges[i + 1])}: {n:,}",
        )
        for i, n in enumerate(counts.tolist())
        if n
    ]  # fmt: skip
    at = width * (float(values.mean()) - low) / (high - low)
    body += [line(0, tall, width, tall, "rule"), line(at, 0, at, tall, "mark")]
    if low < 0 < high:
        zero = -width * low / (high - low)
        body.append(line(zero, 0, zero, tall, "rule"))
    body += [text(0, tall + 15, short(low), "axis"), text(width, tall + 15, short(high), "axis", "end")]
    body.append(text(width / 2, tall + 30, f"{label}; mean {short(float(values.mean()))}", "axis", "middle"))
    return svg(width, tall + foot, title, body)


def thinned(points: Sequence[Point], most: int = 240) -> list[Point]:
    """At most about `most` of the points, first and last among them."""
    stride = max(1, math.ceil(len(points) / most))
    kept = list(points[::stride])
    return kept if not points or kept[-1] == points[-1] else [*kept, points[-1]]


def curve(points: Sequence[Point], title: str) -> Markup:
    """One series over the steps of a training run, with its range and its last value."""
    left, width, top, tall = 46.0, 206.0, 22.0, 84.0
    body = [text(0, 12, title, "head")]
    if not points:
        return svg(left + width, 40, title, [*body, text(0, 30, "no points", "axis")])
    xs, ys = ([point[axis] for point in points] for axis in (0, 1))
    x_low, x_high, y_low, y_high = min(xs), max(xs), min(ys), max(ys)
    y_span = (y_high - y_low) or 1.0

    def place(x: float, y: float) -> Point:
        across = (x - x_low) / (x_high - x_low) if x_high > x_low else 0.5
        up = (y - y_low) / y_span if y_high > y_low else 0.5
        return left + 4 + (width - 12) * across, top + 4 + (tall - 8) * (1 - up)

    for y in (y_low, y_high) if y_high > y_low else (y_low,):
        at = place(x_low, y)[1]
        body += [
            line(left, at, left + width - 4, at, "grid"),
            text(left - 5, at + 4, short(y), "axis", "end"),
        ]
    dots = [place(x, y) for x, y in thinned(points)]
    if len(dots) > 1:
        body.append(f'<polyline points="{" ".join(f"{px(x)},{px(y)}" for x, y in dots)}" class="trace"/>')
    x, y = dots[-1]
    body += [
        f'<circle cx="{px(x)}" cy="{px(y)}" r="2.5" class="dot"/>',
        text(left, top + tall + 14, f"step {short(x_low)}", "axis"),
        text(left + width - 4, top + tall + 14, f"step {short(x_high)}, last {short(ys[-1])}", "axis", "end"),
    ]
    return svg(left + width, top + tall + 20, title, body)


def whiskers(rows: Sequence[tuple[str, Interval]], title: str, reference: float | None = None) -> Markup:
    """A dot and its interval per name, on one axis; the dashed line is `reference`."""
    left, width, step = 110.0, 250.0, 24.0
    known = [row for row in rows if all(map(math.isfinite, row[1]))]
    body = [text(0, 12, title, "head")]
    if not known:
        return svg(left + width, 40, title, [*body, text(0, 32, "not measured", "axis")])
    ends = [end for _, interval in known for end in interval]
    ends += [] if reference is None else [reference]
    low, high = min(ends), max(ends)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return left + 8 + (width - 16) * ((value - low) / span if high > low else 0.5)

    foot = 26 + step * len(known)
    if reference is not None:
        body.append(line(place(reference), 22, place(reference), foot, "mark"))
        body.append(text(left + width / 2, foot + 14, f"dashed: {short(reference)}", "axis", "middle"))
    for i, (name, (mean, start, end)) in enumerate(known):
        y = 36 + step * i
        hint = f"{name}: {short(mean)}, 95% interval {short(start)} to {short(end)}"
        body += [
            text(left - 8, y + 4, name, "", "end"),
            line(place(start), y, place(end), y, "trace"),
            f'<circle cx="{px(place(mean))}" cy="{px(y)}" r="4" class="dot">',
            f"<title>{escape(hint)}</title></circle>",
        ]
    body += [line(left, foot, left + width, foot, "rule")]
    body += [
        text(left, foot + 14, short(low), "axis"),
        text(left + width, foot + 14, short(high), "axis", "end"),
    ]
    return svg(left + width, foot + 18, title, body)
