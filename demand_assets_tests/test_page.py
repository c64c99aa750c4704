"""The page in a real browser: what it shows is what the store holds, and it asks nobody for it."""

import urllib.request
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError

import numpy as np
import pandas as pd
import pytest
from dagster import DagsterInstance, MetadataValue
from upath import UPath

from demand_assets.dashboards.page import demand_page, page_file
from demand_assets.dashboards.serve import PageServer
from demand_assets.hourly import FORECAST, REAL, day_hours
from demand_assets.partitions import days_between
from demand_assets.redata import MADRID
from demand_assets.settings import Freshness, Settings
from demand_assets.simulator import Simulator
from demand_assets_tests.browser import Browser
from demand_assets_tests.project import Project

MODEL = "ForecastModel"
CELLS = """return [...document.querySelectorAll("tbody tr")].map(
    (row) => [...row.cells].map((cell) => cell.textContent))"""


def hours(first: str, last: str) -> pd.DataFrame:
    """Whole days of made-up hours, all fields known."""
    days = days_between(date.fromisoformat(first), date.fromisoformat(last))
    index = pd.DatetimeIndex(
        np.concatenate([day_hours(day) for day in days]), tz="UTC", name="time"
    )
    chance = np.random.default_rng(1)
    real = (
        27_000
        + 5_000 * np.sin(np.arange(len(index)) / 24 * 2 * np.pi)
        + chance.normal(0, 900, len(index))
    )
    return pd.DataFrame(
        {REAL: real, FORECAST: real + chance.normal(20, 200, len(index)), MODEL: real * 1.03}, index
    )


def written(frame: pd.DataFrame, folder: Path, freshness: Freshness = Freshness()) -> str:  # noqa: B008
    """The address of a page of these hours."""
    page = demand_page(frame, store="a test", written=datetime.now(UTC), freshness=freshness)
    (folder / "page.html").write_text(page)
    return (folder / "page.html").as_uri()


def assert_shows(browser: Browser, frame: pd.DataFrame) -> None:
    """The figures on the page are those of the hours, computed here by themselves."""
    both = frame[[REAL, FORECAST]].dropna()
    difference = both[REAL] - both[FORECAST]
    expected = {
        "peak": frame[REAL].max(),
        "energy": frame[REAL].sum() / 1000,
        "mape": (difference.abs() / both[REAL]).mean() * 100,
        "difference": difference.mean(),
    }
    found = {name: browser.value(name) for name in expected}
    assert found == pytest.approx(expected, abs=0.011)
    at = frame[REAL].idxmax().tz_convert(MADRID.key)  # type: ignore[union-attr]
    assert f"{at:%a} {at.day} {at:%b %Y} {at:%H:%M}" in browser.text("#peak-at").replace(",", "")


def test_each_range_shows_what_the_store_holds(
    browser: Browser, synthetic_api: Simulator, tmp_path: Path
) -> None:
    """From the API to the page by the project's own assets, over a change of the clock."""
    settings = Settings(start_date=date(2022, 12, 1), page_url="http://localhost:3001/")
    with DagsterInstance.ephemeral() as instance:
        project = Project(tmp_path, synthetic_api.url, instance, settings, 60.0)
        assert project.materialize("2022-12-01", "2023-04-01").success
        run = project.definitions.resolve_job_def("today_job").execute_in_process(
            partition_key="2023-04-02", instance=instance
        )
    (told,) = run.asset_materializations_for_node("demand_dashboard")
    assert told.metadata["page"] == MetadataValue.url("http://localhost:3001/")
    assert "data:image/svg+xml" in str(told.metadata["preview"].value)
    stored = project.stored()
    browser.open(page_file(str(tmp_path)).as_uri())
    end = stored.index[-1].tz_convert(MADRID.key).date()
    for days in (1, 7, 30):
        browser.click(f'[data-days="{days}"]')
        first = day_hours(end - timedelta(days=days - 1))[0]
        assert_shows(browser, stored.loc[first:])
    for everything in ("365", "all"):
        browser.click(f'[data-days="{everything}"]')
        assert_shows(browser, stored)
    # The week with the day of 23 hours, one step back.
    browser.click('[data-days="7"]')
    browser.click("#earlier")
    week = stored.loc[day_hours(date(2023, 3, 20))[0] : day_hours(date(2023, 3, 26))[-1]]
    assert len(week) == 7 * 24 - 1
    assert_shows(browser, week)
    assert browser.complaints() == []
    assert browser.hosts_asked() <= {""}


def test_a_day_of_25_hours_has_them_all_in_order(browser: Browser, tmp_path: Path) -> None:
    frame = hours("2023-10-20", "2023-10-29")
    browser.open(written(frame, tmp_path) + "#1")
    rows = browser.run(CELLS)
    assert [row[0][-5:] for row in rows].count("02:00") == 2
    assert len(rows) == 25
    day = frame.loc[day_hours(date(2023, 10, 29))]
    newest_first = [f"{mw:,.0f}" for mw in day[REAL].round(2)[::-1]]
    assert [row[1] for row in rows] == newest_first
    browser.click("th:nth-child(2) button")  # by measured demand, from the least
    sorted_rows = [float(row[1].replace(",", "")) for row in browser.run(CELLS)]
    assert sorted_rows == sorted(sorted_rows)
    browser.click("th:nth-child(2) button")
    assert [float(row[1].replace(",", "")) for row in browser.run(CELLS)] == sorted_rows[::-1]


def test_what_is_still_to_come_has_no_figures_yet(browser: Browser, tmp_path: Path) -> None:
    today = datetime.now(MADRID).date()
    frame = hours(str(today), str(today))
    frame[REAL] = np.nan
    browser.open(written(frame, tmp_path))
    assert browser.value("peak") is browser.value("mape") is browser.value("difference") is None
    assert browser.text("#age") == "nothing measured yet"
    assert browser.complaints() == []


def test_an_empty_store_is_said(browser: Browser, tmp_path: Path) -> None:
    browser.open(written(hours("2023-01-01", "2023-01-01").iloc[:0], tmp_path))
    assert browser.text("#range") == "Nothing is stored yet."
    assert browser.complaints() == []


@pytest.mark.parametrize(
    ("warn", "fail", "color"), [(61, 62, "good"), (-1, 61, "fair"), (-2, -1, "bad")]
)
def test_the_age_of_the_newest_hour_is_told(
    browser: Browser, tmp_path: Path, warn: int, fail: int, color: str
) -> None:
    now = pd.Timestamp.now("UTC")
    frame = hours(*[str(now.tz_convert(MADRID.key).date())] * 2)
    frame.index = pd.date_range(end=now.floor("h") + pd.Timedelta(hours=5), periods=24, freq="h")
    frame.loc[now.floor("h") :, REAL] = np.nan  # measured until the full hour
    limits = Freshness(timedelta(minutes=warn), timedelta(minutes=fail))
    browser.open(written(frame, tmp_path, limits))
    assert browser.run("return document.getElementById('age').className") == f"pill {color}"
    told = int(browser.text("#age").removeprefix("measured until ").split()[0])
    assert abs(told - now.minute) <= 2 or now.minute >= 58


@pytest.mark.parametrize("dark", [False, True])
def test_it_fits_a_phone_in_light_and_dark(browser: Browser, tmp_path: Path, dark: bool) -> None:
    page = written(hours("2023-01-01", "2023-02-01"), tmp_path)
    browser.open(page, width=360, height=740, dark=dark)
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(13, 17, 23)") == dark
    smallest = browser.run(
        "return Math.min(...[...document.querySelectorAll('nav button')]"
        ".map(b => b.getBoundingClientRect().height))"
    )
    assert smallest >= 36  # px: what a thumb hits
    assert browser.complaints() == []


def test_dragging_over_the_graph_shows_that_part(browser: Browser, tmp_path: Path) -> None:
    frame = hours("2023-01-01", "2023-01-30")
    browser.open(written(frame, tmp_path) + "#30")
    browser.drag(".nsewdrag", 0.3, 0.4)
    start, stop = pd.to_datetime(browser.run("return [shown.from, shown.to].map(utc)"), unit="ms")
    part = frame.loc[str(start) : str(stop - pd.Timedelta(hours=1))]
    assert abs(len(part) - 0.1 * len(frame)) <= 3
    assert abs(start.tz_localize("UTC") - frame.index[216]) <= pd.Timedelta(hours=3)
    assert_shows(browser, part)


def test_the_page_is_served_on_this_machine_only(tmp_path: Path) -> None:
    file = UPath(tmp_path) / "index.html"
    with PageServer(file, 0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        assert server.server_address[0] == "127.0.0.1"

        def asked(path: str = "") -> tuple[int, str]:
            try:
                with urllib.request.urlopen(server.url + path, timeout=10) as answer:
                    return answer.status, answer.read().decode()
            except HTTPError as error:
                return error.code, error.read().decode()

        status, text = asked()
        assert status == 503 and "demand_dashboard" in text
        file.write_text("the page")
        assert asked() == (200, "the page")
        assert asked("../settings.py")[0] == 404
        with PageServer(file, server.server_port) as another:
            assert another.server_port != server.server_port
        server.shutdown()
