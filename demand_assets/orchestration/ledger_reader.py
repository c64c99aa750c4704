"""Reads the ledger from a Dagster instance, in a bounded number of queries.

How days are classified belongs in `planning/ledger.py`.
"""

from collections.abc import Iterable
from datetime import UTC, date, datetime
from typing import Any

from dagster import (
    AssetKey,
    AssetRecordsFilter,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    EventLogRecord,
    Failure,
    RunRecord,
    RunsFilter,
)
from dagster._core.execution.backfill import (
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.storage.dagster_run import FINISHED_STATUSES

from demand_assets.demand.days import days_between
from demand_assets.grid import local_date
from demand_assets.orchestration import keys, metadata, tags
from demand_assets.orchestration.planning.ledger import Attempt, Ledger, Stored
from demand_assets.settings import Settings

UNDER_WAY = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
MOST_IDS_IN_A_QUERY = 5_000
"""Dagster allows 10,000 records; 5,000 days are 13 years."""


_attempts: dict[str, "Attempt"] = {}
"""By run id: what has ended changes no more, and each costs a query."""


def read_ledger(instance: DagsterInstance, settings: Settings, now: datetime) -> Ledger:
    """Ask the instance.

    Args:
        instance: where the partitions' history is.
        settings: of these ``settle``, ``store`` and ``start_date``: what was stored of earlier
            days is not looked at.
        now: the present, aware.
    """
    points = keys.INFLUX_DEMAND_POINTS
    # A run that starts or ends while this reads is seen at least once as under way.
    under_way = _read_under_way(instance, points, now)
    start = settings.start_date
    told = {day: told for day, told in _read_stored(instance, points).items() if day >= start}
    stored = {
        day: one for day, one in told.items() if not one.store or settings.store.matches(one.store)
    }
    return Ledger(
        now=now,
        settle=settings.settle,
        stored=stored,
        attempts=_read_attempts(instance, points, start),
        under_way={**under_way, **_read_under_way(instance, points, now)},
        elsewhere=frozenset(told.keys() - stored.keys()),
    )


def _read_stored(instance: DagsterInstance, points: AssetKey) -> dict[date, Stored]:
    newest = instance.event_log_storage.get_latest_storage_id_by_partition(
        points, DagsterEventType.ASSET_MATERIALIZATION
    )
    ids = sorted(newest.values())
    stored: dict[date, Stored] = {}
    for start in range(0, len(ids), MOST_IDS_IN_A_QUERY):
        some = ids[start : start + MOST_IDS_IN_A_QUERY]
        records = instance.fetch_materializations(
            AssetRecordsFilter(asset_key=points, storage_ids=some), limit=len(some)
        ).records
        for record in records:
            told = record.asset_materialization
            if told is None or told.partition is None:
                continue
            values: dict[str, Any] = {name: value.value for name, value in told.metadata.items()}
            last_hour = values.get("last_hour")
            stored[date.fromisoformat(told.partition)] = Stored(
                at=datetime.fromtimestamp(record.timestamp, UTC),
                hours=values.get("hours"),
                hours_expected=values.get("hours_expected"),
                last_hour=None if last_hour is None else datetime.fromtimestamp(last_hour, UTC),
                fingerprint=values.get(metadata.FINGERPRINT),
                morning_fingerprint=values.get(metadata.MORNING_FINGERPRINT),
                store=values.get(metadata.STORE),
            )
    return stored


def _read_attempts(instance: DagsterInstance, points: AssetKey, start: date) -> dict[date, Attempt]:
    storage = instance.event_log_storage
    attempts_without_end = (
        storage.get_latest_asset_partition_materialization_attempts_without_materializations
    )
    unfinished = {
        day: run_id
        for key, (run_id, _) in attempts_without_end(points).items()
        if (day := date.fromisoformat(key)) >= start
    }
    run_ids = sorted(set(unfinished.values()))
    if not run_ids:
        return {}
    # One that succeeded without storing its days has lost its events, as a power cut may do.
    ended = instance.get_run_records(RunsFilter(run_ids=run_ids, statuses=FINISHED_STATUSES))
    for record in ended:
        run_id = record.dagster_run.run_id
        if run_id not in _attempts:
            _attempts[run_id] = _read_attempt(instance, record, points)
    over = {record.dagster_run.run_id for record in ended}
    return {day: _attempts[run_id] for day, run_id in unfinished.items() if run_id in over}


def _read_attempt(instance: DagsterInstance, record: RunRecord, points: AssetKey) -> Attempt:
    run = record.dagster_run
    failures = instance.all_logs(run.run_id, of_type=DagsterEventType.STEP_FAILURE)
    blamed: frozenset[date] = frozenset()
    error = "the run ended without saying why"
    for entry in failures:
        data = entry.get_dagster_event().step_failure_data
        if data.user_failure_data and metadata.FAILED_DAYS in data.user_failure_data.metadata:
            named = data.user_failure_data.metadata[metadata.FAILED_DAYS].value
            blamed = frozenset(date.fromisoformat(str(key)) for key in named)  # type: ignore[union-attr]
        elif entry.step_key == points.to_python_identifier():
            blamed = frozenset(days_of(run))  # the store is away, which is no day's fault
        if data.error:
            cause = data.error
            while cause.cause:
                cause = cause.cause
            last_line = cause.message.strip().splitlines()[-1]
            error = last_line.removeprefix(f"{Failure.__module__}.Failure: ")
    return Attempt(
        run_id=run.run_id,
        ended=datetime.fromtimestamp(record.end_time, UTC)
        if record.end_time
        else record.update_timestamp.replace(tzinfo=UTC),
        number=int(run.tags.get(tags.ATTEMPT, 0)),
        days=tuple(days_of(run)),
        blamed=blamed,
        error=error,
    )


def _read_under_way(
    instance: DagsterInstance, points: AssetKey, now: datetime
) -> dict[date, tuple[str, datetime]]:
    under_way: dict[date, tuple[str, datetime]] = {}
    active = BulkActionsFilter(
        statuses=[BulkActionStatus.REQUESTED, BulkActionStatus.CANCELING, BulkActionStatus.FAILING]
    )
    today = local_date(now)
    for backfill in instance.get_backfills(filters=active):
        since = datetime.fromtimestamp(backfill.backfill_timestamp, UTC)
        for day in _days_to_come(backfill, points):
            # A backfill may take an hour to come to today, which must stay fresh meanwhile.
            if day != today:
                under_way[day] = (f"backfill {backfill.backfill_id}", since)
    for record in instance.get_run_records(RunsFilter(statuses=UNDER_WAY)):
        run = record.dagster_run
        if not stores(run, points):
            continue
        state = "queued" if run.status == DagsterRunStatus.QUEUED else "running"
        for day in days_of(run):
            under_way[day] = (
                f"run {run.run_id[:8]} is {state}",
                record.update_timestamp.replace(tzinfo=UTC),
            )
    return under_way


def _days_to_come(backfill: PartitionBackfill, points: AssetKey) -> list[date]:
    """The days that a backfill has not yet done."""
    data = backfill.asset_backfill_data
    if data is None:  # of a job
        job = str(backfill.partition_set_name).removesuffix("_partition_set")
        names = backfill.partition_names or []
        days = set(names) if keys.TARGET_OF_JOB.get(job) == points else set()
    elif points in data.target_subset.asset_keys:
        done = data.materialized_subset | data.failed_and_downstream_subset
        days = set(data.target_subset.get_partitions_subset(points).get_partition_keys())
        if points in done.asset_keys:
            days -= set(done.get_partitions_subset(points).get_partition_keys())
    else:
        days = set()
    return [date.fromisoformat(key) for key in sorted(days)]


def stores(run: DagsterRun, asset: AssetKey) -> bool:
    """Whether a run is for an asset, and not for what is made of it."""
    return keys.TARGET_OF_JOB.get(run.job_name) == asset or asset in (run.asset_selection or ())


def newest_materializations(
    instance: DagsterInstance, asset: AssetKey, days: Iterable[date]
) -> dict[date, EventLogRecord]:
    """The last materialization of each of the days that has one."""
    ids = instance.event_log_storage.get_latest_storage_id_by_partition(
        asset, DagsterEventType.ASSET_MATERIALIZATION, {day.isoformat() for day in days}
    )
    if not ids:
        return {}
    records = instance.fetch_materializations(
        AssetRecordsFilter(asset_key=asset, storage_ids=sorted(ids.values())), limit=len(ids)
    ).records
    return {date.fromisoformat(str(r.partition_key)): r for r in records}


def days_of(run: DagsterRun) -> list[date]:
    """The partitions that a run is for, as its tags say."""
    alone = run.tags.get(tags.PARTITION)
    first = run.tags.get(tags.RANGE_START, alone)
    last = run.tags.get(tags.RANGE_END, alone)
    if not first or not last:
        return []
    return days_between(date.fromisoformat(first), date.fromisoformat(last))
