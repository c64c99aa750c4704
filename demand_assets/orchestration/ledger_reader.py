"""Reads the ledger from a Dagster instance, in a bounded number of queries.

What the states of days are belongs in `planning/ledger.py`.
"""

import re
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from demand_assets.demand.days import days_between
from demand_assets.grid import local_date
from demand_assets.orchestration import keys, metadata, tags
from demand_assets.orchestration.dagster_internals.backfills import backfills_under_way
from demand_assets.orchestration.dagster_internals.check_targets import EVALUATED
from demand_assets.orchestration.planning.ledger import Attempt, Audit, Ledger, Stored
from demand_assets.settings import Settings
from demand_assets.stores.duckdb_store import DuckDBLockedError
from demand_assets.stores.influxdb import InfluxDBUnavailableError

FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
UNDER_WAY = [status for status in dg.DagsterRunStatus if status not in FINISHED]
PROJECT_PACKAGE = __name__.partition(".")[0]
UNAVAILABLE = {error.__name__ for error in (InfluxDBUnavailableError, DuckDBLockedError)}
"""Errors that end by themselves once the store answers again."""
MOST_IDS_IN_A_QUERY = 5_000
"""Dagster allows 10,000 records; 5,000 days are 13 years."""
MOST_REVISIONS_READ = 400
"""Observations, the newest ones. A look for revisions makes one for each revised day."""
MOST_FAILURES_READ = 20
"""Failed runs whose errors are read, the newest ones, as each takes a query. Older ones count as
failed as a whole, and are among the newest again after their next attempt."""


def read_ledger(instance: dg.DagsterInstance, settings: Settings, now: datetime) -> Ledger:
    """The state of all days since ``settings.start_date``; ``now`` is the present, aware."""
    # Read before and after the rest: a run that starts or ends meanwhile is seen as under way.
    under_way = _read_under_way(instance, now)
    stored = read_stored(instance)
    for day, revised_at in _read_revisions(instance).items():
        if day in stored:
            stored[day] = replace(stored[day], revised_at=revised_at)
    return Ledger(
        now=now,
        settle=settings.settle,
        stored={day: one for day, one in stored.items() if day >= settings.start_date},
        attempts=_read_attempts(instance, settings.start_date),
        under_way={**under_way, **_read_under_way(instance, now)},
        audit=read_audit(instance),
        last_reread=_read_last_reread(instance),
        load_from=settings.start_date if settings.load_history else None,
    )


def read_stored(
    instance: dg.DagsterInstance, days: Collection[date] | None = None
) -> dict[date, Stored]:
    """The last materialization of the points of each day that has one, by default of all days."""
    records = newest_materializations(instance, keys.INFLUX_DEMAND_POINTS, days)
    return {day: _stored(record) for day, record in records.items()}


def read_audit(instance: dg.DagsterInstance) -> Audit | None:
    """The last audit of the store, by the sensor or in a run."""
    history = instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(keys.INFLUX_DEMAND_POINTS, keys.STORE_IS_COMPLETE),
        limit=1,
        status=EVALUATED,  # runs that have not come to the check have a record, too
    )
    for record in history:
        result = record.evaluation
        if isinstance(result, dg.AssetCheckEvaluation) and metadata.AUDIT in result.metadata:
            return metadata.audit_from_json(result.metadata[metadata.AUDIT].value)
    return None


def _read_revisions(instance: dg.DagsterInstance) -> dict[date, datetime]:
    """When the API was last seen to have changed a day."""
    observations = instance.fetch_observations(
        dg.AssetRecordsFilter(asset_key=keys.INFLUX_DEMAND_POINTS), limit=MOST_REVISIONS_READ
    ).records
    revisions: dict[date, datetime] = {}
    for record in observations:  # the newest comes first
        if record.partition_key:  # other programs may report observations of the asset
            day = date.fromisoformat(record.partition_key)
            revisions.setdefault(day, datetime.fromtimestamp(record.timestamp, UTC))
    return revisions


def _read_last_reread(instance: dg.DagsterInstance) -> datetime | None:
    newest = instance.get_run_records(dg.RunsFilter(job_name=keys.REREAD_JOB), limit=1)
    return newest[0].create_timestamp.replace(tzinfo=UTC) if newest else None


def newest_materializations(
    instance: dg.DagsterInstance, asset: dg.AssetKey, days: Collection[date] | None = None
) -> dict[date, dg.EventLogRecord]:
    """The newest materialization of each of the days that has one, by default of all days."""
    if days is not None and not days:
        return {}
    partitions = None if days is None else {day.isoformat() for day in days}
    newest = instance.get_latest_storage_id_by_partition(
        asset, dg.DagsterEventType.ASSET_MATERIALIZATION, partitions
    )
    ids = sorted(newest.values())
    records: list[dg.EventLogRecord] = []
    for start in range(0, len(ids), MOST_IDS_IN_A_QUERY):
        some = ids[start : start + MOST_IDS_IN_A_QUERY]
        records += instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=asset, storage_ids=some), limit=len(some)
        ).records
    return {date.fromisoformat(str(record.partition_key)): record for record in records}


def newest_attempts(instance: dg.DagsterInstance, asset: dg.AssetKey) -> dict[date, str]:
    """The id of the newest run of each day that did not materialize it, or has not yet."""
    storage = instance.event_log_storage
    attempts = storage.get_latest_asset_partition_materialization_attempts_without_materializations(
        asset
    )
    return {date.fromisoformat(key): run_id for key, (run_id, _) in attempts.items()}


def stores(run: dg.DagsterRun, asset: dg.AssetKey) -> bool:
    """Whether a run is for an asset, and not only for what is made of it."""
    return keys.TARGET_OF_JOB.get(run.job_name) == asset or asset in (run.asset_selection or ())


def days_of(run: dg.DagsterRun) -> list[date]:
    """The partitions of a run, from its tags."""
    single = run.tags.get(tags.PARTITION)
    first = run.tags.get(tags.RANGE_START, single)
    last = run.tags.get(tags.RANGE_END, single)
    if not first or not last:
        return []
    return days_between(date.fromisoformat(first), date.fromisoformat(last))


def ended_at(record: dg.RunRecord) -> datetime:
    if record.end_time:
        return datetime.fromtimestamp(record.end_time, UTC)
    return record.update_timestamp.replace(tzinfo=UTC)


def _stored(record: dg.EventLogRecord) -> Stored:
    values = metadata.metadata_of(record)

    def instant(name: str) -> datetime | None:
        return None if values.get(name) is None else datetime.fromtimestamp(values[name], UTC)

    written_at = datetime.fromtimestamp(record.timestamp, UTC)
    return Stored(
        at=instant(metadata.ANSWERED_AT) or written_at,
        hours=values.get("hours"),
        hours_expected=values.get("hours_expected"),
        last_hour=instant("last_hour"),
        fingerprint=values.get(metadata.FINGERPRINT),
        morning_fingerprint=values.get(metadata.MORNING_FINGERPRINT),
        hours_fingerprint=values.get(metadata.HOURS_FINGERPRINT),
        written_at=written_at,
        same_answers=values.get(metadata.SAME_ANSWERS, 1),
        unchanged_since=instant(metadata.UNCHANGED_SINCE),
        restores=values.get(metadata.RESTORES, 0),
        accepted=values.get(metadata.ACCEPTED, False),
        store=values.get(metadata.STORE),
    )


def _read_attempts(instance: dg.DagsterInstance, start: date) -> dict[date, Attempt]:
    newest = newest_attempts(instance, keys.INFLUX_DEMAND_POINTS)
    run_of_day = {day: run_id for day, run_id in newest.items() if day >= start}
    if not run_of_day:
        return {}
    # A run that succeeded without storing its days lost its events, as in a power cut.
    finished = dg.RunsFilter(run_ids=sorted(set(run_of_day.values())), statuses=FINISHED)
    records = sorted(instance.get_run_records(finished), key=ended_at, reverse=True)
    attempts: dict[str, Attempt] = {}
    for record in records:
        run_id = record.dagster_run.run_id
        is_read = len(attempts) < MOST_FAILURES_READ
        failures = instance.all_logs(run_id, dg.DagsterEventType.STEP_FAILURE) if is_read else None
        attempts[run_id] = _attempt(record, failures)
    return {day: attempts[run_id] for day, run_id in run_of_day.items() if run_id in attempts}


def _attempt(record: dg.RunRecord, failures: Sequence[dg.EventLogEntry] | None) -> Attempt:
    run = record.dagster_run
    days = days_of(run)
    failed_days, error = [], "the run ended without an error"
    store_unavailable, kept_from = False, None
    if failures is None:
        failed_days, error = days, f"see run {run.run_id[:8]}"
    for entry in failures or ():
        data = entry.get_dagster_event().step_failure_data
        details = data.user_failure_data.metadata if data.user_failure_data else {}
        if named := details.get(metadata.FAILED_DAYS):
            failed_days = [date.fromisoformat(str(key)) for key in named.value]  # type: ignore[union-attr]
        elif entry.step_key == keys.INFLUX_DEMAND_POINTS.to_python_identifier():
            failed_days = days  # the store is unreachable, which no single day causes
        if bound := details.get(metadata.KEPT_FROM):
            kept_from = datetime.fromtimestamp(bound.value, UTC)  # type: ignore[arg-type]
        if data.error:
            store_unavailable = any(one.cls_name in UNAVAILABLE for one in _causes(data.error))
            error = _sentence(data.error)
    return Attempt(
        run_id=run.run_id,
        ended=ended_at(record),
        number=int(run.tags.get(tags.ATTEMPT, 0)),
        days=tuple(days),
        failed_days=frozenset(failed_days),
        error=error,
        store_unavailable=store_unavailable,
        kept_from=kept_from,
    )


def _sentence(error: Any) -> str:
    """The last line of an error: of the project's own in its chain, else of the innermost.

    Errors of libraries, which the project's own errors explain, follow further in.
    """
    own = (f"{PROJECT_PACKAGE}.", f"{dg.Failure.__module__}.Failure: ")
    while error.cause and not error.message.startswith(own):
        error = error.cause
    name = rf"^({PROJECT_PACKAGE}\.[\w.]+|{re.escape(own[1][:-2])}): "
    return re.sub(name, "", error.message.strip()).splitlines()[-1]


def _causes(error: Any) -> list[Any]:
    """An error as Dagster stores it, and its causes, the innermost last."""
    return [error, *_causes(error.cause)] if error else []


def _read_under_way(
    instance: dg.DagsterInstance, now: datetime
) -> dict[date, tuple[str, datetime]]:
    """Days that a run or a backfill includes: a description of it, and since when."""
    points, today = keys.INFLUX_DEMAND_POINTS, local_date(now)
    under_way: dict[date, tuple[str, datetime]] = {}
    for backfill_id, since, partitions in backfills_under_way(instance, points):
        for day in map(date.fromisoformat, partitions):
            # A backfill may take an hour to reach today, which has to stay fresh meanwhile.
            if day != today:
                under_way[day] = (f"backfill {backfill_id}", since)
    for record in instance.get_run_records(dg.RunsFilter(statuses=UNDER_WAY)):
        run = record.dagster_run
        if stores(run, points):
            state = "queued" if run.status == dg.DagsterRunStatus.QUEUED else "running"
            since = record.update_timestamp.replace(tzinfo=UTC)
            text = f"run {run.run_id[:8]} is {state}"
            under_way |= dict.fromkeys(days_of(run), (text, since))
    return under_way
