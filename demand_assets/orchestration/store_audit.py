"""The audit of the store with an instance: what was recorded, what the store holds, and the result.

Which difference counts as a loss, and the words, belong in `planning/audit.py`.
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import partial

import dagster as dg
import pandas as pd

from demand_assets.demand.days import frames_by_day
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


def audit_store(
    instance: dg.DagsterInstance,
    ledger: Ledger,
    settings: Settings,
    store: Store,
    frames: ParquetFrameIOManager,
) -> tuple[Ledger, Finding]:
    """The ledger with a new audit, and its result; with the last audit if the store cannot be read.

    The number of queries does not depend on the number of days. Days that a run includes are not
    compared, nor are days that a person reported without hours.
    """
    now = ledger.now
    forecasts = newest_materializations(instance, keys.DEMAND_FORECAST)
    start = start_of(settings.start_date)
    try:
        read = partial(_read_store, store, start, now)
        kept_from, foreign_tags, hours = within(LONGEST_READ_SECONDS, read)
    except (StoreError, TimeoutError) as error:
        # A person must act, unless the store is away, or is of a kind that only takes points.
        red = not isinstance(error, StoreUnavailableError | StoreUnreadableError | TimeoutError)
        text = f"The store cannot be compared with the record: {error}"
        return ledger, Finding(False, text, red=red)
    first = max(kept_from or start, start)
    compared = {
        day: stored
        for day, stored in ledger.stored.items()
        if start_of(day) >= first and day not in ledger.under_way and stored.hours is not None
    }
    recorded = {day: stored.hours_fingerprint for day, stored in compared.items()}
    differing = differing_days(recorded, hours[COLUMNS])
    lost, without_frame = _find_lost(frames, compared, differing, hours[COLUMNS])
    audit = Audit(
        at=now,
        days=len(compared),
        lost=frozenset(lost),
        without_frame=frozenset(without_frame),
        lost_forecasts=_find_lost_forecasts(forecasts, first, hours[[MODEL]]),
        kept_from=kept_from,
        foreign_tags=foreign_tags,
        complete_at=ledger.audit.complete_at if ledger.audit else None,
    )
    if not audit.found_loss:
        audit = replace(audit, complete_at=now)
    ledger = replace(ledger, audit=audit)
    return ledger, check_complete(ledger, audit)


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


def _find_lost(
    frames: ParquetFrameIOManager,
    compared: dict[date, Stored],
    differing: list[date],
    hours: pd.DataFrame,
) -> tuple[list[date], list[date]]:
    """Which of the differing days lack values that were written, and which of these have no frame.

    A day is compared with its frame: the store may also hold values of an earlier answer, and
    records of earlier versions have no fingerprint of all hours.
    """
    lost: list[date] = []
    without_frame: list[date] = []
    if not differing:
        return lost, without_frame
    stored_frames = frames_by_day(hours, map(str, differing))
    for day in differing:
        stored = stored_frames[str(day)]
        written = frames.stored_frame(keys.HOURLY_DEMAND_FRAME, str(day))
        if written is None:
            recorded = compared[day]
            if recorded.hours_fingerprint or fingerprint(stored[REAL]) != recorded.fingerprint:
                lost.append(day)
                without_frame.append(day)
        elif stored.empty or check_stored(written.reindex(columns=COLUMNS), stored).red:
            lost.append(day)
    return lost, without_frame


def _find_lost_forecasts(
    records: dict[date, dg.EventLogRecord], first: datetime, hours: pd.DataFrame
) -> frozenset[date]:
    made = {
        day: values
        for day, record in records.items()
        if start_of(day) >= first and "hours" in (values := metadata.metadata_of(record))
    }
    recorded = {day: values.get(metadata.HOURS_FINGERPRINT) for day, values in made.items()}
    differing = differing_days(recorded, hours)
    if not differing:
        return frozenset()
    stored = frames_by_day(hours, map(str, differing))
    return frozenset(
        day
        for day in differing
        # Records of earlier versions have no fingerprint, only the number of hours.
        if recorded[day] or stored[str(day)][MODEL].count() < made[day]["hours"]
    )
