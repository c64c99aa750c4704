"""The HTTP side of the API: days in; for each day the operator's answer or a typed error out.

Requests, retries and the length of a span belong here; what an answer means belongs in `responses`.
"""

import logging
import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import partial

import requests
import urllib3

from demand_assets import __version__
from demand_assets.grid import SERIES
from demand_assets.proxies import is_this_machine, proxy_of
from demand_assets.redata.errors import (
    BlockedError,
    MalformedAnswerError,
    NoDataError,
    ProxyError,
    REDataError,
    RefusedError,
    UnavailableError,
)
from demand_assets.redata.responses import Answer, check_shape, excerpt, parse_response, split_days
from demand_assets.retry import RetryBudget, call_with_retries, within

USER_AGENT = f"demand-assets/{__version__} python-requests/{requests.__version__}"
LARGEST_ANSWER = 64 * 2**20
"""Bytes. 31 days are 3 MB; a larger body is no answer of this API."""

Outcome = Answer | REDataError

logger = logging.getLogger(__name__)


@dataclass
class _Fetch(RetryBudget):
    """What all spans of one fetch share: the retry budget, and what happened so far."""

    requests: int = 0
    failure: UnavailableError | None = None
    """Why the last span failed that was given up."""


@dataclass(frozen=True)
class REDataClient:
    """A session with the API.

    Args:
        base_url: scheme and host, without a path.
        language: ``en`` or ``es``; it changes the titles only.
        max_days_per_request: the longest span of one request, in days.
        retry_seconds: what failed attempts and pauses of one :meth:`fetch` may take, more than 0.
        timeout_seconds: how long the server may stay silent during a request.
        politeness_seconds: the pause between two requests.
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
        if is_this_machine(self.base_url):
            self.session.trust_env = False  # no proxy

    def fetch(
        self,
        days: Sequence[date],
        progress: Callable[[int, int], None] = lambda days, requests: None,
    ) -> dict[date, Outcome]:
        """Request contiguous days in as few requests as the API accepts.

        A refused span is halved until the days that cause the refusal stand alone. The length that
        is then accepted is kept for the rest of the call.

        Args:
            days: Madrid days in order, without gaps.
            progress: called after each span with the numbers of days and of requests so far.

        Returns:
            For each day, in the given order, its own answer (the samples of that Madrid day) or the
            error because of which it has none.
        """
        fetch = _Fetch(self.retry_seconds)
        longest = self.max_days_per_request
        halve = True
        outcomes: dict[date, Outcome] = {}
        while rest := days[len(outcomes) :]:
            pieces = self._fetch_span(rest[:longest], fetch, halve)
            refused = [isinstance(p, RefusedError | MalformedAnswerError) for p, _ in pieces]
            # If each day of a span is refused by itself, halving the next span would not help.
            halve = not all(refused)
            if len(pieces) > 1 and not any(refused):
                longest = max(len(span) for _, span in pieces)
            for outcome, span in pieces:
                outcomes.update(_by_day(outcome, span))
            progress(len(outcomes), fetch.requests)
        return outcomes

    def _fetch_span(
        self, span: Sequence[date], fetch: _Fetch, halve: bool = True
    ) -> list[tuple[Outcome, Sequence[date]]]:
        """The outcome of a span, or of the parts into which it had to be divided."""
        try:
            answer = self._request_with_retries(span, fetch)
            check_shape(answer)
            _check_required_series(answer, span)
            return [(answer, span)]
        except (RefusedError, MalformedAnswerError) as error:
            if len(span) == 1 or not halve:
                return [(error, span)]
            logger.warning(f"{_name(span)}: {error.reason}; requesting it in halves.")
        except REDataError as error:
            return [(error, span)]
        middle = (len(span) + 1) // 2
        first, second = span[:middle], span[middle:]
        return self._fetch_span(first, fetch) + self._fetch_span(second, fetch)

    def _request_with_retries(self, span: Sequence[date], fetch: _Fetch) -> Answer:
        if fetch.failure and not fetch.left:
            raise type(fetch.failure)(
                f"not requested, as earlier days failed: {fetch.failure.reason}"
            )
        before = fetch.requests
        if before:
            time.sleep(self.politeness_seconds)
        try:
            return call_with_retries(
                partial(self._request, span, fetch),
                lambda error, attempt: (
                    error.pause(attempt) if isinstance(error, UnavailableError) else None
                ),
                fetch,
                lambda error: f"{_name(span)}: {getattr(error, 'reason', error)}",
            )
        except UnavailableError as error:
            count = fetch.requests - before
            fetch.failure = type(error)(
                f"{error.reason} (requested {'once' if count == 1 else f'{count} times'},"
                f" retry budget {self.retry_seconds:g} s)"
            )
            if isinstance(error, BlockedError) or error.retry_after:
                fetch.left = 0.0  # a request for the next span would ignore that the API says wait
            raise fetch.failure from error

    def _request(self, span: Sequence[date], fetch: _Fetch) -> Answer:
        """One request, which ends within the budget even if the server sends a byte a second."""
        fetch.requests += 1
        started, seconds = time.monotonic(), fetch.left
        get = partial(
            self.session.get,
            f"{self.base_url.rstrip('/')}/{self.language}/datos/demanda/demanda-tiempo-real",
            params={
                "start_date": f"{span[0]}T00:00",
                "end_date": f"{span[-1]}T23:59",
                "time_trunc": "hour",
            },
            timeout=min(self.timeout_seconds, seconds),
            stream=True,
            allow_redirects=False,
        )
        try:
            # The library reads the headers without a deadline; a time-out restarts with each byte.
            with within(seconds, get) as response:
                body = _read_body(response, started, seconds)
        except requests.exceptions.ProxyError as error:
            raise ProxyError(f"no way to {self.base_url}: {_proxy_cause(error)}") from error
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            way = " through the proxy of the environment" if proxy_of(self.base_url) else ""
            reason = f"no answer from {self.base_url}{way}: {_cause(error)}"
            raise UnavailableError(reason) from error
        if response.status_code == requests.codes.proxy_authentication_required:
            raise ProxyError(f"no way to {self.base_url}: the proxy asks for a login (407)")
        return parse_response(response, body)


def _name(span: Sequence[date]) -> str:
    return f"{span[0]}" if len(span) == 1 else f"{span[0]} to {span[-1]}"


def _by_day(outcome: Outcome, span: Sequence[date]) -> dict[date, Outcome]:
    if isinstance(outcome, REDataError):
        return {day: outcome.for_day(day) for day in span}
    answers = split_days(outcome, span)
    absent = NoDataError("REData's answer holds no sample of this day")
    return {day: answers.get(day) or absent.for_day(day) for day in span}


def _check_required_series(answer: Answer, span: Sequence[date]) -> None:
    """Refuse a span without a required series, as one bad day makes the API leave it out.

    A single day passes: the hourly frame decides about a day without the series.
    """
    found = {str(series["id"]) for series in answer["included"]}
    missing = [series.column for series in SERIES if series.required and series.api_id not in found]
    if missing and len(span) > 1:
        raise MalformedAnswerError(f"the answer has no series {', '.join(missing)}")


def _read_body(response: requests.Response, started: float, seconds: float) -> bytes:
    """The whole body, unpacked.

    Raises:
        TimeoutError: it is not complete within the seconds since the start of the request.
        MalformedAnswerError: it is too large.
    """
    body = bytearray()
    # `read1` returns what has arrived; a read of a fixed size, or one that decodes, would wait for
    # more bytes.
    while part := response.raw.read1(2**16, decode_content=False):
        body += part
        if len(body) > LARGEST_ANSWER:
            raise MalformedAnswerError(f"the answer is larger than {LARGEST_ANSWER >> 20} MiB")
        if time.monotonic() - started > seconds:
            raise TimeoutError(f"not done after {seconds:.1f} s")
    packed = response.headers.get("Content-Encoding", "").lower() == "gzip"
    return _gunzip(body) if packed else bytes(body)


def _gunzip(packed: bytes | bytearray) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    try:
        body = unpacking.decompress(packed, LARGEST_ANSWER)
    except zlib.error as error:
        raise UnavailableError(f"the answer is not the gzip that it claims: {error}") from error
    if unpacking.unconsumed_tail:
        raise MalformedAnswerError(f"the answer is larger than {LARGEST_ANSWER >> 20} MiB")
    return body


def _proxy_cause(error: BaseException) -> str:
    return f"the proxy refuses it or cannot be reached ({_cause(error)})"


def _cause(error: BaseException) -> str:
    """The innermost cause in one line; the outer ones repeat the URL and object addresses."""
    while True:
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            return f"{type(error).__name__}: {excerpt(str(error))}"
        error = inner
