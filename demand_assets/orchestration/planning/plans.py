"""Which runs the sensors request for the days of the ledger.

A plan is made of plain values. How a planned run becomes a request belongs in `sensors.py`.
"""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from demand_assets.demand.days import contiguous_ranges
from demand_assets.orchestration.keys import DEMAND_JOB, REREAD_JOB, RESTORE_JOB, TODAY_JOB
from demand_assets.orchestration.planning.freshness import clock
from demand_assets.orchestration.planning.ledger import SAME_FOR, Attempt, Ledger, State

MOST_REQUESTS = 5
"""Runs requested in one tick; the rest follow in the next tick, a minute later."""
LONGEST_PAUSE = timedelta(days=1)
A_MONTH = timedelta(days=30)
MOST_ALONE = 5
"""Neighbouring days that caused a failure and get a run each; more of them share one, as a month
without data would be thirty runs."""

REREAD_INTERVAL = timedelta(days=1)

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


def plan_open_days(ledger: Ledger, refresh: timedelta, days_per_run: int, reread: int = 0) -> Plan:
    """Today if it is missing or due for a refresh, past days that are open, and the daily look for
    revisions of the last ``reread`` days.

    ===========================  ==================================================================
    a past day                   is due
    ===========================  ==================================================================
    stored before it settled     once it has settled
    revised since it was stored  at once
    short                        a refresh interval after the answer, then after pauses that triple
                                 while the answers stay the same
    closed short                 a month after the last answer
    ===========================  ==================================================================
    """
    plan = Plan()
    _plan_today(plan, ledger, refresh)
    due_days = []
    for day in ledger.days(State.OPEN, State.CLOSED_SHORT):
        due = _open_day_due(ledger, day, refresh)
        if ledger.now >= due:
            due_days.append(day)
            continue
        stored = ledger.stored[day]
        hours = f" with {stored.hours} of {stored.hours_expected} hours" if stored.short else ""
        state = ledger.state(day).value
        plan.reasons.append(f"{day} is {state}{hours}; it is requested again at {due:%F %R} UTC.")
    ranges = list(contiguous_ranges(due_days, days_per_run))
    plan.runs += [PlannedRun(days, PRIORITY_OPEN) for days in reversed(ranges)]
    if days := days_to_reread(ledger, reread):
        plan.runs.append(PlannedRun(days, PRIORITY_MISSING, job=REREAD_JOB))
    del plan.runs[MOST_REQUESTS:]
    return plan


def days_to_reread(ledger: Ledger, reread: int) -> list[date]:
    """The closed ones of the last days, once a day, if the answer of one of them is a day old."""
    yesterday = ledger.now - REREAD_INTERVAL
    if ledger.last_reread and ledger.last_reread > yesterday:
        return []
    earliest = ledger.today - timedelta(days=reread)
    closed = [d for d in ledger.days(State.INGESTED, State.CLOSED_SHORT) if d >= earliest]
    return closed if any(ledger.stored[day].at <= yesterday for day in closed) else []


def _open_day_due(ledger: Ledger, day: date, refresh: timedelta) -> datetime:
    stored, settled = ledger.stored[day], ledger.settled_at(day)
    if stored.revised:
        return ledger.now
    if stored.at < settled:
        return settled
    if ledger.state(day) == State.CLOSED_SHORT:
        return stored.at + A_MONTH
    since = stored.unchanged_since or stored.at
    due = stored.at + refresh + 2 * (stored.at - since)
    # Not later than the answer that may close the day.
    return min(due, max(since + SAME_FOR, stored.at + refresh))


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
    never stored                       as ranges                                  once settled
    failed, only some are the cause:
    - those                            alone; more than 5 in a row as a range     at once
    - the others                       as ranges                                  at once
    failed as a whole (outage)         as before; each third time in halves       after the pause
    failed, the cause is unknown       in halves                                  after the pause
    failed alone                       alone                                      after the pause
    =================================  =========================================  ===============

    The pause is the refresh interval, doubled with each failure in a row, at most a day. It ends
    early if the store did not answer and another day has been stored since. Halves find the one day
    that makes a whole range fail in a way that looks like an outage. Days that an audit found lost
    are written again from their frames (`plan_lost_days`), also if that has failed before.
    """
    missing = [
        day
        for day in ledger.days(State.MISSING)
        if ledger.now >= ledger.settled_at(day) and not ledger.is_lost(day)
    ]
    plan = Plan(_ranges(ledger, missing, days_per_run))
    for attempt, days in _failed_runs(ledger):
        due = _retry_due(ledger, attempt, refresh)
        if 0 < len(attempt.failed_days) < len(attempt.days):
            plan.runs += _separate_causes(ledger, attempt, days, days_per_run)
        elif ledger.now >= due:
            plan.runs += _retry(ledger, attempt, days, days_per_run)
        else:
            text = f"{days[0]}" if len(days) == 1 else f"{days[0]} to {days[-1]}"
            plan.reasons.append(
                f"{text} failed {attempt.number + 1} times in a row; the next attempt is at"
                f" {due:%F %R} UTC: {attempt.error}"
            )
    del plan.runs[MOST_REQUESTS:]
    return plan


def plan_lost_days(ledger: Ledger, refresh: timedelta, days_per_run: int) -> Plan:
    """Days that the last audit did not find in the store: at once, as ranges, from the frames on
    disk where there are any. A day that is lost again and again waits longer each time."""
    plan, due_days = Plan(), []
    for day in ledger.lost_days():
        stored = ledger.stored[day]
        pause = min(LONGEST_PAUSE, refresh * (2**stored.restores - 1))
        due = (stored.written_at or stored.at) + pause
        if ledger.state(day) == State.FAILED:
            plan.reasons.append(f"{day} is lost, and its last attempt failed.")
        elif ledger.now >= due:
            due_days.append(day)
        else:
            plan.reasons.append(
                f"{day} was lost {stored.restores} times; it is written again at {due:%F %R} UTC."
            )
    plan.runs = _ranges(ledger, due_days, days_per_run)[:MOST_REQUESTS]
    return plan


def _failed_runs(ledger: Ledger) -> list[tuple[Attempt, list[date]]]:
    """Each failed run with those of its days that no later run has included."""
    days_of_run: dict[str, list[date]] = defaultdict(list)
    for day in ledger.days(State.FAILED):
        days_of_run[ledger.attempts[day].run_id].append(day)
    return [(ledger.attempts[days[0]], days) for days in days_of_run.values()]


def _separate_causes(
    ledger: Ledger, attempt: Attempt, days: list[date], longest: int
) -> list[PlannedRun]:
    runs = _ranges(ledger, [day for day in days if day not in attempt.failed_days], longest)
    for row in contiguous_ranges(attempt.failed_days.intersection(days), longest):
        runs += _ranges(ledger, row, 1 if len(row) <= MOST_ALONE else longest)
    return runs


def _retry(ledger: Ledger, attempt: Attempt, days: list[date], longest: int) -> list[PlannedRun]:
    if not attempt.failed_days or attempt.number % 3 == 2:
        longest = min(longest, (len(days) + 1) // 2)
    return _ranges(ledger, days, longest, attempt.number + 1)


def _retry_due(ledger: Ledger, attempt: Attempt, refresh: timedelta) -> datetime:
    last_write = max((s.written_at or s.at for s in ledger.stored.values()), default=attempt.ended)
    if attempt.store_unavailable and last_write > attempt.ended:
        return attempt.ended
    # Without a bound of the exponent, a month of daily attempts would overflow.
    doubled: timedelta = refresh * 2 ** min(attempt.number, 20)
    return attempt.ended + min(LONGEST_PAUSE, doubled)


def _ranges(ledger: Ledger, days: list[date], longest: int, attempt: int = 0) -> list[PlannedRun]:
    """Runs for the days: of the API, or of the frames on disk for days that only the store lost."""
    restored = [day for day in days if ledger.can_be_restored(day)]
    fetched = [day for day in days if not ledger.can_be_restored(day)]
    return [
        PlannedRun(piece, PRIORITY_MISSING, attempt, job)
        for job, of_job in ((RESTORE_JOB, restored), (DEMAND_JOB, fetched))
        for piece in contiguous_ranges(of_job, longest)
    ]
