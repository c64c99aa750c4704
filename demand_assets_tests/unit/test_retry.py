"""Retries: what reduces the budget, and when they end. Log lines are tested with the API client."""

import pytest

from demand_assets.retry import RetryBudget, call_with_retries


class Calls:
    """A call that fails a number of times, and counts."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self.count = 0

    def __call__(self) -> str:
        self.count += 1
        if self.count <= self.failures:
            raise ConnectionError(f"failure {self.count}")
        return "done"


def test_success_does_not_reduce_the_budget() -> None:
    budget = RetryBudget(5)
    assert call_with_retries(Calls(0), lambda error, attempt: 1, budget) == "done"
    assert budget.left == 5


def test_an_error_that_is_not_retried_does_not_reduce_the_budget() -> None:
    budget, call = RetryBudget(5), Calls(1)
    with pytest.raises(ConnectionError):
        call_with_retries(call, lambda error, attempt: None, budget)
    assert (budget.left, call.count) == (5, 1)


def test_failed_attempts_and_pauses_reduce_the_budget(pauses: list[float]) -> None:
    budget = RetryBudget(5)
    assert call_with_retries(Calls(2), lambda error, attempt: attempt, budget) == "done"
    assert pauses == [1, 2]
    assert 0 < budget.left < 2


def test_the_last_error_is_raised_when_a_pause_exceeds_the_budget(pauses: list[float]) -> None:
    budget, call = RetryBudget(5), Calls(9)
    with pytest.raises(ConnectionError, match="failure 3"):
        call_with_retries(call, lambda error, attempt: attempt, budget)
    assert pauses == [1, 2]


def test_without_a_budget_there_is_one_attempt() -> None:
    call = Calls(9)
    with pytest.raises(ConnectionError, match="failure 1"):
        call_with_retries(call, lambda error, attempt: 0, RetryBudget(0))
    assert call.count == 1
