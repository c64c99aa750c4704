"""One day as a chart for Dagster's web page: an SVG with a line per series, and a sparkline.

Pure functions from hourly frames to text. The page of all hours is drawn by `page.js` instead.
"""

import base64
import html
import math
from datetime import date

import pandas as pd

from demand_assets import grid
from demand_assets.demand.days import day_hours

WIDTH, HEIGHT = 720, 290
LEFT, RIGHT, TOP, BOTTOM = 52, 704, 64, 258
"""Edges of the plot in pixels."""
BARS = "▁▂▃▄▅▆▇█"
TEXT_COLOR, GRID_COLOR = "#4b5563", "#e5e7eb"


def sparkline(demand_mw: pd.Series, day: date) -> str:
    """The hours of a day as one line of text, `·` for unknown hours, with the range in GW."""
    demand = demand_mw.reindex(day_hours(day)) / 1000
    low, high = demand.min(), demand.max()
    if math.isnan(low):
        return "nothing known"
    steps = (demand - low) / ((high - low) or 1) * (len(BARS) - 1)
    bars = "".join("·" if math.isnan(step) else BARS[round(step)] for step in steps)
    return f"{bars}  {low:.1f} to {high:.1f} GW"


def day_markdown(frame: pd.DataFrame, day: date) -> str:
    """The chart as Markdown with an embedded image."""
    svg = base64.b64encode(day_svg(frame, day).encode()).decode()
    return f"![Measured and forecast demand of {day}](data:image/svg+xml;base64,{svg})"


def day_svg(frame: pd.DataFrame, day: date) -> str:
    """The hourly frame of a day (MW, UTC) as SVG, with Madrid time below it.

    A line is interrupted where an hour is unknown.
    """
    columns = [series.column for series in grid.SERIES]
    demand_gw = frame.reindex(index=day_hours(day), columns=columns) / 1000
    known = demand_gw.to_numpy()[demand_gw.notna().to_numpy()]
    bottom = math.floor(known.min()) if len(known) else 0
    top = max(math.ceil(known.max()), bottom + 1) if len(known) else 1
    title = f"{day:%A} {day}"
    if demand_gw[grid.REAL].notna().any():
        peak_at = demand_gw[grid.REAL].idxmax().tz_convert(grid.TIME_ZONE.key)
        title += f": peak {demand_gw[grid.REAL].max():.1f} GW at {peak_at:%H:%M}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
        f' height="{HEIGHT}" font-family="sans-serif" font-size="12" fill="{TEXT_COLOR}">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#fff"/>'
        + _text(16, 24, title, ' font-size="14" font-weight="bold"')
        + _legend()
        + _axes(day, bottom, top)
        # The first series is drawn last, above the others.
        + "".join(_line(demand_gw[s.column], s, bottom, top) for s in reversed(grid.SERIES))
        + "</svg>"
    )


def _legend() -> str:
    legend, x = "", float(LEFT)
    for series in grid.SERIES:
        legend += f'<path d="M{x:.1f} 42h24" {_stroke(series)}/>' + _text(x + 30, 46, series.title)
        x += 54 + 6.5 * len(series.title)  # px: about the width of a letter
    return legend


def _axes(day: date, bottom: int, top: int) -> str:
    """Labelled lines at whole gigawatts, and the time every three hours."""
    axes = ""
    for gw in range(bottom, top + 1, math.ceil((top - bottom) / 6)):
        y = _y(gw, bottom, top)
        axes += f'<path d="M{LEFT} {y:.1f}H{RIGHT}" stroke="{GRID_COLOR}"/>'
        axes += _text(LEFT - 6, y + 4, f"{gw} GW", ' text-anchor="end"')
    hours = day_hours(day).tz_convert(grid.TIME_ZONE.key)
    for place, hour in enumerate(hours):
        if hour.hour % 3 == 0:
            x = LEFT + place * (RIGHT - LEFT) / len(hours)
            axes += _text(x, BOTTOM + 18, f"{hour:%H:%M}", ' text-anchor="middle"')
    return axes


def _line(demand_gw: pd.Series, series: grid.Series, bottom: int, top: int) -> str:
    path, command, width = "", "M", (RIGHT - LEFT) / len(demand_gw)
    for place, gw in enumerate(demand_gw):
        if math.isnan(gw):
            command = "M"
            continue
        # A horizontal piece for each hour, as a mean is that of the whole hour.
        start, end = LEFT + place * width, LEFT + (place + 1) * width
        path += f"{command}{start:.1f} {_y(gw, bottom, top):.1f}H{end:.1f}"
        command = "L"
    return f'<path d="{path}" fill="none" {_stroke(series)}/>' if path else ""


def _y(gigawatts: float, bottom: int, top: int) -> float:
    return BOTTOM - (gigawatts - bottom) / (top - bottom) * (BOTTOM - TOP)


def _stroke(series: grid.Series) -> str:
    dashes = "" if series.measured else ' stroke-dasharray="5 3"'
    return f'stroke="{series.color}" stroke-width="2.5" stroke-linejoin="round"{dashes}'


def _text(x: float, y: float, text: str, attributes: str = "") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}"{attributes}>{html.escape(text)}</text>'
