"""The ways in which the simulator fails, and what each does to an answer or to a day's samples.

Which request meets which fault, and how a connection is broken, belongs in `server`.
"""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import time, timedelta
from enum import StrEnum
from typing import Self

from demand_assets.simulator.days import FORECAST, REAL, SCHEDULE, Day, Sample


class Fault(StrEnum):
    """Failures by name. Those in `REPLIES` affect the whole answer, the others a day in it."""

    meaning: str

    def __new__(cls, name: str, meaning: str = "") -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning = meaning
        return member

    OUTAGE = "outage", "502, a gateway's failure: not the 502 that means 'no data'"
    ERROR_500 = "error-500", "500, the server failed"
    ERROR_503 = "error-503", "503, the server is busy"
    ERROR_504 = "error-504", "504, a gateway timed out"
    RESET = "reset", "the connection is reset"
    SILENCE = "silence", "the request is accepted and never answered"
    THROTTLED = "throttled", "429 with Retry-After: 1"
    BLOCKED = "blocked", "403 with the bot guard's HTML page"
    HTML = "html", "200 with an HTML page"
    CUT_SHORT = "cut-short", "200, but the connection closes after half the body"
    ERROR_IN_200 = "error-in-200", "200 with an error 503 as JSON"
    REFUSED = "refused", "400, the parameters are refused"
    NO_DATA = "no-data", "there are no data for the day"
    MISSING_SERIES = "missing-series", "the real series is missing from the whole answer"
    EMPTY_SERIES = "empty-series", "the real series has no samples of the day"
    DUPLICATES = "duplicates", "each real sample comes twice: first wrong (1 MW), then right"
    REORDERED = "reordered", "the series in another order, the day's samples backwards"
    SHORT = "short", "the real series ends at 14:05"
    NULLS = "nulls", "every third real value is null"
    ZEROS = "zeros", "every third real value is 0"
    NEGATIVE = "negative", "every third real value is -5"
    HUGE = "huge", "every third real value is 99999"
    NAN = "nan", "every third real value is NaN, which is not JSON"
    ENERGY = "energy", "the real series is energy of 15 minutes in MWh: a quarter of the MW"
    ENERGY_OF_ALL = "energy-of-all", "all series are energy of 15 minutes in MWh"
    HOURLY = "hourly", "all series have one sample per hour"
    FROZEN = "frozen", "the real value stays the same from 06:00 to 12:00"
    WILD = "wild", "one real value, at 05:00, is 54000"
    CONTRADICTORY = "contradictory", "the real samples of 04:00 to 04:55 come for 03:00 as well"
    AHEAD = "ahead", "the real series continues to the day's end with the forecast's values"
    BAD_SCHEDULE = "bad-schedule", "the values of the scheduled series are texts"
    FORECAST_OUTLIER = "forecast-outlier", "one forecast value, at 05:00, is 99999"
    FORECAST_NULLS = "forecast-nulls", "all forecast values are null"
    OUTLIER = "outlier", "one real value, at 05:00, is 99999"
    HALVES = "halves", "the real series comes twice, half of the samples in each"
    LATE = "late", "all real samples are stamped 3 minutes late"
    BLACKOUT = (
        "blackout",
        "demand falls by 40 % at 12:30, then to 10000 MW until evening",
    )


def parse_fault(text: str) -> tuple[Fault, int | None]:
    """`name` or `name*N` as the fault and the number of requests that meet it (None: all)."""
    name, star, times = text.partition("*")
    if name not in list(Fault) or (star and not (times.isdecimal() and int(times))):
        raise ValueError(f"unknown fault {text!r}; known, also as NAME*N: {', '.join(Fault)}")
    return Fault(name), int(times) if star else None


@dataclass(frozen=True)
class Reply:
    """What is sent; `fault` breaks the connection meanwhile."""

    body: str = ""
    status: int = 200
    content_type: str = "application/json"
    retry_after: int | None = None
    fault: Fault | None = None


def error(status: int, title: str, detail: str) -> Reply:
    """An error as the API describes it."""
    problem = {"code": status, "status": str(status), "title": title, "detail": detail}
    return Reply(json.dumps({"errors": [problem]}), status)


PAGE = "<html><body><p>{}</p></body></html>"
NO_DATA = error(502, "Bad response from ESIOS", "There are no data for the selected filters.")
BUSY = error(503, "Service Unavailable", "The service is busy.")
REPLIES: dict[Fault, Reply | None] = {
    Fault.OUTAGE: error(502, "Bad Gateway", "The upstream server cannot be reached."),
    Fault.ERROR_500: error(500, "Internal Server Error", "The request could not be completed."),
    Fault.ERROR_503: BUSY,
    Fault.ERROR_504: error(504, "Gateway Timeout", "The upstream server took too long."),
    Fault.THROTTLED: replace(error(429, "Too Many Requests", "Slow down."), retry_after=1),
    Fault.BLOCKED: Reply(PAGE.format("Incapsula incident ID: 0-0"), 403, "text/html"),
    Fault.HTML: Reply(PAGE.format("One moment, please."), 200, "text/html"),
    Fault.ERROR_IN_200: replace(BUSY, status=200),
    Fault.REFUSED: error(400, "Bad Request", "The parameters are refused."),
    Fault.RESET: Reply(),
    Fault.SILENCE: Reply(),
    Fault.CUT_SHORT: None,
}
"""What is sent instead of the data; None for the data."""

WRONG_VALUES = {
    Fault.NULLS: None,
    Fault.ZEROS: 0,
    Fault.NEGATIVE: -5,
    Fault.HUGE: 99_999,
    Fault.NAN: math.nan,
}


def damage(day: Day, fault: Fault | None) -> Day:
    """A day's samples with a fault."""
    if fault in DAMAGES:
        return {**day, **DAMAGES[fault](day)}
    if fault in WRONG_VALUES:
        wrong = WRONG_VALUES[fault]
        third = [replace(s, value=wrong) if n % 3 == 2 else s for n, s in enumerate(day[REAL])]
        return {**day, REAL: third}
    return day


def _energy(*ids: str) -> Callable[[Day], Day]:
    return lambda day: {
        id_: [replace(s, value=s.value / 4 if s.value else s.value) for s in day[id_]]
        for id_ in ids
    }


def _one_value(id_: str, value: float) -> Callable[[Day], Day]:
    """The sample at 05:00 has another value."""
    return lambda day: {
        id_: [replace(s, value=value) if s.at.time() == time(5) else s for s in day[id_]]
    }


def _frozen(day: Day) -> Day:
    samples = day[REAL]
    value = next((s.value for s in samples if s.at.time() >= time(6)), None)
    return {
        REAL: [replace(s, value=value) if 6 <= s.at.hour < 12 else s for s in samples],
    }


def _contradictory(day: Day) -> Day:
    samples = day[REAL]
    earlier = [replace(s, at=s.at - timedelta(hours=1)) for s in samples if s.at.hour == 4]
    return {REAL: earlier + samples}


def _ahead(day: Day) -> Day:
    measured = day[REAL]
    return {REAL: measured + [s for s in day[FORECAST] if not measured or s.at > measured[-1].at]}


def _blackout(day: Day) -> Day:
    """The hours after 12:30 as on 28 April 2025."""

    def value(sample: Sample) -> float | None:
        hours = sample.at.hour + sample.at.minute / 60 - 12.5
        if sample.value is None or hours < 0:
            return sample.value
        fallen = max(0.6 * sample.value - 12_000 * hours, 10_000)
        # A little noise, as a frozen value would be another fault.
        fallen += sample.value % 100
        returned = max(0.0, min(1.0, (hours - 5) / 6.5))
        return round(fallen + (sample.value - fallen) * returned)

    return {REAL: [replace(s, value=value(s)) for s in day[REAL]]}


DAMAGES: dict[Fault | None, Callable[[Day], Day]] = {
    Fault.EMPTY_SERIES: lambda day: {REAL: []},
    Fault.SHORT: lambda day: {REAL: [s for s in day[REAL] if s.at.time() <= time(14, 5)]},
    Fault.DUPLICATES: lambda day: {
        REAL: [twin for s in day[REAL] for twin in (replace(s, value=1), s)]
    },
    Fault.REORDERED: lambda day: {id_: samples[::-1] for id_, samples in day.items()},
    Fault.ENERGY: _energy(REAL),
    Fault.ENERGY_OF_ALL: _energy(REAL, SCHEDULE, FORECAST),
    Fault.HOURLY: lambda day: {
        id_: [s for s in samples if not s.at.minute] for id_, samples in day.items()
    },
    Fault.FROZEN: _frozen,
    Fault.WILD: _one_value(REAL, 54_000),
    Fault.CONTRADICTORY: _contradictory,
    Fault.AHEAD: _ahead,
    Fault.BAD_SCHEDULE: lambda day: {
        SCHEDULE: [replace(s, value="no data") for s in day[SCHEDULE]]  # type: ignore[arg-type]
    },
    Fault.FORECAST_OUTLIER: _one_value(FORECAST, 99_999),
    Fault.FORECAST_NULLS: lambda day: {FORECAST: [replace(s, value=None) for s in day[FORECAST]]},
    Fault.OUTLIER: _one_value(REAL, 99_999),
    Fault.LATE: lambda day: {REAL: [replace(s, at=s.at + timedelta(minutes=3)) for s in day[REAL]]},
    Fault.BLACKOUT: _blackout,
}
"""What faults do to the series of a day that they change."""
