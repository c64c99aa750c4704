"""Waiting on a server: how long, how often, and never for ever."""

import random
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

import urllib3

T = TypeVar("T")


def backoff(attempt: int) -> float:
    """Seconds to wait after the given attempt, from 1: exponential with jitter, at most 15."""
    return min(15.0, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server asks for, as a number or as a date; None if it asks for none."""
    header = {name.lower(): value for name, value in headers.items()}.get("retry-after")
    if header is None:
        return None
    try:
        return max(0.0, urllib3.util.Retry().parse_retry_after(header))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None


def within(seconds: float, call: Callable[[], T]) -> T:
    """What ``call`` returns or raises, if it does so in time.

    A socket's timeout starts anew with each byte, so a server that sends one a second could hold a
    run for ever.

    Raises:
        TimeoutError: it has not ended. It goes on in its own thread, and what comes of it is lost.
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
