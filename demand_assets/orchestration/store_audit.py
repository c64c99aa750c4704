"""The audit of the store with an instance: what was recorded, what the store holds, and the result.

Which difference counts as a loss, and the words, belong in `planning/audit.py`.
"""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

import dagster as dg
import pandas as pd

from demand_assets.demand.days import describe_days, frames_by_day
from demand_assets.demand.figures import fingerprint
from demand_assets.demand.quality import Finding, check_stored
from demand_assets.grid import COLUMNS, MODEL, REAL, start_of
from demand_assets.orchestration import keys, metadata
from demand_assets.orchestration.checks import check_result
from demand_assets.orchestration.io_managers import ParquetFrameIOManager
from demand_assets.orchestration.ledger_reader import newest_materializations, read_ledger
from demand_assets.orchestration.planning.audit import check_complete, differing_days
from demand_assets.orchestration.planning.ledger import Audit, Ledger, Stored
from demand_assets.retry import within
from demand_assets.settings import Settings
from demand_assets.stores import Store, StoreError, StoreUnavailableError, StoreUnreadableError

LONGEST_READ_SECONDS = 40.0
"""Dagster gives a sensor 60 seconds."""
WEEKS_BEFORE = range(1, 5)
"""A forecast needs the same weekday of one of these weeks."""
READERS = 8
"""Files that are read at the same time."""


def audit_store(
    instance: dg.DagsterInstance,
    ledger: Ledger,
    settings: Settings,
    store: Store,
    frames: ParquetFrameIOManager,
) -> tuple[Ledger, Finding]:
    """The ledger with a new audit, and its result; with the last audit if the store cannot be read.

    The number of queries does not depend on the number of days. Days that a run includes are not
    compared.
    """
    now = ledger.now
    forecasts = newest_materializations(instance, keys.DEMAND_FORECAST)
    start = start_of(settings.start_date)
    try:
        read = partial(_read_store, store, start, now)
        kept_from, foreign_tags, hours = within(LONGEST_READ_SECONDS, read)
    except (StoreError, TimeoutError) as error:
        return ledger, _unread(ledger, settings, error)
    compared = {
        day: stored
        for day, stored in ledger.stored.items()
        if day not in ledger.under_way
        # Where the retention is unknown, days that failed because of it tell.
        and (start_of(day) >= kept_from if kept_from else not ledger.is_expired(day))
    }
    differing = _differing(compared, hours[COLUMNS])
    lost, without_frame, surplus = _compare(frames, compared, differing, hours[COLUMNS])
    lost_forecasts = _find_lost_forecasts(forecasts, compared, hours[[MODEL]])
    audit = Audit(
        at=now,
        days=len(compared),
        lost=frozenset(lost),
        without_frame=frozenset(without_frame),
        lost_forecasts=lost_forecasts,
        surplus=frozenset(surplus),
        kept_from=kept_from,
        foreign_tags=foreign_tags,
        complete_at=ledger.audit.complete_at if ledger.audit else None,
    )
    if not audit.found_loss:
        audit = replace(audit, complete_at=now)
    ledger = replace(ledger, audit=audit)
    return ledger, check_complete(ledger, audit)


def _unread(ledger: Ledger, settings: Settings, error: Exception) -> Finding:
    """The result if the store cannot be read.

    A person must act, unless the store is away, or is of a kind that only takes points. Such a
    store must be the one that the days were written to.
    """
    text = f"The store cannot be compared with the record: {error}"
    if isinstance(error, StoreUnavailableError | TimeoutError):
        return Finding(False, text)
    red = not isinstance(error, StoreUnreadableError)
    here = settings.store.address
    elsewhere = [
        day for day, one in ledger.stored.items() if one.store and not here.startswith(one.store)
    ]
    if elsewhere and settings.influxdb_url:
        text += (
            f" {describe_days(elsewhere)} was written to another store than {here}: materialize"
            " these days again if it lacks them."
        )
        red = True
    return Finding(False, text, red=red)


def _read_store(
    store: Store, start: datetime, now: datetime
) -> tuple[datetime | None, tuple[str, ...], pd.DataFrame]:
    # To the end of tomorrow, whose forecast is stored.
    hours = store.read([*COLUMNS, MODEL], start, now + timedelta(days=2))
    return store.kept_from(), tuple(store.foreign_tags()), hours


def audit_result(ledger: Ledger, finding: Finding) -> dg.AssetCheckResult:
    """The result of `store_is_complete`, with the audit that the ledger reads back."""
    audit = {metadata.AUDIT: metadata.audit_to_json(ledger.audit)} if ledger.audit else {}
    recorded = replace(finding, figures={**finding.figures, **audit})
    return check_result(keys.STORE_IS_COMPLETE, recorded)


@dg.asset_check(asset=keys.INFLUX_DEMAND_POINTS)
def store_is_complete(
    context: dg.AssetCheckExecutionContext,
    settings: dg.ResourceParam[Settings],
    demand_store: dg.ResourceParam[Store],
    frame_files: dg.ResourceParam[ParquetFrameIOManager],
) -> dg.AssetCheckResult:
    """Does the store hold every day and every forecast as it was written? Yellow: some are lost,
    and are written again. Red: that fails, or the store cannot be read. Evaluated by
    `store_audit_sensor`."""
    ledger = read_ledger(context.instance, settings, datetime.now(UTC))
    return audit_result(*audit_store(context.instance, ledger, settings, demand_store, frame_files))


def _differing(compared: dict[date, Stored], hours: pd.DataFrame) -> list[date]:
    """Days whose hours in the store are not, or may not be, those that were recorded.

    Records of earlier versions have a fingerprint of the measured demand, or its number of hours.
    A day that a person has reported has neither.
    """
    fingerprints = {d: s.hours_fingerprint for d, s in compared.items() if s.hours_fingerprint}
    differing = differing_days(fingerprints, hours)
    others = [day for day in compared if day not in fingerprints]
    for day, frame in _by_day(hours, others).items():
        one, real = compared[day], frame[REAL]
        same = one.fingerprint is None or one.fingerprint == fingerprint(real)
        if one.hours is None or real.count() < one.hours or not same:
            differing.append(day)
    return sorted(differing)


def _compare(
    frames: ParquetFrameIOManager,
    compared: dict[date, Stored],
    differing: list[date],
    hours: pd.DataFrame,
) -> tuple[list[date], list[date], list[date]]:
    """Days that lack values, those of them without a frame, and days with values of others.

    A day is compared with its frame. One that a person has reported without a frame cannot be.
    """
    lost: list[date] = []
    without_frame: list[date] = []
    surplus: list[date] = []
    stored_frames = _by_day(hours, differing)
    read = partial(frames.stored_frame, keys.HOURLY_DEMAND_FRAME)
    with ThreadPoolExecutor(READERS) as pool:  # an object store takes a while for each file
        written_frames = pool.map(read, map(str, differing))
    for day, written in zip(differing, written_frames, strict=True):
        stored = stored_frames[day]
        if written is None and compared[day].hours is not None:
            lost.append(day)
            without_frame.append(day)
        elif written is not None:
            finding = check_stored(written.reindex(columns=COLUMNS), stored)
            if finding.red:
                lost.append(day)
            elif not finding.passed:
                surplus.append(day)
    return lost, without_frame, surplus


def _find_lost_forecasts(
    records: dict[date, dg.EventLogRecord], compared: dict[date, Stored], hours: pd.DataFrame
) -> frozenset[date]:
    """Days whose forecast is not in the store as it was made, and can be made again."""
    made = {
        day: values
        for day, record in records.items()
        if any(day - timedelta(weeks=n) in compared for n in WEEKS_BEFORE)
        and "hours" in (values := metadata.metadata_of(record))
    }
    fingerprints = {
        day: values[metadata.HOURS_FINGERPRINT]
        for day, values in made.items()
        if metadata.HOURS_FINGERPRINT in values
    }
    lost = differing_days(fingerprints, hours)
    # Records of earlier versions have the number of hours only.
    others = [day for day in made if day not in fingerprints]
    lost += [d for d, f in _by_day(hours, others).items() if f[MODEL].count() < made[d]["hours"]]
    return frozenset(lost)


def _by_day(hours: pd.DataFrame, days: list[date]) -> dict[date, pd.DataFrame]:
    if not days:
        return {}
    frames = frames_by_day(hours, map(str, days))
    return {day: frames[str(day)] for day in days}
