"""The HTTP side: what is answered, by which clock, and which request meets which fault."""

import gzip
import json
import re
import socket
import struct
import sys
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

from demand_assets.grid import TIME_ZONE, local_date, start_of
from demand_assets.simulator.days import (
    FORECAST,
    REAL,
    SCHEDULE,
    Day,
    Sample,
    Source,
    SyntheticDays,
)
from demand_assets.simulator.faults import (
    NO_DATA,
    REPLIES,
    Fault,
    Reply,
    damage,
    error,
    parse_fault,
)

REAL_DELAY = timedelta(minutes=4)
"""Measuring and publishing take time: the newest real sample is at least this old."""
SETTLED_DELAY = timedelta(minutes=9)
"""In the end `last-update` is this much later than the last sample: 00:04 after 23:55."""

PATH = re.compile(r"/(en|es)/datos/demanda/demanda-tiempo-real")
TITLE = {"en": "Peninsular demand in real time", "es": "Demanda peninsular en tiempo real"}
SERIES = {
    REAL: {"en": "Real demand", "es": "Demanda real", "color": "#ffea00"},
    SCHEDULE: {"en": "Programmed demand", "es": "Demanda programada", "color": "#e90b0b"},
    FORECAST: {"en": "Forecast demand", "es": "Demanda prevista", "color": "#41d641"},
}


@dataclass(eq=False)
class Simulator:
    """A look-alike of the API: `with Simulator() as api:` listens at `api.url` on 127.0.0.1.

    `port` 0 takes a free one; `clock` returns the present (aware); `latency` and `latency_per_day`
    are seconds; spans of more than `max_days` meet the fault `too_long`, by default they are
    refused. `faults` has for a day ("YYYY-MM-DD", or
    "*" for every day without one of its own) a `Fault`, or "NAME*N" for the next N requests only;
    it may be changed at any time, and shows what is left. `requests` lists the spans that were
    requested, also the refused ones.
    """

    source: Source = field(default_factory=SyntheticDays)
    _: KW_ONLY
    port: int = 0
    clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    latency: float = 0.0
    latency_per_day: float = 0.0
    max_days: int | None = None
    too_long: Fault = Fault.REFUSED
    faults: dict[str, str] = field(default_factory=dict)
    verbose: bool = False
    url: str = field(default="", init=False)
    requests: list[tuple[date, date]] = field(default_factory=list, init=False)
    closing: threading.Event = field(default_factory=threading.Event, init=False)

    def __post_init__(self) -> None:
        self.faults = dict(self.faults)
        self._lock = threading.Lock()
        for key, text in self.faults.items():
            if not re.fullmatch(r"\*|\d{4}-\d\d-\d\d", key):
                raise ValueError(f"a fault is for a day (YYYY-MM-DD) or for *, not for {key!r}")
            parse_fault(text)

    def __enter__(self) -> Self:
        self._server = _Server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self.closing.clear()
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening; requests that still wait for their answer are dropped."""
        self.closing.set()
        self._server.shutdown()
        self._server.server_close()

    def answer(self, target: str) -> Reply:
        """The reply to a request's path and query, after the latency."""
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
            days = [first + timedelta(days=n) for n in range(length)]
            if self.max_days is None or length <= self.max_days:
                met = self._meet_faults(days)
            elif self.too_long == Fault.REFUSED:
                raise ValueError(
                    f"The span has {length} days, at most {self.max_days} are allowed."
                )
            else:
                met = dict.fromkeys(days, self.too_long)
        except ValueError as problem:
            return error(400, "Bad Request", str(problem))
        fault = next((fault for fault in met.values() if fault in REPLIES), None)
        reply = REPLIES[fault] if fault else None
        if not reply:
            reply = self._data(route[1], start.astimezone(UTC), end.astimezone(UTC), met)
        return replace(reply, fault=fault)

    def _meet_faults(self, days: list[date]) -> dict[date, Fault | None]:
        """The fault that a request for these days meets on each of them. Each is counted."""
        with self._lock:
            faults = {key: parse_fault(text) for key, text in dict(self.faults).items()}
            keys = {day: key for day in days for key in ("*", str(day)) if key in faults}
            for day, key in keys.items():
                if faults[key][0] in REPLIES:  # the request does not get as far as the others
                    keys = {day: key}
                    break
            for key in set(keys.values()):
                fault, times = faults[key]
                if times == 1:
                    self.faults.pop(key, None)
                elif times:
                    self.faults[key] = f"{fault}*{times - 1}"
            return {day: faults[keys[day]][0] if day in keys else None for day in days}

    def _data(
        self, language: str, start: datetime, end: datetime, days: dict[date, Fault | None]
    ) -> Reply:
        """The samples between two instants, both included, as far as the clock allows."""
        now = self.clock().astimezone(UTC)
        today = local_date(now)
        ends = {REAL: min(end, now - REAL_DELAY), SCHEDULE: end, FORECAST: end}
        series: Day = {id_: [] for id_ in ends}
        updated = start_of(today)
        for day, fault in days.items():
            whole = self.source.day(day) if day <= today and fault != Fault.NO_DATA else None
            if not whole:
                continue
            cut = {id_: _between(start, last, whole.get(id_, [])) for id_, last in ends.items()}
            if cut[REAL]:
                newest = cut[REAL][-1].at
                settled = newest + SETTLED_DELAY
                updated = settled if settled <= now else newest + REAL_DELAY
            for id_, samples in damage(cut, fault).items():
                series[id_] += samples
        if not any(series.values()):
            return NO_DATA
        if Fault.MISSING_SERIES in days.values():
            del series[REAL]
        if Fault.REORDERED in days.values():
            series = dict(reversed(series.items()))
        parts = list(series.items())
        if Fault.HALVES in days.values():
            parts = [half for part in parts for half in _halves(*part)]
        return Reply(_body(language, updated, parts))


def _halves(id_: str, samples: list[Sample]) -> list[tuple[str, list[Sample]]]:
    """The measured series in two parts, the later first; another series as it is."""
    middle = len(samples) // 2
    return [(id_, samples[middle:]), (id_, samples[:middle])] if id_ == REAL else [(id_, samples)]


def _moment(query: Mapping[str, list[str]], name: str, *, fold: int) -> datetime:
    """A parameter as Madrid's local time; ValueError if it is missing or malformed."""
    text = query.get(name, [""])[0]
    try:
        if len(text) != len("YYYY-MM-DDTHH:MM"):
            raise ValueError
        return datetime.strptime(text, "%Y-%m-%dT%H:%M").replace(tzinfo=TIME_ZONE, fold=fold)
    except ValueError:
        raise ValueError(f"{name} must be given as YYYY-MM-DDTHH:MM.") from None


def _between(start: datetime, end: datetime, samples: list[Sample]) -> list[Sample]:
    low = bisect_left(samples, start, key=lambda sample: sample.at)
    return samples[low : bisect_right(samples, end, key=lambda sample: sample.at)]


def _body(language: str, updated: datetime, series: list[tuple[str, list[Sample]]]) -> str:
    """The answer as JSON. The samples are JSON already, so only what surrounds them is encoded."""
    update = updated.astimezone(TIME_ZONE).isoformat(timespec="milliseconds")
    title = TITLE[language]
    data = {
        "type": title,
        "id": "dem15",
        "attributes": {"title": title, "last-update": update, "description": None},
        "meta": {"cache-control": {"cache": "MISS"}},
    }
    included: list[str] = []
    for id_, samples in series:
        title = SERIES[id_][language]
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
        one = json.dumps({"type": title, "id": id_, "groupId": None, "attributes": attributes})
        values = ",".join(sample.text for sample in samples)
        included.append(f"{one.removesuffix(']}}')}{values}]}}}}")
    return f'{{"data":{json.dumps(data)},"included":[{",".join(included)}]}}'


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, simulator: Simulator) -> None:
        self.simulator = simulator
        super().__init__(("127.0.0.1", simulator.port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):  # clients may leave at any time
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        closing = self.server.simulator.closing
        reply = self.server.simulator.answer(self.path)
        if reply.fault == Fault.SILENCE:
            closing.wait()
        if closing.is_set():
            self.close_connection = True
        elif reply.fault == Fault.RESET:
            self._reset()
        else:
            self._send(reply)

    def _send(self, reply: Reply) -> None:
        body = reply.body.encode()
        self.send_response(reply.status)
        self.send_header("Content-Type", reply.content_type)
        if reply.retry_after:
            self.send_header("Retry-After", str(reply.retry_after))
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
        # A socket that lingers for 0 s is closed with RST; the reader keeps it open as well.
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.rfile.close()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:
        if self.server.simulator.verbose:
            super().log_message(format, *args)
