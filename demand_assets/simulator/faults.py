"""The ways in which the simulator fails, and what each does to an answer or to a day's samples.

Which request meets which fault, and how a connection is broken, belongs in `server`.
"""

import json
import math
from dataclasses import dataclass, replace
from datetime import time
from enum import StrEnum
from typing import Self

from demand_assets.simulator.days import REAL, Day


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
    real = day[REAL]
    match fault:
        case Fault.EMPTY_SERIES:
            real = []
        case Fault.SHORT:
            real = [s for s in real if s.at.time() <= time(14, 5)]
        case Fault.DUPLICATES:
            real = [twin for s in real for twin in (replace(s, value=1), s)]
        case Fault.REORDERED:
            return {id_: samples[::-1] for id_, samples in day.items()}
        case _ if fault in WRONG_VALUES:
            wrong = WRONG_VALUES[fault]
            real = [replace(s, value=wrong) if n % 3 == 2 else s for n, s in enumerate(real)]
    return {**day, REAL: real}
