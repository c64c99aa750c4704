"""A day as a picture for Dagster's web page: measured demand against the operator's forecast."""

import base64
import math
from datetime import date

import pandas as pd

from demand_assets.demand.days import day_hours
from demand_assets.grid import FORECAST, REAL, TIME_ZONE

WIDTH, HEIGHT = 720, 270
LEFT, RIGHT, TOP, BOTTOM = 52, 704, 44, 238
"""The plot's edges in pixels."""
BARS = "▁▂▃▄▅▆▇█"
INK, GRID, MEASURED, FORESEEN = "#4b5563", "#e5e7eb", "#2563eb", "#f59e0b"


def sparkline(demand_mw: pd.Series, day: date) -> str:
    """A day's hours as a line of text, `·` where one is unknown, with the least and the most."""
    demand = demand_mw.reindex(day_hours(day)) / 1000
    low, high = demand.min(), demand.max()
    if math.isnan(low):
        return "nothing known"
    steps = (demand - low) / ((high - low) or 1) * (len(BARS) - 1)
    bars = "".join("·" if math.isnan(step) else BARS[round(step)] for step in steps)
    return f"{bars}  {low:.1f} to {high:.1f} GW"


def day_markdown(frame: pd.DataFrame, day: date) -> str:
    """The picture as Markdown that needs no other file."""
    svg = base64.b64encode(day_svg(frame, day).encode()).decode()
    return f"![Measured and forecast demand of {day}](data:image/svg+xml;base64,{svg})"


def day_svg(frame: pd.DataFrame, day: date) -> str:
    """One day's hourly frame (MW over UTC) as SVG, hours on Madrid's clock.

    A line is interrupted where an hour is unknown.
    """
    hours = day_hours(day)
    lines = frame.reindex(hours) / 1000
    known = lines.to_numpy()[lines.notna().to_numpy()]
    bottom = math.floor(known.min()) if len(known) else 0
    top = max(math.ceil(known.max()), bottom + 1) if len(known) else 1
    slot = (RIGHT - LEFT) / len(hours)

    def y(gigawatts: float) -> float:
        return BOTTOM - (gigawatts - bottom) / (top - bottom) * (BOTTOM - TOP)

    def curve(column: str, color: str, dashes: str) -> str:
        path, pen = "", "M"
        for place, value in enumerate(lines[column]):
            if math.isnan(value):
                pen = "M"
                continue
            # A flat piece for each hour: a mean is of its whole hour.
            start, end, height = LEFT + place * slot, LEFT + (place + 1) * slot, y(value)
            path += f"{pen}{start:.1f} {height:.1f}H{end:.1f}"
            pen = "L"
        style = f'stroke="{color}" stroke-width="2.5" stroke-linejoin="round"{dashes}'
        return f'<path d="{path}" fill="none" {style}/>' if path else ""

    def text(x: float, y: float, words: str, more: str = "") -> str:
        return f'<text x="{x:.1f}" y="{y:.1f}"{more}>{words}</text>'

    middle, end = ' text-anchor="middle"', ' text-anchor="end"'
    grid = "".join(
        f'<path d="M{LEFT} {y(gw):.1f}H{RIGHT}" stroke="{GRID}"/>'
        + text(LEFT - 6, y(gw) + 4, f"{gw} GW", end)
        for gw in range(bottom, top + 1, math.ceil((top - bottom) / 6))
    )
    clock = "".join(
        text(LEFT + place * slot, BOTTOM + 18, f"{hour:%H:%M}", middle)
        for place, hour in enumerate(hours.tz_convert(TIME_ZONE.key))
        if hour.hour % 3 == 0 and (place == 0 or hour.hour)
    )
    title = f"{day:%A} {day}"
    if lines[REAL].notna().any():
        at = hours[int(lines[REAL].argmax())].tz_convert(TIME_ZONE.key)
        title += f": peak {lines[REAL].max():.1f} GW at {at:%H:%M}"
    legend = (
        f'<path d="M{RIGHT - 196} 20h24" stroke="{MEASURED}" stroke-width="2.5"/>'
        + text(RIGHT - 166, 24, "measured")
        + f'<path d="M{RIGHT - 92} 20h24" stroke="{FORESEEN}" stroke-width="2.5"'
        ' stroke-dasharray="5 3"/>' + text(RIGHT - 62, 24, "forecast")
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}"'
        f' viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" fill="{INK}">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="#fff"/>'
        + text(16, 24, title, ' font-size="14" font-weight="bold"')
        + legend
        + grid
        + clock
        + curve(FORECAST, FORESEEN, ' stroke-dasharray="5 3"')
        + curve(REAL, MEASURED, "")
        + "</svg>"
    )
