"""What judges: whether today is fresh, and whether each day's data are whole, true and stored.

Red (`ERROR`) means that a person has to act. Yellow (`WARN`) is what the sensors still mend by
themselves, or what nobody can mend.
"""

import time
from collections.abc import Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import duckdb
import pandas as pd
from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetCheckSpec,
    AssetIn,
    AssetKey,
    DagsterEventType,
    DailyPartitionsDefinition,
    MetadataValue,
    OpExecutionContext,
    Output,
    asset_check,
)
from dagster._core.definitions.asset_checks.asset_check_evaluation import (
    AssetCheckEvaluationTargetMaterializationData,
)

from demand_assets.hourly import (
    FINEST_SPACING,
    FORECAST,
    LEAST_MW,
    MOST_MW,
    REAL,
    ImplausibleDemandError,
    day_hours,
    frames_by_day,
)
from demand_assets.influxdb import InfluxDBAccessError
from demand_assets.ledger import Ledger, end_of, read_ledger
from demand_assets.redata import MADRID
from demand_assets.settings import Settings

HOURS_ARE_COMPLETE = "hours_are_complete"
DEMAND_IS_PLAUSIBLE = "demand_is_plausible"
FORECAST_IS_PRESENT = "forecast_is_present"
STORE_MATCHES_FRAME = "store_matches_frame"
TODAY_IS_FRESH = "today_is_fresh"

STUCK_AFTER = timedelta(minutes=10)
"""A run that waits longer than this for today is stuck in the queue."""
HEALING = timedelta(days=1)
"""How long after a day's end its missing hours are left to the sensor, which asks again."""
MOST_STRETCHES = 6


# Today


def judge_freshness(ledger: Ledger, settings: Settings) -> AssetCheckResult:
    """Whether today's data are as new as they can be; if not, why.

    The lag runs from the end of today's newest measured hour, before there is one from midnight.
    Today is stale as well when it was not materialized for that long. Other days do not count.
    """
    now, today = ledger.now, ledger.today
    midnight = end_of(today - timedelta(days=1))
    stored = ledger.stored.get(today)
    measured_until = midnight
    if stored and stored.last_hour:
        measured_until = stored.last_hour + timedelta(hours=1)
    age = now - (stored.at if stored else midnight)
    lag = now - measured_until
    stale = max(lag, age)
    passed = stale <= settings.freshness.warn_after
    metadata: dict[str, MetadataValue] = {
        "lag_minutes": MetadataValue.float(round(lag / timedelta(minutes=1), 1)),
        "next_refresh": MetadataValue.timestamp(ledger.refresh_due(settings.refresh)),
    }
    if stored and stored.last_hour:
        metadata["last_hour"] = MetadataValue.timestamp(stored.last_hour)
    if stored:
        metadata["last_materialization"] = MetadataValue.timestamp(stored.at)
    text = f"Today, {today}, is measured until {clock(measured_until)}."
    if not passed:
        why = _why_stale(ledger, settings.refresh)
        metadata["why"] = MetadataValue.text(why)
        text = f"Today, {today}, is {stale / timedelta(minutes=1):.0f} minutes behind. {why}"
    return AssetCheckResult(
        check_name=TODAY_IS_FRESH,
        passed=passed,
        severity=_severity(stale > settings.freshness.fail_after),
        metadata=metadata,
        description=text,
    )


def _why_stale(ledger: Ledger, refresh: timedelta) -> str:
    today = ledger.today
    stored, attempt = ledger.stored.get(today), ledger.attempts.get(today)
    under_way, since = ledger.under_way.get(today, (None, ledger.now))
    if stored and not attempt and ledger.now - stored.at <= refresh + STUCK_AFTER:
        return f"API silent: it answered at {clock(stored.at)} without newer measured hours."
    if under_way and ledger.now - since > STUCK_AFTER:
        return f"Queue stuck: {under_way} since {clock(since)}."
    if attempt:
        return f"Runs failing, run {attempt.run_id[:8]} the last: {attempt.error}"
    if under_way:
        return f"Just being fetched: {under_way}."
    return "Sensor just started, or it was off: today was not asked for in that time."


# A day


def frame_check_specs(asset: str, partitions: DailyPartitionsDefinition) -> list[AssetCheckSpec]:
    """The checks that a frame passes before it goes to the store."""
    told = {
        HOURS_ARE_COMPLETE: "Has the day its 23, 24 or 25 measured hours? Yellow: samples are"
        " missing, or hours of a day that is asked for again. Red: hours are still missing a day"
        " after its end.",
        DEMAND_IS_PLAUSIBLE: "Can the values be demand? Red: some cannot; nothing of the day went"
        " to the store.",
        FORECAST_IS_PRESENT: "Has every hour the operator's forecast? Yellow: some have none.",
    }
    return [
        AssetCheckSpec(name, asset=asset, partitions_def=partitions, description=words)
        for name, words in told.items()
    ]


def judge_hours(
    frame: pd.DataFrame, missing: pd.DatetimeIndex, day: date, now: datetime
) -> AssetCheckResult:
    """Whether all hours that are over are measured, and from all their samples.

    Args:
        frame: the day's hourly frame.
        missing: UTC instants of missing samples, of :func:`demand_assets.hourly.missing_samples`.
        day: the Madrid day.
        now: the present, aware.
    """
    hours, expected = int(frame[REAL].count()), len(day_hours(day))
    text = f"{hours} of {expected} hours" + ("." if now >= end_of(day) else " so far.")
    if len(missing):
        text += f" {len(missing)} samples are missing: {_in_words(missing)}."
    measured = frame.index[frame[REAL].notna()]
    holes = missing.floor("h").difference(pd.DatetimeIndex(measured))
    return AssetCheckResult(
        check_name=HOURS_ARE_COMPLETE,
        passed=missing.empty,
        severity=_severity(not holes.empty and now > end_of(day) + HEALING),
        metadata={"hours": hours, "hours_expected": expected, "samples_missing": len(missing)},
        description=text,
    )


def judge_plausibility(error: ImplausibleDemandError | None = None) -> AssetCheckResult:
    """Whether the values can be demand; the error of those that cannot stopped the day."""
    return AssetCheckResult(
        check_name=DEMAND_IS_PLAUSIBLE,
        passed=error is None,
        description=str(error or f"All samples lie between {LEAST_MW:,} and {MOST_MW:,} MW."),
    )


def judge_forecast(frame: pd.DataFrame, day: date) -> AssetCheckResult:
    """Whether every hour of the day has a forecast."""
    hours, expected = int(frame[FORECAST].count()), len(day_hours(day))
    return AssetCheckResult(
        check_name=FORECAST_IS_PRESENT,
        passed=hours == expected,
        severity=AssetCheckSeverity.WARN,
        metadata={"hours": hours, "hours_expected": expected},
        description=f"{hours} of {expected} hours have a forecast.",
    )


def judge_store(frame: pd.DataFrame, stored: pd.DataFrame) -> AssetCheckResult:
    """Whether what was read back from the store is what was written, value for value.

    Values that only the store has were written from an earlier answer and are never deleted.
    """
    written, found = frame.stack(), stored.stack()
    lost = written.index.difference(found.index)
    both = written.index.intersection(found.index)
    differing = both[written[both].to_numpy() != found[both].to_numpy()]
    older = found.index.difference(written.index)
    told = {"missing": lost, "differing": differing, "of an earlier answer": older}
    odd = "; ".join(
        f"{len(values)} {what}, such as {values[0][1]} of {values[0][0]:%F %R} UTC"
        for what, values in told.items()
        if len(values)
    )
    return AssetCheckResult(
        check_name=STORE_MATCHES_FRAME,
        passed=not odd,
        severity=_severity(len(lost) + len(differing) > 0),
        metadata={"values_written": len(written), "values_found": len(found)},
        description=f"{len(both) - len(differing)} of {len(written)} values are stored as written"
        + (f"; {odd}." if odd else "."),
    )


def evaluation(asset: AssetKey, verdict: AssetCheckResult, **more: Any) -> AssetCheckEvaluation:
    """A verdict as Dagster's storage takes it; ``more`` are further fields."""
    return AssetCheckEvaluation(
        asset_key=asset,
        check_name=str(verdict.check_name),
        passed=verdict.passed,
        severity=verdict.severity,
        metadata=verdict.metadata,
        description=verdict.description,
        **more,
    )


def record(
    context: OpExecutionContext, asset: AssetKey, verdicts: Mapping[str, list[AssetCheckResult]]
) -> None:
    """Record the verdicts of days, by partition key, about what is stored of them now.

    Dagster would take one verdict for a whole range.
    """
    if not verdicts:
        return
    stored = context.instance.event_log_storage.get_latest_storage_id_by_partition(
        asset, DagsterEventType.ASSET_MATERIALIZATION, set(verdicts)
    )
    for key, results in verdicts.items():
        target = None
        if key in stored:
            target = AssetCheckEvaluationTargetMaterializationData(
                storage_id=stored[key], run_id=context.run_id, timestamp=time.time()
            )
        for result in results:
            told = evaluation(asset, result, target_materialization_data=target, partition=key)
            context.log_event(told)  # type: ignore[arg-type]  # it is taken, see its code


def build_checks(
    partitions: DailyPartitionsDefinition,
    frame: AssetKey,
    points: AssetKey,
    settings: Settings,
) -> list[AssetChecksDefinition]:
    """The checks that are steps of their own, and those that a person may run from the page."""

    @asset_check(  # type: ignore[arg-type]  # its verdicts are recorded by day, see record
        asset=points,
        partitions_def=partitions,
        additional_ins={"hourly_demand_frame": AssetIn(frame)},
        required_resource_keys={"demand_store"},
        pool="store",
    )
    def store_matches_frame(
        context: AssetCheckExecutionContext, hourly_demand_frame: pd.DataFrame
    ) -> Iterator[Output[None]]:
        """Is what the store holds what was written? Red: values are missing or differ.
        Yellow: it cannot be read, or it also holds values of an earlier answer that the newest
        one no longer has."""
        days = [date.fromisoformat(key) for key in context.partition_keys]
        start, stop = end_of(days[0] - timedelta(days=1)), end_of(days[-1])
        store = context.op_execution_context.resources.demand_store
        try:
            found = store.read([REAL, FORECAST], start, stop)
        except (InfluxDBAccessError, duckdb.Error) as error:
            unread = AssetCheckResult(
                check_name=STORE_MATCHES_FRAME,
                passed=False,
                severity=AssetCheckSeverity.WARN,
                description=f"Written, and not read back: {error}",
            )
            verdicts = {key: [unread] for key in context.partition_keys}
        else:
            written = frames_by_day(hourly_demand_frame, context.partition_keys)
            stored = frames_by_day(found, context.partition_keys)
            verdicts = {key: [judge_store(written[key], stored[key])] for key in written}
        record(context.op_execution_context, points, verdicts)
        yield Output(None)

    @asset_check(asset=points)
    def today_is_fresh(context: AssetCheckExecutionContext) -> AssetCheckResult:
        """Is the newest hour of today's data, and today's last refresh, recent enough? Judged by
        `current_day_sensor` every minute, without a run."""
        ledger = read_ledger(context.instance, points, settings, datetime.now(UTC))
        return judge_freshness(ledger, settings)

    return [store_matches_frame, today_is_fresh]


def _severity(red: bool) -> AssetCheckSeverity:
    return AssetCheckSeverity.ERROR if red else AssetCheckSeverity.WARN


def _in_words(missing: pd.DatetimeIndex) -> str:
    """Instants as stretches on Madrid's clock, such as `02:05-02:25 (5), 13:40`."""
    gaps = missing.to_series().diff() > pd.Timedelta(minutes=2 * FINEST_SPACING)
    words = []
    for _, stretch in missing.tz_convert(MADRID.key).to_series().groupby(gaps.cumsum().to_numpy()):
        first, last = stretch.iloc[0], stretch.iloc[-1]
        many = f"-{last:%H:%M} ({len(stretch)})" if len(stretch) > 1 else ""
        words.append(f"{first:%H:%M}{many}")
    return ", ".join(words[:MOST_STRETCHES]) + (" …" if len(words) > MOST_STRETCHES else "")


def clock(moment: datetime) -> str:
    """The time of day as a person in Madrid reads it."""
    return f"{moment.astimezone(MADRID):%H:%M} Madrid time"
