"""What acts on the ledger without a click: today is refreshed, ended days are closed, gaps heal.

What to ask for is decided by two functions of the ledger alone, :func:`plan_open_days` and
:func:`plan_missing_days`; the sensors read the ledger and hand over the plan.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta

from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetCheckResult,
    AssetKey,
    DagsterInstance,
    DefaultSensorStatus,
    RunRequest,
    SensorDefinition,
    SensorEvaluationContext,
    SensorResult,
    SkipReason,
    sensor,
)
from dagster._core.definitions.unresolved_asset_job_definition import UnresolvedAssetJobDefinition
from dagster._core.storage.tags import (
    ASSET_PARTITION_RANGE_END_TAG,
    ASSET_PARTITION_RANGE_START_TAG,
    PRIORITY_TAG,
)

from demand_assets.checks import TODAY_IS_FRESH, clock, evaluation, judge_freshness
from demand_assets.ledger import (
    ATTEMPT_TAG,
    DEMAND_JOB,
    TODAY_JOB,
    Ledger,
    State,
    end_of,
    read_ledger,
    stretches,
)
from demand_assets.settings import DAYS_PER_RUN, Settings

MOST_REQUESTS = 5
"""Runs asked for in one tick; the rest waits for the next one, a minute later."""
LONGEST_PAUSE = timedelta(days=1)
MOST_ALONE = 5
"""Neighbouring days that failed by themselves and go alone; a month without data would be thirty
runs."""

# The queue takes higher numbers first; a backfill's runs have none, which counts as 0. What a
# person asked for goes before gaps.
PRIORITY_TODAY, PRIORITY_OPEN, PRIORITY_MISSING = "10", "5", "-1"


@dataclass
class Plan:
    """Runs to ask for, and why not more: sentences for the web page."""

    requests: list[RunRequest] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def plan_open_days(ledger: Ledger, refresh: timedelta) -> Plan:
    """Today when it is missing, an hour has closed or its refresh is due; past days left open."""
    plan = Plan()
    today = ledger.today
    due = ledger.refresh_due(refresh)
    if today in ledger.under_way:
        plan.reasons.append(f"Today, {today}: {ledger.under_way[today][0]}.")
    elif ledger.now >= due:
        plan.requests.append(request([today], PRIORITY_TODAY, job=TODAY_JOB))
    elif attempt := ledger.attempts.get(today):
        plan.reasons.append(
            f"Today, {today}, failed at {clock(attempt.ended)} and is tried again at"
            f" {clock(due)}: {attempt.error}"
        )
    else:
        plan.reasons.append(f"Today, {today}, is fresh; it is refreshed at {clock(due)}.")

    for day in reversed(ledger.days(State.OPEN)):
        stored, settled = ledger.stored[day], ledger.settled_at(day)
        if stored.at >= settled:
            # The API keeps answering short: each pause is as long as the day has been over, at most
            # a day, as history may be mended long after.
            settled = stored.at + min(LONGEST_PAUSE, max(refresh, stored.at - end_of(day)))
        if ledger.now < settled:
            short = f" with {stored.hours} of {stored.hours_expected} hours" if stored.short else ""
            plan.reasons.append(
                f"{day} is open{short}; it is asked for again at {settled:%F %R} UTC."
            )
        elif len(plan.requests) < MOST_REQUESTS:
            plan.requests.append(request([day], PRIORITY_OPEN))
    return plan


def plan_missing_days(ledger: Ledger, refresh: timedelta, days_per_run: int) -> Plan:
    """Gaps between the first stored day and yesterday, and days whose last attempt failed.

    Days never asked for go as ranges. Of a range that failed, the days that it named go alone,
    unless they are many in a row, and the stretches around them as ranges. A range that failed as a
    whole goes again, each third time in halves, as what looks like an outage may be the doing of
    one day; one that named nobody goes in halves at once. What failed alone, or as a whole, waits
    twice as long each time.
    """
    plan = Plan()
    asked: list[tuple[list[date], int]] = []
    missing = [d for d in ledger.days(State.MISSING) if ledger.now >= ledger.settled_at(d)]
    asked += [(piece, 0) for piece in stretches(missing, days_per_run)]

    failed_together: dict[str, list[date]] = defaultdict(list)
    for day in ledger.days(State.FAILED):
        failed_together[ledger.attempts[day].run_id].append(day)
    for days in failed_together.values():
        attempt = ledger.attempts[days[0]]
        blamed = [day for day in days if day in attempt.blamed]
        if blamed and len(blamed) < len(attempt.days):
            innocent = [day for day in days if day not in attempt.blamed]
            asked += [(piece, 0) for piece in stretches(innocent, days_per_run)]
            for row in stretches(blamed, days_per_run):
                alone = len(row) <= MOST_ALONE
                asked += [([day], 0) for day in row] if alone else [(row, 0)]
            continue
        # Without a bound to the power, a month of daily attempts would overflow the pause.
        due = attempt.ended + min(LONGEST_PAUSE, refresh * 2 ** min(attempt.number, 20))
        if ledger.now < due:
            named = f"{days[0]}" if len(days) == 1 else f"{days[0]} to {days[-1]}"
            plan.reasons.append(
                f"{named} failed {attempt.number + 1} times running and waits until"
                f" {due:%F %R} UTC: {attempt.error}"
            )
            continue
        pieces = list(stretches(days, days_per_run))
        if len(days) > 1 and (not blamed or attempt.number % 3 == 2):
            pieces = list(stretches(days, min(days_per_run, (len(days) + 1) // 2)))
        asked += [(piece, attempt.number + 1) for piece in pieces]

    plan.requests = [
        request(days, PRIORITY_MISSING, number) for days, number in asked[:MOST_REQUESTS]
    ]
    return plan


def build_sensors(
    demand_job: UnresolvedAssetJobDefinition,
    today_job: UnresolvedAssetJobDefinition,
    points: AssetKey,
    settings: Settings,
) -> list[SensorDefinition]:
    """The sensors over the points' partitions, both running from the start."""
    check = AssetCheckKey(points, TODAY_IS_FRESH)

    @sensor(
        jobs=[demand_job, today_job],
        minimum_interval_seconds=60,
        default_status=DefaultSensorStatus.RUNNING,
    )
    def current_day_sensor(context: SensorEvaluationContext) -> SensorResult:
        """Keeps today fresh and closes past days that were stored before they were over."""
        ledger = read_ledger(context.instance, points, settings, datetime.now(UTC))
        plan = plan_open_days(ledger, settings.refresh)
        verdict = judge_freshness(ledger, settings)
        news = _is_news(verdict, context.instance, check)
        return SensorResult(
            run_requests=plan.requests,
            skip_reason=None if plan.requests else SkipReason(" ".join(plan.reasons)),
            asset_events=[evaluation(points, verdict)] if news else [],
        )

    @sensor(job=demand_job, minimum_interval_seconds=60, default_status=DefaultSensorStatus.RUNNING)
    def missing_days_sensor(context: SensorEvaluationContext) -> SensorResult:
        """Fills gaps since the first stored day and tries failed days again, ever more rarely."""
        ledger = read_ledger(context.instance, points, settings, datetime.now(UTC))
        plan = plan_missing_days(ledger, settings.refresh, DAYS_PER_RUN)
        nothing = "No past day is missing." if ledger.first_day else "Nothing has been stored yet."
        return SensorResult(
            run_requests=plan.requests,
            skip_reason=None
            if plan.requests
            else SkipReason(" ".join(plan.reasons[:MOST_REQUESTS]) or nothing),
        )

    return [current_day_sensor, missing_days_sensor]


def _is_news(verdict: AssetCheckResult, instance: DagsterInstance, key: AssetCheckKey) -> bool:
    """Whether the verdict says something else than the last one on record, a run's or a sensor's.

    A record a minute would be gigabytes a year.
    """
    latest = instance.event_log_storage.get_latest_asset_check_execution_by_key([key]).get(key)
    recorded = latest.evaluation if latest else None
    return not isinstance(recorded, AssetCheckEvaluation) or _gist(recorded) != _gist(verdict)


def _gist(verdict: AssetCheckResult | AssetCheckEvaluation) -> tuple[object, ...]:
    """What a verdict says, without what changes by the minute; the last refresh is news."""
    told = [verdict.metadata.get(name) for name in ("why", "last_hour", "last_materialization")]
    return verdict.passed, verdict.severity, *(value and value.value for value in told)


def request(days: list[date], priority: str, number: int = 0, job: str = DEMAND_JOB) -> RunRequest:
    tags = {PRIORITY_TAG: priority, ATTEMPT_TAG: str(number)}
    if len(days) == 1:
        return RunRequest(partition_key=days[0].isoformat(), tags=tags, job_name=job)
    return RunRequest(
        job_name=job,
        tags={
            **tags,
            ASSET_PARTITION_RANGE_START_TAG: days[0].isoformat(),
            ASSET_PARTITION_RANGE_END_TAG: days[-1].isoformat(),
        },
    )
