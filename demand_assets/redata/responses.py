"""Responses of the API: an answer or a typed error, the samples of an answer, its single days.

What the API sends is read here and nowhere else. Requests and retries belong in `client`, what
samples mean belongs in `demand`.
"""

import json
import reprlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime
from typing import Any, NoReturn

import pandas as pd
import requests

from demand_assets.demand.samples import Samples, to_samples
from demand_assets.grid import SERIES, Series, local_date
from demand_assets.redata.errors import (
    AddressError,
    BlockedError,
    MalformedAnswerError,
    NoDataError,
    RefusedError,
    ThrottledError,
    UnavailableError,
)
from demand_assets.retry import retry_after

SPAN_REFUSED = (400, 413, 414, 422)
"""Statuses after which a shorter span may be accepted."""
LARGEST_MW = 1e9
"""Larger numbers are not MW at all. Implausible ones pass, as `demand.quality` checks them."""

Value = tuple[datetime, float | None]
Answer = dict[str, Any]
"""The API's JSON: ``data`` (a header) and ``included`` (the series, each with its samples)."""


def parse_response(response: requests.Response, body: bytes) -> Answer:
    """The answer in a response.

    Raises:
        REDataError: the class for what came instead, with the status and the detail that it names.
    """
    text = body.decode("utf-8", "replace")
    document: Answer | None
    try:
        document = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        document = None
    errors = document.get("errors") if isinstance(document, dict) else None
    status, detail = response.status_code, ""
    if errors:
        status, detail = _status_and_detail(errors, status)
    elif status == 200:
        if document is not None:
            return document
        raise UnavailableError(f"a body that is no JSON came with status 200: {excerpt(text)}")

    reason = f"REData answered {status}" + (f" '{excerpt(detail)}'" if detail else "")
    if "no data for the selected filters" in detail.lower():
        raise NoDataError(reason)
    if status == 403:
        raise BlockedError(f"{reason}: the bot guard blocks this client ({excerpt(text)})")
    if status == 429 or status >= 500:
        kind = ThrottledError if status == 429 else UnavailableError
        raise kind(reason, retry_after=retry_after(response.headers))
    if status in SPAN_REFUSED:
        raise RefusedError(reason)
    if 300 <= status < 400:
        reason += f", a redirect to {excerpt(response.headers.get('Location', 'nowhere'))}"
    raise AddressError(reason)


def _status_and_detail(errors: Any, status: int) -> tuple[int, str]:
    """What the ``errors`` of a response name; ``status`` is that of the response."""
    first = errors[0] if isinstance(errors, list) and errors else errors
    if not isinstance(first, Mapping):
        first = {"detail": first}
    try:
        named = int(first.get("status", first.get("code", status)))
    except (TypeError, ValueError, OverflowError):
        named = status
    # A document with `errors` is an error, whatever its number says.
    status = next((number for number in (named, status) if 400 <= number < 600), 500)
    return status, str(first.get("detail") or first.get("title") or "")


def _refuse_constant(constant: str) -> NoReturn:
    raise MalformedAnswerError(f"the answer holds {constant} for a value")


def check_shape(answer: Any, day: date | None = None) -> None:
    """Check the structure that every reader of an answer relies on.

    Of series that are not kept nothing but their id is looked at.

    Raises:
        MalformedAnswerError: there are no series, a sample has no time, or its value is neither
            null nor a number that could be MW.
    """
    _read_values(answer, day)


def read_samples(answer: Answer, day: date | None = None) -> Samples:
    """The samples of each series of the grid, by column; None if the answer lacks the series.

    Raises:
        MalformedAnswerError: the answer does not have the structure of REData's answers.
    """
    return {column: to_samples(values) for column, values in _read_values(answer, day).items()}


def read_series(answer: Answer, series: Series) -> pd.Series | None:
    """The samples of one series, in an answer whose structure was checked."""
    return to_samples(_values_of(answer, series))


def _read_values(answer: Any, day: date | None) -> dict[str, list[Value] | None]:
    try:
        for received in answer["included"]:
            if not isinstance(received["id"], str | int):
                raise TypeError(f"{reprlib.repr(received['id'])} for an id")
        return {series.column: _values_of(answer, series) for series in SERIES}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise MalformedAnswerError(
            "the answer is JSON of another shape than REData's"
            f" ({type(error).__name__}: {excerpt(str(error))})",
            day,
        ) from error


def _values_of(answer: Answer, series: Series) -> list[Value] | None:
    """The instants and values of a series, None if the answer lacks it.

    It is found by its id, as titles change with the language and the order may change. A series
    that comes in parts is joined. ``values`` that are null are no samples.
    """
    parts = [one for one in answer["included"] if str(one["id"]) == series.api_id]
    if not parts:
        return None
    return [_value(sample) for part in parts for sample in part["attributes"]["values"] or []]


def _value(sample: Mapping[str, Any]) -> Value:
    """The instant and the value of a sample, None for a null."""
    instant, value = _instant(sample), sample.get("value")
    if instant.tzinfo is None or not 1970 < instant.year < 2200:
        raise ValueError(f"{sample['datetime']} for a time")
    if value is not None and not (type(value) in (int, float) and abs(value) <= LARGEST_MW):
        raise ValueError(f"{reprlib.repr(value)} instead of MW")
    return instant, value


def _instant(sample: Mapping[str, Any]) -> datetime:
    return datetime.fromisoformat(sample["datetime"])


def last_update(answer: Answer) -> dict[str, str]:
    """When the operator last changed the data, as metadata ``last_update``; empty if unknown."""
    match answer.get("data"):
        case {"attributes": {"last-update": update}} if update:
            return {"last_update": str(update)}
    return {}


def split_days(answer: Answer, days: Sequence[date]) -> dict[date, Answer]:
    """The answer of a span as one answer for each day that has samples.

    Each keeps the header and every series of the span, with the samples of its Madrid day only.
    """
    received = [_received_samples(series) for series in answer["included"]]
    samples: dict[date, dict[int, list[Any]]] = {day: defaultdict(list) for day in days}
    for place, of_series in enumerate(received):
        for sample in of_series or ():
            day = _day_of(sample)
            if day in samples:
                samples[day][place].append(sample)
    return {
        day: {
            **answer,
            "included": [
                series
                if received[place] is None
                else {**series, "attributes": {**series["attributes"], "values": by_series[place]}}
                for place, series in enumerate(answer["included"])
            ],
        }
        for day, by_series in samples.items()
        if by_series
    }


def _received_samples(series: Mapping[str, Any]) -> list[Any] | None:
    """The samples of any series; None for one that is not kept and has another structure."""
    match series:
        case {"attributes": {"values": list(values)}}:
            return values
    return None


def _day_of(sample: Any) -> date | None:
    """The Madrid day of a sample; None for one of a series that is not kept, without a time."""
    match sample:
        case {"datetime": str()}:
            with suppress(ValueError, OverflowError):
                instant = _instant(sample)
                return local_date(instant) if instant.tzinfo else None
    return None


def excerpt(text: str) -> str:
    """The start of a text in one printable line."""
    words = " ".join("".join(c if c.isprintable() else " " for c in text[:1000]).split())
    return words if len(words) <= 120 else words[:120] + "…"
