"""The HTTP side of the API: days in; for each day the operator's answer or a typed error out.

Requests, retries and the length of a span belong here; what an answer means belongs in `responses`,
and what requests of other runs have found out in `conditions`.
"""

import logging
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, RLock, Thread

import requests
import urllib3

from demand_assets import __version__
from demand_assets.grid import SERIES, TIME_ZONE
from demand_assets.proxies import is_this_machine, proxy_of
from demand_assets.redata.conditions import ConditionsFile
from demand_assets.redata.errors import (
    MalformedAnswerError,
    NoDataError,
    ProxyError,
    REDataError,
    RefusedError,
    ThrottledError,
    UnansweredError,
    UnavailableError,
)
from demand_assets.redata.responses import Answer, check_shape, excerpt, parse_response, split_days
from demand_assets.redata.slots import Slots
from demand_assets.retry import RetryBudget, call_with_retries, within

USER_AGENT = f"demand-assets/{__version__} python-requests/{requests.__version__}"
LARGEST_ANSWER = 64 * 2**20
"""Bytes. 31 days are 3 MB; a larger body is no answer of this API."""
ATTEMPTS_OF_A_SPAN = 2
"""After them a single day shows whether the span is too long or the API is away."""
MANY_FAILURES = 6
"""In a row; after them a single day shows whether the API is still there."""
PROBE_SECONDS = 10.0
"""What that single day may take even if the retry budget is spent."""
SLOW_PAUSE_SECONDS = 2.0
"""Between two requests after the API has answered that they come too fast."""
SAME_OUTAGE_SECONDS = 60.0
"""A run that starts so soon after another one has met an outage makes no request of its own."""
LONG_WAIT_SECONDS = 5.0
"""A longer wait for the requests of other runs is a line of the log."""

Outcome = Answer | REDataError
Span = Sequence[date]
Piece = tuple[Outcome, Span]

logger = logging.getLogger(__name__)


@dataclass
class _Fetch(RetryBudget):
    """What all spans of one fetch share: the retry budget, and what happened so far."""

    days: Span
    """Not yet requested."""
    longest: int
    """Days to request at once."""
    last: date
    """The last day of the fetch."""
    accepted: int | None
    """The length that an earlier run has found out."""
    urgent: bool = False
    requests: int = 0
    works: int | None = field(init=False)
    """A length that is answered, if longer ones fail."""
    halve: bool = True
    """Whether parts of a refused span may be accepted."""
    failure: UnavailableError | None = None
    """Why the last span failed that was given up."""
    results: "SimpleQueue[list[Piece] | BaseException]" = field(default_factory=SimpleQueue)
    diagnosis: RLock = field(default_factory=RLock)
    """Held by the one thread that finds out why a span fails, as the others profit from it."""
    lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self.works = self.accepted

    def next_span(self) -> Span:
        """The next days to request; empty at the end."""
        with self.lock:
            span, self.days = self.days[: self.longest], self.days[self.longest :]
        return span

    def spend(self, seconds: float) -> None:
        with self.lock:
            super().spend(seconds)

    def count_request(self) -> None:
        with self.lock:
            self.requests += 1

    @property
    def over(self) -> bool:
        """Whether further requests are useless."""
        return self.failure is not None and not self.left

    def may_be_too_long(self, span: Span) -> bool:
        """Whether a failure of the span is one of its length, as shorter ones are answered."""
        return self.works is not None and len(span) > self.works


@dataclass(eq=False)
class REDataClient:
    """A session with the API.

    Args:
        base_url: scheme and host, without a path.
        language: ``en`` or ``es``; it changes the titles only.
        max_days_per_request: the longest span of one request, in days.
        retry_seconds: what failed attempts and pauses of one :meth:`fetch` may take, more than 0.
        timeout_seconds: how long the server may stay silent during a request.
        politeness_seconds: the pause between two requests.
        concurrent_requests: how many requests may be in flight, those of other runs included.
        shared_folder: where all runs keep what they know about the API, and count the requests that
            are in flight; None for a folder of this client only.
    """

    base_url: str
    language: str = "en"
    max_days_per_request: int = 31
    retry_seconds: float = 60.0
    timeout_seconds: float = 30.0
    politeness_seconds: float = 0.2
    concurrent_requests: int = 1
    shared_folder: Path | None = None
    session: requests.Session = field(default_factory=requests.Session, repr=False)

    def __post_init__(self) -> None:
        self.session.headers.update(
            {"User-Agent": USER_AGENT, "Accept": "application/json", "Accept-Encoding": "gzip"}
        )
        if is_this_machine(self.base_url):
            self.session.trust_env = False  # no proxy
        if self.shared_folder is None:
            self._temporary = tempfile.TemporaryDirectory(prefix="redata-")
            self.shared_folder = Path(self._temporary.name)
        self.shared_folder.mkdir(parents=True, exist_ok=True)
        self._slots = Slots(self.shared_folder)
        self._conditions = ConditionsFile(self.shared_folder)

    def fetch(
        self,
        days: Span,
        progress: Callable[[int, int], None] = lambda days, requests: None,
        *,
        urgent: bool = False,
    ) -> dict[date, Outcome]:
        """All of :meth:`stream`, in the order of the days."""
        outcomes = dict(self.stream(days, progress, urgent=urgent))
        return {day: outcomes[day] for day in days}

    def stream(
        self,
        days: Span,
        progress: Callable[[int, int], None] = lambda days, requests: None,
        *,
        urgent: bool = False,
    ) -> Iterator[tuple[date, Outcome]]:
        """Request contiguous days in as few requests as the API accepts.

        A refused span is halved until the days that cause the refusal stand alone. So is a span
        that fails as in an outage, while a single day is answered. The length that is then accepted
        is kept for all runs, and grows again with time. The next spans are requested while the
        caller uses the results.

        Args:
            days: Madrid days in order, without gaps.
            progress: called after each span with the numbers of days and of requests so far.
            urgent: wait for no more than one request of another run.

        Yields:
            Each day, as it comes, with its own answer (the samples of that Madrid day) or the error
            because of which it has none.
        """
        fetch = self._begin(days, urgent)
        threads = 0 if fetch.results.qsize() else self.concurrent_requests
        for _ in range(min(threads, -(-len(days) // fetch.longest))):
            Thread(target=self._work, args=(fetch,), daemon=True).start()
        done = 0
        try:
            while done < len(days):
                pieces = fetch.results.get()
                if isinstance(pieces, BaseException):
                    raise pieces
                for outcome, span in pieces:
                    done += len(span)
                    yield from _by_day(outcome, span).items()
                progress(done, fetch.requests)
        finally:
            fetch.days = ()  # the threads end after their current request

    def _begin(self, days: Span, urgent: bool) -> _Fetch:
        """A fetch. In a known outage it has its result already, unless a day is answered again."""
        now, known = time.time(), self._conditions.read()
        longest = known.longest_span(self.max_days_per_request, now)
        fetch = _Fetch(
            self.retry_seconds, days, longest, days[-1], known.accepted_days, urgent=urgent
        )
        if longest < min(len(days), self.max_days_per_request):
            logger.info(f"A request spans at most {_count(longest)}, as longer ones have failed.")
        if known.outage(now):
            again = known.failed_at + SAME_OUTAGE_SECONDS
            fetch.failure = UnavailableError(
                f"not requested, as REData did not answer another run at {_clock(known.failed_at)};"
                f" requests are made again from {_clock(again)}"
            )
            if now >= again or urgent:
                outcome = self._outcome(days[:1], fetch)  # a single attempt, as there is a failure
                fetch.failure = outcome if isinstance(outcome, UnavailableError) else None
            if fetch.failure:
                fetch.results.put([(fetch.failure, days)])
        return fetch

    def _work(self, fetch: _Fetch) -> None:
        """Request spans until none is left."""
        try:
            while span := fetch.next_span():
                fetch.results.put(self._fetch_span(span, fetch))
        except BaseException as error:  # it is raised in the thread that waits for the results
            fetch.results.put(error)

    def _fetch_span(self, span: Span, fetch: _Fetch) -> list[Piece]:
        """The outcome of a span, or of the parts into which it had to be divided."""
        worked = fetch.works
        outcome = self._outcome(span, fetch)
        if _divisible(outcome, span) and not fetch.over:
            with fetch.diagnosis:
                pieces = self._diagnose(span, outcome, fetch)
                self._learn(pieces, outcome, fetch)
            return pieces
        if isinstance(outcome, UnavailableError):
            self._give_up(outcome, fetch)
        elif worked and fetch.works and fetch.works > worked:
            self._accept(fetch.works)
        fetch.halve = True
        return [(outcome, span)]

    def _diagnose(self, span: Span, failure: Outcome, fetch: _Fetch) -> list[Piece]:
        """The outcomes of a span that failed as a whole, or of its parts."""
        if isinstance(failure, UnavailableError) and not fetch.may_be_too_long(span):
            if fetch.failure:  # another span has just shown that there is an outage
                return [(failure, span)]
            logger.warning(
                f"{_name(span)}: {failure.reason}; requesting single days, to find out whether the"
                " span is too long."
            )
            if outage := self._outage(span[0], fetch):
                return [(outage, span)]
            fetch.works = 1
            failure = self._outcome(span, fetch)
        return self._divide(span, failure, fetch)

    def _outage(self, day: date, fetch: _Fetch) -> UnavailableError | None:
        """Why the API does not answer even single days; None if it does.

        Another day is requested in turn, as the first one may be the cause of the failure.
        """
        fetch.left = max(fetch.left, min(PROBE_SECONDS, self.timeout_seconds))
        outcome = self._outcome([day], fetch, other=[fetch.last])
        if not isinstance(outcome, UnavailableError):
            return None
        self._give_up(outcome, fetch)
        self._note_outage()
        fetch.left = 0.0
        return outcome

    def _divide(self, span: Span, failure: Outcome, fetch: _Fetch) -> list[Piece]:
        """The outcomes of the parts of a span that failed, while the API answers other requests."""
        if isinstance(failure, UnavailableError) and len(span) == 1 and not failure.asks_to_wait:
            return [(UnansweredError(failure.reason), span)]
        if not _divisible(failure, span) or fetch.over:
            return [(failure, span)]
        half = length = (len(span) + 1) // 2
        if fetch.longest < len(span):  # what another span has shown meanwhile
            length = fetch.longest
        elif not fetch.halve and not isinstance(failure, UnavailableError):
            return [(failure, span)]
        parts = "halves" if length == half else f"parts of {_count(length)}"
        logger.warning(f"{_name(span)}: {_reason(failure)}; requesting it in {parts}.")
        pieces: list[Piece] = []
        for start in range(0, len(span), length):
            part = span[start : start + length]
            if self._conditions.read().failures >= MANY_FAILURES:
                self._outage(part[0], fetch)
            pieces += self._divide(part, self._outcome(part, fetch, divided=True), fetch)
        return pieces

    def _learn(self, pieces: list[Piece], failure: Outcome, fetch: _Fetch) -> None:
        """Keep what the parts of a span have shown."""
        refused = [isinstance(o, RefusedError | MalformedAnswerError) for o, _ in pieces]
        # If each day of a span is refused by itself, halving the next span would not help.
        fetch.halve = not all(refused)
        unanswered = [isinstance(o, UnavailableError | UnansweredError) for o, _ in pieces]
        if any(refused) or any(unanswered):
            fetch.works = fetch.accepted  # single days were the cause
        elif len(pieces) > 1:
            fetch.longest = fetch.works = max(len(span) for _, span in pieces)
            if not isinstance(failure, MalformedAnswerError):
                self._accept(fetch.longest)

    def _accept(self, days: int) -> None:
        """Keep the length of a span that was answered, for all runs."""
        most = self.max_days_per_request
        before = self._conditions.read().accepted_days
        after = self._conditions.update(lambda c, now: c.accepted(days, most, now)).accepted_days
        if after and after != before:
            logger.warning(
                f"From now on, a request spans at most {_count(days)}, as longer ones fail. They"
                " are tried again in a day. If they never succeed, set"
                f" REDATA_MAX_DAYS_PER_REQUEST={days}."
            )

    def _give_up(self, failure: UnavailableError, fetch: _Fetch) -> None:
        """Note that the API did not answer, also for other runs unless one day may be the cause."""
        another_day = fetch.failure is not None
        if failure.asks_to_wait or another_day:
            fetch.left = 0.0  # another request would ignore that the API is to be left alone
        fetch.failure = failure
        if (another_day or fetch.urgent) and not failure.asks_to_wait:
            self._note_outage()

    def _note_outage(self) -> None:
        self._conditions.update(lambda c, now: replace(c, gave_up=True))

    def _outcome(
        self, span: Span, fetch: _Fetch, *, other: Span = (), divided: bool = False
    ) -> Outcome:
        """The answer for a span as a whole, or the error that came instead."""
        try:
            answer = self._request_with_retries(span, fetch, other, divided)
            check_shape(answer)
            _check_required_series(answer, span)
        except REDataError as error:
            return error
        if fetch.works is not None:
            fetch.works = max(fetch.works, len(span))
        if fetch.left:
            fetch.failure = None
        return answer

    def _request_with_retries(
        self, span: Span, fetch: _Fetch, other: Span, divided: bool
    ) -> Answer:
        if fetch.over and fetch.failure:
            raise type(fetch.failure)(
                f"not requested, as earlier days failed: {fetch.failure.reason}"
            )
        # Looking for the accepted length must not use up the budget, as the API does answer.
        search = fetch.may_be_too_long(span)
        budget = RetryBudget(self.timeout_seconds) if search or divided else fetch
        most = ATTEMPTS_OF_A_SPAN if len(span) > 1 or divided else None
        if search or fetch.failure:
            most = 1
        attempts = 0

        def attempt() -> Answer:
            nonlocal attempts
            attempts += 1
            asked = other if other and attempts % 2 == 0 else span
            return self._request(asked, fetch, budget.left, first=attempts == 1)

        def pause(error: Exception, attempt: int) -> float | None:
            if not isinstance(error, UnavailableError):
                return None
            pause = error.pause(attempt)
            if error.asks_to_wait or pause is None:
                return pause
            # Runs that fail at the same time make together as many attempts as one of them would.
            failures = self._conditions.read().failures
            return None if attempt == most else pause * max(1.0, failures / attempt)

        try:
            return call_with_retries(
                attempt, pause, budget, lambda e: f"{_name(span)}: {getattr(e, 'reason', e)}"
            )
        except UnavailableError as error:
            raise type(error)(
                f"{error.reason} (requested {'once' if attempts == 1 else f'{attempts} times'},"
                f" retry budget {self.retry_seconds:g} s)",
                retry_after=error.retry_after,
            ) from error

    def _request(self, span: Span, fetch: _Fetch, seconds: float, *, first: bool) -> Answer:
        """One request, once it may be sent; what came is noted for all runs."""
        try:
            with self._slots.take(self._limit, self._pause, urgent=fetch.urgent) as waited:
                if waited > LONG_WAIT_SECONDS:
                    logger.info(f"{_name(span)}: waited {waited:.0f} s for requests of other runs.")
                if first:
                    self._wait_as_told(seconds)
                fetch.count_request()
                response, body = self._send(span, seconds)
            answer = parse_response(response, body)
        except UnavailableError as error:
            self._note_failure(error)
            raise
        except REDataError:
            self._note_answer()
            raise
        self._note_answer()
        return answer

    def _limit(self) -> int:
        return 1 if self._conditions.read().slow(time.time()) else self.concurrent_requests

    def _pause(self) -> float:
        slow = self._conditions.read().slow(time.time())
        return SLOW_PAUSE_SECONDS if slow else self.politeness_seconds

    def _wait_as_told(self, seconds: float) -> None:
        """Wait if the API has asked another request for it; an error if that takes too long."""
        until = self._conditions.read().not_before
        wait = until - time.time()
        if wait >= seconds:
            raise ThrottledError(
                f"not requested, as REData asks for no request before {_clock(until)}",
                retry_after=wait,
            )
        if wait > 0:
            logger.info(f"Waiting until {_clock(until)}, as REData asks for.")
            time.sleep(wait)

    def _note_failure(self, error: UnavailableError) -> None:
        if not error.asks_to_wait:
            self._conditions.update(lambda c, now: c.failed(now))
            return
        was_slow = self._conditions.read().slow(time.time())
        wait = error.retry_after or 0.0
        after = self._conditions.update(lambda c, now: c.throttled(now, wait))
        if not was_slow:
            logger.warning(
                f"{error.reason}. Requests are sent one at a time, with pauses, until"
                f" {_clock(after.slow_until)}."
            )

    def _note_answer(self) -> None:
        if self._conditions.read().failures:
            self._conditions.update(lambda c, now: c.answered())

    def _send(self, span: Span, seconds: float) -> tuple[requests.Response, bytes]:
        """One request, which ends in time even if the server sends a byte a second."""
        started = time.monotonic()
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
        return response, body


def _name(span: Span) -> str:
    return f"{span[0]}" if len(span) == 1 else f"{span[0]} to {span[-1]}"


def _clock(moment: float) -> str:
    """A point in time as Madrid's clock shows it."""
    return f"{datetime.fromtimestamp(moment, TIME_ZONE):%H:%M:%S} Madrid time"


def _count(days: int) -> str:
    return "1 day" if days == 1 else f"{days} days"


def _divisible(outcome: Outcome, span: Span) -> bool:
    """Whether parts of a span may be answered although it failed as a whole."""
    if isinstance(outcome, UnavailableError):
        return len(span) > 1 and not outcome.asks_to_wait
    return len(span) > 1 and isinstance(outcome, RefusedError | MalformedAnswerError)


def _reason(outcome: Outcome) -> str:
    return outcome.reason if isinstance(outcome, REDataError) else "an answer"


def _by_day(outcome: Outcome, span: Span) -> dict[date, Outcome]:
    if isinstance(outcome, REDataError):
        return {day: outcome.for_day(day) for day in span}
    answers = split_days(outcome, span)
    absent = NoDataError("REData's answer holds no sample of this day")
    return {day: answers.get(day) or absent.for_day(day) for day in span}


def _check_required_series(answer: Answer, span: Span) -> None:
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
