"""Each day's data are judged: whole, plausible, forecast, and stored as they were written."""

import math
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path

import duckdb
import pandas as pd
import pytest
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckSeverity,
    AssetKey,
    DagsterInstance,
)

from demand_assets.demand.days import day_hours
from demand_assets.demand.quality import check_forecast, check_hours, check_stored
from demand_assets.grid import FORECAST, REAL, TIME_ZONE
from demand_assets.orchestration.planning.freshness import check_freshness
from demand_assets.orchestration.planning.ledger import Ledger, Stored
from demand_assets.settings import Freshness, Settings
from demand_assets.simulator import Simulator
from demand_assets_tests.support.project import Project
from demand_assets_tests.support.servers import InfluxDB1, InfluxDB2

FRAME, POINTS = AssetKey("hourly_demand_frame"), AssetKey("influx_demand_points")
DAY = date(2023, 5, 10)
DATA_CHECKS = {
    "hours_are_complete": FRAME,
    "demand_is_plausible": FRAME,
    "forecast_is_present": FRAME,
    "store_matches_frame": POINTS,
}


@pytest.fixture
def project(tmp_path: Path, synthetic_api: Simulator, instance: DagsterInstance) -> Project:
    return Project(tmp_path / "data", synthetic_api.url, instance)


def verdict(project: Project, name: str, key: str = "2023-05-10") -> AssetCheckEvaluation | None:
    """The last verdict that the instance has of a day."""
    records = project.instance.event_log_storage.get_asset_check_execution_history(
        AssetCheckKey(DATA_CHECKS[name], name), limit=200
    )
    for record in records:
        if isinstance(record.evaluation, AssetCheckEvaluation) and record.partition == key:
            return record.evaluation
    return None


def colour(project: Project, name: str, key: str = "2023-05-10") -> str:
    """What the web page shows of a check for a day."""
    found = verdict(project, name, key)
    if found is None:
        return "none"
    return "green" if found.passed else str(found.severity.value)


def page(project: Project, name: str) -> dict[str, set[str]]:
    """Status → days, as the web page's bar over the partitions has it."""
    key = AssetCheckKey(DATA_CHECKS[name], name)
    partitions = project.definitions.resolve_asset_graph().get(FRAME).partitions_def
    storage = project.instance.event_log_storage
    state = storage.get_asset_check_state([(key, partitions)])[key]
    return {
        status.value: set(subset.subset_value.get_partition_keys())
        for status, subset in state.subsets.items()
        if not subset.is_empty
    }


def test_a_sound_day_passes_every_check(project: Project) -> None:
    assert project.materialize("2023-05-10").success
    assert {name: colour(project, name) for name in DATA_CHECKS} == dict.fromkeys(
        DATA_CHECKS, "green"
    )
    for name in DATA_CHECKS:
        assert page(project, name) == {"SUCCEEDED": {"2023-05-10"}}
    found = verdict(project, "store_matches_frame")
    assert found is not None
    assert found.metadata["values_found"].value == 48


def test_each_day_of_a_range_has_its_own_verdict(
    project: Project, synthetic_api: Simulator
) -> None:
    synthetic_api.faults["2023-05-10"] = "short"
    assert project.materialize("2023-05-09", "2023-05-11").success
    colours = [colour(project, "hours_are_complete", f"2023-05-{d:02}") for d in (9, 10, 11)]
    assert colours == ["green", "ERROR", "green"]
    assert page(project, "hours_are_complete") == {
        "SUCCEEDED": {"2023-05-09", "2023-05-11"},
        "FAILED": {"2023-05-10"},
    }


def test_a_day_that_is_whole_in_the_end_turns_green(
    project: Project, synthetic_api: Simulator
) -> None:
    synthetic_api.faults["2023-05-10"] = "short"
    assert project.materialize("2023-05-10").success
    assert colour(project, "hours_are_complete") == "ERROR"
    del synthetic_api.faults["2023-05-10"]
    assert project.materialize("2023-05-01", "2023-05-31").success
    assert page(project, "hours_are_complete") == {
        "SUCCEEDED": {f"2023-05-{day:02}" for day in range(1, 32)}
    }


@pytest.mark.parametrize("fault", ["zeros", "negative", "huge"])
def test_what_cannot_be_demand_is_red_and_stops_the_day(
    project: Project, synthetic_api: Simulator, fault: str
) -> None:
    synthetic_api.faults["2023-05-10"] = fault
    assert not project.materialize("2023-05-09", "2023-05-11").success
    assert colour(project, "demand_is_plausible") == "ERROR"
    assert colour(project, "demand_is_plausible", "2023-05-09") == "none"
    assert "demand.duckdb" not in project.files()
    found = verdict(project, "demand_is_plausible")
    assert found is not None
    assert "cannot be demand" in str(found.description)


def hours(day: date = DAY) -> pd.DataFrame:
    return pd.DataFrame({REAL: 25_000.0, FORECAST: 25_100.0}, index=day_hours(day))


def at(*clocks: str) -> pd.DatetimeIndex:
    """Instants of the day, by Madrid's clock."""
    return pd.to_datetime([f"{DAY}T{clock}+02:00" for clock in clocks], utc=True)


NEXT_DAY = datetime(2023, 5, 11, 12, tzinfo=TIME_ZONE)


def test_missing_samples_are_counted_and_placed_on_madrids_clock() -> None:
    found = check_hours(hours(), at("02:05", "02:10", "02:15", "13:40"), DAY, NEXT_DAY)
    assert not found.passed
    assert found.severity == AssetCheckSeverity.WARN
    assert found.description == "24 of 24 hours. 4 samples are missing: 02:05-02:15 (3), 13:40."


def test_a_missing_hour_is_red_once_the_retries_did_not_bring_it() -> None:
    frame = hours()
    frame.iloc[7, 0] = math.nan
    missing = at(*(f"07:{m:02}" for m in range(0, 60, 5)))
    soon, late = (
        check_hours(frame, missing, DAY, NEXT_DAY + n * timedelta(days=1)) for n in (0, 1)
    )
    assert (soon.severity, late.severity) == (AssetCheckSeverity.WARN, AssetCheckSeverity.ERROR)
    assert not soon.passed
    assert soon.description == "23 of 24 hours. 12 samples are missing: 07:00-07:55 (12)."


def test_today_is_not_blamed_for_hours_to_come() -> None:
    frame = hours()
    frame.iloc[14:, 0] = math.nan
    found = check_hours(frame, at(), DAY, datetime(2023, 5, 10, 14, 10, tzinfo=TIME_ZONE))
    assert found.passed
    assert found.description == "14 of 24 hours so far."


def test_a_forecast_that_is_missing_is_yellow() -> None:
    frame = hours()
    frame.iloc[20:, 1] = math.nan
    found = check_forecast(frame, DAY)
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.WARN)
    assert found.description == "20 of 24 hours have a forecast."


def test_a_store_that_lost_a_day_is_found_out_when_the_check_runs_again(project: Project) -> None:
    assert project.materialize("2023-05-10").success
    with closing(duckdb.connect(str(project.folder / "demand.duckdb"))) as base:
        base.execute("delete from influx_demand_points where time > '2023-05-10 20:30Z'")
    job = project.definitions.resolve_job_def("demand_job").get_subset(
        asset_selection=set(),
        asset_check_selection={AssetCheckKey(POINTS, "store_matches_frame")},
    )
    assert job.execute_in_process(partition_key="2023-05-10", instance=project.instance).success
    found = verdict(project, "store_matches_frame")
    assert found is not None
    assert found.description == (
        "46 of 48 values are stored as written; 2 missing,"
        " such as ForecastDemand of 2023-05-10 21:00 UTC."
    )
    assert page(project, "store_matches_frame") == {"FAILED": {"2023-05-10"}}


def test_a_store_that_lost_or_changed_values_is_red() -> None:
    frame = hours()
    lost, changed, more = hours(), hours(), hours()
    lost.iloc[3, 1] = math.nan
    changed.iloc[5, 0] = 25_000.001
    frame.iloc[9, 0] = math.nan
    assert check_stored(frame, frame).passed
    found = check_stored(hours(), lost)
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.ERROR)
    assert "1 missing, such as ForecastDemand of 2023-05-10 01:00 UTC" in str(found.description)
    found = check_stored(hours(), changed)
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.ERROR)
    assert "1 differing, such as RealDemand of 2023-05-10 03:00 UTC" in str(found.description)
    found = check_stored(frame, more)
    assert (found.passed, found.severity) == (False, AssetCheckSeverity.WARN)
    assert "1 of an earlier answer" in str(found.description)
    assert not check_stored(hours(), hours().iloc[:0]).passed


def test_the_bucket_is_read_back_and_judged(
    tmp_path: Path,
    synthetic_api: Simulator,
    instance: DagsterInstance,
    influxdb2: InfluxDB2,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bucket = influxdb2.create_bucket()
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", influxdb2.create_token(bucket, "read", "write"))
    settings = Settings(
        start_date=date(2021, 1, 1),
        influxdb_url=influxdb2.url,
        influxdb_org=influxdb2.org,
        influxdb_bucket=bucket,
    )
    project = Project(tmp_path / "data", synthetic_api.url, instance, settings)
    assert project.materialize("2022-10-29", "2022-10-31").success
    for key, hours in (("2022-10-29", 24), ("2022-10-30", 25), ("2022-10-31", 24)):
        found = verdict(project, "store_matches_frame", key)
        assert found is not None
        assert found.description == f"{2 * hours} of {2 * hours} values are stored as written."


def test_a_store_that_cannot_be_read_back_is_yellow_and_stops_nothing(
    tmp_path: Path,
    synthetic_api: Simulator,
    instance: DagsterInstance,
    influxdb1: InfluxDB1,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", "any")
    settings = Settings(
        start_date=date(2021, 1, 1),
        influxdb_url=influxdb1.url,  # it takes writes, and has no Flux
        influxdb_org="any",
        influxdb_bucket=influxdb1.create_database(),
    )
    project = Project(tmp_path / "data", synthetic_api.url, instance, settings)
    assert project.materialize("2023-05-10").success
    assert colour(project, "store_matches_frame") == "WARN"
    found = verdict(project, "store_matches_frame")
    assert found is not None
    assert "not read back" in str(found.description)


@pytest.mark.parametrize(
    ("minutes", "colour"), [(79, "green"), (81, "WARN"), (119, "WARN"), (121, "ERROR")]
)
@pytest.mark.parametrize("scale", [1, 3])
def test_today_turns_yellow_and_red_at_the_ages_that_are_set(
    minutes: int, colour: str, scale: int
) -> None:
    measured_until = datetime(2023, 5, 10, 12, tzinfo=TIME_ZONE)
    now = measured_until + scale * timedelta(minutes=minutes)
    stored = Stored(now, 12, 24, measured_until - timedelta(hours=1))
    set_to = Settings(
        freshness=Freshness(
            warn_after=scale * Freshness.warn_after, fail_after=scale * Freshness.fail_after
        )
    )
    found = check_freshness(Ledger(now, timedelta(), {DAY: stored}, {}), set_to)
    assert found.passed == (colour == "green")
    assert found.passed or found.severity.value == colour
    assert found.passed or "API silent" in str(found.description)
    assert found.metadata["lag_minutes"].value == scale * minutes
