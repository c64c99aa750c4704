"""The page in a real browser: it shows what the store holds, and uses no network."""

import itertools
import socket
import urllib.request
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from threading import Thread
from urllib.error import HTTPError

import numpy as np
import pandas as pd
import pytest
from dagster import DagsterInstance, MetadataValue
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait
from upath import UPath

from demand_assets import grid
from demand_assets.dashboards.page import demand_page, page_file
from demand_assets.dashboards.serve import PageServer, print_address_when_ready
from demand_assets.dashboards.template import build_template
from demand_assets.demand.days import day_hours, days_between
from demand_assets.grid import FORECAST, MODEL, REAL, TIME_ZONE
from demand_assets.settings import Freshness, Settings
from demand_assets.simulator import Simulator
from demand_assets_tests.support.browser import Browser
from demand_assets_tests.support.project import Project
from demand_assets_tests.support.series import PROGRAMMED

TITLES = {
    REAL: "Measured",
    FORECAST: "Operator's forecast",
    PROGRAMMED.column: "Programmed",
    MODEL: "Next-day forecast",
}
TO = " \N{EN DASH} "
CELLS = """return [...document.querySelectorAll("tbody tr")].map(
    (row) => [...row.cells].map((cell) => cell.textContent))"""


def hours(first: str, last: str) -> pd.DataFrame:
    """Whole days of synthetic hours, all fields known."""
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
        {
            REAL: real,
            FORECAST: real + chance.normal(20, 200, len(index)),
            MODEL: real * chance.normal(1.03, 0.01, len(index)),
        },
        index,
    )


def written(frame: pd.DataFrame, folder: Path, freshness: Freshness = Freshness()) -> str:  # noqa: B008
    """The address of a page of the given hours."""
    page = demand_page(frame, store="a test", written=datetime.now(UTC), freshness=freshness)
    (folder / "page.html").write_text(page)
    return (folder / "page.html").as_uri()


def assert_shows(browser: Browser, frame: pd.DataFrame) -> None:
    """The figures on the page are those of the hours, which are computed here independently."""
    both = frame[[REAL, FORECAST]].dropna()
    difference = both[REAL] - both[FORECAST]
    expected = {
        "peak": frame[REAL].max(),
        "energy": frame[REAL].sum() / 1000,
        "mape": (difference.abs() / both[REAL]).mean() * 100,
        "difference": difference.mean(),
    }
    if MODEL in frame:
        expected["mape-model"] = ((frame[MODEL] / frame[REAL] - 1).abs() * 100).mean()
    found = {name: browser.value(name) for name in expected}
    assert found == pytest.approx(expected, abs=0.011)
    needle = browser.run("return element('gauge').data[0].gauge.threshold.value")
    assert needle == pytest.approx(float(np.clip(difference.mean(), -500, 500)), abs=0.011)
    at = frame[REAL].idxmax().tz_convert(TIME_ZONE.key)  # type: ignore[union-attr]
    assert f"{at:%a} {at.day} {at:%b %Y} {at:%H:%M}" in browser.text("#peak-at").replace(",", "")


def means_of_days(frame: pd.DataFrame) -> pd.DataFrame:
    """The means of days by midnight, unknown if an hour of the day is unknown."""
    days = frame.groupby(pd.DatetimeIndex(frame.index).tz_convert(TIME_ZONE.key).normalize())
    return days.mean().where(days.count().eq(days.size(), axis=0))


def assert_draws(browser: Browser, means: pd.DataFrame) -> None:
    """Each mean of each line is drawn from its start to the start of the next one."""
    drawn = browser.run(
        "return Object.fromEntries(element('graph').data.map(({name, x, y}) =>"
        " [name, {start: x.map(utc), mw: y}]))"
    )
    for name, values in means.items():
        line = pd.DataFrame(drawn[TITLES[str(name)]]).astype(float)
        left, right = line[::2].reset_index(drop=True), line[1::2].reset_index(drop=True)
        assert left["mw"].to_list() == pytest.approx(values.to_list(), abs=0.011, nan_ok=True)
        assert left["mw"].equals(right["mw"])
        assert list(pd.to_datetime(left["start"], unit="ms", utc=True)) == list(values.index)
        assert right["start"][:-1].to_list() == left["start"][1:].to_list()


def assert_box(browser: Browser, means: pd.DataFrame, place: int, title: str) -> None:
    """With the mouse over one of the means, the box shows its known values."""
    known = means.iloc[place].dropna()
    lines = [f"▬ {TITLES[str(name)]}: {mw:,.0f} MW" for name, mw in known.items()]
    browser.hover(".nsewdrag", (place + 0.5) / len(means))
    text = "return document.querySelector('.hoverlayer text')?.textContent ?? ''"
    expected = title + "".join(lines)
    assert browser.until(text, expected) == expected


def test_each_range_shows_what_the_store_holds(
    browser: Browser, synthetic_api: Simulator, tmp_path: Path
) -> None:
    """From the API to the page by the project's own assets, over a clock change."""
    settings = Settings(start_date=date(2022, 12, 1), page_url="http://localhost:3001/")
    with DagsterInstance.ephemeral() as instance:
        project = Project(tmp_path, synthetic_api.url, instance, settings, 60.0)
        assert project.materialize("2022-12-01", "2023-04-01").success
        run = project.definitions.resolve_job_def("today_job").execute_in_process(
            partition_key="2023-04-02", instance=instance
        )
    (materialization,) = run.asset_materializations_for_node("demand_dashboard")
    metadata = materialization.metadata
    assert metadata["page"] == MetadataValue.url("http://localhost:3001/")
    assert "data:image/svg+xml" in str(metadata["preview"].value)
    stored = project.stored()
    real = stored[REAL].dropna()
    assert metadata["last_hour"] == MetadataValue.timestamp(real.index[-1].to_pydatetime())
    last_day = real[real.index >= day_hours(date(2023, 4, 2))[0]]
    assert metadata["peak_mw"].value == last_day.max()
    browser.open(page_file(str(tmp_path)).as_uri())
    end = stored.index[-1].tz_convert(TIME_ZONE.key).date()
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
    assert browser.console_messages() == []
    assert browser.requested_hosts() <= {""}


def test_graph_and_hover_box_show_the_known_values(browser: Browser, tmp_path: Path) -> None:
    frame = hours("2021-12-01", "2023-04-02")  # more than a year
    frame.loc[day_hours(date(2023, 3, 30))[1] : day_hours(date(2023, 3, 30))[-2], REAL] = np.nan
    frame.loc[day_hours(date(2023, 4, 1))[-1] :, REAL] = np.nan
    frame.loc[day_hours(date(2023, 4, 2))[3], REAL] = 25_000  # one hour by itself
    browser.open(written(frame, tmp_path) + "#all")
    assert_draws(browser, means_of_days(frame))
    browser.click('[data-days="365"]')
    year = frame.loc[day_hours(date(2022, 4, 3))[0] :]
    assert len(year) == 365 * 24
    assert_shows(browser, year)
    days = means_of_days(year)
    assert_draws(browser, days)
    assert_box(browser, days, 200, "Thu 20 Oct 2022, mean of the day")
    browser.click('[data-days="7"]')
    week = frame.loc[day_hours(date(2023, 3, 27))[0] :]
    assert_draws(browser, week)
    assert_box(browser, week, 83, "Thu 30 Mar 2023, 11:00")
    assert_box(browser, week, 147, "Sun 2 Apr 2023, 03:00")
    browser.click('[data-days="1"]')
    assert_box(browser, week[-24:], 2, "Sun 2 Apr 2023, 02:00")
    # A hidden line stays hidden, and is not in the box.
    assert browser.run("return untouched()")
    browser.click(".legendtoggle")
    hidden = "return element('graph').data.map(({visible}) => visible).at(-2)"
    assert browser.until(hidden, "legendonly") == "legendonly"
    assert not browser.run("return untouched()")
    others = week[[FORECAST, MODEL]]
    assert_box(browser, others[-24:], 3, "Sun 2 Apr 2023, 03:00")
    browser.click('[data-days="7"]')
    assert_box(browser, others, 40, "Tue 28 Mar 2023, 16:00")
    assert browser.console_messages() == []


def test_day_of_25_hours_has_all_of_them_in_order(browser: Browser, tmp_path: Path) -> None:
    frame = hours("2023-10-20", "2023-10-29")
    browser.open(written(frame, tmp_path) + "#1")
    rows = browser.run(CELLS)
    assert [row[0][-5:] for row in rows].count("02:00") == 2
    assert len(rows) == 25
    day = frame.loc[day_hours(date(2023, 10, 29))]
    newest_first = [f"{mw:,.0f}" for mw in day[REAL].round(2)[::-1]]
    assert [row[1] for row in rows] == newest_first
    browser.click("th:nth-child(2) button")  # by measured demand, lowest first
    sorted_rows = [float(row[1].replace(",", "")) for row in browser.run(CELLS)]
    assert sorted_rows == sorted(sorted_rows)
    browser.click("th:nth-child(2) button")
    assert [float(row[1].replace(",", "")) for row in browser.run(CELLS)] == sorted_rows[::-1]


def test_day_without_measured_hours_has_no_figures(browser: Browser, tmp_path: Path) -> None:
    today = datetime.now(TIME_ZONE).date()
    frame = hours(str(today), str(today))
    frame[REAL] = np.nan
    browser.open(written(frame, tmp_path))
    assert browser.value("peak") is browser.value("mape") is browser.value("difference") is None
    assert browser.text("#age") == "nothing measured yet"
    assert browser.console_messages() == []


def test_empty_store_is_reported(browser: Browser, tmp_path: Path) -> None:
    browser.open(written(hours("2023-01-01", "2023-01-01").iloc[:0], tmp_path))
    for button in ('[data-days="7"]', "#earlier"):
        browser.click(button)
    assert browser.text("#range") == "Nothing is stored yet."
    assert browser.console_messages() == []


@pytest.mark.parametrize(
    ("minutes", "text", "color"),
    [
        (0, "0 minutes", "good"),
        (59, "59 minutes", "good"),
        (60, "60 minutes", "good"),
        (79, "79 minutes", "good"),
        (81, "81 minutes", "fair"),
        (119, "119 minutes", "fair"),
        (121, "2 hours", "bad"),
        (47 * 60, "47 hours", "bad"),
        (49 * 60, "2 days", "bad"),
    ],
)
def test_age_of_the_newest_measured_hour(
    browser: Browser, tmp_path: Path, minutes: int, text: str, color: str
) -> None:
    frame = hours("2023-01-01", "2023-01-02")
    end = day_hours(date(2023, 1, 2))[12]
    frame.loc[end:, REAL] = np.nan  # the last hours are only forecast
    browser.open(written(frame, tmp_path))
    assert browser.text("#age").endswith("days ago")  # by the clock of this machine
    age_at(browser, end + pd.Timedelta(minutes=minutes))
    assert browser.text("#age") == f"measured until {text} ago"
    assert browser.run("return element('age').className") == f"pill {color}"


def test_age_changes_color_at_the_thresholds_of_the_settings(
    browser: Browser, tmp_path: Path
) -> None:
    frame = hours("2023-01-01", "2023-01-01")
    limits = Freshness(timedelta(minutes=30), timedelta(minutes=45))
    browser.open(written(frame, tmp_path, limits))
    for minutes, color in ((29, "good"), (31, "fair"), (44, "fair"), (46, "bad")):
        age_at(browser, frame.index[-1] + pd.Timedelta(hours=1, minutes=minutes))
        assert browser.run("return element('age').className") == f"pill {color}"


def age_at(browser: Browser, now: pd.Timestamp) -> None:
    """Show the age as it is at the given time."""
    browser.run(f"Date.now = () => {now.timestamp() * 1000}; showAge()")


def test_gauge_has_the_bands_of_the_influxdb_dashboard(browser: Browser, tmp_path: Path) -> None:
    browser.open(written(hours("2023-01-01", "2023-01-01"), tmp_path))
    gauge = browser.run("return element('gauge').data[0].gauge")
    good, fair, bad = browser.run("return ['--good', '--fair', '--bad'].map(colors())")
    assert [(step["color"], step["range"]) for step in gauge["steps"]] == [
        (bad, [-500, -250]),
        (fair, [-250, -100]),
        (good, [-100, 100]),
        (fair, [100, 250]),
        (bad, [250, 500]),
    ]
    assert gauge["axis"]["range"] == [-500, 500]
    _, dashboard = build_template()
    (cell,) = [c for c in dashboard["spec"]["charts"] if c["kind"] == "Gauge"]
    limits = [color["value"] for color in cell["colors"]]
    assert limits == [step["range"][0] for step in gauge["steps"]] + [500]


def test_every_series_of_the_grid_is_drawn_and_listed(
    browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = hours("2023-01-01", "2023-01-02")
    frame[PROGRAMMED.column] = frame[FORECAST] - 300
    legend = "return [...document.querySelectorAll('.legendtext')].map((e) => e.textContent)"
    browser.open(written(frame, tmp_path) + "#1")
    assert browser.run(legend) == ["Measured", "Operator's forecast", "Next-day forecast"]
    monkeypatch.setattr(grid, "SERIES", (*grid.SERIES, PROGRAMMED))
    browser.open(written(frame, tmp_path) + "#1")
    titles = ["Measured", "Operator's forecast", "Programmed", "Next-day forecast"]
    assert browser.run(legend) == titles
    day = frame[-24:][[REAL, FORECAST, PROGRAMMED.column, MODEL]]
    assert_draws(browser, day)
    assert_shows(browser, day)
    assert_box(browser, day, 2, "Mon 2 Jan 2023, 02:00")
    heads = "return [...document.querySelectorAll('th button')].map((e) => e.textContent)"
    assert browser.run(heads) == ["Hour ▾", *titles, "Difference"]
    programmed = [f"{mw:,.0f}" for mw in day[PROGRAMMED.column].round(2)[::-1]]
    assert [row[3] for row in browser.run(CELLS)] == programmed
    styles = """return Object.fromEntries(element("graph").data.map(
        ({name, line}) => [name, [line.color, line.dash, line.width]]))"""
    lines = browser.run(styles)
    assert lines["Measured"] == ["rgb(37, 99, 235)", "solid", 2.5]
    assert lines["Operator's forecast"] == ["rgb(245, 158, 11)", "solid", 1.5]
    assert lines["Programmed"] == ["rgb(139, 92, 246)", "solid", 1.5]
    assert lines["Next-day forecast"] == ["rgb(16, 185, 129)", "dot", 2]
    assert browser.console_messages() == []


@pytest.mark.parametrize("dark", [False, True])
def test_page_fits_a_phone_in_light_and_dark(browser: Browser, tmp_path: Path, dark: bool) -> None:
    frame = hours("2023-01-01", "2023-02-01")
    frame.loc[day_hours(date(2023, 1, 31))[12] :, REAL] = np.nan  # in the future
    page = written(frame, tmp_path)
    browser.open(page, width=360, height=740, dark=dark)
    assert browser.run("return document.documentElement.scrollWidth") <= 360
    ground = browser.run("return getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(13, 17, 23)") == dark
    measured = "rgb(113, 154, 242)" if dark else "rgb(37, 99, 235)"
    assert browser.run("return element('graph').data.at(-2).line.color") == measured
    smallest = browser.run(
        "return Math.min(...[...document.querySelectorAll('nav button')]"
        ".map(b => b.getBoundingClientRect().height))"
    )
    assert smallest >= 36  # px: large enough for a thumb
    browser.swipe_up(".nsewdrag", 200)
    assert browser.until("return scrollY > 100 && pressed", "7") == "7"  # scrolled, not zoomed
    browser.run("element('hours-table').scrollIntoView()")
    seen = """const table = element("hours-table").getBoundingClientRect();
        const head = document.querySelector("th").getBoundingClientRect();
        const row = document.elementFromPoint(table.left + 20, head.bottom + 10).parentNode;
        return [...row.cells].map((cell) => {
            const {left, right} = cell.getBoundingClientRect();
            return [cell.textContent, left >= table.left && right <= table.right]; })"""
    newest = frame[REAL].dropna().iloc[-1]
    assert browser.run(seen)[:2] == [["31 Jan 2023, 11:00", True], [f"{newest:,.0f}", True]]
    browser.run("element('hours-table').scrollLeft = 200")
    assert browser.run(seen)[0] == ["31 Jan 2023, 11:00", True]
    browser.resize(390, 740)
    labels = "[...document.querySelectorAll('.xtick text')]"
    assert browser.until(f"return {labels}.length", 4) == 4
    boxes = f"return {labels}.map((e) => e.getBoundingClientRect()).map((b) => [b.left, b.right])"
    assert all(right < left for (_, right), (left, _) in itertools.pairwise(browser.run(boxes)))
    assert browser.console_messages() == []


def test_dragging_over_the_graph_shows_that_part(browser: Browser, tmp_path: Path) -> None:
    frame = hours("2023-01-01", "2023-01-30")
    browser.open(written(frame, tmp_path) + "#30")
    browser.drag(".nsewdrag", 0.3, 0.4)
    start, stop = pd.to_datetime(browser.run("return [shown.from, shown.to].map(utc)"), unit="ms")
    part = frame.loc[str(start) : str(stop - pd.Timedelta(hours=1))]
    assert abs(len(part) - 0.1 * len(frame)) <= 3
    assert abs(start.tz_localize("UTC") - frame.index[216]) <= pd.Timedelta(hours=3)
    assert_shows(browser, part)
    browser.click('[data-days="1"]')
    # Parts of hours select whole ones: two hours of the day, then one of these, and never less.
    for start_part, end_part, first in [(0.44, 0.48, 10), (0.6, 0.9, 11), (0.2, 0.8, 11)]:
        browser.drag(".nsewdrag", start_part, end_part)
        text = f"Mon 30 Jan 2023, {first}:00{TO}12:00"
        assert browser.until("return element('range').textContent", text) == text
        axis = browser.run("return element('graph').layout.xaxis")
        assert axis["range"] == browser.run("return [shown.from, shown.to]")
        assert axis["ticktext"] == [f"{hour}:00" for hour in range(first, 12)]


def test_dragging_over_days_shows_whole_ones(browser: Browser, tmp_path: Path) -> None:
    frame = hours("2022-10-01", "2023-03-31")
    browser.open(written(frame, tmp_path) + "#all")
    browser.drag(".nsewdrag", 10.4 / 182, 150.4 / 182)
    text = f"Tue 11 Oct 2022{TO}Tue 28 Feb 2023"
    assert browser.until("return element('range').textContent", text) == text
    part = frame.loc[day_hours(date(2022, 10, 11))[0] : day_hours(date(2023, 2, 28))[-1]]
    assert_draws(browser, means_of_days(part))
    assert_shows(browser, part)
    # The keyboard's focus stays on a button at the end of the range.
    for _ in range(3):
        browser.driver.find_element("id", "earlier").send_keys(Keys.ENTER)
    assert browser.text("#range").startswith("Sat 1 Oct 2022")
    assert browser.run("return document.activeElement.id") == "earlier"
    browser.resize(360, 740)
    labels = "return element('graph').layout.xaxis.ticktext.join(', ')"
    assert browser.until(labels, "Oct 22, Dec 22, Feb 23") == "Oct 22, Dec 22, Feb 23"


@pytest.mark.parametrize("width", [320, 390, 768, 1280])
def test_labels_of_the_time_axis_do_not_overlap(
    browser: Browser, tmp_path: Path, width: int
) -> None:
    browser.open(written(hours("2021-12-01", "2023-04-02"), tmp_path), width=width, height=800)
    labels = "[...document.querySelectorAll('.xtick text')]"
    boxes = f"return {labels}.map((e) => e.getBoundingClientRect()).map((b) => [b.left, b.right])"
    for days in ("1", "7", "30", "365", "all"):
        browser.click(f'[data-days="{days}"]')
        found = sorted(browser.run(boxes))
        assert len(found) >= 2
        assert all(right + 4 < left for (_, right), (left, _) in itertools.pairwise(found)), days
    assert browser.run("return document.documentElement.scrollWidth") <= width


def test_address_keeps_the_range(browser: Browser, tmp_path: Path) -> None:
    address = written(hours("2023-03-01", "2023-04-02"), tmp_path)
    browser.open(address + "#7")
    browser.click("#earlier")
    assert browser.run("return location.hash") == "#range=2023-03-19T23:00Z/2023-03-26T22:00Z"
    text = browser.text("#range")
    assert text == f"Mon 20 Mar 2023{TO}Sun 26 Mar 2023"
    link = browser.run("return location.href")
    browser.open(address)
    browser.open(link)
    assert browser.text("#range") == text
    browser.drag(".nsewdrag", 0.3, 0.4)
    assert browser.until("return shown.to - shown.from < 24", True) is True
    part = browser.text("#range")
    browser.driver.refresh()
    assert browser.text("#range") == part
    # A new fragment in the address bar; more than is stored; nothing that is a range.
    for fragment, expected in (
        ("1", "Sun 2 Apr 2023"),
        ("range=2020-01-01T00:00Z/2023-03-01T23:00Z", "Wed 1 Mar 2023"),
        ("range=2030-01-01T00:00Z/2031-01-01T00:00Z", "Sun 2 Apr 2023"),
        ("range=yesterday/<b>", "Sun 2 Apr 2023"),
    ):
        browser.run(f"location.hash = '{fragment}'")
        script = "return element('range').textContent"
        assert browser.until(script, expected) == expected
    assert browser.console_messages() == []


def test_hours_shown_are_downloaded_as_csv(browser: Browser, tmp_path: Path) -> None:
    frame = hours("2022-10-28", "2022-10-31")
    frame.loc[day_hours(date(2022, 10, 30))[5], REAL] = np.nan
    frame.loc[day_hours(date(2022, 10, 30))[7]] = np.nan
    browser.open(written(frame, tmp_path) + "#1")
    browser.click("#earlier")  # the day of 25 hours
    folder = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.driver.execute_cdp_cmd("Browser.setDownloadBehavior", folder)
    browser.driver.find_element("id", "download").send_keys(Keys.ENTER)
    file = tmp_path / "demand-2022-10-30-to-2022-10-30.csv"
    WebDriverWait(browser.driver, 5, 0.05).until(lambda _: file.exists())
    read = pd.read_csv(file, index_col="utc", parse_dates=True)
    day = frame.loc[day_hours(date(2022, 10, 30))].dropna(how="all")
    assert list(read.index) == list(day.index)
    assert [pd.Timestamp(text) for text in read["madrid"]] == list(day.index)
    assert read["madrid"][1:4].to_list() == [
        f"2022-10-30T0{hour}:00+0{offset}:00" for hour, offset in ((1, 2), (2, 2), (2, 1))
    ]
    for field in (REAL, FORECAST, MODEL):
        assert read[field].to_list() == pytest.approx(day[field].round(2).to_list(), nan_ok=True)


def test_controls_have_names_and_are_reached_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    browser.open(written(hours("2023-01-01", "2023-01-10"), tmp_path))
    seen = []
    for _ in range(14):
        browser.driver.switch_to.active_element.send_keys(Keys.TAB)
        seen.append(browser.driver.switch_to.active_element.accessible_name)
    assert [name.rstrip(" ▾") for name in seen] == [
        *("Day", "Week", "Month", "Year", "All", "Earlier", "Later", "CSV"),
        *("Hours, in MW", "Hour", "Measured", "Operator's forecast", "Next-day forecast"),
        "Difference",
    ]
    week = browser.driver.find_element("css selector", '[data-days="7"]')
    assert week.get_attribute("aria-pressed") == "true"
    roles = {name: browser.driver.find_element("id", name).aria_role for name in ("range", "graph")}
    assert roles == {"range": "status", "graph": "image"}


def test_name_of_the_store_is_escaped_and_not_a_placeholder() -> None:
    page = demand_page(
        hours("2023-01-01", "2023-01-01"),
        store="bucket {{plotly}} <b>",
        written=datetime.now(UTC),
        freshness=Freshness(),
    )
    assert "From bucket {{plotly}} &lt;b&gt;, written" in page
    assert len(page) < 6e6


def test_page_is_served_on_this_machine_only(tmp_path: Path) -> None:
    file = UPath(tmp_path) / "index.html"
    with PageServer(file, 0) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        assert server.server_address[0] == "127.0.0.1"

        def request(path: str = "") -> tuple[int, str]:
            try:
                with urllib.request.urlopen(server.url + path, timeout=10) as answer:
                    return answer.status, answer.read().decode()
            except HTTPError as error:
                return error.code, error.read().decode()

        status, text = request()
        assert status == 503 and "demand_dashboard" in text
        file.write_text("the page")
        assert request() == (200, "the page")
        assert request("../settings.py")[0] == 404
        with PageServer(file, server.server_port) as another:
            assert another.server_port != server.server_port
        server.shutdown()


def test_closed_connection_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = UPath(tmp_path) / "index.html"
    file.write_bytes(bytes(20_000_000))  # more than the buffers of a connection hold
    with PageServer(file, 0) as server:
        server.daemon_threads = False  # so that the server waits for them at its end
        Thread(target=server.serve_forever, daemon=True).start()
        reader = socket.create_connection(("127.0.0.1", server.server_port))
        reader.sendall(b"GET / HTTP/1.0\r\n\r\n")
        reader.recv(1000)
        reader.close()
        server.shutdown()
    assert capsys.readouterr().err == ""


def test_address_is_printed_as_soon_as_there_is_a_page(
    tmp_path: Path, pauses: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    file = UPath(tmp_path) / "index.html"
    file.write_text("the page of yesterday")
    with PageServer(file, 0) as server:
        print_address_when_ready(server)
        assert capsys.readouterr().out == f"\nThe dashboard: {server.url}\n\n"
    assert pauses == []
