"""Superseded runs are removed with their files; everything that is still current stays."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from dagster import AssetCheckKey, AssetKey, SensorResult, build_sensor_context

from demand_assets.grid import TIME_ZONE
from demand_assets.orchestration import keys
from demand_assets.simulator import Fault
from demand_assets_tests.support.clockwork import POINTS, Clockwork, clockwork
from demand_assets_tests.support.project import ASSETS

NOON = datetime(2023, 5, 10, 12, 10, tzinfo=TIME_ZONE)
LATER = timedelta(days=3, hours=1)


@pytest.fixture
def works(tmp_path: Path) -> Iterator[Clockwork]:
    with clockwork(tmp_path, NOON) as works:
        yield works


def keep_house(works: Clockwork, cursor: str | None = None) -> SensorResult:
    definitions = works.project.definitions
    with build_sensor_context(
        instance=works.project.instance, definitions=definitions, cursor=cursor
    ) as context:
        result = definitions.resolve_sensor_def("replaced_runs_sensor")(context)
    assert isinstance(result, SensorResult)
    return result


def message(result: SensorResult) -> str:
    return str(result.skip_reason and result.skip_reason.skip_message)


def run_ids(works: Clockwork) -> set[str]:
    return {run.run_id for run in works.project.instance.get_runs()}


def newest_run(works: Clockwork) -> str:
    return works.project.instance.get_runs(limit=1)[0].run_id


def files_of(works: Clockwork, run_id: str) -> set[Path]:
    """The run's event database and its captured output."""
    home = Path(works.project.instance.root_directory)
    return {path for path in home.rglob("*") if path.is_file() and run_id in str(path)}


def materialize(works: Clockwork, *assets: AssetKey) -> str:
    """A run of some assets for the 8th; its id."""
    job = works.project.definitions.resolve_job_def(keys.DEMAND_JOB)
    result = job.get_subset(asset_selection=set(assets)).execute_in_process(
        partition_key="2023-05-08", instance=works.project.instance
    )
    assert result.success
    return result.run_id


def test_superseded_refreshes_are_removed_and_the_ledger_stays(works: Clockwork) -> None:
    instance = works.project.instance
    assert works.project.materialize("2023-05-08", "2023-05-09").success
    backfill = newest_run(works)
    for _ in range(3):
        works.tick("current_day_sensor")
        works.clock.shift(timedelta(minutes=30))
    works.api.faults["2023-05-10"] = Fault.NO_DATA
    works.tick("current_day_sensor")
    failed = newest_run(works)
    assert not works.runs[-1][3]
    works.clock.move_to(NOON + timedelta(hours=20))
    works.api.faults.clear()
    works.tick("current_day_sensor")
    works.tick("missing_days_sensor")
    everything = run_ids(works)
    assert message(keep_house(works)).startswith("Of 0 runs")

    works.clock.shift(LATER)
    before, stored = works.ledger(), works.project.stored()
    fresh = AssetCheckKey(POINTS, keys.TODAY_IS_FRESH)
    results = instance.event_log_storage.get_asset_check_execution_history(fresh, limit=100)
    assert all(files_of(works, run_id) for run_id in everything)
    result = keep_house(works)
    left = run_ids(works)
    assert backfill in left and failed not in left
    assert len(left) == 3  # the backfill, the last run of the 10th, and the one of the 11th
    assert {run_id for run_id in everything if files_of(works, run_id)} == left
    after = works.ledger()
    assert (after.stored, after.attempts) == (before.stored, before.attempts)
    for asset in ASSETS:
        assert set(instance.get_materialized_partitions(AssetKey(asset))) == {
            "2023-05-08",
            "2023-05-09",
            "2023-05-10",
            "2023-05-11",
        }
    assert works.project.stored().equals(stored)
    fewer = instance.event_log_storage.get_asset_check_execution_history(fresh, limit=100)
    assert 0 < len(fewer) < len(results)
    # Each run is looked at once.
    assert message(keep_house(works, result.cursor)).startswith("Of 0 runs")


@pytest.mark.parametrize("again", [keys.INGEST_ASSETS[:1], keys.INGEST_ASSETS[:2]], ids=len)
def test_a_run_stays_until_all_its_assets_are_stored_again(
    works: Clockwork, again: tuple[AssetKey, ...]
) -> None:
    first = materialize(works, *keys.INGEST_ASSETS)
    works.clock.shift(timedelta(hours=1))
    second = materialize(works, *again)
    works.clock.shift(LATER)
    before = works.ledger().stored
    keep_house(works)
    assert run_ids(works) == {first, second}
    assert works.ledger().stored == before
    assert files_of(works, first) and files_of(works, second)
    third = materialize(works, *keys.INGEST_ASSETS)
    keep_house(works)
    assert run_ids(works) == {third}
    assert not files_of(works, first) and not files_of(works, second)


def test_a_range_stays_after_one_of_its_days_is_stored_again(works: Clockwork) -> None:
    assert works.project.materialize("2023-05-08", "2023-05-09").success
    range_run = newest_run(works)
    works.clock.shift(timedelta(hours=1))
    again = materialize(works, *keys.INGEST_ASSETS)
    works.clock.shift(LATER)
    keep_house(works)
    assert run_ids(works) == {range_run, again}


def test_the_last_failure_is_kept(works: Clockwork) -> None:
    assert works.project.materialize("2023-05-08").success
    works.api.faults["2023-05-08"] = Fault.NO_DATA
    for _ in range(2):
        works.clock.shift(timedelta(hours=1))
        assert not works.project.materialize("2023-05-08").success
    last = newest_run(works)
    works.clock.shift(LATER)
    before = works.ledger().attempts
    keep_house(works)
    assert before and works.ledger().attempts == before
    assert len(run_ids(works)) == 2 and last in run_ids(works)


def test_the_newest_run_of_the_dashboard_is_kept(works: Clockwork) -> None:
    works.tick("current_day_sensor")
    refresh = newest_run(works)
    works.clock.shift(timedelta(hours=14))
    assert works.project.materialize("2023-05-10").success
    works.clock.shift(LATER)
    keep_house(works)
    assert refresh in run_ids(works)
    assert works.project.instance.get_latest_materialization_event(keys.DEMAND_DASHBOARD)
