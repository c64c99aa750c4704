"""The API's HTTP side: what it answers, by which clock, and in which ways it can fail."""

import gzip
import json
import re
import socket
import struct
import sys
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from demand_assets.simulator.days import (
    A_DAY,
    FORECAST,
    MADRID,
    REAL,
    SCHEDULE,
    Day,
    Source,
    SyntheticDays,
    midnight,
)

# Measuring and publishing take time: the newest real sample on show is at least this old.
REAL_DELAY = timedelta(minutes=4)
# Long after the fact `last-update` says this much more than the last sample: 00:04 after 23:55.
SETTLED_DELAY = timedelta(minutes=9)

PATH = re.compile(r"/(en|es)/datos/demanda/demanda-tiempo-real")
TITLE = {"en": "Peninsular demand in real time", "es": "Demanda peninsular en tiempo real"}
SERIES = {
    REAL: {"en": "Real demand", "es": "Demanda real", "color": "#ffea00"},
    SCHEDULE: {"en": "Programmed demand", "es": "Demanda programada", "color": "#e90b0b"},
    FORECAST: {"en": "Forecast demand", "es": "Demanda prevista", "color": "#41d641"},
}


class Fault(StrEnum):
    """Ways to fail. Those before NO_DATA spoil the whole answer, the others a day's samples."""

    meaning: str

    def __new__(cls, name: str, meaning: str = "") -> Self:
        member = str.__new__(cls, name)
        member._value_ = name
        member.meaning = meaning
        return member

    OUTAGE = "outage", "502, a gateway's trouble: not the 502 that means 'no data'"
    ERROR_500 = "error-500", "500, the server failed"
    ERROR_503 = "error-503", "503, the server is busy"
    ERROR_504 = "error-504", "504, a gateway timed out"
    RESET = "reset", "the connection is reset"
    SILENCE = "silence", "the request is taken and never answered"
    THROTTLED = "throttled", "429 with Retry-After: 1"
    BLOCKED = "blocked", "403 with the bot guard's HTML page"
    HTML = "html", "200 with an HTML page"
    CUT_SHORT = "cut-short", "200, but the connection closes after half the body"
    ERROR_IN_200 = "error-in-200", "200 with an error 503 as JSON"
    REFUSED = "refused", "400, the parameters are refused"
    NO_DATA = "no-data", "nothing is there for the day"
    MISSING_SERIES = "missing-series", "the real series is absent from the whole answer"
    EMPTY_SERIES = "empty-series", "the real series has no samples of the day"
    DUPLICATES = "duplicates", "each real sample comes twice: first wrong (1 MW), then right"
    REORDERED = "reordered", "the series in another order, the day's samples backwards"
    SHORT = "short", "the real series ends at 14:05"
    NULLS = "nulls", "every third real value is null"
    ZEROS = "zeros", "every third real value is 0"
    NEGATIVE = "negative", "every third real value is -5"
    HUGE = "huge", "every third real value is 99999"
    NAN = "nan", "every third real value is NaN, which is not JSON"

    @property
    def spoils_all(self) -> bool:
        members = list(Fault)
        return members.index(self) < members.index(Fault.NO_DATA)


WRONG_VALUES = {
    Fault.NULLS: None,
    Fault.ZEROS: 0,
    Fault.NEGATIVE: -5,
    Fault.HUGE: 99_999,
    Fault.NAN: float("nan"),
}


def parse_fault(text: str) -> tuple[Fault, int | None]:
    """`name` or `name*N` to the fault and to how many requests meet it (None: all)."""
    name, star, times = text.partition("*")
    if name not in list(Fault) or (star and not (times.isdecimal() and int(times))):
        raise ValueError(f"unknown fault {text!r}; known, also as NAME*N: {', '.join(Fault)}")
    return Fault(name), int(times) if star else None


@dataclass
class Reply:
    """What goes out; `fault` says how the connection is mistreated on the way, if it is."""

    body: str
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    fault: Fault | None = None


def error(status: int, title: str, detail: str) -> Reply:
    """The API's way to say no."""
    problem = {"code": status, "status": str(status), "title": title, "detail": detail}
    return Reply(json.dumps({"errors": [problem]}), status)


def html(status: int, text: str) -> Reply:
    return Reply(f"<html><body><p>{text}</p></body></html>", status, "text/html")


TROUBLE = {
    Fault.OUTAGE: error(502, "Bad Gateway", "The upstream server cannot be reached."),
    Fault.ERROR_500: error(500, "Internal Server Error", "The request could not be completed."),
    Fault.ERROR_503: error(503, "Service Unavailable", "The service is busy."),
    Fault.ERROR_504: error(504, "Gateway Timeout", "The upstream server took too long."),
    Fault.THROTTLED: replace(
        error(429, "Too Many Requests", "Slow down."), headers={"Retry-After": "1"}
    ),
    Fault.BLOCKED: html(403, "Request unsuccessful. Incapsula incident ID: 0-0"),
    Fault.HTML: html(200, "One moment, please."),
    Fault.ERROR_IN_200: replace(
        error(503, "Service Unavailable", "The service is busy."), status=200
    ),
    Fault.REFUSED: error(400, "Bad Request", "The parameters are refused."),
    Fault.RESET: Reply("", fault=Fault.RESET),
    Fault.SILENCE: Reply("", fault=Fault.SILENCE),
}
NO_DATA = error(502, "Bad response from ESIOS", "There are no data for the selected filters.")


def spoil(fault: Fault, day: Day) -> Day:
    """A day's samples as a fault leaves them."""
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


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


class Simulator:
    """The look-alike: `with Simulator() as api:` listens at `api.url` until the block ends.

    `clock` tells the time (aware); `latency` and `latency_per_day` are seconds; spans of more than
    `max_days` are refused. `faults` names what goes wrong, by day ("YYYY-MM-DD", or "*" for every
    day without one of its own): a `Fault`, or "NAME*N" to heal after N requests. It may be changed
    at any time, and shows what is left. `requests` lists the spans asked for, refused ones too.
    """

    def __init__(
        self,
        source: Source | None = None,
        *,
        port: int = 0,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        latency: float = 0.0,
        latency_per_day: float = 0.0,
        max_days: int | None = None,
        faults: Mapping[str, str] | None = None,
        verbose: bool = False,
    ) -> None:
        self.source = source or SyntheticDays()
        self.port = port
        self.clock = clock
        self.latency = latency
        self.latency_per_day = latency_per_day
        self.max_days = max_days
        self.faults = dict(faults or {})
        self.verbose = verbose
        self.requests: list[tuple[date, date]] = []
        self.closing = threading.Event()
        self._lock = threading.Lock()
        self._server: _Server | None = None
        for key, text in self.faults.items():
            if not re.fullmatch(r"\*|\d{4}-\d\d-\d\d", key):
                raise ValueError(f"a fault is for a day (YYYY-MM-DD) or for *, not for {key!r}")
            parse_fault(text)

    def start(self) -> Self:
        """Listen on 127.0.0.1; OSError where the port cannot be had."""
        self._server = server = _Server(("127.0.0.1", self.port), partial(_Handler, self))
        self.closing.clear()
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def close(self) -> None:
        """Stop listening; requests still waiting for their answer are dropped."""
        self.closing.set()
        if self._server:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def url(self) -> str:
        if not self._server:
            raise RuntimeError("the simulator is not listening")
        return f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, target: str) -> Reply:
        """The reply to a request's path and query, after the latency that it is to have."""
        url = urlsplit(target)
        route = PATH.fullmatch(url.path)
        if not route:
            return error(404, "Not Found", f"There is nothing at {url.path}.")
        query = parse_qs(url.query)
        try:
            # The hour that October has twice belongs to a span as a whole: start early, end late.
            start, end = _moment(query, "start_date", fold=0), _moment(query, "end_date", fold=1)
            first, length = start.date(), (end.date() - start.date()).days + 1
            self.requests.append((first, end.date()))
            self.closing.wait(self.latency + self.latency_per_day * max(length, 0))
            if query.get("time_trunc") != ["hour"]:
                raise ValueError("time_trunc must be hour.")
            if end < start:
                raise ValueError("end_date must not be before start_date.")
            if self.max_days is not None and length > self.max_days:
                raise ValueError(
                    f"The span has {length} days, at most {self.max_days} are allowed."
                )
            days = [first + n * A_DAY for n in range(length)]
            met = self._meet_faults(days)
        except ValueError as problem:
            return error(400, "Bad Request", str(problem))
        spoiler = next((fault for fault in met.values() if fault.spoils_all), None)
        if spoiler and spoiler in TROUBLE:
            return TROUBLE[spoiler]
        reply = self._data(route[1], start.astimezone(UTC), end.astimezone(UTC), days, met)
        return replace(reply, fault=spoiler)

    def _meet_faults(self, days: list[date]) -> dict[date, Fault]:
        """The faults that a request for these days runs into; each counts as met once more."""
        with self._lock:
            faults = {key: parse_fault(text) for key, text in dict(self.faults).items()}
            keys = {day: key for day in days for key in ("*", str(day)) if key in faults}
            for day, key in keys.items():
                if faults[key][0].spoils_all:  # the request gets no further than this one
                    keys = {day: key}
                    break
            for key in set(keys.values()):
                fault, times = faults[key]
                if times == 1:
                    self.faults.pop(key, None)
                elif times:
                    self.faults[key] = f"{fault}*{times - 1}"
            return {day: faults[key][0] for day, key in keys.items()}

    def _data(
        self, lang: str, start: datetime, end: datetime, days: list[date], met: dict[date, Fault]
    ) -> Reply:
        """The samples between two instants, both included, as far as the clock allows."""
        now = self.clock().astimezone(UTC)
        today = now.astimezone(MADRID).date()
        ends = {REAL: min(end, now - REAL_DELAY), SCHEDULE: end, FORECAST: end}
        series: Day = {id_: [] for id_ in ends}
        updated = midnight(today)
        for day in days:
            fault = met.get(day)
            whole = self.source.day(day) if day <= today and fault != Fault.NO_DATA else None
            if not whole:
                continue
            cut: Day = {}
            for id_, last in ends.items():
                samples = whole.get(id_, [])
                low = bisect_left(samples, start, key=lambda sample: sample.at)
                cut[id_] = samples[low : bisect_right(samples, last, key=lambda sample: sample.at)]
            if cut[REAL]:
                newest = cut[REAL][-1].at
                settled = newest + SETTLED_DELAY
                updated = settled if settled <= now else newest + REAL_DELAY
            for id_, samples in (spoil(fault, cut) if fault else cut).items():
                series[id_] += samples
        if not any(series.values()):
            return NO_DATA
        if Fault.MISSING_SERIES in met.values():
            del series[REAL]
        if Fault.REORDERED in met.values():
            series = dict(reversed(series.items()))
        return Reply(_body(lang, updated, series))


def _moment(query: dict[str, list[str]], name: str, *, fold: int) -> datetime:
    """A parameter as Madrid's wall clock; ValueError where it is missing or malformed."""
    text = query.get(name, [""])[0]
    try:
        if len(text) != len("YYYY-MM-DDTHH:MM"):
            raise ValueError
        return datetime.strptime(text, "%Y-%m-%dT%H:%M").replace(tzinfo=MADRID, fold=fold)
    except ValueError:
        raise ValueError(f"{name} must be given as YYYY-MM-DDTHH:MM.") from None


def _body(lang: str, updated: datetime, series: Day) -> str:
    """The answer as JSON; each sample brings its own text, so only the frame is encoded here."""
    update = updated.astimezone(MADRID).isoformat(timespec="milliseconds")
    data = {
        "type": TITLE[lang],
        "id": "dem15",
        "attributes": {"title": TITLE[lang], "last-update": update, "description": None},
        "meta": {"cache-control": {"cache": "MISS"}},
    }
    included: list[str] = []
    for id_, samples in series.items():
        title = SERIES[id_][lang]
        attributes: dict[str, object] = {
            "title": title,
            "description": title,
            "color": SERIES[id_]["color"],
            "type": None,
            "magnitude": None,
            "composite": False,
            "last-update": update,
            "values": [],
        }
        frame = compact({"type": title, "id": id_, "groupId": None, "attributes": attributes})
        values = ",".join(sample.text for sample in samples)
        included.append(f"{frame.removesuffix(']}}')}{values}]}}}}")
    return f'{{"data":{compact(data)},"included":[{",".join(included)}]}}'


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients may leave when they like
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def __init__(self, simulator: Simulator, *args: Any) -> None:
        self.simulator = simulator
        super().__init__(*args)

    def do_GET(self) -> None:
        reply = self.simulator.answer(self.path)
        if reply.fault == Fault.SILENCE:
            self.simulator.closing.wait()
        if self.simulator.closing.is_set():
            self.close_connection = True
        elif reply.fault == Fault.RESET:
            self._reset()
        else:
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        body = reply.body.encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.kind)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        if "gzip" in self.headers.get("Accept-Encoding", ""):
            body = gzip.compress(body, compresslevel=1, mtime=0)
            self.send_header("Content-Encoding", "gzip")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if reply.fault == Fault.CUT_SHORT:
            body = body[: len(body) // 2]
            self.close_connection = True
        self.wfile.write(body)

    def _reset(self) -> None:
        # A socket that lingers for no time is closed with RST; the reader holds it open, too.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.rfile.close()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        if self.simulator.verbose:
            super().log_message(format, *args)
