"""Small charts as SVG, from the page's own figures."""

from __future__ import annotations

import numpy as np

from ..face import Face, interval_years, whole_years


def age_chart(face: Face) -> str:
    """The interval on an axis of 0 to 100 years, under the distribution where the network has one."""
    low, high = (face.age, face.age) if face.age_low is None else (face.age_low, face.age_high)
    text = f"age {whole_years(face.age)}, {interval_years(face.age_low, face.age_high)}"
    curve = ""
    if face.age_probs is not None:
        probs = np.asarray(face.age_probs, float)[:101]
        heights = 26 - 24 * probs / max(probs.max(), 1e-6)
        curve = f'<polyline points="{" ".join(f"{x},{y:.1f}" for x, y in enumerate(heights))}"/>'
    ticks = "".join(f'<text x="{x}" y="36">{x}</text>' for x in (0, 25, 50, 75, 100))
    return (
        f'<svg class="chart" viewBox="-6 0 114 38" role="img" aria-label="{text}"><rect x="{low:.1f}" y="2" '
        f'width="{high - low:.1f}" height="24"/>{curve}'
        f'<line class="mark" x1="{face.age:.1f}" x2="{face.age:.1f}" y1="0" y2="28"/>'
        f'<line x1="0" x2="101" y1="28" y2="28"/>{ticks}</svg>'
    )


def bars(values: dict[str, int], title: str) -> str:
    """A bar for each name, with its count."""
    most = max(values.values(), default=0) or 1
    rows = "".join(
        f'<div class="bar-row"><span>{name}</span><div class="bar"><div style="width: {100 * count / most:.1f}%"></div>'
        f"</div><span>{count:,}</span></div>"
        for name, count in values.items()
    )
    return f'<section class="bars" aria-label="{title}"><h4>{title}</h4>{rows}</section>'


def steps(points: list[tuple[float, int]], seconds: float, title: str) -> str:
    """Whole numbers over time: points are (seconds from the start, count)."""
    if not points or seconds <= 0:
        return ""
    top = max(1, max(count for _, count in points))
    path, height = [], 60
    for i, (start, count) in enumerate(points):
        end = points[i + 1][0] if i + 1 < len(points) else seconds
        y = height - height * count / top
        path += [f"{300 * start / seconds:.1f},{y:.1f}", f"{300 * end / seconds:.1f},{y:.1f}"]
    levels = range(0, top + 1, -(-top // 4))
    grid = "".join(
        f'<line x1="0" x2="300" y1="{(y := height - height * level / top):.1f}" y2="{y:.1f}"/>'
        f'<text x="-4" y="{y + 2.5:.1f}" text-anchor="end">{level}</text>'
        for level in levels
    )
    unit = next(unit for unit in (1, 2, 5, 10, 30, 60) if seconds / unit <= 8 or unit == 60)
    times = "".join(
        f'<text x="{300 * t / seconds:.1f}" y="{height + 10}">{t} s</text>' for t in range(0, int(seconds) + 1, unit)
    )
    return (
        f'<section><h4>{title}</h4><svg class="steps" viewBox="-14 -4 328 76" role="img" '
        f'aria-label="{title}: at most {top}">{grid}{times}<polyline points="{" ".join(path)}"/></svg></section>'
    )
