"""`DEMAND_LOAD_HISTORY`: days before the first stored one are loaded without a request."""

from dataclasses import replace
from datetime import UTC, date, datetime

import pytest
from dagster import DagsterInstance

from demand_assets.orchestration.ledger_reader import read_ledger
from demand_assets.orchestration.planning.ledger import State
from demand_assets.orchestration.planning.plans import PRIORITY_MISSING, plan_missing_days
from demand_assets.settings import Settings
from demand_assets_tests.support.ledgers import REFRESH, complete, ledger, madrid, may, may_range

NOON = madrid("2023-05-12T12:00")


def test_all_days_since_the_start_are_missing() -> None:
    now = replace(ledger(NOON, {}), load_from=date(2023, 5, 1))
    assert now.days(State.MISSING) == may_range(1, 11)
    assert ledger(NOON, {}).days(State.MISSING) == []


def test_they_are_requested_as_ranges_and_after_what_people_request() -> None:
    stored = complete(may(9, 10), madrid("2023-05-11T01:00"))
    now = replace(ledger(NOON, stored), load_from=date(2023, 5, 1))
    plan = plan_missing_days(now, REFRESH, days_per_run=5)
    assert [run.days for run in plan.runs] == [may_range(1, 5), may_range(6, 8), may(11)]
    assert {run.priority for run in plan.runs} == {PRIORITY_MISSING}


def test_days_before_the_first_stored_one_stay_alone_by_default() -> None:
    now = ledger(NOON, complete(may(9, 10), madrid("2023-05-11T01:00")))
    assert [run.days for run in plan_missing_days(now, REFRESH, 5).runs] == [may(11)]


@pytest.mark.parametrize(("on", "first"), [(True, date(2023, 5, 1)), (False, None)])
def test_the_setting_decides(on: bool, first: date | None) -> None:
    settings = Settings(start_date=date(2023, 5, 1), load_history=on)
    with DagsterInstance.ephemeral() as instance:
        assert read_ledger(instance, settings, datetime.now(UTC)).first_day == first
