"""The ledger: which days are in the store, told by Dagster's own records and nothing else.

A day is *ingested* if its points were materialized after the day was over and settled. It is
*open* if it is today, or was last materialized too early, or came with hours missing; *missing* if
it never was materialized; *failed* if its last attempt failed; *in progress* while a run or a
backfill has it.
A handful of queries answers for any number of days.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
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
    RunsFilter,
)
from dagster._core.execution.backfill import (
    BulkActionsFilter,
    BulkActionStatus,
    PartitionBackfill,
)
from dagster._core.storage.dagster_run import FINISHED_STATUSES, RunRecord
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PARTITION_NAME_TAG,
)

from demand_assets.partitions import days_between
from demand_assets.redata import MADRID
from demand_assets.settings import Settings

FAILED_DAYS = "failed_days"
"""Key of a failure's metadata: the days that made a run fail, by partition key."""
STORE = "store"
"""Key of a materialization's metadata: the store's address."""
ATTEMPT_TAG = "demand/attempt"
"""On a run that a sensor asked for again: how many attempts for the same days came before it."""

GRACE = timedelta(minutes=5)
"""How long after the full hour the API has the hour's last sample."""
UNDER_WAY = [
    DagsterRunStatus.QUEUED,
    DagsterRunStatus.NOT_STARTED,
    DagsterRunStatus.STARTING,
    DagsterRunStatus.STARTED,
    DagsterRunStatus.CANCELING,
]
DEMAND_JOB, TODAY_JOB = "demand_job", "today_job"
"""The three assets of any days; the same of today, and what is shown of it."""
FORECAST_JOB, MODEL_JOB, SCORE_JOB = "forecast_job", "forecast_model_job", "forecast_score_job"
STORED_BY_JOB = {
    DEMAND_JOB: AssetKey("influx_demand_points"),
    TODAY_JOB: AssetKey("influx_demand_points"),
    FORECAST_JOB: AssetKey("demand_forecast"),
    MODEL_JOB: AssetKey("demand_forecast_model"),
    SCORE_JOB: AssetKey("demand_forecast_score"),
}
"""What a run of a job is for in the end."""
MOST_IDS_IN_A_QUERY = 5_000
"""Dagster allows 10,000 records; 5,000 days are 13 years."""


_attempts: dict[str, "Attempt"] = {}
"""By run id: what has ended changes no more, and each costs a query."""


class State(StrEnum):
    INGESTED = "ingested"
    OPEN = "open"
    MISSING = "missing"
    FAILED = "failed"
    IN_PROGRESS = "in progress"


@dataclass(frozen=True)
class Attempt:
    """A run that ended without storing the days that it was for."""

    run_id: str
    ended: datetime
    number: int
    days: tuple[date, ...]
    """All days that the run was for."""
    blamed: frozenset[date]
    """The days that made it fail, as far as it named them."""
    error: str
    """What a person reads about it, in one line."""


@dataclass(frozen=True)
class Stored:
    """The last materialization of a day's points."""

    at: datetime
    hours: int | None
    hours_expected: int | None
    last_hour: datetime | None
    """Start of the newest hour with measured demand."""
    digest: str | None = None
    """Of the measured demand; it changes when that does."""
    morning_digest: str | None = None
    """The same of the hours before the next day's forecast is due."""
    store: str | None = None
    """The address of the store that it went to, where that was told."""

    @property
    def short(self) -> bool:
        """Whether measured hours are known to be missing."""
        return (
            self.hours is not None
            and self.hours_expected is not None
            and self.hours < self.hours_expected
        )


@dataclass(frozen=True)
class Ledger:
    """What was known of all days at one moment."""

    now: datetime
    settle: timedelta
    stored: dict[date, Stored]
    attempts: dict[date, Attempt]
    """Days whose last attempt failed."""
    under_way: dict[date, tuple[str, datetime]] = field(default_factory=dict)
    """Days that a run or a backfill has: what has them, and since when."""
    elsewhere: frozenset[date] = frozenset()
    """Days that went to another store, which was set before: of this one they are missing."""

    @property
    def today(self) -> date:
        return self.now.astimezone(MADRID).date()

    @property
    def first_day(self) -> date | None:
        """The first day that was ever stored; what lies before is a person's to load."""
        return min(self.stored.keys() | self.elsewhere, default=None)

    def settled_at(self, day: date) -> datetime:
        """When a day's numbers count as final."""
        return end_of(day) + self.settle

    def refresh_due(self, refresh: timedelta) -> datetime:
        """When today is to be asked for next: after the interval, or when an hour has closed."""
        if attempt := self.attempts.get(self.today):
            return attempt.ended + refresh
        stored = self.stored.get(self.today)
        if stored is None:
            return self.now
        hour = stored.at.replace(minute=0, second=0, microsecond=0)
        closes = hour + GRACE
        if stored.at >= closes:
            closes += timedelta(hours=1)
        return min(stored.at + refresh, closes)

    def state(self, day: date) -> State:
        if day in self.under_way:
            return State.IN_PROGRESS
        if day in self.attempts:
            return State.FAILED
        stored = self.stored.get(day)
        if stored is None:
            return State.MISSING
        if stored.at < self.settled_at(day) or stored.short:
            return State.OPEN
        return State.INGESTED

    def days(self, *states: State) -> list[date]:
        """Past days that are in one of the states: all from the first stored one to yesterday.

        Of earlier days, those that somebody asked for in vain.
        """
        first = self.first_day or self.today
        past = [day for day in sorted(self.attempts) if day < first]
        past += days_between(first, self.today - timedelta(days=1))
        return [day for day in past if self.state(day) in states]


def end_of(day: date) -> datetime:
    """Midnight at the end of a Madrid day."""
    return datetime.combine(day + timedelta(days=1), time(), MADRID).astimezone(UTC)


def read_ledger(
    instance: DagsterInstance, points: AssetKey, settings: Settings, now: datetime
) -> Ledger:
    """Ask the instance.

    Args:
        instance: where the partitions' history is.
        points: the asset whose partitions are the days.
        settings: of these ``settle``, ``store`` and ``start_date``: what was stored of earlier
            days is not looked at.
        now: the present, aware.
    """
    # A run that starts or ends while this reads is seen at least once as under way.
    under_way = _read_under_way(instance, points, now)
    start = settings.start_date
    told = {day: told for day, told in _read_stored(instance, points).items() if day >= start}
    stored = {
        day: one
        for day, one in told.items()
        if not one.store or settings.store.is_meant_by(one.store)
    }
    return Ledger(
        now=now,
        settle=settings.settle,
        stored=stored,
        attempts=_read_attempts(instance, points, start),
        under_way={**under_way, **_read_under_way(instance, points, now)},
        elsewhere=frozenset(told.keys() - stored.keys()),
    )


def stretches(days: Iterable[date], longest: int) -> Iterator[list[date]]:
    """Contiguous days, in pieces of at most ``longest``."""
    piece: list[date] = []
    for day in sorted(days):
        if piece and (day - piece[-1] > timedelta(days=1) or len(piece) == longest):
            yield piece
            piece = []
        piece.append(day)
    if piece:
        yield piece


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
                digest=values.get("digest"),
                morning_digest=values.get("morning_digest"),
                store=values.get(STORE),
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
        if data.user_failure_data and FAILED_DAYS in data.user_failure_data.metadata:
            named = data.user_failure_data.metadata[FAILED_DAYS].value
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
        number=int(run.tags.get(ATTEMPT_TAG, 0)),
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
    today = now.astimezone(MADRID).date()
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
        keys = set(backfill.partition_names or []) if STORED_BY_JOB.get(job) == points else set()
    elif points in data.target_subset.asset_keys:
        done = data.materialized_subset | data.failed_and_downstream_subset
        keys = set(data.target_subset.get_partitions_subset(points).get_partition_keys())
        if points in done.asset_keys:
            keys -= set(done.get_partitions_subset(points).get_partition_keys())
    else:
        keys = set()
    return [date.fromisoformat(key) for key in sorted(keys)]


def stores(run: DagsterRun, asset: AssetKey) -> bool:
    """Whether a run is for an asset, and not for what is made of it."""
    return STORED_BY_JOB.get(run.job_name) == asset or asset in (run.asset_selection or ())


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
    alone = run.tags.get(PARTITION_NAME_TAG)
    first = run.tags.get(ASSET_PARTITION_RANGE_START_TAG, alone)
    last = run.tags.get(ASSET_PARTITION_RANGE_END_TAG, alone)
    if not first or not last:
        return []
    return days_between(date.fromisoformat(first), date.fromisoformat(last))
