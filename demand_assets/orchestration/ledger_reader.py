"""Reads the ledger from a Dagster instance, in a bounded number of queries.

What the states of days are belongs in `planning/ledger.py`.
"""

import re
from collections.abc import Collection, Sequence
from datetime import UTC, date, datetime
from typing import Any

import dagster as dg

from demand_assets.demand.days import days_between
from demand_assets.grid import local_date
from demand_assets.orchestration import keys, metadata, tags
from demand_assets.orchestration.dagster_internals.backfills import backfills_under_way
from demand_assets.orchestration.planning.ledger import Attempt, Ledger, Stored
from demand_assets.settings import Settings

PROJECT_PACKAGE = __name__.partition(".")[0]
FINISHED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
UNDER_WAY = [status for status in dg.DagsterRunStatus if status not in FINISHED]
MOST_IDS_IN_A_QUERY = 5_000
"""Dagster allows 10,000 records; 5,000 days are 13 years."""
MOST_FAILURES_READ = 20
"""Failed runs whose errors are read, the newest ones, as each takes a query. Older ones count as
failed as a whole, and are among the newest again after their next attempt."""


def read_ledger(instance: dg.DagsterInstance, settings: Settings, now: datetime) -> Ledger:
    """The state of all days since ``settings.start_date``; ``now`` is the present, aware."""
    # Read before and after the rest: a run that starts or ends meanwhile is seen as under way.
    under_way = _read_under_way(instance, now)
    everywhere = {
        day: _stored(record)
        for day, record in newest_materializations(instance, keys.INFLUX_DEMAND_POINTS).items()
        if day >= settings.start_date
    }
    elsewhere = {
        day
        for day, one in everywhere.items()
        if one.store and not settings.store.matches(one.store)
    }
    return Ledger(
        now=now,
        settle=settings.settle,
        stored={day: one for day, one in everywhere.items() if day not in elsewhere},
        attempts=_read_attempts(instance, settings.start_date),
        under_way={**under_way, **_read_under_way(instance, now)},
        elsewhere=frozenset(elsewhere),
        load_from=settings.start_date if settings.load_history else None,
    )


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
    last_hour = values.get("last_hour")
    return Stored(
        at=datetime.fromtimestamp(record.timestamp, UTC),
        hours=values.get("hours"),
        hours_expected=values.get("hours_expected"),
        last_hour=None if last_hour is None else datetime.fromtimestamp(last_hour, UTC),
        fingerprint=values.get(metadata.FINGERPRINT),
        morning_fingerprint=values.get(metadata.MORNING_FINGERPRINT),
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
    if failures is None:
        failed_days, error = days, f"see run {run.run_id[:8]}"
    for entry in failures or ():
        data = entry.get_dagster_event().step_failure_data
        details = data.user_failure_data.metadata if data.user_failure_data else {}
        if named := details.get(metadata.FAILED_DAYS):
            failed_days = [date.fromisoformat(str(key)) for key in named.value]  # type: ignore[union-attr]
        elif entry.step_key == keys.INFLUX_DEMAND_POINTS.to_python_identifier():
            failed_days = days  # the store is unreachable, which no single day causes
        if data.error:
            error = _sentence(data.error)
    return Attempt(
        run_id=run.run_id,
        ended=ended_at(record),
        number=int(run.tags.get(tags.ATTEMPT, 0)),
        days=tuple(days),
        failed_days=frozenset(failed_days),
        error=error,
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
