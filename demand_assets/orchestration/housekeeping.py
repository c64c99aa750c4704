"""Housekeeping: removes runs that newer ones have superseded.

Today is refreshed more than a hundred times a day, each run takes a quarter of a megabyte, and
Dagster itself keeps all of them. Partition files and points are never removed.
"""

from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg

from demand_assets.orchestration import keys
from demand_assets.orchestration.ledger_reader import (
    FINISHED,
    days_of,
    newest_attempts,
    newest_materializations,
    stores,
)

KEPT = timedelta(days=3)
"""How long a superseded run can be looked at."""
MOST_AT_ONCE = 200
"""Runs looked at in one tick; a day has about 170."""
TARGETS = set(keys.TARGET_OF_JOB.values())


def superseded_runs(instance: dg.DagsterInstance, records: Sequence[dg.RunRecord]) -> list[str]:
    """Ids of those runs for a single day of which no record is current any more."""
    day_of_run = {
        record.dagster_run.run_id: days[0]
        for record in records
        if any(stores(record.dagster_run, target) for target in TARGETS)
        and len(days := days_of(record.dagster_run)) == 1
    }
    current = _runs_with_current_records(instance, set(day_of_run.values()))
    return [run_id for run_id in day_of_run if run_id not in current]


def _runs_with_current_records(instance: dg.DagsterInstance, days: Collection[date]) -> set[str]:
    """Runs that hold the newest materialization or the newest attempt of an asset, on any of the
    days."""
    runs = set()
    for asset in TARGETS.union(keys.INGEST_ASSETS):
        runs |= {
            record.run_id for record in newest_materializations(instance, asset, days).values()
        }
        runs |= set(newest_attempts(instance, asset).values())
    if dashboard := instance.get_latest_materialization_event(keys.DEMAND_DASHBOARD):
        runs.add(dashboard.run_id)
    return runs


@dg.sensor(minimum_interval_seconds=3600, default_status=dg.DefaultSensorStatus.RUNNING)
def replaced_runs_sensor(context: dg.SensorEvaluationContext) -> dg.SensorResult:
    """Removes runs of three days ago and older whose days have been stored again since."""
    instance = context.instance
    seen = datetime.fromisoformat(context.cursor) if context.cursor else None
    records = instance.get_run_records(
        dg.RunsFilter(
            statuses=FINISHED, updated_after=seen, updated_before=datetime.now(UTC) - KEPT
        ),
        limit=MOST_AT_ONCE,
        order_by="update_timestamp",
        ascending=True,
    )
    superseded = superseded_runs(instance, records)
    for run_id in superseded:
        # The run's own row is removed last, so that an interrupted removal is repeated.
        instance.compute_log_manager.delete_logs(prefix=[run_id])
        instance.event_log_storage.delete_events(run_id)
        instance.delete_run(run_id)
    if records:
        seen = records[-1].update_timestamp.replace(tzinfo=UTC)
    text = f"Of {len(records)} runs looked at, {len(superseded)} were superseded and are removed."
    return dg.SensorResult(
        skip_reason=dg.SkipReason(text), cursor=seen.isoformat() if seen else None
    )
