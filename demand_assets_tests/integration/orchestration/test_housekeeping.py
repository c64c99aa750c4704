"""Refreshes that newer ones have replaced are removed; all that the ledger needs stays."""

from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from dagster import (
    AssetCheckKey,
    AssetKey,
    SensorResult,
    build_sensor_context,
)

from demand_assets.grid import TIME_ZONE
from demand_assets.simulator import Fault
from demand_assets_tests.support.clockwork import POINTS, Clockwork, clockwork
from demand_assets_tests.support.project import ASSETS

NOON = datetime(2023, 5, 10, 12, 10, tzinfo=TIME_ZONE)


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


def files(works: Clockwork) -> int:
    """Of the instance's records: one or more for each run."""
    home = Path(works.project.instance.root_directory)
    return sum(path.is_file() for path in home.rglob("*"))


def test_replaced_refreshes_go_and_the_ledger_stays(works: Clockwork) -> None:
    instance = works.project.instance
    assert works.project.materialize("2023-05-08", "2023-05-09").success
    backfill = instance.get_runs()[0].run_id
    for _ in range(4):
        works.tick("current_day_sensor")
        works.clock.shift(timedelta(minutes=30))
    works.api.faults["2023-05-10"] = Fault.NO_DATA
    works.tick("current_day_sensor")
    failed = instance.get_runs()[0].run_id
    assert not works.runs[-1][3]
    works.clock.move_to(NOON + timedelta(hours=20))
    works.api.faults.clear()
    works.tick("current_day_sensor")
    works.tick("missing_days_sensor")
    assert len(instance.get_runs()) > 6
    early = keep_house(works)
    assert early.skip_reason and "Of 0 runs" in str(early.skip_reason.skip_message)

    works.clock.shift(timedelta(days=3, hours=1))
    before, stored, many = works.ledger(), works.project.stored(), files(works)
    verdicts = instance.event_log_storage.get_asset_check_execution_history(
        AssetCheckKey(POINTS, "today_is_fresh"), limit=100
    )
    result = keep_house(works)
    left = {run.run_id for run in instance.get_runs()}
    assert backfill in left and failed not in left
    assert len(left) == 3  # the backfill, the last of the 10th, the one of the 11th
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
    assert files(works) < many
    fewer = instance.event_log_storage.get_asset_check_execution_history(
        AssetCheckKey(POINTS, "today_is_fresh"), limit=100
    )
    assert 0 < len(fewer) < len(verdicts)
    # Each run is looked at once.
    again = keep_house(works, result.cursor)
    assert "Of 0 runs" in str(again.skip_reason and again.skip_reason.skip_message)


def test_what_failed_last_is_kept(works: Clockwork) -> None:
    assert works.project.materialize("2023-05-08").success
    works.api.faults["2023-05-08"] = Fault.OUTAGE
    works.clock.shift(timedelta(hours=1))
    assert not works.project.materialize("2023-05-08").success
    works.clock.shift(timedelta(days=4))
    before = works.ledger().attempts
    keep_house(works)
    assert before and works.ledger().attempts == before
    assert len(works.project.instance.get_runs()) == 2
