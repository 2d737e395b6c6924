"""Small charts as SVG, from the page's own figures."""

from __future__ import annotations


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
