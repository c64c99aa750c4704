"""What judges the data: whether today is fresh."""

from datetime import UTC, datetime, time, timedelta

from dagster import (
    AssetCheckEvaluation,
    AssetCheckExecutionContext,
    AssetCheckResult,
    AssetChecksDefinition,
    AssetCheckSeverity,
    AssetKey,
    MetadataValue,
    asset_check,
)

from demand_assets.ledger import Ledger, read_ledger
from demand_assets.redata import MADRID

TODAY_IS_FRESH = "today_is_fresh"
WARN_AFTER, FAIL_AFTER = timedelta(minutes=80), timedelta(minutes=120)
"""Lag of the newest measured hour. An hour closes every 60 minutes and is fetched within 15."""
STUCK_AFTER = timedelta(minutes=10)
"""A run that waits longer than this for today is stuck in the queue."""


def judge_freshness(
    ledger: Ledger, points: AssetKey, next_refresh: datetime
) -> AssetCheckEvaluation:
    """Whether today's data are as new as they can be; if not, why.

    The lag runs from the end of today's newest measured hour, before there is one from midnight.
    Today is stale as well when it was not materialized for that long. Other days do not count.
    """
    now, today = ledger.now, ledger.today
    midnight = datetime.combine(today, time(), MADRID).astimezone(UTC)
    stored = ledger.stored.get(today)
    measured_until = midnight
    if stored and stored.last_hour:
        measured_until = stored.last_hour + timedelta(hours=1)
    lag = now - measured_until
    age = now - (stored.at if stored else midnight)
    stale = max(lag, age)
    passed = stale <= WARN_AFTER
    metadata: dict[str, MetadataValue] = {
        "lag_minutes": MetadataValue.float(round(lag / timedelta(minutes=1), 1)),
        "next_refresh": MetadataValue.timestamp(next_refresh),
    }
    if stored and stored.last_hour:
        metadata["last_hour"] = MetadataValue.timestamp(stored.last_hour)
    if stored:
        metadata["last_materialization"] = MetadataValue.timestamp(stored.at)
    minutes = round(stale / timedelta(minutes=1))
    text = (
        f"Today, {today}, is measured until {measured_until.astimezone(MADRID):%H:%M} Madrid time."
    )
    if not passed:
        why = _why_stale(ledger)
        metadata["why"] = MetadataValue.text(why)
        text = f"Today, {today}, is {minutes} minutes behind. {why}"
    return AssetCheckEvaluation(
        asset_key=points,
        check_name=TODAY_IS_FRESH,
        passed=passed,
        severity=AssetCheckSeverity.WARN if stale <= FAIL_AFTER else AssetCheckSeverity.ERROR,
        metadata=metadata,
        description=text,
    )


def _why_stale(ledger: Ledger) -> str:
    today = ledger.today
    if today in ledger.under_way:
        what, since = ledger.under_way[today]
        waiting = ledger.now - since
        if waiting > STUCK_AFTER:
            return f"Queue stuck: {what} since {since.astimezone(MADRID):%H:%M} Madrid time."
        return f"Just being fetched: {what}."
    if attempt := ledger.attempts.get(today):
        return f"Runs failing, run {attempt.run_id[:8]} the last: {attempt.error}"
    stored = ledger.stored.get(today)
    if stored is None or ledger.now - stored.at > WARN_AFTER:
        return "Sensor just started, or it was off: today was not asked for in that time."
    return (
        f"API silent: it answered at {stored.at.astimezone(MADRID):%H:%M} Madrid time"
        " without newer measured hours."
    )


def build_checks(points: AssetKey, settle: timedelta) -> list[AssetChecksDefinition]:
    """The checks as the web page lists them and as a person may run them."""

    @asset_check(asset=points, name=TODAY_IS_FRESH)
    def today_is_fresh(context: AssetCheckExecutionContext) -> AssetCheckResult:
        """Is the newest hour of today's data, and today's last refresh, recent enough? Judged by
        `current_day_sensor` every minute, without a run."""
        now = datetime.now(UTC)
        ledger = read_ledger(context.instance, points, now, settle)
        verdict = judge_freshness(ledger, points, now)
        return AssetCheckResult(
            passed=verdict.passed,
            severity=verdict.severity,
            metadata=verdict.metadata,
            description=verdict.description,
        )

    return [today_is_fresh]
