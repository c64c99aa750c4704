"""What keeps the records from growing without bound: refreshes that newer ones have replaced go.

Today is asked for more than a hundred times a day, and each run leaves a quarter of a megabyte.
Dagster keeps all of it for ever.
"""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from dagster import (
    AssetKey,
    DagsterInstance,
    DagsterRunStatus,
    DefaultSensorStatus,
    RunsFilter,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)
from dagster._core.storage.dagster_run import FINISHED_STATUSES, RunRecord

from demand_assets.orchestration import keys
from demand_assets.orchestration.ledger_reader import days_of, newest_materializations, stores

KEPT = timedelta(days=3)
"""How long a replaced run can be looked at."""
MOST_AT_ONCE = 200
"""Runs looked at in one tick; a day has about 170."""


def replaced(
    instance: DagsterInstance, assets: Sequence[AssetKey], records: Sequence[RunRecord]
) -> list[str]:
    """Ids of the runs for one day, of those given, that say nothing any more.

    Those after whose end every asset was stored again; and those that failed, stored nothing that
    is still the newest, and were followed by another attempt.
    """
    alone = [
        (record, days[0])
        for record in records
        if stores(record.dagster_run, assets[-1]) and len(days := days_of(record.dagster_run)) == 1
    ]
    newest = [newest_materializations(instance, asset, {d for _, d in alone}) for asset in assets]
    storage = instance.event_log_storage
    attempts_without_end = (
        storage.get_latest_asset_partition_materialization_attempts_without_materializations
    )(assets[-1])
    found = []
    for record, day in alone:
        run = record.dagster_run
        end = record.end_time or record.update_timestamp.timestamp()
        times = [stored[day].timestamp if day in stored else 0.0 for stored in newest]
        stored_again = all(time > end for time in times)
        stored_nothing = all(time > end or time < (record.start_time or end) for time in times)
        last_attempt, _ = attempts_without_end.get(day.isoformat(), (run.run_id, 0))
        failed_since = run.status != DagsterRunStatus.SUCCESS and last_attempt != run.run_id
        if stored_again or (failed_since and stored_nothing):
            found.append(run.run_id)
    return found


CHAINS = (
    keys.INGEST_ASSETS,
    (keys.DEMAND_FORECAST,),
    (keys.DEMAND_FORECAST_MODEL,),
    (keys.DEMAND_FORECAST_SCORE,),
)
"""Assets that one run makes of the same day, last what the run is for."""


@sensor(minimum_interval_seconds=3600, default_status=DefaultSensorStatus.RUNNING)
def replaced_runs_sensor(context: SensorEvaluationContext) -> SensorResult:
    """Removes runs of three days ago and older whose days have been stored again since."""
    seen = datetime.fromisoformat(context.cursor) if context.cursor else None
    records = context.instance.get_run_records(
        RunsFilter(
            statuses=FINISHED_STATUSES,
            updated_after=seen,
            updated_before=datetime.now(UTC) - KEPT,
        ),
        limit=MOST_AT_ONCE,
        order_by="update_timestamp",
        ascending=True,
    )
    removed = [id for assets in CHAINS for id in replaced(context.instance, assets, records)]
    for run_id in removed:
        # The run's own row last: what is interrupted is found again, and done again.
        context.instance.compute_log_manager.delete_logs(prefix=[run_id])
        context.instance.event_log_storage.delete_events(run_id)
        context.instance.delete_run(run_id)
    if records:
        seen = records[-1].update_timestamp.replace(tzinfo=UTC)
    told = f"Of {len(records)} runs looked at, {len(removed)} were replaced and are removed."
    return SensorResult(skip_reason=SkipReason(told), cursor=seen.isoformat() if seen else None)
