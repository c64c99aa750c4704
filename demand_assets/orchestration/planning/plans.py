"""Which runs the sensors request for the days of the ledger.

A plan is made of plain values. How a planned run becomes a request belongs in `sensors.py`.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from demand_assets.demand.days import contiguous_ranges
from demand_assets.grid import end_of
from demand_assets.orchestration.keys import DEMAND_JOB, TODAY_JOB
from demand_assets.orchestration.planning.freshness import clock
from demand_assets.orchestration.planning.ledger import Attempt, Ledger, State

MOST_REQUESTS = 5
"""Runs requested in one tick; the rest follow in the next tick, a minute later."""
LONGEST_PAUSE = timedelta(days=1)
MOST_ALONE = 5
"""Neighbouring days that caused a failure and get a run each; more of them share one, as a month
without data would be thirty runs."""

# The queue starts runs with a higher number first. Runs of backfills have none, which counts as 0,
# so that a person's backfill starts before gaps are filled.
PRIORITY_TODAY, PRIORITY_OPEN, PRIORITY_MISSING = 10, 5, -1


@dataclass(frozen=True)
class PlannedRun:
    """A run to request."""

    days: list[date]
    """One day, or a contiguous range."""
    priority: int
    attempt: int = 0
    """How many attempts for the same days have failed."""
    job: str = DEMAND_JOB


@dataclass
class Plan:
    """Runs to request, and the reasons why others wait: sentences for the web page."""

    runs: list[PlannedRun] = field(default_factory=list)
    reasons: list[str] = field(default_factory=list)


def plan_open_days(ledger: Ledger, refresh: timedelta) -> Plan:
    """Today if it is missing or due for a refresh, and past days that are open.

    A past day is due once it has settled. One that is still short after that is due again after
    as long as it has been over, at most a day, as the operator may complete it much later.
    """
    plan = Plan()
    _plan_today(plan, ledger, refresh)
    for day in reversed(ledger.days(State.OPEN)):
        stored, due = ledger.stored[day], ledger.settled_at(day)
        if stored.at >= due:
            due = stored.at + min(LONGEST_PAUSE, max(refresh, stored.at - end_of(day)))
        if ledger.now < due:
            short = f" with {stored.hours} of {stored.hours_expected} hours" if stored.short else ""
            plan.reasons.append(f"{day} is open{short}; it is requested again at {due:%F %R} UTC.")
        elif len(plan.runs) < MOST_REQUESTS:
            plan.runs.append(PlannedRun([day], PRIORITY_OPEN))
    return plan


def _plan_today(plan: Plan, ledger: Ledger, refresh: timedelta) -> None:
    today, due = ledger.today, ledger.refresh_due(refresh)
    if today in ledger.under_way:
        plan.reasons.append(f"Today, {today}: {ledger.under_way[today][0]}.")
    elif ledger.now >= due:
        plan.runs.append(PlannedRun([today], PRIORITY_TODAY, job=TODAY_JOB))
    elif attempt := ledger.attempts.get(today):
        plan.reasons.append(
            f"Today, {today}, failed at {clock(attempt.ended)} and is requested again at"
            f" {clock(due)}: {attempt.error}"
        )
    else:
        plan.reasons.append(f"Today, {today}, is fresh; it is refreshed at {clock(due)}.")


def plan_missing_days(ledger: Ledger, refresh: timedelta, days_per_run: int) -> Plan:
    """Gaps between the first stored day and yesterday, and days whose last attempt failed.

    =================================  =========================================  ===============
    days                               are requested                              when
    =================================  =========================================  ===============
    missing                            as ranges                                  once settled
    failed, only some are the cause:
    - those                            alone; more than 5 in a row as a range     at once
    - the others                       as ranges                                  at once
    failed as a whole (outage)         as before; each third time in halves       after the pause
    failed, the cause is unknown       in halves                                  after the pause
    failed alone                       alone                                      after the pause
    =================================  =========================================  ===============

    The pause is the refresh interval, doubled with each failure in a row, at most a day. Halves
    find the one day that makes a whole range fail in a way that looks like an outage.
    """
    missing = [day for day in ledger.days(State.MISSING) if ledger.now >= ledger.settled_at(day)]
    plan = Plan(_ranges(missing, days_per_run))
    for attempt, days in _failed_runs(ledger):
        due = _retry_due(attempt, refresh)
        if 0 < len(attempt.failed_days) < len(attempt.days):
            plan.runs += _separate_causes(attempt, days, days_per_run)
        elif ledger.now >= due:
            plan.runs += _retry(attempt, days, days_per_run)
        else:
            text = f"{days[0]}" if len(days) == 1 else f"{days[0]} to {days[-1]}"
            plan.reasons.append(
                f"{text} failed {attempt.number + 1} times in a row; the next attempt is at"
                f" {due:%F %R} UTC: {attempt.error}"
            )
    del plan.runs[MOST_REQUESTS:]
    return plan


def _failed_runs(ledger: Ledger) -> list[tuple[Attempt, list[date]]]:
    """Each failed run with those of its days that no later run has included."""
    days_of_run: dict[str, list[date]] = defaultdict(list)
    for day in ledger.days(State.FAILED):
        days_of_run[ledger.attempts[day].run_id].append(day)
    return [(ledger.attempts[days[0]], days) for days in days_of_run.values()]


def _separate_causes(attempt: Attempt, days: list[date], longest: int) -> list[PlannedRun]:
    runs = _ranges([day for day in days if day not in attempt.failed_days], longest)
    for row in contiguous_ranges(attempt.failed_days.intersection(days), longest):
        runs += _ranges(row, 1 if len(row) <= MOST_ALONE else longest)
    return runs


def _retry(attempt: Attempt, days: list[date], longest: int) -> list[PlannedRun]:
    if not attempt.failed_days or attempt.number % 3 == 2:
        longest = min(longest, (len(days) + 1) // 2)
    return _ranges(days, longest, attempt.number + 1)


def _retry_due(attempt: Attempt, refresh: timedelta) -> datetime:
    # Without a bound of the exponent, a month of daily attempts would overflow.
    doubled: timedelta = refresh * 2 ** min(attempt.number, 20)
    return attempt.ended + min(LONGEST_PAUSE, doubled)


def _ranges(days: list[date], longest: int, attempt: int = 0) -> list[PlannedRun]:
    pieces = contiguous_ranges(days, longest)
    return [PlannedRun(piece, PRIORITY_MISSING, attempt) for piece in pieces]
