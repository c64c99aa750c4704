"""REData's answers: told from what is none, and cut into days."""

import json
import reprlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Any, NoReturn

import requests

from demand_assets.demand.samples import Samples, to_samples
from demand_assets.grid import SERIES, local_date
from demand_assets.redata.errors import (
    AddressError,
    BlockedError,
    MalformedAnswerError,
    NoDataError,
    RefusedError,
    UnavailableError,
)
from demand_assets.retry import retry_after

SPAN_REFUSED = (400, 413, 414, 422)
"""Statuses after which a shorter span may be accepted."""

LARGEST_MW = 1e9
"""Where numbers cease to be MW at all. What is merely implausible passes, for checks to judge."""

Answer = dict[str, Any]
"""The API's JSON: ``data`` (a header) and ``included`` (the series, each with its samples)."""


def parse_response(response: requests.Response, body: bytes) -> Answer:
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
        raise UnavailableError(f"a body that is no JSON came with status 200: {excerpt(text)}")

    said = f"REData answered {status}" + (f" '{excerpt(detail)}'" if detail else "")
    if "no data for the selected filters" in detail.lower():
        raise NoDataError(said)
    if status == 403:
        raise BlockedError(f"{said}: the bot guard blocks this client ({excerpt(text)})")
    if status == 429 or status >= 500:
        raise UnavailableError(said, retry_after=retry_after(response.headers))
    if status in SPAN_REFUSED:
        raise RefusedError(said)
    if 300 <= status < 400:
        said += f", a redirect to {excerpt(response.headers.get('Location', 'nowhere'))}"
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


def _not_json(constant: str) -> NoReturn:
    raise MalformedAnswerError(f"the answer holds {constant} for a value")


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
            f" ({type(error).__name__}: {excerpt(str(error))})",
            day,
        ) from error


def read_samples(answer: Answer, day: date | None = None) -> Samples:
    """The samples of each series of the grid, by column; None where the answer lacks the series.

    Series are found by their id, as titles change with the language and the order changes at will.

    Raises:
        MalformedAnswerError: the answer is not of the structure that REData answers with.
    """
    check_shape(answer, day)
    values = {
        # Of a series that comes twice, the first one counts.
        str(series["id"]): series["attributes"]["values"]
        for series in reversed(answer["included"])
    }
    return {
        series.column: to_samples(_instants_and_values(values.get(str(series.api_id))))
        for series in SERIES
    }


def _instants_and_values(
    samples: Sequence[Mapping[str, Any]] | None,
) -> list[tuple[datetime, float | None]] | None:
    if samples is None:
        return None
    return [(sample_time(sample), sample.get("value")) for sample in samples]


def last_update(answer: Answer) -> dict[str, str]:
    """When the operator last changed the data, as metadata ``last_update``; empty if unknown."""
    match answer.get("data"):
        case {"attributes": {"last-update": update}} if update:
            return {"last_update": str(update)}
    return {}


def split_days(answer: Answer, days: Sequence[date]) -> dict[date, Answer]:
    """Cut the answer of a span into one answer a day, without those that have no sample.

    Each keeps the span's header and every series, with the samples of that Madrid day only.
    """
    samples: dict[date, dict[int, list[Any]]] = {day: defaultdict(list) for day in days}
    for place, series in enumerate(answer["included"]):
        for sample in series["attributes"]["values"]:
            day = local_date(sample_time(sample))
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


def excerpt(text: str) -> str:
    words = " ".join("".join(c if c.isprintable() else " " for c in text[:1000]).split())
    return words if len(words) <= 120 else words[:120] + "…"
