"""The REData client: days in; out comes, per day, the operator's answer or a typed error.

Red Eléctrica publishes peninsular demand, measured and forecast, at
``{base}/{lang}/datos/demanda/demanda-tiempo-real``, without authentication. A request names a span
of Madrid's local time, both ends included; samples come every 5 or 10 minutes in MW, whatever
``time_trunc`` says.

>>> client = REDataClient("https://apidatos.ree.es")
>>> client.fetch([date(2023, 2, 19)])  # doctest: +SKIP
{datetime.date(2023, 2, 19): {'data': {...}, 'included': [...]}}
"""

import json
import random
import reprlib
import time
import zlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, ClassVar, NoReturn, Self
from zoneinfo import ZoneInfo

import requests
import urllib3

MADRID = ZoneInfo("Europe/Madrid")
"""The API's clock: its days are Madrid's, its timestamps carry Madrid's offset."""

REAL_DEMAND = "1293"
FORECAST_DEMAND = "544"
"""Ids of the series kept. Titles change with the language and the order changes at will."""

USER_AGENT = f"demand-assets/0.1 python-requests/{requests.__version__}"
LARGEST_ANSWER = 64 * 2**20
"""Bytes. 31 days are 3 MB; more than this is no answer of this API."""

SPAN_REFUSED = (400, 413, 414, 422)
"""Statuses after which a shorter span may be accepted."""

LARGEST_MW = 1e9
"""Where numbers cease to be MW at all. What is merely implausible passes, for checks to judge."""

Answer = dict[str, Any]
"""The API's JSON: ``data`` (a header) and ``included`` (the series, each with its samples)."""


class REDataError(Exception):
    """A day that could not be had. Its text says which day, what came and what to do."""

    advice: ClassVar[str] = "Materialize the day again."

    def __init__(self, came: str, day: date | None = None):
        super().__init__(came, day)
        self.came = came
        self.day = day

    def of(self, day: date) -> Self:
        """The same error, said of one day of the span that it befell."""
        return type(self)(self.came, day)

    def __str__(self) -> str:
        return f"{self.day or 'span'}: {self.came}. {self.advice}"


class NoDataError(REDataError):
    """REData answered, and has nothing for the day."""

    advice = "Nothing was stored; materialize the day again once the operator has published it."


class RefusedError(REDataError):
    """REData does not accept the span or a parameter."""

    advice = "Check the partition's date and REDATA_MAX_DAYS_PER_REQUEST."


class AddressError(REDataError):
    """What stands at the address is not the API. A shorter span would not help."""

    advice = "Nothing was stored; check REDATA_BASE_URL, then materialize the day again."


class MalformedAnswerError(REDataError):
    """The answer is JSON of another shape, or its values are not demand in MW."""

    advice = "Nothing wrong was stored; if materializing again does not help, the API has changed."


class UnavailableError(REDataError):
    """Passing trouble that outlived the retry budget: an outage, a time-out, a broken body."""

    advice = "Nothing was stored; materialize the day again when REData is back."
    most_attempts: ClassVar[int] = 1000

    def __init__(self, came: str, day: date | None = None, retry_after: float | None = None):
        super().__init__(came, day)
        self.retry_after = retry_after

    def pause(self, attempt: int) -> float:
        """Seconds to wait after the given attempt: as told, else exponential with jitter."""
        if self.retry_after:
            return self.retry_after
        return min(15.0, 0.5 * 2**attempt) * random.uniform(0.5, 1.0)


class BlockedError(UnavailableError):
    """The bot guard in front of the API turned the client away; insisting makes it worse."""

    advice = "Nothing was stored; wait an hour, then ask for fewer days at a time."
    most_attempts = 3

    def pause(self, attempt: int) -> float:
        return 10.0 * attempt


@dataclass
class _RetryBudget:
    """Seconds that one fetch may spend on failed attempts and on waiting, all spans together."""

    left: float
    trouble: UnavailableError = field(default_factory=lambda: UnavailableError("no time left"))
    """What made the last span fail."""

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
        politeness_seconds: the rest between one span and the next.
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
        self, days: Sequence[date], progress: Callable[[int], None] = lambda _: None
    ) -> dict[date, Answer | REDataError]:
        """Ask for contiguous days in as few requests as the API takes.

        After each span ``progress`` is told how many of the days have been asked for.

        Returns, in the order asked, each day's own answer (the samples of that Madrid day) or the
        error that befell it. A span that is refused is halved until the days that cause it stand
        alone; the length that then works is kept for the rest of the call.
        """
        budget = _RetryBudget(self.retry_seconds)
        longest = self.max_days_per_request
        results: dict[date, Answer | REDataError] = {}
        while rest := days[len(results) :]:
            pieces = self._fetch_halving(rest[:longest], budget)
            if len(pieces) > 1 and not any(isinstance(p, REDataError) for p, _ in pieces):
                longest = max(len(span) for _, span in pieces)
            for outcome, span in pieces:
                results.update(_per_day(outcome, span))
            progress(len(results))
            if len(results) < len(days) and budget.left > 0:
                time.sleep(self.politeness_seconds)
        return results

    def _fetch_halving(
        self, span: Sequence[date], budget: _RetryBudget
    ) -> list[tuple[Answer | REDataError, Sequence[date]]]:
        try:
            answer = self._request_patiently(span, budget)
            check_shape(answer)
            _check_real_series(answer, span)
            return [(answer, span)]
        except (RefusedError, MalformedAnswerError) as error:
            if len(span) == 1:
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
            attempt += 1
            started = time.monotonic()
            try:
                return self._request(span, min(self.timeout_seconds, budget.left), budget.left)
            except UnavailableError as trouble:
                budget.spend(time.monotonic() - started)
                pause = trouble.pause(attempt)
                if attempt >= trouble.most_attempts or pause >= budget.left:
                    asked = "asked once" if attempt == 1 else f"asked {attempt} times"
                    budget.trouble = type(trouble)(
                        f"{trouble.came} ({asked}, retry budget {self.retry_seconds:g} s)"
                    )
                    if isinstance(trouble, BlockedError) or trouble.retry_after:
                        budget.left = 0.0  # to ask for the next span would be not to wait
                    raise budget.trouble from trouble
                budget.spend(pause)
                time.sleep(pause)
        raise type(budget.trouble)(f"not asked for, as earlier days failed: {budget.trouble.came}")

    def _request(self, span: Sequence[date], timeout: float, longest: float) -> Answer:
        url = f"{self.base_url.rstrip('/')}/{self.language}/datos/demanda/demanda-tiempo-real"
        parameters = {
            "start_date": f"{span[0]}T00:00",
            "end_date": f"{span[-1]}T23:59",
            "time_trunc": "hour",
        }
        try:
            with self.session.get(
                url, params=parameters, timeout=timeout, stream=True, allow_redirects=False
            ) as response:
                body = _read_body(response, longest)
        except (requests.RequestException, urllib3.exceptions.HTTPError, OSError) as error:
            raise UnavailableError(f"no answer from {self.base_url}: {_reason(error)}") from error
        return _parse(response, body)


def split_days(answer: Answer, days: Sequence[date]) -> dict[date, Answer]:
    """Cut the answer of a span into one answer a day, without those that have no sample.

    Each keeps the span's header and every series, with the samples of that Madrid day only.
    """
    samples: dict[date, dict[int, list[Any]]] = {day: defaultdict(list) for day in days}
    for place, series in enumerate(answer["included"]):
        for sample in series["attributes"]["values"]:
            day = sample_time(sample).astimezone(MADRID).date()
            if day in samples:
                samples[day][place].append(sample)
    return {
        day: {
            **answer,
            "included": [
                {**series, "attributes": {**series["attributes"], "values": by_series[place]}}
                for place, series in enumerate(answer["included"])
            ],
        }
        for day, by_series in samples.items()
        if by_series
    }


def _per_day(
    outcome: Answer | REDataError, span: Sequence[date]
) -> dict[date, Answer | REDataError]:
    if isinstance(outcome, REDataError):
        return {day: outcome.of(day) for day in span}
    answers = split_days(outcome, span)
    absent = NoDataError("REData's answer holds no sample of this day")
    return {day: answers.get(day) or absent.of(day) for day in span}


def sample_time(sample: Mapping[str, Any]) -> datetime:
    """The instant of a sample, with the UTC offset that it came with."""
    return datetime.fromisoformat(sample["datetime"])


def check_shape(answer: Any, day: date | None = None) -> None:
    """Make sure of what every reader of an answer takes for granted.

    Raises:
        MalformedAnswerError: there are no series, a sample has no time, or its value is neither
            null nor a number that could be MW.
    """
    try:
        for series in answer["included"]:
            if not isinstance(series["id"], str | int):
                raise TypeError(f"{reprlib.repr(series['id'])} for an id")
            for sample in series["attributes"]["values"]:
                taken, value = sample_time(sample), sample.get("value")
                if taken.tzinfo is None or not 1970 < taken.year < 2200:
                    raise ValueError(f"{sample['datetime']} for a time")
                if value is not None and not (
                    type(value) in (int, float) and abs(value) <= LARGEST_MW
                ):
                    raise ValueError(f"{reprlib.repr(value)} where MW belong")
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MalformedAnswerError(
            "the answer is JSON of another shape than REData's"
            f" ({type(error).__name__}: {_excerpt(str(error))})",
            day,
        ) from error


def _check_real_series(answer: Answer, span: Sequence[date]) -> None:
    # One odd day makes the API leave the series out of the whole span; alone, the day can be told.
    if len(span) > 1 and REAL_DEMAND not in {str(series["id"]) for series in answer["included"]}:
        raise MalformedAnswerError("the answer has no series of measured demand")


def _read_body(response: requests.Response, longest: float) -> bytes:
    """The whole body, however it trickles, within a time and a size."""
    deadline = time.monotonic() + longest
    parts, size = [], 0
    # read1 hands over what has arrived; a read of a fixed size, or one that decodes, would wait
    # for slow bytes.
    while part := response.raw.read1(2**16, decode_content=False):
        parts.append(part)
        size += len(part)
        if size > LARGEST_ANSWER:
            raise MalformedAnswerError(f"the answer is larger than {LARGEST_ANSWER >> 20} MiB")
        if time.monotonic() > deadline:
            raise UnavailableError(f"the answer was still arriving after {longest:.0f} s")
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


def _parse(response: requests.Response, body: bytes) -> Answer:
    """The answer, or the error that the response stands for (a row of the API's failures each)."""
    text = body.decode("utf-8", "replace")
    try:
        document = json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        document = None
    errors = document.get("errors") if isinstance(document, dict) else None
    status, detail = response.status_code, ""
    if errors:
        status, detail = _read_errors(errors, status)
    elif status == 200:
        if document is not None:
            return document
        raise UnavailableError(f"a body that is no JSON came with status 200: {_excerpt(text)}")

    said = f"REData answered {status}" + (f" '{_excerpt(detail)}'" if detail else "")
    if "no data for the selected filters" in detail.lower():
        raise NoDataError(said)
    if status == 403:
        raise BlockedError(f"{said}: the bot guard blocks this client ({_excerpt(text)})")
    if status == 429 or status >= 500:
        raise UnavailableError(said, retry_after=_retry_after(response))
    if status in SPAN_REFUSED:
        raise RefusedError(said)
    if 300 <= status < 400:
        said += f", a redirect to {_excerpt(response.headers.get('Location', 'nowhere'))}"
    raise AddressError(said)


def _read_errors(errors: Any, status: int) -> tuple[int, str]:
    """Status and detail that an ``errors`` document names."""
    first = errors[0] if isinstance(errors, list) and errors else errors
    if not isinstance(first, Mapping):
        first = {"detail": first}
    try:
        named = int(first.get("status", first.get("code", status)))
    except (TypeError, ValueError, OverflowError):
        named = status
    # What calls itself an error is one, whatever its number says.
    status = next((number for number in (named, status) if 400 <= number < 600), 500)
    return status, str(first.get("detail") or first.get("title") or "")


def _retry_after(response: requests.Response) -> float | None:
    header = response.headers.get("Retry-After")
    if header is None:
        return None
    try:
        return max(0.0, urllib3.util.Retry().parse_retry_after(header))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return None


def _not_json(constant: str) -> NoReturn:
    raise MalformedAnswerError(f"the answer holds {constant} for a value")


def _reason(error: BaseException) -> str:
    """The innermost cause in one line; the layers above it repeat the URL and object addresses."""
    while True:
        inner = error.__cause__ or error.__context__ or getattr(error, "reason", None)
        if not isinstance(inner, BaseException):
            return f"{type(error).__name__}: {_excerpt(str(error))}"
        error = inner


def _excerpt(text: str) -> str:
    words = " ".join("".join(c if c.isprintable() else " " for c in text[:1000]).split())
    return words if len(words) <= 120 else words[:120] + "…"


def days_between(first: date, last: date) -> list[date]:
    """All days from first to last, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
