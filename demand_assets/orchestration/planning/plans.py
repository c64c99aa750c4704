"""Which runs the sensors request for the days of the ledger."""

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import date, timedelta

from dagster import RunRequest

from demand_assets.demand.days import contiguous_ranges
from demand_assets.grid import end_of
from demand_assets.orchestration import tags
from demand_assets.orchestration.keys import DEMAND_JOB, TODAY_JOB
from demand_assets.orchestration.planning.freshness import clock
from demand_assets.orchestration.planning.ledger import Ledger, State

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
    asked += [(piece, 0) for piece in contiguous_ranges(missing, days_per_run)]

    failed_together: dict[str, list[date]] = defaultdict(list)
    for day in ledger.days(State.FAILED):
        failed_together[ledger.attempts[day].run_id].append(day)
    for days in failed_together.values():
        attempt = ledger.attempts[days[0]]
        blamed = [day for day in days if day in attempt.blamed]
        if blamed and len(blamed) < len(attempt.days):
            innocent = [day for day in days if day not in attempt.blamed]
            asked += [(piece, 0) for piece in contiguous_ranges(innocent, days_per_run)]
            for row in contiguous_ranges(blamed, days_per_run):
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
        pieces = list(contiguous_ranges(days, days_per_run))
        if len(days) > 1 and (not blamed or attempt.number % 3 == 2):
            pieces = list(contiguous_ranges(days, min(days_per_run, (len(days) + 1) // 2)))
        asked += [(piece, attempt.number + 1) for piece in pieces]

    plan.requests = [
        request(days, PRIORITY_MISSING, number) for days, number in asked[:MOST_REQUESTS]
    ]
    return plan


def request(days: list[date], priority: str, number: int = 0, job: str = DEMAND_JOB) -> RunRequest:
    run_tags = {tags.PRIORITY: priority, tags.ATTEMPT: str(number)}
    if len(days) == 1:
        return RunRequest(partition_key=days[0].isoformat(), tags=run_tags, job_name=job)
    return RunRequest(
        job_name=job,
        tags={
            **run_tags,
            tags.RANGE_START: days[0].isoformat(),
            tags.RANGE_END: days[-1].isoformat(),
        },
    )
