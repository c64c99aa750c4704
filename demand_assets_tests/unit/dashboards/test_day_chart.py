"""A day's picture shows each hour where it belongs."""

import math
import re
from datetime import date
from xml.etree import ElementTree

import pandas as pd
import pytest

from demand_assets.dashboards.day_chart import (
    LEFT,
    MEASURED,
    RIGHT,
    day_markdown,
    day_svg,
    sparkline,
)
from demand_assets.demand.days import day_hours
from demand_assets.grid import FORECAST, REAL
from demand_assets_tests.support.truth import HOURS_OF_DAY


def frame_of(day: date) -> pd.DataFrame:
    hours = day_hours(day)
    real = [20_000.0 + 400 * n for n in range(len(hours))]
    return pd.DataFrame({REAL: real, FORECAST: 25_000.0}, index=hours)


def curve(svg: str, color: str) -> str:
    """The path of a series; the legend's is the one without an `H`."""
    paths = [e for e in ElementTree.fromstring(svg).iter() if e.get("stroke") == color]
    return next(str(p.get("d")) for p in paths if "H" in str(p.get("d")))


@pytest.mark.parametrize(("key", "hours"), HOURS_OF_DAY)
def test_every_hour_of_a_day_has_its_place(key: str, hours: int) -> None:
    day = date.fromisoformat(key)
    path = curve(day_svg(frame_of(day), day), MEASURED)
    ends = [float(x) for x in re.findall(r"H([\d.]+)", path)]
    assert len(ends) == hours
    assert ends[-1] == pytest.approx(RIGHT)
    assert float(path[1:].split()[0]) == LEFT
    heights = [float(y) for y in re.findall(r" ([\d.]+)H", path)]
    assert heights == sorted(heights, reverse=True)
    assert len(sparkline(frame_of(day)[REAL], day).split()[0]) == hours


def test_an_unknown_hour_interrupts_the_line() -> None:
    day = date(2023, 5, 10)
    frame = frame_of(day)
    frame.iloc[7, 0] = math.nan
    frame = frame.drop(frame.index[12])
    assert curve(day_svg(frame, day), MEASURED).count("M") == 3
    bars = sparkline(frame[REAL], day).split()[0]
    assert [place for place, bar in enumerate(bars) if bar == "·"] == [7, 12]
    assert (bars[0], bars[-1]) == ("▁", "█")
    assert sparkline(frame[REAL], day).endswith("20.0 to 29.2 GW")


def test_the_title_names_the_peak_on_madrids_clock() -> None:
    day = date(2022, 10, 30)
    assert "Sunday 2022-10-30: peak 29.6 GW at 23:00" in day_svg(frame_of(day), day)


@pytest.mark.parametrize("rows", [0, 1])
def test_a_day_of_which_nothing_is_known_has_a_picture(rows: int) -> None:
    day = date(2023, 5, 10)
    frame = frame_of(day).iloc[:rows]
    ElementTree.fromstring(day_svg(frame, day))
    assert day_markdown(frame, day).startswith("![")
    assert sparkline(frame.iloc[:0][REAL], day) == "nothing known"
