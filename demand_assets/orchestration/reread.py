"""The daily look for revisions: the API is asked once for the last days, and changes are recorded.

The operator may revise a day weeks later. A changed day gets an observation, which makes it open in
the ledger; `current_day_sensor` then materializes it as any other.
"""

from datetime import UTC, date, datetime, timedelta

import dagster as dg

from demand_assets.demand.days import days_between, describe_days
from demand_assets.demand.errors import DayError
from demand_assets.demand.hourly import hourly_frame, with_earlier_hours
from demand_assets.demand.quality import screen
from demand_assets.orchestration import keys, metadata
from demand_assets.orchestration.io_managers import ParquetFrameIOManager
from demand_assets.orchestration.ledger_reader import read_ledger
from demand_assets.orchestration.planning.ledger import State
from demand_assets.orchestration.resources import REDataResource
from demand_assets.redata import Answer, read_samples
from demand_assets.settings import Settings


@dg.op
def look_for_revisions(
    context: dg.OpExecutionContext,
    redata: REDataResource,
    frame_files: dg.ResourceParam[ParquetFrameIOManager],
    settings: dg.ResourceParam[Settings],
) -> None:
    """Requests the last `DEMAND_REREAD_DAYS` days, and records those whose hours have changed."""
    now = datetime.now(UTC)
    ledger = read_ledger(context.instance, settings, now)
    earliest = ledger.today - timedelta(days=settings.reread_days)
    closed = [day for day in ledger.days(State.INGESTED, State.CLOSED_SHORT) if day >= earliest]
    if not closed:
        context.log.info("No closed day is recent enough to be read again.")
        return
    outcomes = redata.get_client().fetch(days_between(closed[0], closed[-1]))
    revised, errors = [], []
    for day in closed:
        try:
            changed = _changed_hours(outcomes[day], day, frame_files)
        except DayError as error:
            errors.append(str(error))
            continue
        if changed:
            revised.append(day)
            values = {metadata.REVISED_HOURS: changed}
            context.log_event(
                dg.AssetObservation(
                    keys.INFLUX_DEMAND_POINTS, partition=day.isoformat(), metadata=values
                )
            )
    for text in errors:
        context.log.warning(text)
    if len(errors) == len(closed):
        raise dg.Failure(f"None of {len(closed)} days could be read again. {errors[0]}")
    text = f"{len(closed) - len(errors)} days read again, {len(revised)} revised"
    context.log.info(f"{text}: {describe_days(revised)}." if revised else f"{text}.")


def _changed_hours(
    outcome: Answer | DayError, day: date, frame_files: ParquetFrameIOManager
) -> int:
    """How many hours of an answer are not those of the frame on disk.

    Raises:
        DayError: there is no answer, or it is not one of the day.
    """
    if isinstance(outcome, DayError):
        raise outcome
    earlier = frame_files.stored_frame(keys.HOURLY_DEMAND_FRAME, day.isoformat())
    now = datetime.now(UTC)
    screened = screen(read_samples(outcome, day), day, now)
    newest = hourly_frame(screened.samples, day, now=now)
    if earlier is None:
        return len(newest)
    merged = with_earlier_hours(newest, earlier)
    known = earlier.reindex(index=merged.index, columns=merged.columns)
    same = (merged == known) | (merged.isna() & known.isna())
    return int((~same.all(axis=1)).sum())


@dg.job(name=keys.REREAD_JOB, description="Look for revisions of the last days.")
def reread_job() -> None:
    look_for_revisions()
