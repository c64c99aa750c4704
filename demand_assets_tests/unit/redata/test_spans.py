"""The length of a span that the API answers: how it is found out, kept, and tried again."""

import itertools
import time
from collections.abc import Mapping
from datetime import date, timedelta
from pathlib import Path

import pytest
import time_machine

from demand_assets.demand.days import days_between
from demand_assets.redata import REDataError, UnavailableError
from demand_assets.simulator import Fault, Simulator
from demand_assets_tests.unit.redata.helpers import client, lengths

FIRST = date(2024, 1, 1)
DAYS = days_between(FIRST, FIRST + timedelta(days=309))
LIKE_AN_OUTAGE = [Fault.ERROR_500, Fault.ERROR_504, Fault.CUT_SHORT, Fault.SILENCE, Fault.RESET]


def all_answered(results: Mapping[date, object]) -> bool:
    return not any(isinstance(result, REDataError) for result in results.values())


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("concurrent", [1, 2])
@pytest.mark.parametrize("fault", LIKE_AN_OUTAGE)
def test_a_span_that_is_too_long_is_divided_however_it_fails(
    synthetic_api: Simulator, fault: Fault, concurrent: int
) -> None:
    synthetic_api.max_days, synthetic_api.too_long = 10, fault
    days = DAYS if fault == Fault.ERROR_504 else DAYS[:93]
    results = client(
        synthetic_api.url,
        timeout_seconds=2 if fault == Fault.SILENCE else 30,
        politeness_seconds=0,
        concurrent_requests=concurrent,
    ).fetch(days)
    assert all_answered(results)
    assert len(synthetic_api.requests) <= 20 + len(days) / 8


@pytest.mark.usefixtures("pauses")
def test_single_days_are_requested_if_nothing_longer_is_answered(synthetic_api: Simulator) -> None:
    synthetic_api.max_days, synthetic_api.too_long = 1, Fault.ERROR_504
    assert all_answered(client(synthetic_api.url, politeness_seconds=0).fetch(DAYS[:62]))
    assert len(synthetic_api.requests) <= 4 + 61 + 31


def test_the_budget_is_not_used_up_by_the_search(synthetic_api: Simulator) -> None:
    synthetic_api.max_days, synthetic_api.too_long = 10, Fault.SILENCE
    api = client(synthetic_api.url, timeout_seconds=2, retry_seconds=3)
    assert all_answered(api.fetch(DAYS[:20]))


@pytest.mark.usefixtures("pauses")
def test_the_accepted_length_is_kept_for_all_runs_and_grows_again(
    synthetic_api: Simulator, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    synthetic_api.max_days, synthetic_api.too_long = 10, Fault.ERROR_504

    def fetch() -> list[int]:
        synthetic_api.requests.clear()
        run = client(synthetic_api.url, shared_folder=tmp_path, politeness_seconds=0)
        assert all_answered(run.fetch(DAYS[:40]))
        return lengths(synthetic_api)

    now = time.time()
    assert fetch()[:5] == [31, 31, 1, 31, 16]
    assert fetch() == [8, 8, 8, 8, 8]
    assert "at most 8 days" in caplog.text
    assert "REDATA_MAX_DAYS_PER_REQUEST=8" in caplog.text
    day = 86_400 + 60
    with time_machine.travel(now + day):  # one longer span is tried, and is not asked for twice
        assert fetch() == [16, 8, 8, 8, 8, 8]
        assert fetch() == [8, 8, 8, 8, 8]
    synthetic_api.max_days = None
    with time_machine.travel(now + 2 * day):
        assert fetch() == [16, 16, 8]
        assert fetch() == [16, 16, 8]
    with time_machine.travel(now + 3 * day):
        assert fetch() == [31, 9]
    assert fetch() == [31, 9]


@pytest.mark.usefixtures("pauses")
def test_a_short_outage_does_not_shorten_the_spans(synthetic_api: Simulator) -> None:
    synthetic_api.faults["*"] = f"{Fault.ERROR_504}*3"
    api = client(synthetic_api.url, politeness_seconds=0)
    assert all_answered(api.fetch(DAYS[:93]))
    assert lengths(synthetic_api) == [31, 31, 1, 1, 31, 31, 31]


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("before", [0, 1, 3, 5, 8])
def test_an_outage_ends_a_fetch_at_any_point_after_few_requests(
    synthetic_api: Simulator, before: int
) -> None:
    """Also while the length of a span is being looked for."""
    synthetic_api.max_days, synthetic_api.too_long = 10, Fault.ERROR_504
    api = client(synthetic_api.url, politeness_seconds=0, concurrent_requests=2)
    counted = itertools.count()
    answer = synthetic_api.answer

    def answer_until_the_outage(target: str) -> object:
        if next(counted) == before:
            synthetic_api.faults["*"] = Fault.OUTAGE
        return answer(target)

    synthetic_api.answer = answer_until_the_outage  # type: ignore[assignment, method-assign]
    results = api.fetch(DAYS)
    assert isinstance(results[DAYS[-1]], UnavailableError)
    assert len(synthetic_api.requests) - before <= 25


@pytest.mark.usefixtures("pauses")
def test_a_damaged_file_is_no_obstacle(synthetic_api: Simulator, tmp_path: Path) -> None:
    for content in ("", "{", "[]", '{"accepted_days": "x"}', '{"another": 1}'):
        (tmp_path / "conditions.json").write_text(content)
        assert all_answered(client(synthetic_api.url, shared_folder=tmp_path).fetch(DAYS[:2]))
