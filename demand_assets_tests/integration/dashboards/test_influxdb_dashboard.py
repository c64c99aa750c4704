"""The InfluxDB dashboard: its queries compiled, run over recorded days, and applied to a server."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from demand_assets import grid
from demand_assets.dashboards.influxdb import apply_dashboard
from demand_assets.dashboards.template import DEFAULT_BUCKET, QUERIES, build_template, query
from demand_assets.demand.figures import describe_frame
from demand_assets.demand.hourly import hourly_frame
from demand_assets.grid import FORECAST, MODEL, REAL
from demand_assets.redata import read_samples
from demand_assets.settings import PROJECT
from demand_assets.stores.influxdb import InfluxDB, InfluxDBAccessError
from demand_assets_tests.conftest import LONG_AFTER, recorded_answer
from demand_assets_tests.support.running_system import NO_SETTINGS
from demand_assets_tests.support.series import PROGRAMMED
from demand_assets_tests.support.servers import (
    FluxCompiler,
    InfluxDB2,
    Reply,
    free_port,
    scripted_server,
)
from demand_assets_tests.support.stores import over, refused, write_lines

NAMES = sorted(file.stem for file in QUERIES.glob("*.flux"))
DAYS = ["2022-03-27", "2022-10-30", "2023-02-19", "2023-02-20", "2024-06-16"]
"""Days of 23 and 25 hours, two of 24, and one whose last three hours are only forecast."""


def with_range(text: str, start: str, stop: str, window: str) -> str:
    """A query as the dashboard runs it."""
    record = f"timeRangeStart: {start}, timeRangeStop: {stop}, windowPeriod: {window}"
    return with_options(text, f"option v = {{{record}}}")


def with_options(text: str, options: str) -> str:
    """A query with options, which come after its imports."""
    return re.sub(r"\A((?://.*\n|import .*\n)*)", lambda head: f"{head[1]}{options}\n", text)


# Compiled


def test_every_query_compiles(flux: FluxCompiler, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [(QUERIES / f"{name}.flux").read_text() for name in NAMES]
    other_bucket = [query(name, 'a "b" ${c}') for name in NAMES]
    monkeypatch.setattr(grid, "SERIES", (*grid.SERIES, PROGRAMMED))
    third_series = [query(name) for name in NAMES]
    texts = [*files, *other_bucket, *third_series]
    assert flux([with_range(text, "-24h", "now()", "1680000ms") for text in texts]) == [[]] * 21


@pytest.mark.parametrize(
    ("right", "wrong", "error"),
    [
        ("range(", "rang(", "undefined identifier rang"),
        ('"capstone7"', "7", "expected string but found int"),
        ("v.timeRangeStop", "v.timeRangeEnd", "record is missing label timeRangeEnd"),
    ],
)
def test_compiler_finds_mistakes(flux: FluxCompiler, right: str, wrong: str, error: str) -> None:
    text = with_range(query("energy"), "-24h", "now()", "1h")
    no_errors, errors = flux([text, text.replace(right, wrong)])
    assert no_errors == []
    assert error in " ".join(errors)


# Run


@dataclass(frozen=True)
class Stored:
    """Hours in a bucket, and the queries of its dashboard."""

    server: InfluxDB2
    bucket: str
    hours: pd.DataFrame
    """The stored hours: RealDemand, ForecastDemand and ForecastModel, in MW."""

    def run(
        self,
        name: str,
        start: datetime,
        stop: datetime,
        window: str = "1h",
        now: datetime = LONG_AFTER,
    ) -> list[dict[str, str]]:
        first, end, present = (f"{instant:%Y-%m-%dT%H:%M:%SZ}" for instant in (start, stop, now))
        text = with_range(query(name, self.bucket), first, end, window)
        return self.server.flux(with_options(text, f"option now = () => {present}"))

    def figure(self, name: str, start: datetime, stop: datetime, **more: Any) -> float | None:
        """The single figure that a query returns, or None if it returns no row."""
        rows = self.run(name, start, stop, **more)
        assert len(rows) <= 1
        return float(rows[0]["_value"]) if rows else None

    def within(self, start: datetime, stop: datetime) -> pd.DataFrame:
        return self.hours[(self.hours.index >= start) & (self.hours.index < stop)]


def write(influxdb2: InfluxDB2, bucket: str, frame: pd.DataFrame) -> None:
    over(influxdb2.url, org=influxdb2.org, bucket=bucket, token=influxdb2.token).write(frame)


@pytest.fixture(scope="module")
def stored(influxdb2: InfluxDB2, recordings: Path) -> Stored:
    """Recorded days, one with a forecast of the model, and one hour without any forecast; beside
    them series of another program."""

    def hours_of(day: date) -> pd.DataFrame:
        return hourly_frame(
            read_samples(recorded_answer(recordings, day), day), day, now=LONG_AFTER
        )

    frame = pd.concat([hours_of(date.fromisoformat(day)) for day in DAYS])
    frame[MODEL] = (frame[FORECAST] + 10).where(frame.index.strftime("%Y-%m-%d") == "2023-02-20")  # type: ignore[attr-defined]
    frame.loc[pd.Timestamp("2023-02-19T12:00Z"), FORECAST] = float("nan")
    bucket = influxdb2.create_bucket()
    write(influxdb2, bucket, frame)
    # Series of another program, in the same measurement and fields.
    write_lines(
        over(influxdb2.url, org=influxdb2.org, bucket=bucket, token=influxdb2.token),
        *(
            f"demand,{tags} {REAL}=99000,{FORECAST}=1,{MODEL}=7 {int(hour.timestamp())}"
            for hour in frame.index
            for tags in ("source=old", "_plant=x,source=old")
        ),
    )
    return Stored(influxdb2, bucket, frame)


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


RANGES = {
    "a day of 23 hours": (utc("2022-03-26T23:00"), utc("2022-03-27T22:00")),
    "a day of 25 hours": (utc("2022-10-29T22:00"), utc("2022-10-30T23:00")),
    "two days": (utc("2023-02-18T23:00"), utc("2023-02-20T23:00")),
    "cut within hours": (utc("2023-02-19T03:37"), utc("2023-02-20T09:11")),
    "years": (utc("2022-01-01T00:00"), utc("2025-01-01T00:00")),
    "a day that is not over": (utc("2024-06-15T22:00"), utc("2024-06-16T22:00")),
    "only a forecast": (utc("2024-06-16T21:00"), utc("2024-06-16T23:00")),
    "nothing": (utc("2019-01-01T00:00"), utc("2019-02-01T00:00")),
}
RANGE = pytest.mark.parametrize(("start", "stop"), RANGES.values(), ids=RANGES)
WINDOW = pytest.mark.parametrize(
    ("window", "hours"),
    [
        *[("1m", 1), ("7m", 1), ("1680000ms", 1), ("1h", 1), ("90m", 2), ("3h", 3), ("4h", 4)],
        *[("5h", 6), ("7h", 8), ("11h", 12), ("13h", 24), ("1d", 24), ("30h", 48), ("87h", 96)],
    ],
)


def means(frame: pd.DataFrame, start: datetime, hours: int) -> pd.DataFrame:
    """Means of windows on Madrid's clock; the start of the range may cut the first window."""
    if hours == 1:
        windows = pd.DatetimeIndex(frame.index).floor("h")
    else:
        clock = pd.DatetimeIndex(frame.index).tz_convert(grid.TIME_ZONE.key).tz_localize(None)
        local = clock.floor(f"{hours}h")
        # When the clock goes forward at 2:00, a window that would start then starts at 3:00.
        windows = local.tz_localize(
            grid.TIME_ZONE.key, ambiguous=np.ones(len(local), bool), nonexistent="shift_forward"
        ).tz_convert("UTC")
    return frame.groupby(windows.where(windows >= pd.Timestamp(start), pd.Timestamp(start))).mean()


def on_the_clock(time: pd.Timestamp) -> str:
    text = f"{time.tz_convert(grid.TIME_ZONE.key):%Y-%m-%d %H:%M %z}"
    return f"{text[:-2]}:{text[-2:]}"


def assert_equal(
    rows: list[dict[str, str]], column: str, expected: pd.Series, *, whole: bool = False
) -> None:
    """The known values of a column, in order of time; whole MW if ``whole``."""
    known = expected.dropna()
    got = {pd.Timestamp(r["_time"]): float(r[column]) for r in rows if r.get(column)}
    assert list(got) == list(known.index)
    if whole:
        assert all(value.is_integer() for value in got.values())
        assert list(got.values()) == pytest.approx(list(known), rel=0, abs=0.5 + 1e-6)
    else:
        assert list(got.values()) == pytest.approx(list(known), rel=1e-12)


@RANGE
@WINDOW
def test_graph_shows_the_means_of_windows(
    stored: Stored, start: datetime, stop: datetime, window: str, hours: int
) -> None:
    rows = stored.run("graph", start, stop, window=window)
    expected = means(stored.within(start, stop), start, hours)
    for field in (REAL, FORECAST, MODEL):
        line = [r for r in rows if r["_field"] == field]
        assert_equal(line, "_value", expected[field], whole=True)
    # The graph assigns its colors in the order of the lines.
    order = [f for f in (FORECAST, REAL, MODEL) if expected[f].notna().any()]
    assert list(dict.fromkeys(r["_field"] for r in rows)) == order
    assert {r["series"].split()[-1] for r in rows} == set(order)


@RANGE
@WINDOW
def test_table_has_a_row_for_each_window(
    stored: Stored, start: datetime, stop: datetime, window: str, hours: int
) -> None:
    rows = stored.run("table", start, stop, window=window)
    expected = means(stored.within(start, stop), start, hours)
    assert len(rows) == len(expected)
    for field in (REAL, FORECAST):
        assert_equal(rows, field, expected[field])
    assert [row["from"] for row in rows] == [on_the_clock(time) for time in expected.index]
    assert {row["window"] for row in rows} <= {f"{hours} h" if hours < 24 else f"{hours // 24} d"}
    columns = {name for row in rows for name in row} - {"", "result", "table"}
    assert columns <= {"_time", "from", "window", REAL, FORECAST}


def test_hour_that_is_not_over_is_not_in_the_table(stored: Stored) -> None:
    start, stop = RANGES["a day that is not over"]
    frame = stored.within(start, stop)
    running = frame[REAL].dropna().index[-1] + pd.Timedelta(hours=1)
    for minutes in (0, 1, 59):
        now = running + pd.Timedelta(minutes=minutes)
        times = [pd.Timestamp(row["_time"]) for row in stored.run("table", start, stop, now=now)]
        # Forecasts of later hours are shown.
        assert times == [time for time in frame.index if time != running]
    # A longer window that is not over is there as soon as one of its hours is measured.
    now = running + pd.Timedelta(minutes=1)
    frame = means(frame, start, 12)
    rows = stored.run("table", start, stop, "12h", now=now)
    assert [pd.Timestamp(row["_time"]) for row in rows] == list(frame.index)


def test_graph_and_table_read_every_series_of_the_grid(
    influxdb2: InfluxDB2, stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, stop = RANGES["two days"]
    frame = stored.within(start, stop)
    frame = frame.assign(**{PROGRAMMED.column: frame[FORECAST] - 100}).assign(Other=1.0)
    third = Stored(influxdb2, influxdb2.create_bucket(), frame)
    write(influxdb2, third.bucket, frame)
    monkeypatch.setattr(grid, "SERIES", (*grid.SERIES, PROGRAMMED))
    graph, table = (third.run(name, start, stop) for name in ("graph", "table"))
    fields = [FORECAST, PROGRAMMED.column, REAL, MODEL]
    assert list(dict.fromkeys(row["_field"] for row in graph)) == fields
    for field in fields:
        assert_equal(
            [row for row in graph if row["_field"] == field], "_value", frame[field], whole=True
        )
    for field in (REAL, FORECAST, PROGRAMMED.column):
        assert_equal(table, field, frame[field])
    assert "Other" not in table[0] and MODEL not in table[0]


def test_only_means_are_filtered_by_series(stored: Stored) -> None:
    """The filter cannot be pushed down to storage, so each point before it is read by Flux."""
    option = 'import "profiler"\noption profiler.enabledProfilers = ["operator"]'
    # The storage engine has windows of UTC only.
    means_of = {
        "1h": "*influxdb.readWindowAggregateSource",
        "3h": "*universe.aggregateWindowTransformation",
    }
    for window, mean in means_of.items():
        text = with_range(query("graph", stored.bucket), "2022-01-01T00:00:00Z", "now()", window)
        rows = stored.server.flux(with_options(text, option))
        operators = [row["Type"] for row in rows if row.get("Type")]
        (place,) = [n for n, name in enumerate(operators) if "filterTransformation" in name]
        assert place > operators.index(mean)


@RANGE
def test_figures_are_those_of_the_hours(stored: Stored, start: datetime, stop: datetime) -> None:
    frame = stored.within(start, stop)
    figures = describe_frame(frame, start.date())
    real = frame[REAL].dropna()
    bias = figures.get("forecast_bias_mw")
    expected = {
        "difference": None if bias is None else -bias,
        "mape": figures.get("forecast_mape_percent"),
        "peak": figures.get("peak_mw"),
        "energy": real.sum() / 1000 if len(real) else None,
    }
    for window in ("1m", "1d"):
        for name, value in expected.items():
            got = stored.figure(name, start, stop, window=window)
            assert got == (None if value is None else pytest.approx(value, rel=1e-9)), name
    for row in stored.run("peak", start, stop):
        assert row["from"] == on_the_clock(pd.DatetimeIndex(real.index)[int(real.argmax())])


def test_age_counts_from_the_end_of_the_newest_measured_hour(stored: Stored) -> None:
    start, stop = RANGES["a day that is not over"]
    newest = stored.within(start, stop)[REAL].dropna().index[-1]
    for age in (timedelta(0), timedelta(minutes=80), timedelta(days=400)):
        now = newest + timedelta(hours=1) + age
        # A range that extends into the future, as for forecasts, changes nothing.
        got = stored.figure("age", start, stop + timedelta(days=2), now=now)
        end = min(now, stop + timedelta(days=2))
        assert got == pytest.approx((end - newest) / timedelta(hours=1) - 1, abs=1e-9)
    # A past range has the age at its end; 0 if it ends within a measured hour.
    assert stored.figure("age", *RANGES["two days"]) == 0
    assert stored.figure("age", *RANGES["cut within hours"]) == 0
    assert stored.figure("age", start, newest + timedelta(hours=3)) == pytest.approx(2)
    for nothing in ("only a forecast", "nothing"):
        assert stored.figure("age", *RANGES[nothing]) is None


def test_hour_without_demand_has_no_percentage_error(influxdb2: InfluxDB2) -> None:
    index = pd.date_range("2023-01-01", periods=3, freq="h", tz="UTC", name="time")
    frame = pd.DataFrame({REAL: [0.0, 100.0, 200.0], FORECAST: [5.0, 110.0, 160.0]}, index=index)
    bucket = influxdb2.create_bucket()
    write(influxdb2, bucket, frame)
    day = (utc("2023-01-01T00:00"), utc("2023-01-02T00:00"))
    zeros = Stored(influxdb2, bucket, frame)
    assert zeros.figure("mape", *day) == pytest.approx((10 + 20) / 2)
    assert zeros.figure("difference", *day) == pytest.approx((-5 - 10 + 40) / 3)


# Applied


Connect = Callable[..., InfluxDB]


@pytest.fixture
def connect(influxdb2: InfluxDB2) -> Connect:
    """Creates connections to a bucket of the server, by default with the operator's token."""

    def connect(bucket: str, **changes: Any) -> InfluxDB:
        settings = {"url": influxdb2.url, "org": influxdb2.org, "token": influxdb2.token}
        return InfluxDB(**{**settings, **changes}, bucket=bucket)

    return connect


def dashboards(influxdb2: InfluxDB2, bucket: str) -> list[dict[str, Any]]:
    """The dashboards of a bucket; other tests have their own."""
    found = influxdb2.api("dashboards?limit=100")["dashboards"]
    return [d for d in found if f"({bucket})" in d["name"]]


def link_of(influxdb2: InfluxDB2, dashboard: dict[str, Any]) -> str:
    page = f"{influxdb2.url}/orgs/{dashboard['orgID']}/dashboards/{dashboard['id']}"
    return f"{page}?lower=now%28%29%20-%207d"


def bucket_of(influxdb2: InfluxDB2, bucket: str) -> dict[str, Any]:
    ((found),) = influxdb2.api(f"buckets?name={bucket}")["buckets"]
    return found


def delete(influxdb: InfluxDB, path: str) -> None:
    with influxdb.get_client() as client:
        client.api_client.call_api(f"/api/v2/{path}", "DELETE")


def test_applied_twice_there_is_one_dashboard_and_a_deleted_one_is_created_again(
    influxdb2: InfluxDB2, connect: Connect
) -> None:
    influxdb = connect(influxdb2.create_bucket())
    once, twice = apply_dashboard(influxdb), apply_dashboard(influxdb)
    assert once == twice
    (found,) = dashboards(influxdb2, influxdb.bucket)
    assert once.name == found["name"]
    assert once.link == link_of(influxdb2, found)

    delete(influxdb, f"dashboards/{found['id']}")
    assert dashboards(influxdb2, influxdb.bucket) == []
    assert apply_dashboard(influxdb) == apply_dashboard(influxdb) != once
    assert len(dashboards(influxdb2, influxdb.bucket)) == 1


def test_applied_three_times_at_once_there_is_one_dashboard(influxdb2: InfluxDB2) -> None:
    settings = {
        "INFLUXDB_V2_URL": influxdb2.url,
        "INFLUXDB_V2_ORG": influxdb2.org,
        "INFLUXDB_V2_TOKEN": influxdb2.token,
        "INFLUXDB_V2_BUCKET": influxdb2.create_bucket(),
    }
    with ThreadPoolExecutor(3) as pool:
        done = list(pool.map(lambda _: command(**settings), range(3)))
    assert [process.returncode for process in done] == [0, 0, 0]
    (found,) = dashboards(influxdb2, settings["INFLUXDB_V2_BUCKET"])
    assert {process.stdout for process in done} == {
        f"{found['name']}: {link_of(influxdb2, found)}\n"
    }


def test_changed_dashboard_is_restored(influxdb2: InfluxDB2, connect: Connect) -> None:
    influxdb = connect(influxdb2.create_bucket())
    apply_dashboard(influxdb)
    (found,) = dashboards(influxdb2, influxdb.bucket)
    delete(influxdb, f"dashboards/{found['id']}/cells/{found['cells'][0]['id']}")
    apply_dashboard(influxdb)
    (restored,) = dashboards(influxdb2, influxdb.bucket)
    assert restored["id"] == found["id"]
    assert len(restored["cells"]) == len(found["cells"])


def test_each_bucket_has_its_own_dashboard(influxdb2: InfluxDB2, connect: Connect) -> None:
    first, second = (influxdb2.create_bucket() for _ in range(2))
    links = {apply_dashboard(connect(bucket)).link for bucket in (first, second, first)}
    assert len(links) == 2
    for bucket in (first, second):
        assert len(dashboards(influxdb2, bucket)) == 1


def test_missing_bucket_is_created(influxdb2: InfluxDB2, connect: Connect) -> None:
    influxdb = connect("its ${own} buckét")
    apply_dashboard(influxdb)
    (bucket,) = (b for b in influxdb2.api("buckets?limit=100")["buckets"] if "${own}" in b["name"])
    assert bucket["retentionRules"][0]["everySeconds"] == 0
    delete(influxdb, f"buckets/{bucket['id']}")
    apply_dashboard(influxdb)
    assert len(dashboards(influxdb2, influxdb.bucket)) == 1
    (again,) = (b for b in influxdb2.api("buckets?limit=100")["buckets"] if "${own}" in b["name"])
    assert again["id"] != bucket["id"]


def test_existing_bucket_is_not_changed(influxdb2: InfluxDB2, connect: Connect) -> None:
    ninety_days = 90 * 24 * 3600
    influxdb = connect(influxdb2.create_bucket(ninety_days))
    before = bucket_of(influxdb2, influxdb.bucket)
    assert before["retentionRules"][0]["everySeconds"] == ninety_days
    apply_dashboard(influxdb)
    apply_dashboard(influxdb)
    assert bucket_of(influxdb2, influxdb.bucket) == before


def test_bucket_of_a_template_that_was_applied_by_hand_is_kept(
    influxdb2: InfluxDB2, connect: Connect
) -> None:
    bucket = influxdb2.create_bucket()
    influxdb = connect(bucket)
    before = bucket_of(influxdb2, bucket)
    # Like `influx apply`: its stack contains the bucket, and could delete it.
    contents = {"contents": build_template(bucket)}
    influxdb2.api("templates/apply", {"orgID": before["orgID"], "template": contents})
    apply_dashboard(influxdb)
    apply_dashboard(influxdb)
    assert bucket_of(influxdb2, bucket) == before
    assert len(dashboards(influxdb2, bucket)) == 2


def test_server_stores_the_cells_of_the_template(influxdb2: InfluxDB2, connect: Connect) -> None:
    influxdb = connect(influxdb2.create_bucket())
    apply_dashboard(influxdb)
    (found,) = dashboards(influxdb2, influxdb.bucket)
    read_back = influxdb2.api(f"dashboards/{found['id']}?include=properties")
    _, template = build_template(influxdb.bucket)
    assert read_back["description"] == template["spec"]["description"]
    cells = {cell["name"]: cell for cell in read_back["cells"]}
    kinds = {"Single_Stat": "single-stat", "Table": "table", "Xy": "xy", "Gauge": "gauge"}
    for chart in template["spec"]["charts"]:
        cell = cells.pop(chart["name"])
        view = cell["properties"]
        place = [cell.get(side, 0) for side in ("x", "y", "w", "h")]
        assert place == [chart[side] for side in ("xPos", "yPos", "width", "height")]
        assert view["type"] == kinds[chart["kind"]]
        assert [q["text"] for q in view["queries"]] == [
            q["query"].strip() for q in chart["queries"]
        ]
        assert view["colors"] == chart["colors"]
        assert (view["note"], view["showNoteWhenEmpty"]) == (chart["note"], chart["noteOnEmpty"])
        if "decimalPlaces" in chart:
            assert view["decimalPlaces"] == {"isEnforced": True, "digits": chart["decimalPlaces"]}
        for key in ("suffix", "geom", "position", "timeFormat", "hoverDimension", "staticLegend"):
            if key in chart:
                assert view[key] == chart[key], key
        for axis in chart.get("axes", []):
            kept = view["axes"][axis["name"]]
            assert {k: kept[k] for k in axis if k != "name"} == {
                k: v for k, v in axis.items() if k != "name"
            }
        columns = [tuple(f.values()) for f in chart.get("fieldOptions", [])]
        kept_columns = [
            (f["internalName"], f["displayName"], f["visible"])
            for f in view.get("fieldOptions") or []
        ]
        assert kept_columns == columns
    assert cells == {}
    graph = next(c for c in read_back["cells"] if c["properties"]["type"] == "xy")
    assert graph["properties"]["axes"]["y"]["suffix"] == " MW"
    assert graph["properties"]["axes"]["y"]["base"] == ""


# Refused


@pytest.fixture
def token_for(influxdb2: InfluxDB2) -> Callable[..., str]:
    """Creates tokens of the organization with permissions such as `write:dashboards`."""

    def token_for(*rights: str) -> str:
        org = bucket_of(influxdb2, influxdb2.bucket)["orgID"]
        permissions = []
        for right in rights:
            action, kind = right.split(":")
            whose = {"id": org} if kind == "orgs" else {"orgID": org}
            permissions.append({"action": action, "resource": {"type": kind, **whose}})
        body = {"orgID": org, "permissions": permissions}
        return influxdb2.api("authorizations", body)["token"]

    return token_for


LEAST = ("read:orgs", "read:buckets", "read:dashboards", "write:dashboards")


def test_permissions_that_the_error_names_are_sufficient(
    influxdb2: InfluxDB2, connect: Connect, token_for: Callable[..., str]
) -> None:
    bucket = influxdb2.create_bucket()
    least = connect(bucket, token=token_for(*LEAST))
    assert apply_dashboard(least) == apply_dashboard(least)
    assert len(dashboards(influxdb2, bucket)) == 1
    with refused(naming="write buckets", without=least.token):
        apply_dashboard(connect("missing", token=least.token))
    apply_dashboard(connect(f"{bucket}-new", token=token_for(*LEAST, "write:buckets")))


@pytest.mark.parametrize("missing", LEAST)
def test_missing_permission_is_an_error_that_names_the_needed_ones(
    influxdb2: InfluxDB2, connect: Connect, token_for: Callable[..., str], missing: str
) -> None:
    bucket = influxdb2.create_bucket()
    apply_dashboard(connect(bucket))
    token = token_for(*(right for right in LEAST if right != missing))
    with refused(naming="INFLUXDB_V2_TOKEN.*read and write its dashboards", without=token):
        apply_dashboard(connect(bucket, token=token))
    assert len(dashboards(influxdb2, bucket)) == 1


def test_organization_is_found_by_name_or_id(influxdb2: InfluxDB2, connect: Connect) -> None:
    bucket = influxdb2.create_bucket()
    org = bucket_of(influxdb2, bucket)["orgID"]
    assert apply_dashboard(connect(bucket, org=org)) == apply_dashboard(connect(bucket))
    with refused(naming="INFLUXDB_V2_ORG", without=influxdb2.token):
        apply_dashboard(connect(bucket, org="nobody"))


@pytest.mark.parametrize(
    "reply",
    [Reply(302, {"Location": "/elsewhere"}), Reply(404), Reply(500), Reply(200, body=b"<html>")],
    ids=lambda reply: str(reply.status),
)
def test_other_server_is_an_error_that_names_the_url(reply: Reply) -> None:
    with scripted_server(reply) as server:
        influxdb = InfluxDB(url=server.url, token="sesame", org="grid")
        with refused(naming="INFLUXDB_V2_URL", without="sesame"):
            apply_dashboard(influxdb)
        assert len(server.times) == 1


def test_template_that_is_not_accepted_is_an_error(
    influxdb2: InfluxDB2, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = influxdb2.create_bucket()
    template = build_template(bucket)
    template[1]["spec"]["charts"][0]["width"] = 0
    monkeypatch.setattr("demand_assets.dashboards.influxdb.build_template", lambda _: template)
    with pytest.raises(InfluxDBAccessError, match=r"does not accept the template.*width"):
        apply_dashboard(connect(bucket))
    assert dashboards(influxdb2, bucket) == []


# The command


MODULE = (sys.executable, "-m", "demand_assets.dashboards")


def command(*words: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        words or MODULE,
        cwd=PROJECT,
        env={**os.environ, **NO_SETTINGS, **settings},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_command_prints_name_and_link(influxdb2: InfluxDB2) -> None:
    settings = {
        "INFLUXDB_V2_URL": f"{influxdb2.url}/",
        "INFLUXDB_V2_ORG": influxdb2.org,
        "INFLUXDB_V2_BUCKET": influxdb2.create_bucket(),
    }
    make = ("make", "--no-print-directory", "influxdb-dashboard")
    done = command(*make, INFLUXDB_V2_TOKEN=influxdb2.token, **settings)
    assert done.returncode == 0, done.stderr
    (found,) = dashboards(influxdb2, settings["INFLUXDB_V2_BUCKET"])
    link = link_of(influxdb2, found)
    assert done.stdout == f"{found['name']}: {link}\n"

    token = influxdb2.create_token(settings["INFLUXDB_V2_BUCKET"], "read", "write")
    done = command(INFLUXDB_V2_TOKEN=token, **settings)
    assert done.returncode == 1
    assert "one bucket, which is all that storing needs, is not enough" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert token not in done.stdout + done.stderr


@pytest.mark.parametrize("bucket", [DEFAULT_BUCKET, 'an "odd" ${bucket}: ñ'])
def test_print_option_prints_a_template_that_the_server_accepts(
    influxdb2: InfluxDB2, bucket: str
) -> None:
    settings = {} if bucket == DEFAULT_BUCKET else {"INFLUXDB_V2_BUCKET": bucket}
    contents = list(yaml.safe_load_all(command(*MODULE, "--print", **settings).stdout))
    assert contents == build_template(bucket)
    org = bucket_of(influxdb2, influxdb2.bucket)["orgID"]
    # A dry run: the default bucket belongs to all tests, and `influx apply` is another program.
    answer = influxdb2.api(
        "templates/apply", {"dryRun": True, "orgID": org, "template": {"contents": contents}}
    )
    assert "errors" not in answer
    (change,), (dashboard,) = answer["diff"]["buckets"], answer["diff"]["dashboards"]
    assert change["new"]["name"] == bucket
    if bucket == influxdb2.bucket:  # an existing bucket is not changed
        assert (change["stateStatus"], change["new"]) == ("exists", change["old"])
    assert len(dashboard["new"]["charts"]) == len(NAMES)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({}, "INFLUXDB_V2_URL is not set"),
        ({"INFLUXDB_V2_URL": "http://127.0.0.1:1"}, "INFLUXDB_V2_TOKEN and INFLUXDB_V2_ORG"),
        (
            {
                "INFLUXDB_V2_URL": f"http://127.0.0.1:{free_port()}",
                "INFLUXDB_V2_TOKEN": "sesame",
                "INFLUXDB_V2_ORG": "grid",
            },
            "does not answer",
        ),
    ],
    ids=["nothing is set", "token and org are not", "nothing answers"],
)
def test_command_reports_in_one_line_what_to_correct(settings: dict[str, str], named: str) -> None:
    done = command(**settings)
    assert done.returncode == 1
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert named in line
    assert "sesame" not in line
