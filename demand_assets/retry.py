"""Retries of requests to a server: when the next attempt is made, and when to give up.

The API client and the InfluxDB store both use `call_with_retries`. Which errors are worth another
attempt belongs in the caller, which knows its server.
"""

import logging
import random
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from threading import Thread
from typing import TypeVar

import urllib3

from demand_assets.grid import TIME_ZONE

T = TypeVar("T")

logger = logging.getLogger(__name__)


@dataclass
class RetryBudget:
    """Seconds that failed attempts and the pauses between them may take, over one or more calls."""

    left: float

    def spend(self, seconds: float) -> None:
        self.left = max(0.0, self.left - seconds)


def call_with_retries(
    call: Callable[[], T],
    pause_after: Callable[[Exception, int], float | None],
    budget: RetryBudget,
    describe: Callable[[Exception], str] = str,
) -> T:
    """What ``call`` returns, after as many attempts as the budget allows. Each retry is logged.

    Args:
        call: one attempt.
        pause_after: seconds to wait after the given error of the given attempt (from 1), or None if
            another attempt is useless.
        budget: reduced by the time of pauses and of failed attempts that are worth another one; at
            least one attempt is made.
        describe: the error as one line of the log, without secrets.

    Raises:
        Exception: the error of the last attempt.
    """
    attempt = 0
    while True:
        attempt += 1
        started = time.monotonic()
        try:
            return call()
        except Exception as error:
            pause = pause_after(error, attempt)
            if pause is None:
                raise
            budget.spend(time.monotonic() - started)
            if pause >= budget.left:
                raise
            next_attempt = datetime.now(TIME_ZONE) + timedelta(seconds=pause)
            logger.warning(
                f"Attempt {attempt} failed: {describe(error)}. The next attempt follows in"
                f" {pause:.1f} s, at {next_attempt:%H:%M:%S} Madrid time."
            )
        budget.spend(pause)
        time.sleep(pause)


def backoff(attempt: int) -> float:
    """Seconds to wait after the given attempt, from 1: exponential with jitter, at most 15."""
    return min(15.0, 0.5 * 2.0**attempt) * random.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks to wait, from a number or a date; None if it asks for none."""
    header = {name.lower(): value for name, value in headers.items()}.get("retry-after")
    if header is None:
        return None
    try:
        return max(0.0, urllib3.util.Retry().parse_retry_after(header))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None


def within(seconds: float, call: Callable[[], T]) -> T:
    """What ``call`` returns or raises, if it ends in time.

    A socket's timeout restarts with each byte, so a server that sends one byte a second could block
    a run for ever. Use this for libraries that offer no deadline.

    Raises:
        TimeoutError: the call has not ended; it continues in its own thread, its result is lost.
    """
    outcome: Future[T] = Future()

    def run() -> None:
        try:
            outcome.set_result(call())
        except BaseException as error:
            outcome.set_exception(error)

    thread = Thread(target=run, daemon=True)
    thread.start()
    thread.join(seconds)
    if thread.is_alive():
        raise TimeoutError(f"not done after {seconds:.1f} s")
    return outcome.result()
