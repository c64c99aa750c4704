"""The checks of each day on an instance: one result a day, in the right color.

The rules themselves are tested in `unit/demand/test_quality.py`.
"""

from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import pytest
import time_machine
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetKey,
    DagsterInstance,
)

from demand_assets.demand.quality import Finding
from demand_assets.orchestration.checks import find_freshness
from demand_assets.orchestration.ledger_reader import read_ledger
from demand_assets.settings import Settings
from demand_assets.simulator import Simulator
from demand_assets_tests.support.project import Project
from demand_assets_tests.support.servers import InfluxDB1, InfluxDB2

FRAME, POINTS = AssetKey("hourly_demand_frame"), AssetKey("influx_demand_points")
DATA_CHECKS = {
    "hours_are_complete": FRAME,
    "demand_is_plausible": FRAME,
    "forecast_is_present": FRAME,
    "samples_are_plausible": FRAME,
    "store_matches_frame": POINTS,
}


@pytest.fixture
def project(tmp_path: Path, synthetic_api: Simulator, instance: DagsterInstance) -> Project:
    return Project(tmp_path / "data", synthetic_api.url, instance)


def result_of(project: Project, name: str, key: str = "2023-05-10") -> AssetCheckEvaluation | None:
    """The newest result of a check for a day."""
    records = project.instance.event_log_storage.get_asset_check_execution_history(
        AssetCheckKey(DATA_CHECKS[name], name), limit=200
    )
    for record in records:
        if isinstance(record.evaluation, AssetCheckEvaluation) and record.partition == key:
            return record.evaluation
    return None


def color(project: Project, name: str, key: str = "2023-05-10") -> str:
    """How the web page shows a check for a day."""
    found = result_of(project, name, key)
    if found is None:
        return "none"
    return "green" if found.passed else str(found.severity.value)


def page(project: Project, name: str) -> dict[str, set[str]]:
    """Status → days, as in the web page's partition bar."""
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
    assert {name: color(project, name) for name in DATA_CHECKS} == dict.fromkeys(
        DATA_CHECKS, "green"
    )
    for name in DATA_CHECKS:
        assert page(project, name) == {"SUCCEEDED": {"2023-05-10"}}
    found = result_of(project, "store_matches_frame")
    assert found is not None
    assert found.metadata["values_found"].value == 48


def test_each_day_of_a_range_has_its_own_result(project: Project, synthetic_api: Simulator) -> None:
    synthetic_api.faults["2023-05-10"] = "short"
    assert project.materialize("2023-05-09", "2023-05-11").success
    colors = [color(project, "hours_are_complete", f"2023-05-{d:02}") for d in (9, 10, 11)]
    assert colors == ["green", "ERROR", "green"]
    assert page(project, "hours_are_complete") == {
        "SUCCEEDED": {"2023-05-09", "2023-05-11"},
        "FAILED": {"2023-05-10"},
    }


def test_a_red_day_turns_green_once_it_is_complete(
    project: Project, synthetic_api: Simulator
) -> None:
    synthetic_api.faults["2023-05-10"] = "short"
    assert project.materialize("2023-05-10").success
    assert color(project, "hours_are_complete") == "ERROR"
    del synthetic_api.faults["2023-05-10"]
    assert project.materialize("2023-05-01", "2023-05-31").success
    assert page(project, "hours_are_complete") == {
        "SUCCEEDED": {f"2023-05-{day:02}" for day in range(1, 32)}
    }


@pytest.mark.parametrize(
    ("fault", "check", "text"),
    [
        ("frozen", "samples_are_plausible", "in 72 samples running: 06:00-11:55"),
        ("wild", "samples_are_plausible", "1 samples of RealDemand stand out"),
        ("contradictory", "samples_are_plausible", "different values at 12 instants"),
        ("late", "samples_are_plausible", "288 measured samples are stamped 3 minutes late"),
        ("blackout", "samples_are_plausible", "RealDemand differs from ForecastDemand"),
        ("outlier", "demand_is_plausible", "1 samples of RealDemand cannot be demand"),
        ("forecast-outlier", "demand_is_plausible", "1 samples of ForecastDemand cannot be demand"),
        ("forecast-nulls", "forecast_is_present", "0 of 24 hours have a forecast"),
    ],
)
def test_samples_that_look_wrong_are_stored_and_yellow(
    project: Project, synthetic_api: Simulator, fault: str, check: str, text: str
) -> None:
    synthetic_api.faults["2023-05-10"] = fault
    assert project.materialize("2023-05-09", "2023-05-11").success
    assert len(project.stored()) == 72
    assert color(project, check) == "WARN"
    found = result_of(project, check)
    assert found is not None
    assert text in str(found.description)
    for name in DATA_CHECKS:
        assert color(project, name) != "ERROR"
        assert color(project, name, "2023-05-09") == color(project, name, "2023-05-11") == "green"


@pytest.mark.parametrize("fault", ["hourly", "halves", "bad-schedule"])
def test_right_values_in_an_unusual_answer_are_green(
    project: Project, synthetic_api: Simulator, fault: str
) -> None:
    synthetic_api.faults["2023-05-10"] = fault
    assert project.materialize("2023-05-10").success
    assert {color(project, name) for name in DATA_CHECKS} == {"green"}
    assert project.stored().notna().all(axis=None)


@pytest.mark.parametrize("fault", ["energy", "energy-of-all"])
@pytest.mark.parametrize("clock", ["2023-05-10T10:12+02:00", "2023-05-11T02:00+02:00"])
def test_energy_in_place_of_demand_is_red_and_not_stored(
    project: Project, synthetic_api: Simulator, fault: str, clock: str
) -> None:
    synthetic_api.faults["2023-05-10"] = fault
    synthetic_api.clock = lambda: datetime.fromisoformat(clock)
    with time_machine.travel(clock, tick=False):
        assert not project.materialize("2023-05-10").success
    assert "demand.duckdb" not in project.files()
    assert color(project, "demand_is_plausible") == "ERROR"
    found = result_of(project, "demand_is_plausible")
    assert found is not None
    assert "as if divided by 4 (energy of 15 minutes in MWh)" in str(found.description)


def test_hours_to_come_are_not_measured_and_today_shows_a_frozen_feed(
    project: Project, synthetic_api: Simulator
) -> None:
    clock = datetime.fromisoformat("2023-05-10T10:12+02:00")
    synthetic_api.clock = lambda: clock
    synthetic_api.faults["2023-05-10"] = "ahead"
    with time_machine.travel(clock, tick=False):
        assert project.materialize("2023-05-10").success
        assert int(project.stored()["RealDemand"].count()) == 10
        assert int(project.stored()["ForecastDemand"].count()) == 24
        found = result_of(project, "samples_are_plausible")
        assert found is not None and not found.passed
        assert "later than the present and not used: 10:20-" in str(found.description)
        assert today(project).passed

        synthetic_api.faults["2023-05-10"] = "frozen"
        assert project.materialize("2023-05-10").success
        assert color(project, "samples_are_plausible") == "WARN"
        fresh = today(project)
        assert not fresh.passed and not fresh.red
        assert "The measured value has not changed since 06:00 Madrid time." in fresh.text

        del synthetic_api.faults["2023-05-10"]
        assert project.materialize("2023-05-10").success
        assert today(project).passed


def today(project: Project) -> Finding:
    """What `current_day_sensor` finds about today."""
    ledger = read_ledger(project.instance, project.settings, datetime.now(UTC))
    return find_freshness(project.instance, ledger, project.settings)


@pytest.mark.parametrize("fault", ["zeros", "negative", "huge"])
def test_implausible_values_are_red_and_not_stored(
    project: Project, synthetic_api: Simulator, fault: str
) -> None:
    synthetic_api.faults["2023-05-10"] = fault
    assert not project.materialize("2023-05-09", "2023-05-11").success
    assert color(project, "demand_is_plausible") == "ERROR"
    assert color(project, "demand_is_plausible", "2023-05-09") == "none"
    assert "demand.duckdb" not in project.files()
    found = result_of(project, "demand_is_plausible")
    assert found is not None
    assert "cannot be demand" in str(found.description)


def test_the_store_check_finds_values_that_were_lost_later(project: Project) -> None:
    assert project.materialize("2023-05-10").success
    with closing(duckdb.connect(str(project.folder / "demand.duckdb"))) as base:
        base.execute("delete from influx_demand_points where time > '2023-05-10 20:30Z'")
    job = project.definitions.resolve_job_def("demand_job").get_subset(
        asset_selection=set(),
        asset_check_selection={AssetCheckKey(POINTS, "store_matches_frame")},
    )
    assert job.execute_in_process(partition_key="2023-05-10", instance=project.instance).success
    found = result_of(project, "store_matches_frame")
    assert found is not None
    assert found.description == (
        "46 of 48 values are stored as written; 2 missing,"
        " such as ForecastDemand of 2023-05-10 21:00 UTC."
    )
    assert page(project, "store_matches_frame") == {"FAILED": {"2023-05-10"}}


def test_the_store_check_reads_influxdb(
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
        found = result_of(project, "store_matches_frame", key)
        assert found is not None
        assert found.description == f"{2 * hours} of {2 * hours} values are stored as written."


def test_a_store_that_cannot_be_read_is_yellow_and_stops_nothing(
    tmp_path: Path,
    synthetic_api: Simulator,
    instance: DagsterInstance,
    influxdb1: InfluxDB1,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INFLUXDB_V2_TOKEN", "any")
    settings = Settings(
        start_date=date(2021, 1, 1),
        influxdb_url=influxdb1.url,  # it accepts writes but no Flux queries
        influxdb_org="any",
        influxdb_bucket=influxdb1.create_database(),
    )
    project = Project(tmp_path / "data", synthetic_api.url, instance, settings)
    assert project.materialize("2023-05-10").success
    assert color(project, "store_matches_frame") == "WARN"
    found = result_of(project, "store_matches_frame")
    assert found is not None
    assert "it cannot be read back" in str(found.description)
