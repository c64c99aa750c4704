"""The chart of a day shows each hour of each series at its place."""

import math
import re
from datetime import date
from xml.etree import ElementTree

import pandas as pd
import pytest

from demand_assets import grid
from demand_assets.dashboards.day_chart import LEFT, RIGHT, WIDTH, day_markdown, day_svg, sparkline
from demand_assets.demand.days import day_hours
from demand_assets.grid import FORECAST, FORECAST_DEMAND, REAL, REAL_DEMAND, Series
from demand_assets_tests.support.series import PROGRAMMED
from demand_assets_tests.support.truth import HOURS_OF_DAY


def frame_of(day: date) -> pd.DataFrame:
    hours = day_hours(day)
    real = [20_000.0 + 400 * n for n in range(len(hours))]
    return pd.DataFrame({REAL: real, FORECAST: 25_000.0}, index=hours)


def strokes(svg: str, series: Series) -> list[dict[str, str]]:
    """The paths in the color of a series: the one of the legend, then the line."""
    return [dict(e.items()) for e in ElementTree.fromstring(svg) if e.get("stroke") == series.color]


def line(svg: str, series: Series) -> str:
    _, path = strokes(svg, series)
    return path["d"]


@pytest.mark.parametrize(("key", "hours"), HOURS_OF_DAY)
def test_every_hour_of_a_day_has_its_place(key: str, hours: int) -> None:
    day = date.fromisoformat(key)
    path = line(day_svg(frame_of(day), day), REAL_DEMAND)
    ends = [float(x) for x in re.findall(r"H([\d.]+)", path)]
    assert len(ends) == hours
    assert ends[-1] == pytest.approx(RIGHT)
    assert float(path[1:].split()[0]) == LEFT
    heights = [float(y) for y in re.findall(r" ([\d.]+)H", path)]
    assert heights == sorted(heights, reverse=True)
    assert len(sparkline(frame_of(day)[REAL], day).split()[0]) == hours


def test_unknown_hour_interrupts_the_line() -> None:
    day = date(2023, 5, 10)
    frame = frame_of(day)
    frame.iloc[7, 0] = math.nan
    frame = frame.drop(frame.index[12])
    assert line(day_svg(frame, day), REAL_DEMAND).count("M") == 3
    bars = sparkline(frame[REAL], day).split()[0]
    assert [place for place, bar in enumerate(bars) if bar == "·"] == [7, 12]
    assert (bars[0], bars[-1]) == ("▁", "█")
    assert sparkline(frame[REAL], day).endswith("20.0 to 29.2 GW")


def test_title_names_the_peak_in_madrid_time() -> None:
    day = date(2022, 10, 30)
    assert "Sunday 2022-10-30: peak 29.6 GW at 23:00" in day_svg(frame_of(day), day)


@pytest.mark.parametrize("rows", [0, 1])
def test_day_without_known_hours_has_a_chart(rows: int) -> None:
    day = date(2023, 5, 10)
    frame = frame_of(day).iloc[:rows]
    ElementTree.fromstring(day_svg(frame, day))
    assert day_markdown(frame, day).startswith("![")
    assert sparkline(frame.iloc[:0][REAL], day) == "nothing known"


def test_measured_line_is_solid_and_forecast_dashed() -> None:
    day = date(2023, 5, 10)
    svg = day_svg(frame_of(day), day)
    assert all("stroke-dasharray" not in path for path in strokes(svg, REAL_DEMAND))
    assert all("stroke-dasharray" in path for path in strokes(svg, FORECAST_DEMAND))


def test_every_series_of_the_grid_has_a_line_and_a_legend(monkeypatch: pytest.MonkeyPatch) -> None:
    day = date(2023, 5, 10)
    frame = frame_of(day).assign(**{PROGRAMMED.column: 45_000.0})
    assert PROGRAMMED.color not in day_svg(frame, day)
    monkeypatch.setattr(grid, "SERIES", (*grid.SERIES, PROGRAMMED))
    svg = day_svg(frame, day)
    assert line(svg, PROGRAMMED).count("H") == 24
    assert "45 GW" in svg
    labels = {e.text: float(e.get("x", "")) for e in ElementTree.fromstring(svg) if e.text}
    places = [labels[series.title] for series in grid.SERIES]
    assert places == sorted(places)
    assert places[-1] + 8 * len(PROGRAMMED.title) < WIDTH
    # A frame of an earlier version lacks the column.
    assert len(strokes(day_svg(frame_of(day), day), PROGRAMMED)) == 1
