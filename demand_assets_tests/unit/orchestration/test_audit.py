"""What an audit of the store finds, and the words and the color of its result."""

from dataclasses import replace
from datetime import date, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demand_assets.demand.days import day_hours, days_between
from demand_assets.demand.figures import hours_fingerprints
from demand_assets.grid import FORECAST, MODEL, REAL
from demand_assets.orchestration import metadata
from demand_assets.orchestration.planning.audit import check_complete, differing_days
from demand_assets.orchestration.planning.ledger import Audit, Ledger
from demand_assets_tests.support.ledgers import (
    HOURS,
    all_stored_but,
    attempt,
    madrid,
    may,
    may_range,
)
from demand_assets_tests.support.stores import hours

NOW = madrid("2023-05-31T12:00")
ALL = Audit(NOW, days=31, complete_at=NOW)
DAYS = days_between(date(2023, 3, 24), date(2023, 3, 28))  # one of them has 23 hours


def audited(audit: Audit) -> tuple[Ledger, Audit]:
    return replace(all_stored_but(NOW), audit=audit), audit


# Fingerprints


@given(st.data())
def test_any_change_of_an_hour_changes_the_fingerprint_of_its_day_only(data: st.DataObject) -> None:
    frame = hours(*map(str, DAYS))
    before = hours_fingerprints(frame, DAYS)
    day = data.draw(st.sampled_from(DAYS))
    at = data.draw(st.sampled_from(list(day_hours(day))))
    column = data.draw(st.sampled_from([REAL, FORECAST]))
    old = frame[column][at]
    changes = [20_000.0] if np.isnan(old) else [np.nextafter(old, 1e9), 0.0, np.nan]
    frame.loc[at, column] = data.draw(st.sampled_from(changes))
    after = hours_fingerprints(frame, DAYS)
    assert {d for d in DAYS if after[d] != before[d]} == {day}
    assert differing_days(before, frame) == [day]


def test_the_fingerprint_of_a_day_is_the_same_alone_and_in_a_range() -> None:
    frame = hours(*map(str, DAYS))
    alone = {day: hours_fingerprints(hours(str(day)), [day])[day] for day in DAYS}
    assert hours_fingerprints(frame, DAYS) == alone
    assert len(set(alone.values())) == len(DAYS)


def test_a_new_series_without_values_leaves_the_fingerprint() -> None:
    frame = hours("2023-03-24")
    with_another = frame.assign(**{MODEL: np.nan})[[MODEL, REAL, FORECAST]]
    days = [date(2023, 3, 24)]
    assert hours_fingerprints(with_another, days) == hours_fingerprints(frame, days)


def test_a_value_that_moves_to_another_field_is_noticed() -> None:
    frame = hours("2023-03-24")
    swapped = frame.rename(columns={REAL: FORECAST, FORECAST: REAL})
    days = [date(2023, 3, 24)]
    assert hours_fingerprints(swapped, days) != hours_fingerprints(frame, days)


def test_a_day_without_hours_differs() -> None:
    frame = hours("2023-03-24")
    recorded = hours_fingerprints(frame, DAYS[:1])
    assert differing_days(recorded, frame.iloc[:0]) == DAYS[:1]
    assert differing_days(recorded, frame) == []


# The result


def test_a_complete_store_is_green() -> None:
    finding = check_complete(*audited(ALL))
    assert finding.passed
    assert finding.text == "All 31 materialized days are in the store, value for value."


def test_lost_days_are_yellow_and_say_since_when_and_how_they_are_written_again() -> None:
    lost = replace(
        ALL,
        lost=frozenset(may_range(3, 9)),
        without_frame=frozenset(may(9)),
        complete_at=NOW - HOURS,
    )
    finding = check_complete(*audited(lost))
    assert not finding.passed and not finding.red
    assert finding.text == (
        "7 of 31 materialized days are not in the store as they were written: 2023-05-03 to"
        " 2023-05-09. They were there at 11:00 Madrid time on 2023-05-31. They are written again"
        " from the frames on disk, 1 of them from the API."
    )


def test_lost_days_that_cannot_be_written_are_red_with_the_error() -> None:
    lost = replace(ALL, lost=frozenset(may(3)))
    failing = all_stored_but(NOW)
    for number, red in ((1, False), (2, True)):
        failed = attempt(may(3), may(3), number=number)
        finding = check_complete(replace(failing, attempts={may(3)[0]: failed}, audit=lost), lost)
        assert finding.red is red
    assert "it broke" in finding.text


def test_days_that_are_lost_again_and_again_are_red() -> None:
    lost = replace(ALL, lost=frozenset(may(3)))
    current = all_stored_but(NOW)
    current.stored[may(3)[0]] = replace(current.stored[may(3)[0]], restores=3)
    finding = check_complete(replace(current, audit=lost), lost)
    assert finding.red
    assert "was written 3 times and is lost again: find the program" in finding.text


def test_lost_forecasts_and_foreign_series_are_yellow() -> None:
    for audit, words in (
        (replace(ALL, surplus=frozenset(may(3))), "values that were not written here: 2023-05-03"),
        (replace(ALL, lost_forecasts=frozenset(may(3, 4))), "Forecasts of 2 days are made again"),
        (replace(ALL, foreign_tags=("plant", "source")), "series with tag plant, source"),
    ):
        finding = check_complete(*audited(audit))
        assert not finding.passed and not finding.red
        assert words in finding.text


def test_days_that_the_bucket_does_not_keep_are_yellow_if_they_were_requested() -> None:
    kept_from: datetime = madrid("2023-05-05T10:00")
    audit = replace(ALL, kept_from=kept_from)
    assert check_complete(*audited(audit)).passed
    failed = replace(attempt(may(1, 2), may(1, 2)), kept_from=kept_from)
    current = replace(all_stored_but(NOW, failed), audit=audit)
    finding = check_complete(current, audit)
    assert not finding.passed
    assert "set DEMAND_START_DATE to 2023-05-06 or later" in finding.text


def test_days_closed_short_are_listed_and_green() -> None:
    current = all_stored_but(NOW)
    short = replace(
        current.stored[may(3)[0]],
        hours=22,
        same_answers=3,
        unchanged_since=current.stored[may(3)[0]].at - timedelta(days=3),
    )
    current.stored[may(3)[0]] = short
    finding = check_complete(replace(current, audit=ALL), ALL)
    assert finding.passed
    assert (
        "Closed short, with the hours that the operator has: 2023-05-03 (22 of 24)." in finding.text
    )


@pytest.mark.parametrize("kept_from", [None, NOW - timedelta(days=30)])
def test_an_audit_is_read_back_as_it_was_recorded(kept_from: datetime | None) -> None:
    audit = Audit(
        NOW,
        31,
        frozenset(may(1, 2)),
        frozenset(may(2)),
        frozenset(may(3)),
        frozenset(may(4)),
        kept_from,
        ("source",),
        NOW - HOURS,
    )
    assert metadata.audit_from_json(metadata.audit_to_json(audit)) == audit
