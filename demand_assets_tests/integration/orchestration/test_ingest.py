"""The ingest assets: what a day, a range and today leave in store, files and metadata."""

import gzip
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import time_machine
from dagster import AssetKey, AssetRecordsFilter, DagsterInstance

from demand_assets.simulator import Fault, Simulator, SyntheticDays
from demand_assets_tests.support.project import ASSETS, Project, failure_text
from demand_assets_tests.support.truth import HOURS_OF_DAY, PRINTED, as_printed


@pytest.fixture
def replay(tmp_path: Path, recorded_api: Simulator, instance: DagsterInstance) -> Project:
    return Project(tmp_path / "data", recorded_api.url, instance)


@pytest.fixture
def synthetic(tmp_path: Path, synthetic_api: Simulator, instance: DagsterInstance) -> Project:
    return Project(tmp_path / "data", synthetic_api.url, instance)


@pytest.mark.parametrize("day", PRINTED, ids=str)
def test_stored_day_equals_that_of_the_notebook(replay: Project, day: date) -> None:
    assert replay.materialize(day.isoformat()).success
    stored = replay.stored()
    assert as_printed(stored)[:10] == PRINTED[day]
    assert len(stored) == 24


@pytest.mark.parametrize(("day", "hours"), HOURS_OF_DAY)
def test_day_has_all_its_hours(synthetic: Project, day: str, hours: int) -> None:
    assert synthetic.materialize(day).success
    assert len(synthetic.stored()) == hours
    assert synthetic.stored().notna().all(axis=None)


def test_month_takes_one_request_and_equals_its_single_days(
    replay: Project, recorded_api: Simulator, tmp_path: Path
) -> None:
    assert replay.materialize("2023-02-24", "2023-03-26").success
    assert len(recorded_api.requests) == 1
    month = replay.stored()
    assert len(month) == 743
    for key in ("2023-02-24", "2023-03-25", "2023-03-26"):
        alone = Project(tmp_path / key, replay.api, replay.instance)
        assert alone.materialize(key).success
        hours = alone.stored()
        pd.testing.assert_frame_equal(month.loc[hours.index], hours)
        one, other = ((p.folder / f"hourly_demand_frame/{key}.parquet") for p in (replay, alone))
        assert one.read_bytes() == other.read_bytes()
        assert _samples(replay.folder, key) == _samples(alone.folder, key)


def _samples(folder: Path, key: str) -> dict[str, list[Any]]:
    answer = json.loads(gzip.decompress((folder / f"raw_ree_json/{key}.json.gz").read_bytes()))
    return {series["id"]: series["attributes"]["values"] for series in answer["included"]}


def test_long_range_takes_as_few_requests_as_possible(
    tmp_path: Path, instance: DagsterInstance, synthetic_api: Simulator
) -> None:
    synthetic = Project(tmp_path / "data", synthetic_api.url, instance, retry_seconds=60)
    result = synthetic.materialize("2023-01-01", "2023-03-31")
    assert result.success
    assert [(last - first).days + 1 for first, last in synthetic_api.requests] == [31, 31, 28]
    assert len(synthetic.stored()) == 90 * 24 - 1
    log = [entry.message for entry in synthetic.instance.all_logs(result.run_id)]
    assert "90 of 90 days fetched in 3 requests." in log
    assert f"Writing 2159 points of 90 days to DuckDB {synthetic.folder}/demand.duckdb." in log


@pytest.mark.usefixtures("pauses")
def test_a_length_that_is_answered_is_kept_for_the_runs_of_the_instance(
    synthetic: Project, synthetic_api: Simulator
) -> None:
    synthetic_api.max_days, synthetic_api.too_long = 10, Fault.ERROR_504
    assert synthetic.materialize("2023-01-01", "2023-01-14").success
    synthetic_api.requests.clear()
    assert synthetic.materialize("2023-01-15", "2023-01-28").success
    assert [(last - first).days + 1 for first, last in synthetic_api.requests] == [7, 7]
    assert len(synthetic.stored()) == 28 * 24


def test_today_has_measured_past_and_forecast_future_hours(
    tmp_path: Path, instance: DagsterInstance
) -> None:
    now = datetime(2023, 5, 10, 12, 11, tzinfo=UTC)  # 14:11 in Madrid; the API is at 14:05
    with (
        Simulator(SyntheticDays(), clock=lambda: now) as api,
        time_machine.travel(now),
    ):
        project = Project(tmp_path / "data", api.url, instance)
        assert project.materialize("2023-05-10").success
    real = project.stored()["RealDemand"].dropna()
    assert real.index[-1] == pd.Timestamp("2023-05-10T13:00", tz="Europe/Madrid")
    assert len(real) == 14
    assert project.stored()["ForecastDemand"].notna().sum() == 24


def test_materializing_again_stores_the_same(synthetic: Project) -> None:
    assert synthetic.materialize("2023-05-10").success
    first, files = synthetic.stored(), synthetic.files()
    assert synthetic.materialize("2023-05-09", "2023-05-11").success
    assert synthetic.materialize("2023-05-10").success
    again = synthetic.stored()
    pd.testing.assert_frame_equal(again.loc[first.index], first)
    assert len(again) == 72
    assert files < synthetic.files()


def test_each_day_of_a_range_has_its_own_metadata(synthetic: Project) -> None:
    assert synthetic.materialize("2023-03-25", "2023-03-27").success
    figures = {
        (asset, key): _metadata(synthetic.instance, asset, key)
        for asset in ASSETS
        for key in ("2023-03-25", "2023-03-26")
    }
    answer = figures["raw_ree_json", "2023-03-26"]
    assert (answer["samples"], answer["resolution"]) == (276, "5 min")
    assert answer["last_sample"] == pd.Timestamp("2023-03-26T23:55+02:00").timestamp()
    assert "last_update" in answer
    frame = figures["hourly_demand_frame", "2023-03-26"]
    assert (frame["hours"], frame["hours_expected"]) == (23, 23)
    stored = synthetic.stored().loc["2023-03-25T23:00":"2023-03-26T21:00"]
    error = stored["ForecastDemand"] - stored["RealDemand"]
    assert frame["peak_mw"] == pytest.approx(stored["RealDemand"].max())
    assert frame["peak_at"] == pd.Timestamp(stored["RealDemand"].idxmax()).timestamp()
    assert frame["mean_real_mw"] == pytest.approx(stored["RealDemand"].mean())
    assert frame["mean_forecast_mw"] == pytest.approx(stored["ForecastDemand"].mean())
    assert frame["forecast_bias_mw"] == pytest.approx(error.mean())
    assert frame["forecast_mape_percent"] == pytest.approx(
        (error.abs() / stored["RealDemand"]).mean() * 100
    )
    points = figures["influx_demand_points", "2023-03-26"]
    assert points["store"] == f"DuckDB {synthetic.folder}/demand.duckdb"
    assert frame != figures["hourly_demand_frame", "2023-03-25"]


def _metadata(instance: DagsterInstance, asset: str, key: str) -> dict[str, Any]:
    records = instance.fetch_materializations(
        AssetRecordsFilter(asset_key=AssetKey(asset), asset_partitions=[key]), limit=1
    ).records
    materialization = records[0].asset_materialization
    assert materialization is not None
    return {name: value.value for name, value in materialization.metadata.items()}


@pytest.mark.parametrize(
    ("fault", "reason", "advice"),
    [
        ("no-data", "no data for the selected filters", "once the operator has published it"),
        ("outage", "502", "when REData is back"),
        ("reset", "Connection", "when REData is back"),
        ("blocked", "Incapsula", "wait an hour"),
        ("cut-short", "IncompleteRead", "when REData is back"),
        ("html", "no JSON", "when REData is back"),
        ("nan", "NaN", "the API has changed"),
    ],
)
def test_failing_day_explains_itself_and_stores_nothing(
    synthetic: Project, synthetic_api: Simulator, fault: str, reason: str, advice: str
) -> None:
    synthetic_api.faults["2023-05-10"] = fault
    text = failure_text(synthetic.materialize("2023-05-10"))
    last_line = text.splitlines()[-1]
    assert "2023-05-10" in last_line
    assert reason in last_line
    assert advice in last_line
    assert synthetic.files() == set()


def test_failing_range_names_its_failed_days(synthetic: Project, synthetic_api: Simulator) -> None:
    synthetic_api.faults |= {"2023-05-10": "no-data", "2023-05-12": "refused"}
    result = synthetic.materialize("2023-05-08", "2023-05-14")
    assert "2 of 7 days failed" in failure_text(result)
    failed = next(event for event in result.all_events if event.is_step_failure)
    user_data = failed.step_failure_data.user_failure_data
    assert user_data is not None
    assert user_data.metadata["failed_days"].value == ["2023-05-10", "2023-05-12"]


def test_past_day_without_measured_demand_is_not_stored(
    synthetic: Project, synthetic_api: Simulator
) -> None:
    synthetic_api.faults["2023-05-10"] = "empty-series"
    text = failure_text(synthetic.materialize("2023-05-10"))
    assert "2023-05-10" in text
    assert "none of its hours has measured demand" in text
    assert "demand.duckdb" not in synthetic.files()


def test_loaded_frame_equals_the_stored_one(synthetic: Project) -> None:
    assert synthetic.materialize("2022-10-29", "2022-10-31").success

    def load(asset: str) -> pd.DataFrame:
        loaded = synthetic.definitions.load_asset_value(
            AssetKey(asset), partition_key="2022-10-30", instance=synthetic.instance
        )
        assert isinstance(loaded, pd.DataFrame)
        return loaded

    assert len(load("influx_demand_points")) == 25
    pd.testing.assert_frame_equal(load("influx_demand_points"), load("hourly_demand_frame"))
