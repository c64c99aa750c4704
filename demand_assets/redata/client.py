"""The client: days in; out comes, per day, the operator's answer or a typed error."""

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date

import requests
import urllib3

from demand_assets.grid import REAL_DEMAND
from demand_assets.redata.errors import (
    BlockedError,
    MalformedAnswerError,
    NoDataError,
    REDataError,
    RefusedError,
    UnavailableError,
)
from demand_assets.redata.responses import (
    Answer,
    check_shape,
    excerpt,
    parse_response,
    split_days,
)
from demand_assets.retry import within

USER_AGENT = f"demand-assets/0.1 python-requests/{requests.__version__}"
LARGEST_ANSWER = 64 * 2**20
"""Bytes. 31 days are 3 MB; more than this is no answer of this API."""


@dataclass
class _RetryBudget:
    """What one fetch may spend on failed attempts and on waiting, all spans together."""

    left: float
    """Seconds."""
    trouble: UnavailableError = field(default_factory=lambda: UnavailableError("no time left"))
    """What made the last span fail."""
    requests: int = 0
    """How many were sent."""

    def spend(self, seconds: float) -> None:
        self.left = max(0.0, self.left - seconds)


@dataclass(frozen=True)
class REDataClient:
    """One session with the API.

    Args:
        base_url: scheme and host, without a path.
        language: ``en`` or ``es``; it changes the titles only.
        max_days_per_request: the longest span asked for at once, in days.
        retry_seconds: what a :meth:`fetch` may spend on failed attempts and waiting.
        timeout_seconds: how long one request may stay silent.
        politeness_seconds: the rest between one request and the next.
    """

    base_url: str
    language: str = "en"
    max_days_per_request: int = 31
    retry_seconds: float = 60.0
    timeout_seconds: float = 30.0
    politeness_seconds: float = 0.2
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    def __post_init__(self) -> None:
        self.session.headers.update(
            {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "gzip"}
        )

    def fetch(
        self,
        days: Sequence[date],
        progress: Callable[[int, int], None] = lambda days, requests: None,
    ) -> dict[date, Answer | REDataError]:
        """Ask for contiguous days in as few requests as the API takes.

        After each span ``progress`` is told for how many of the days the API has been asked, and in
        how many requests.

        Returns, in the order asked, each day's own answer (the samples of that Madrid day) or the
        error that befell it. A span that is refused is halved until the days that cause it stand
        alone; the length that then works is kept for the rest of the call.
        """
        budget = _RetryBudget(self.retry_seconds)
        longest = self.max_days_per_request
        halve = True
        results: dict[date, Answer | REDataError] = {}
        while rest := days[len(results) :]:
            pieces = self._fetch_halving(rest[:longest], budget, halve)
            refused = [isinstance(p, RefusedError | MalformedAnswerError) for p, _ in pieces]
            # Where each day of a span was refused alone, halving the next would be as vain.
            halve = not all(refused)
            if len(pieces) > 1 and not any(refused):
                longest = max(len(span) for _, span in pieces)
            for outcome, span in pieces:
                results.update(_per_day(outcome, span))
            progress(len(results), budget.requests)
        return results

    def _fetch_halving(
        self, span: Sequence[date], budget: _RetryBudget, halve: bool = True
    ) -> list[tuple[Answer | REDataError, Sequence[date]]]:
        try:
            answer = self._request_patiently(span, budget)
            check_shape(answer)
            _check_real_series(answer, span)
            return [(answer, span)]
        except (RefusedError, MalformedAnswerError) as error:
            if len(span) == 1 or not halve:
                return [(error, span)]
            middle = (len(span) + 1) // 2
            return [
                *self._fetch_halving(span[:middle], budget),
                *self._fetch_halving(span[middle:], budget),
            ]
        except REDataError as error:
            return [(error, span)]

    def _request_patiently(self, span: Sequence[date], budget: _RetryBudget) -> Answer:
        attempt = 0
        while budget.left > 0:
            if budget.requests and not attempt:
                time.sleep(self.politeness_seconds)
            attempt += 1
            budget.requests += 1
            started = time.monotonic()
            try:
                return self._request(span, budget.left)
            except UnavailableError as trouble:
                budget.spend(time.monotonic() - started)
                pause = trouble.pause(attempt)
                if attempt >= trouble.max_attempts or pause >= budget.left:
                    asked = "asked once" if attempt == 1 else f"asked {attempt} times"
                    budget.trouble = type(trouble)(
                        f"{trouble.reason} ({asked}, retry budget {self.retry_seconds:g} s)"
                    )
                    if isinstance(trouble, BlockedError) or trouble.retry_after:
                        budget.left = 0.0  # to ask for the next span would be not to wait
                    raise budget.trouble from trouble
                budget.spend(pause)
                time.sleep(pause)
        raise type(budget.trouble)(
            f"not asked for, as earlier days failed: {budget.trouble.reason}"
        )

    def _request(self, span: Sequence[date], longest: float) -> Answer:
        url = f"{self.base_url.rstrip('/')}/{self.language}/datos/demanda/demanda-tiempo-real"
        parameters = {
            "start_date": f"{span[0]}T00:00",
            "end_date": f"{span[-1]}T23:59",
            "time_trunc": "hour",
        }

        def ask() -> tuple[requests.Response, bytes]:
            with self.session.get(
                url,
                params=parameters,
                timeout=min(self.timeout_seconds, longest),
                stream=True,
                allow_redirects=False,
            ) as response:
                return response, _read_body(response)

        try:
            response, body = within(longest, ask)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(f"no answer from {self.base_url}: {_reason(error)}") from error
        return parse_response(response, body)


def _per_day(
    outcome: Answer | REDataError, span: Sequence[date]
) -> dict[date, Answer | REDataError]:
    if isinstance(outcome, REDataError):
        return {day: outcome.for_day(day) for day in span}
    answers = split_days(outcome, span)
    absent = NoDataError("REData's answer holds no sample of this day")
    return {day: answers.get(day) or absent.for_day(day) for day in span}


def _check_real_series(answer: Answer, span: Sequence[date]) -> None:
    # One odd day makes the API leave the series out of the whole span; alone, the day can be told.
    if len(span) > 1 and REAL_DEMAND.api_id not in {
        str(series["id"]) for series in answer["included"]
    }:
        raise MalformedAnswerError("the answer has no series of measured demand")


def _read_body(response: requests.Response) -> bytes:
    """The whole body, within a size."""
    parts, size = [], 0
    # read1 hands over what has arrived; a read of a fixed size, or one that decodes, would wait
    # for slow bytes.
    while part := response.raw.read1(2**16, decode_content=False):
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER:
            raise MalformedAnswerError(f"the answer is larger than {LARGEST_ANSWER >> 20} MiB")
    body = b"".join(parts)
    packed = response.headers.get("Content-Encoding", "").lower() == "gzip"
    return _gunzip(body) if packed else body


def _gunzip(packed: bytes) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    try:
        body = unpacking.decompress(packed, LARGEST_ANSWER)
    except zlib.error as error:
        raise UnavailableError(f"the answer is no gzip as it says: {error}") from error
    if unpacking.unconsumed_tail:
        raise MalformedAnswerError(f"the answer is larger than {LARGEST_ANSWER >> 20} MiB")
    return body


def _reason(error: BaseException) -> str:
    """The innermost cause in one line; the layers above it repeat the URL and object addresses."""
    while True:
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            return f"{type(error).__name__}: {excerpt(str(error))}"
        error = inner
