"""Which runs are requested: today, open days, gaps, and days that failed."""

from dataclasses import replace
from datetime import date, datetime, timedelta
from typing import Any

import pytest

from demand_assets.demand.days import days_between
from demand_assets.grid import TIME_ZONE, end_of, local_date, start_of
from demand_assets.orchestration import tags
from demand_assets.orchestration.keys import DEMAND_JOB, REREAD_JOB, RESTORE_JOB, TODAY_JOB
from demand_assets.orchestration.planning.ledger import (
    Attempt,
    Audit,
    Ledger,
    State,
    Stored,
    answer_history,
)
from demand_assets.orchestration.planning.plans import (
    MOST_REQUESTS,
    Plan,
    PlannedRun,
    plan_lost_days,
    plan_missing_days,
    plan_open_days,
)
from demand_assets.orchestration.sensors import run_request
from demand_assets_tests.support.ledgers import (
    HOURS,
    MINUTES,
    REFRESH,
    all_stored_but,
    attempt,
    complete,
    ledger,
    madrid,
    may,
    may_range,
    stored,
)

NOW = madrid("2023-05-31T12:00")
LONGEST = 92
WEEK = may_range(2, 6)


def missing(ledger: Ledger) -> Plan:
    return plan_missing_days(ledger, REFRESH, LONGEST)


def open_days(ledger: Ledger) -> Plan:
    return plan_open_days(ledger, REFRESH, LONGEST)


def days(plan: Plan) -> list[list[date]]:
    return [run.days for run in plan.runs]


def after(failed: Attempt, pause: timedelta) -> list[list[date]]:
    """What is requested some time after a failure, in days that are otherwise all stored."""
    return days(missing(all_stored_but(failed.ended + pause, failed)))


# Today and open days


def test_today_is_requested_when_it_is_due_and_no_run_has_it() -> None:
    now = madrid("2023-05-10T12:06")
    (today,) = may(10)
    due = ledger(now + REFRESH, {today: stored(now)})
    assert open_days(due).runs == [PlannedRun([today], 10, job=TODAY_JOB)]
    early = open_days(replace(due, now=now + 9 * MINUTES))
    assert (early.runs, early.reasons) == (
        [],
        ["Today, 2023-05-10, is fresh; it is refreshed at 12:16 Madrid time."],
    )
    queued = open_days(replace(due, under_way={today: ("run abc is queued", now)}))
    assert (queued.runs, queued.reasons) == ([], ["Today, 2023-05-10: run abc is queued."])


def test_today_waits_after_a_failure_and_the_reason_is_given() -> None:
    now = madrid("2023-05-10T12:06")
    failed = ledger(now + 9 * MINUTES, {}, attempt(may(10), ended=now))
    plan = open_days(failed)
    assert plan.runs == []
    assert plan.reasons == [
        "Today, 2023-05-10, failed at 12:06 Madrid time and is requested again at"
        " 12:16 Madrid time: it broke"
    ]
    assert days(open_days(replace(failed, now=now + REFRESH))) == [may(10)]


@pytest.mark.parametrize("day", ["2023-03-26", "2023-10-29", "2023-05-10"])
def test_each_hour_of_a_day_is_stored_within_six_minutes_of_its_end(day: str) -> None:
    today = date.fromisoformat(day)
    now, delay = start_of(today), 5 * MINUTES  # until the API has an hour's last sample
    current = ledger(now, {})
    stored_at: dict[datetime, datetime] = {}
    while (now := now + MINUTES) < end_of(today):
        current = replace(current, now=now)
        if open_days(current).runs:
            last_hour = (now - delay).replace(minute=0) - HOURS
            current.stored[today] = Stored(now, None, None, last_hour)
            stored_at.setdefault(last_hour + HOURS, now)
    hours = [end for end in stored_at if end > start_of(today)]
    assert len(hours) == (end_of(today) - start_of(today)) / HOURS - 1
    assert all(stored_at[end] - end <= 6 * MINUTES for end in hours)


def test_an_open_day_is_requested_once_it_has_settled() -> None:
    (day,) = may(10)
    early = {day: stored(madrid("2023-05-10T15:00")), **complete(may(11), NOW)}
    before = ledger(madrid("2023-05-11T00:29"), early)
    assert open_days(before).runs == []
    assert "2023-05-10 is open; it is requested again at 2023-05-10 22:30 UTC." in (
        open_days(before).reasons
    )
    assert days(open_days(replace(before, now=madrid("2023-05-11T00:30")))) == [[day]]
    weeks_later = ledger(NOW, early | {local_date(NOW): stored(NOW)})
    assert days(open_days(weeks_later)) == [[day]]


def test_a_short_day_is_requested_ever_less_until_it_is_closed_short() -> None:
    (day,) = may(10)
    now = madrid("2023-05-11T00:29")
    early = madrid("2023-05-10T23:55")
    current = ledger(now, {day: answer_history(None, "short", early, early)})
    current.stored[day] = replace(current.stored[day], hours=14, hours_expected=24)
    requested: list[datetime] = []
    while (now := now + 5 * MINUTES) < madrid("2023-07-11T00:00"):
        current = replace(current, now=now)
        if [day] in days(open_days(current)):
            requested.append(now)
            history = answer_history(current.stored[day], "short", now, now)
            current.stored[day] = replace(history, hours=14, hours_expected=24)
    first = [f"{at.astimezone(TIME_ZONE):%d %H:%M}" for at in requested[:5]]
    assert first == ["11 00:34", "11 02:04", "11 06:34", "11 20:04", "13 12:34"]
    # The answer of three days after the first one closes it; then it is requested once a month.
    assert f"{requested[5].astimezone(TIME_ZONE):%m-%d %H:%M}" == "05-13 23:59"
    assert current.state(day) == State.CLOSED_SHORT
    assert len(requested) == 7 and requested[6] - requested[5] == timedelta(days=30)


def test_a_short_day_with_new_hours_is_requested_soon_again() -> None:
    (day,) = may(10)
    at = madrid("2023-05-20T12:00")
    old = replace(
        stored(at, 14), hours_fingerprint="14 hours", same_answers=9, unchanged_since=at - 9 * HOURS
    )
    history = answer_history(old, "15 hours", at + HOURS, at + HOURS)
    newer = replace(history, hours=15, hours_expected=24)
    assert days(open_days(ledger(at + HOURS + REFRESH, {day: newer})))[-1] == [day]


def test_a_short_day_of_years_ago_is_closed_after_three_days_too() -> None:
    (old,) = [date(2021, 6, 1)]
    first = madrid("2023-05-20T12:00")
    record = answer_history(None, "short", first, first)
    for hours in (1, 5, 72):
        record = answer_history(record, "short", first + hours * HOURS, first + hours * HOURS)
    short = replace(record, hours=14, hours_expected=24)
    after = ledger(NOW, {old: short, **complete(may(20, 21), NOW)})
    assert after.state(old) == State.CLOSED_SHORT
    assert "2021-06-01 is closed short with 14 of 24 hours" in " ".join(open_days(after).reasons)
    assert after.state(old) == State.CLOSED_SHORT and [old] not in days(open_days(after))
    a_month_later = replace(after, now=short.at + timedelta(days=30))
    assert [old] in days(open_days(a_month_later))


def test_a_day_that_a_person_accepts_is_ingested() -> None:
    (day,) = may(10)
    reported = Stored(madrid("2023-05-20T12:00"), None, None, None)
    assert ledger(NOW, {day: reported}).state(day) == State.INGESTED


def test_a_revised_day_is_requested_at_once() -> None:
    (day,) = may(10)
    record = stored(madrid("2023-05-20T12:00"))
    today = {local_date(NOW): stored(NOW)}
    revised = replace(record, revised_at=record.at + HOURS)
    assert days(open_days(ledger(NOW, {day: revised} | today))) == [[day]]
    read_since = replace(record, revised_at=record.at - HOURS)
    assert days(open_days(ledger(NOW, {day: read_since} | today))) == []


def test_the_last_days_are_read_again_once_a_day() -> None:
    closed = complete(may_range(1, 30), NOW - 25 * HOURS) | {local_date(NOW): stored(NOW)}
    closed[may(30)[0]] = stored(NOW)
    due = plan_open_days(ledger(NOW, closed), REFRESH, LONGEST, reread=3)
    assert due.runs == [PlannedRun(may(28, 29, 30), -1, job=REREAD_JOB)]
    assert run_request(due.runs[0]).partition_key is None
    for hours, runs in ((23, 0), (24, 1)):
        read = replace(ledger(NOW, closed), last_reread=NOW - hours * HOURS)
        assert len(plan_open_days(read, REFRESH, LONGEST, reread=3).runs) == runs
    assert plan_open_days(ledger(NOW, closed), REFRESH, LONGEST, reread=0).runs == []
    just_loaded = complete(may_range(1, 31), NOW)
    assert plan_open_days(ledger(NOW, just_loaded), REFRESH, LONGEST, reread=3).runs == []


# Lost days


def lost(*days: int, without_frame: tuple[int, ...] = (), **changes: Any) -> Ledger:
    """May is stored as a whole, and an audit at noon did not find some of its days."""
    audit = Audit(NOW, 31, frozenset(may(*days)), frozenset(may(*without_frame)))
    return replace(all_stored_but(NOW), audit=audit, **changes)


def test_lost_days_are_written_again_from_their_frames() -> None:
    plan = plan_lost_days(lost(3, 4, 5, 9, without_frame=(9,)), REFRESH, LONGEST)
    assert [(run.days, run.job) for run in plan.runs] == [
        (may(3, 4, 5), RESTORE_JOB),
        (may(9), DEMAND_JOB),
    ]
    assert missing(lost(3, 4, 5, 9)).runs == []


def test_lost_days_are_missing_until_they_are_written() -> None:
    before = lost(3, 4)
    assert before.days(State.MISSING) == may(3, 4)
    assert not before.is_restored
    written = {day: replace(before.stored[day], written_at=NOW + MINUTES) for day in may(3, 4)}
    after = replace(before, stored={**before.stored, **written})
    assert after.days(State.MISSING) == []
    assert after.is_restored
    assert plan_lost_days(after, REFRESH, LONGEST).runs == []


def test_lost_days_that_fail_are_retried_from_their_frames() -> None:
    failed = attempt(may_range(3, 9), may_range(3, 9), ended=NOW + MINUTES)
    current = lost(*range(3, 10), attempts=dict.fromkeys(may_range(3, 9), failed))
    assert plan_lost_days(current, REFRESH, LONGEST).runs == []
    later = replace(current, now=NOW + MINUTES + REFRESH)
    assert [(run.days, run.job) for run in missing(later).runs] == [(may_range(3, 9), RESTORE_JOB)]


def test_a_day_that_is_lost_again_and_again_waits_longer() -> None:
    current = lost(3)
    again = replace(current.stored[may(3)[0]], written_at=NOW - 20 * MINUTES, restores=2)
    current.stored[may(3)[0]] = again
    assert plan_lost_days(current, REFRESH, LONGEST).runs == []
    later = replace(current, now=NOW + 10 * MINUTES)
    assert days(plan_lost_days(later, REFRESH, LONGEST)) == [may(3)]


def test_what_failed_as_the_store_was_unavailable_goes_once_it_is_back() -> None:
    failed = replace(attempt(may_range(3, 9), may_range(3, 9), number=6), store_unavailable=True)
    waiting = all_stored_but(NOW + MINUTES, failed)
    assert missing(waiting).runs == []
    success = {may(31)[0]: replace(stored(NOW), written_at=NOW + MINUTES)}
    back = replace(waiting, stored=waiting.stored | success)
    assert days(missing(back)) == [may_range(3, 9)]
    otherwise = replace(
        back, attempts=dict.fromkeys(may_range(3, 9), replace(failed, store_unavailable=False))
    )
    assert missing(otherwise).runs == []


def test_days_that_the_store_does_not_keep_are_left_alone() -> None:
    kept_from = madrid("2023-05-05T10:00")
    failed = replace(attempt(may_range(1, 5), may_range(1, 5)), kept_from=kept_from)
    current = all_stored_but(NOW + timedelta(days=9), failed)
    assert missing(current).runs == []
    assert current.first_kept_day == may(6)[0]
    # An audit that reads another retention than the failure decides.
    extended = replace(current, audit=Audit(NOW, kept_from=madrid("2023-05-03T00:00")))
    assert days(missing(extended)) == [may_range(3, 5)]


# Gaps


def test_a_gap_is_requested_as_a_range_and_ranges_have_a_longest() -> None:
    gaps = ledger(NOW, complete(may(1, 7, *range(20, 32)), NOW))
    assert days(missing(gaps)) == [may_range(2, 6), may_range(8, 19)]
    assert missing(gaps).runs[0] == PlannedRun(may_range(2, 6), -1, 0, DEMAND_JOB)
    assert days(plan_missing_days(gaps, REFRESH, 5))[1:] == [
        may_range(8, 12),
        may_range(13, 17),
        may_range(18, 19),
    ]


def test_yesterday_is_not_missing_before_it_has_settled() -> None:
    stored_before = complete(may_range(1, 9), NOW)
    assert days(missing(ledger(madrid("2023-05-11T00:29"), stored_before))) == []
    assert days(missing(ledger(madrid("2023-05-11T00:30"), stored_before))) == [may(10)]


def test_nothing_is_requested_before_the_first_stored_day() -> None:
    assert missing(ledger(NOW, {})).runs == []
    assert missing(ledger(NOW, complete(may(30), NOW))).runs == []


def test_days_of_a_backfill_are_not_requested() -> None:
    under_way = dict.fromkeys(may_range(3, 18), ("backfill abc", NOW))
    gap = ledger(NOW, complete(may(1, *range(20, 32)), NOW), under_way=under_way)
    assert days(missing(gap)) == [may(2), may(19)]


def test_the_runs_requested_in_one_tick_are_bounded() -> None:
    every_second_day = complete(may(*range(1, 32, 2)), madrid("2023-05-31T12:00"))
    assert len(missing(ledger(NOW, every_second_day)).runs) == MOST_REQUESTS
    too_early = {day: stored(end_of(day)) for day in may(*range(1, 31, 2))}
    assert len(open_days(ledger(NOW, too_early)).runs) == MOST_REQUESTS
    failed = attempt(may_range(1, 30), may(*range(1, 31, 2)))
    assert len(after(failed, timedelta())) == MOST_REQUESTS


# Failed days


def test_an_outage_is_retried_as_a_whole_after_a_pause() -> None:
    outage = attempt(WEEK, WEEK)
    assert after(outage, 9 * MINUTES) == []
    assert after(outage, 10 * MINUTES) == [WEEK]
    (reason,) = missing(all_stored_but(outage.ended + MINUTES, outage)).reasons
    assert reason == (
        "2023-05-02 to 2023-05-06 failed 1 times in a row; the next attempt is at"
        " 2023-05-31 10:10 UTC: it broke"
    )


@pytest.mark.parametrize(
    ("number", "in_halves"), [(0, False), (1, False), (2, True), (3, False), (4, False), (5, True)]
)
def test_a_range_that_fails_as_a_whole_is_halved_each_third_time(
    number: int, in_halves: bool
) -> None:
    requested = after(attempt(WEEK, WEEK, number), timedelta(days=1))
    assert requested == ([may_range(2, 4), may_range(5, 6)] if in_halves else [WEEK])


def test_a_failure_without_a_known_cause_is_retried_in_halves() -> None:
    assert after(attempt(WEEK), 9 * MINUTES) == []
    assert after(attempt(WEEK), 10 * MINUTES) == [may_range(2, 4), may_range(5, 6)]


def test_attempts_are_counted_until_a_range_is_split_by_its_causes() -> None:
    ended = all_stored_but(NOW + 8 * HOURS, attempt(WEEK, WEEK, 3))
    assert [run.attempt for run in missing(ended).runs] == [4]
    split = all_stored_but(NOW, attempt(WEEK, may(4), 3))
    assert [run.attempt for run in missing(split).runs] == [0, 0, 0]


def test_days_that_caused_a_failure_go_alone_unless_they_are_many_in_a_row() -> None:
    causes = may(4, 5, *range(10, 16))
    assert after(attempt(may_range(2, 19), causes), timedelta()) == [
        may_range(2, 3),
        may_range(6, 9),
        may_range(16, 19),
        may(4),
        may(5),
    ]
    alone, together = may_range(6, 10), may_range(12, 17)
    assert after(attempt(may_range(6, 18), [*alone, *together]), timedelta())[2:] == (
        [[day] for day in alone[:3]]
    )
    only_together = attempt([*together, *may(18)], together)
    assert after(only_together, timedelta()) == [may(18), together]


def test_days_beside_a_cause_are_requested_at_once_in_the_next_tick_too() -> None:
    failed = attempt(may_range(2, 19), may(4))
    rest = all_stored_but(NOW, replace(failed, days=tuple(may_range(10, 19))))
    rest = replace(rest, attempts=dict.fromkeys(may_range(10, 19), failed))
    assert days(missing(rest)) == [may_range(10, 19)]


def test_the_rest_of_an_outage_waits_like_the_whole() -> None:
    failed = attempt(may_range(2, 19), may_range(2, 19))
    rest = all_stored_but(NOW, replace(failed, days=tuple(may_range(10, 12))))
    rest = replace(rest, attempts=dict.fromkeys(may_range(10, 12), failed))
    assert days(missing(rest)) == []
    assert days(missing(replace(rest, now=NOW + REFRESH))) == [may_range(10, 12)]


def test_history_that_a_person_requested_is_requested_again_after_a_failure() -> None:
    history = [date(2022, 1, n) for n in range(1, 9)]
    failed = attempt(history, history[3:4])
    recent = complete(may_range(20, 31), NOW)
    assert days(missing(ledger(NOW, recent, failed))) == [history[:3], history[4:], history[3:4]]


def test_pauses_double_up_to_a_day() -> None:
    current = all_stored_but(NOW + timedelta(days=6), attempt(may(8), may(8)))
    last = now = NOW
    pauses: list[float] = []
    while len(pauses) < 10:
        now += MINUTES
        for run in missing(replace(current, now=now)).runs:
            pauses.append((now - last) / MINUTES)
            last = now
            failed = attempt(run.days, run.days, run.attempt, now)
            current = replace(current, attempts=dict.fromkeys(may(8), failed))
    assert pauses == [10, 20, 40, 80, 160, 320, 640, 1280, 1440, 1440]


@pytest.mark.parametrize("number", [8, 40, 4000])
def test_a_day_is_retried_once_a_day_however_often_it_failed(number: int) -> None:
    failed = attempt(may(3), may(3), number)
    assert after(failed, 23 * HOURS) == []
    assert after(failed, 24 * HOURS) == [may(3)]


def test_a_day_that_spoils_a_range_like_an_outage_is_found_by_halving() -> None:
    spoiled, now = date(2023, 5, 11), NOW
    current = all_stored_but(now, attempt(may_range(2, 19), may_range(2, 19), ended=now))
    while len(current.days(State.FAILED)) > 1:
        now += 30 * MINUTES
        assert now < NOW + timedelta(days=14)
        for run in missing(replace(current, now=now)).runs:
            failed = attempt(run.days, run.days, run.attempt, now)
            for day in run.days:
                current.attempts[day] = failed
                if spoiled not in run.days:
                    del current.attempts[day]
                    current.stored[day] = stored(now)
    assert current.days(State.FAILED) == [spoiled]


# Requests


def test_a_planned_run_becomes_a_request_for_a_day_or_a_range() -> None:
    day = run_request(PlannedRun(may(4), 10, 2, TODAY_JOB))
    assert (day.job_name, day.partition_key) == (TODAY_JOB, "2023-05-04")
    assert day.tags == {tags.PRIORITY: "10", tags.ATTEMPT: "2"}
    week = run_request(PlannedRun(WEEK, -1))
    assert (week.job_name, week.partition_key) == (DEMAND_JOB, None)
    assert week.tags == {
        tags.PRIORITY: "-1",
        tags.ATTEMPT: "0",
        tags.RANGE_START: "2023-05-02",
        tags.RANGE_END: "2023-05-06",
    }


def test_today_starts_before_a_backfill_and_a_gap_after_it() -> None:
    now = madrid("2023-05-10T12:00")
    current = ledger(now, complete(may(5, 9), now))
    runs = open_days(current).runs + missing(current).runs
    today, gap = (run.priority for run in runs)
    assert today > 0 > gap  # a backfill's runs have none, which counts as 0


def test_longest_range_is_the_one_that_is_set() -> None:
    gap = ledger(NOW, {date(2022, 1, 1): stored(NOW), **complete(may_range(1, 30), NOW)})
    plan = plan_missing_days(gap, REFRESH, 310)
    assert [len(run.days) for run in plan.runs] == [310, 174]
    assert plan.runs[0].days == days_between(date(2022, 1, 2), date(2022, 11, 7))
