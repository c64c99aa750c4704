"""The client against every way in which the API is known to fail, over real sockets."""

import gzip
import itertools
import json
import socketserver
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from math import log2
from pathlib import Path
from typing import Any, Self

import pytest
from dagster import materialize
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_assets.demand.days import days_between
from demand_assets.orchestration.assets.ingest import build_ingest_assets
from demand_assets.orchestration.io_managers import JSONAnswerIOManager
from demand_assets.orchestration.partitions import daily_partitions
from demand_assets.orchestration.resources import REDataResource
from demand_assets.redata import (
    AddressError,
    Answer,
    BlockedError,
    MalformedAnswerError,
    NoDataError,
    REDataClient,
    REDataError,
    RefusedError,
    UnavailableError,
)
from demand_assets.redata.client import USER_AGENT
from demand_assets.settings import Settings
from demand_assets.simulator import Fault, Simulator

DAY = date(2025, 3, 10)
MONTH = days_between(date(2025, 3, 1), date(2025, 3, 31))
PATIENCE = 20
"""Seconds that allow five pauses of the shortest kind (0.5, 1, 2, 4 and 7.5 s), and not a sixth,
however slow the machine is."""


def client(url: str, **options: Any) -> REDataClient:
    return REDataClient(url, **{"retry_seconds": PATIENCE, **options})


def answer_of(result: Answer | REDataError) -> Answer:
    assert not isinstance(result, REDataError), result
    return result


def error_of(url: str, day: date = DAY, **options: Any) -> REDataError:
    result = client(url, **options).fetch([day])[day]
    assert isinstance(result, REDataError)
    return result


def samples_of(answer: Answer | REDataError) -> dict[str, list[Any]]:
    return {s["id"]: s["attributes"]["values"] for s in answer_of(answer)["included"]}


@contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """Time is up: a slow machine gets some seconds more, which are fewer than it would take."""
    began = time.monotonic()
    yield
    assert time.monotonic() - began < seconds + 5


class Server(socketserver.ThreadingTCPServer):
    """Sends the n-th of some replies, byte for byte, to the n-th request; the last one for ever."""

    daemon_threads = True

    def __init__(self, *replies: bytes | Callable[[], Iterable[bytes]]) -> None:
        self.replies = replies
        self.requests: list[str] = []
        self.closing = threading.Event()
        super().__init__(("127.0.0.1", 0), Handler)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closing.set()
        self.shutdown()
        self.server_close()

    def trickle(self, *parts: bytes) -> Callable[[], Iterable[bytes]]:
        """The first part at once, the others byte by byte, with pauses."""

        def send() -> Iterator[bytes]:
            yield parts[0]
            for byte in itertools.chain(*parts[1:]):
                if self.closing.wait(0.05):
                    return
                yield bytes([byte])

        return send


class Handler(socketserver.StreamRequestHandler):
    server: Server

    def handle(self) -> None:
        request = b"".join(iter(self.rfile.readline, b"\r\n")).decode()
        number = len(self.server.requests)
        self.server.requests.append(request)
        reply = self.server.replies[min(number, len(self.server.replies) - 1)]
        with suppress(ConnectionError):  # a client may leave when it likes
            for part in [reply] if isinstance(reply, bytes) else reply():
                self.wfile.write(part)


def head(status: str = "200 OK", **headers: str | int) -> bytes:
    named = {"Connection": "close", **{k.replace("_", "-"): v for k, v in headers.items()}}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status}\r\n{lines}\r\n".encode()


def reply(body: bytes, status: str = "200 OK", **headers: str | int) -> bytes:
    return head(status, Content_Length=len(body), **headers) + body


def as_json(document: Any) -> bytes:
    return reply(json.dumps(document).encode())


def tiny_answer(*stamps: str) -> dict[str, Any]:
    values = [{"value": 25_000, "datetime": stamp} for stamp in stamps]
    return {"included": [{"id": "1293", "attributes": {"values": values}}]}


GOOD = tiny_answer("2025-03-10T00:00:00.000+01:00")


# A row of the table of failures each


once, again = False, True
FAILURES = {
    Fault.NO_DATA: (NoDataError, once, "REData answered 502 'There are no data for the selected"),
    Fault.OUTAGE: (UnavailableError, again, "REData answered 502 'The upstream server cannot"),
    Fault.ERROR_500: (UnavailableError, again, "REData answered 500 'The request could not"),
    Fault.ERROR_503: (UnavailableError, again, "REData answered 503 'The service is busy.'"),
    Fault.ERROR_504: (UnavailableError, again, "REData answered 504 'The upstream server took"),
    Fault.RESET: (UnavailableError, again, "no answer from http://127.0.0.1"),
    Fault.SILENCE: (UnavailableError, again, "no answer from http://127.0.0.1"),
    Fault.THROTTLED: (UnavailableError, again, "REData answered 429 'Slow down.'"),
    Fault.BLOCKED: (BlockedError, again, "REData answered 403: the bot guard blocks this client"),
    Fault.HTML: (UnavailableError, again, "a body that is no JSON came with status 200: <html>"),
    Fault.CUT_SHORT: (UnavailableError, again, "no answer from http://127.0.0.1"),
    Fault.ERROR_IN_200: (UnavailableError, again, "REData answered 503 'The service is busy.'"),
    Fault.REFUSED: (RefusedError, once, "REData answered 400 'The parameters are refused.'"),
    Fault.NAN: (MalformedAnswerError, once, "the answer holds NaN for a value"),
}
PASSING = [fault for fault, (kind, *_) in FAILURES.items() if issubclass(kind, UnavailableError)]
BAD_DAYS = [fault for fault in Fault if fault not in FAILURES]


@pytest.mark.parametrize(("fault", "expected"), FAILURES.items())
@pytest.mark.usefixtures("pauses")
def test_a_failure_is_a_typed_error_that_says_what_came_and_what_to_do(
    synthetic_api: Simulator, fault: Fault, expected: tuple[type[REDataError], bool, str]
) -> None:
    kind, tried_again, came = expected
    synthetic_api.faults["*"] = fault
    # Short where that is what the test waits for.
    error = error_of(synthetic_api.url, timeout_seconds=0.3 if fault == Fault.SILENCE else 30)
    assert type(error) is kind
    assert str(error).startswith(f"{DAY}: {came}")
    assert str(error).endswith(kind.advice)
    assert str(error).isprintable()  # in one line, too
    asked = len(synthetic_api.requests)
    assert (asked > 1) == tried_again
    assert (f"(asked {asked} times, retry budget 20 s)" in str(error)) == tried_again


@pytest.mark.parametrize("fault", PASSING)
def test_passing_trouble_heals(synthetic_api: Simulator, fault: Fault, pauses: list[float]) -> None:
    synthetic_api.faults["*"] = f"{fault}*1"
    timeout = 2 if fault == Fault.SILENCE else 30
    result = client(synthetic_api.url, timeout_seconds=timeout).fetch([DAY])[DAY]
    assert len(samples_of(result)["1293"]) == 288
    assert len(synthetic_api.requests) == 1 + len(pauses) == 2


@pytest.mark.parametrize("fault", BAD_DAYS)
def test_a_day_with_bad_samples_comes_as_received(synthetic_api: Simulator, fault: Fault) -> None:
    healthy = samples_of(client(synthetic_api.url).fetch([DAY])[DAY])
    synthetic_api.faults[str(DAY)] = fault
    samples = samples_of(client(synthetic_api.url).fetch([DAY])[DAY])
    assert samples != healthy or list(samples) != list(healthy)
    assert sorted(map(str, samples["545"])) == sorted(map(str, healthy["545"]))
    assert len(synthetic_api.requests) == 2


@pytest.mark.parametrize(
    "fault", [Fault.HTML, Fault.CUT_SHORT, Fault.ERROR_IN_200, Fault.NO_DATA, Fault.NAN]
)
def test_a_failure_that_looks_like_an_answer_is_never_stored(
    synthetic_api: Simulator, fault: Fault, tmp_path: Path
) -> None:
    synthetic_api.faults["*"] = fault
    result = materialize(
        build_ingest_assets(daily_partitions(date(2022, 1, 1)), Settings())[:1],
        partition_key=str(DAY),
        resources={
            "redata": REDataResource(base_url=synthetic_api.url, retry_seconds=0.2),
            "answer_files": JSONAnswerIOManager(base_dir=str(tmp_path)),
        },
        raise_on_error=False,
    )
    assert not result.success
    assert list(tmp_path.rglob("*")) == []


# Patience


def test_silence_ends_within_the_budget(synthetic_api: Simulator) -> None:
    synthetic_api.faults["*"] = Fault.SILENCE
    with at_most(0.5):
        error = error_of(synthetic_api.url, retry_seconds=0.5)
    assert isinstance(error, UnavailableError)
    assert "asked once" in str(error)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("prompt", ["the header", "nothing"])
def test_a_trickling_answer_ends_within_the_budget(encoding: str, prompt: str) -> None:
    body = json.dumps(GOOD).encode() * 100
    if encoding == "gzip":
        body = gzip.compress(body)
    with Server() as api:
        header = head(Content_Length=len(body), Content_Encoding=encoding)
        parts = (header, body) if prompt == "the header" else (b"", header, body)
        api.replies = (api.trickle(*parts),)
        with at_most(0.5):
            error = error_of(api.url, retry_seconds=0.5)
    assert isinstance(error, UnavailableError)
    assert "not done after 0.5 s" in str(error)


def test_retry_after_is_heeded(synthetic_api: Simulator) -> None:
    synthetic_api.faults["*"] = f"{Fault.THROTTLED}*1"  # with Retry-After: 1
    began = time.monotonic()
    answer_of(client(synthetic_api.url).fetch([DAY])[DAY])
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize(
    ("retry_after", "expected"),
    [
        ("7", [7]),
        ("0", [0.5]),
        ("soon", [0.5]),
        ("-1", [0.5]),
        ("Wed, 01 Jan 2020 00:00:00 GMT", [0.5]),
        ("Fri, 31 Dec 99999 23:59:59 GMT", [0.5]),
        ("9" * 5000, [0.5]),
        ("61", []),
        ("9" * 400, []),
        (format_datetime(datetime.now(UTC) + timedelta(days=1), usegmt=True), []),
    ],
    ids=lambda value: str(value)[:20],
)
def test_retry_after_comes_in_many_forms(
    pauses: list[float], retry_after: str, expected: list[float]
) -> None:
    throttled = reply(b"{}", "429 Too Many Requests", Retry_After=retry_after)
    with Server(throttled, as_json(GOOD)) as api:
        result = client(api.url, retry_seconds=60).fetch([DAY])[DAY]
        assert len(api.requests) == 1 + len(expected)
    assert pauses == expected
    assert isinstance(result, UnavailableError) == (not expected)


def test_pauses_grow_and_differ(synthetic_api: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    synthetic_api.faults["*"] = Fault.OUTAGE
    error_of(synthetic_api.url, retry_seconds=60)
    assert len(slept) >= 5
    assert sum(slept) <= 60
    for attempt, pause in enumerate(slept, start=1):
        longest = min(15, 0.5 * 2**attempt)
        assert longest / 2 <= pause <= longest
    again: list[float] = []
    monkeypatch.setattr("time.sleep", again.append)
    error_of(synthetic_api.url, retry_seconds=60)
    assert again != slept


def test_a_blocked_client_asks_seldom_and_then_no_more(
    synthetic_api: Simulator, pauses: list[float]
) -> None:
    synthetic_api.faults["*"] = Fault.BLOCKED
    days = days_between(date(2024, 1, 1), date(2024, 12, 31))
    results = client(synthetic_api.url, retry_seconds=600).fetch(days)
    assert len(synthetic_api.requests) == 3
    assert pauses == [10, 20]
    assert list(results) == days
    assert {type(result) for result in results.values()} == {BlockedError}
    assert str(results[days[-1]]).startswith("2024-12-31: not asked for, as earlier days failed: ")


def test_told_to_wait_longer_than_it_may_the_client_asks_no_more() -> None:
    busy = reply(b"", "503 Service Unavailable", Retry_After=3600)
    with Server(busy) as api:
        results = client(api.url, max_days_per_request=1).fetch(MONTH)
        assert len(api.requests) == 1
    assert {type(result) for result in results.values()} == {UnavailableError}


def test_the_budget_is_for_all_spans_together(synthetic_api: Simulator) -> None:
    synthetic_api.faults["*"] = Fault.SILENCE
    with at_most(0.6):
        results = client(synthetic_api.url, retry_seconds=0.6, max_days_per_request=1).fetch(MONTH)
    assert {type(result) for result in results.values()} == {UnavailableError}
    assert len(synthetic_api.requests) == 1


@pytest.mark.usefixtures("pauses")
def test_nobody_listening_is_passing_trouble() -> None:
    with Server() as api:
        url = api.url
    error = error_of(url)
    assert isinstance(error, UnavailableError)
    assert f"{DAY}: no answer from {url}: ConnectionRefusedError" in str(error)


# What else may stand at the address


def test_the_request_is_the_documented_one_with_an_honest_name() -> None:
    with Server(as_json(GOOD)) as api:
        answer_of(client(api.url + "/", language="es").fetch([DAY])[DAY])
        request = api.requests[0]
    assert request.startswith(
        "GET /es/datos/demanda/demanda-tiempo-real?start_date=2025-03-10T00%3A00"
        "&end_date=2025-03-10T23%3A59&time_trunc=hour HTTP/1.1"
    )
    assert f"User-Agent: {USER_AGENT}\r\n" in request
    assert "Accept-Encoding: gzip\r\n" in request  # a month is 3 MB


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect"])
def test_a_redirect_is_not_followed(status: str) -> None:
    with Server(as_json(GOOD)) as elsewhere, Server(b"") as api:
        api.replies = (reply(b"", status, Location=f"{elsewhere.url}/en/x"),)
        results = client(api.url).fetch(MONTH)
        assert len(api.requests) == 1  # no shorter span would help
        assert elsewhere.requests == []
    for day, result in results.items():
        assert isinstance(result, AddressError)
        assert str(result).startswith(f"{day}: REData answered {status[:3]}, a redirect to http")
        assert "REDATA_BASE_URL" in str(result)


@pytest.mark.parametrize("status", ["401 Unauthorized", "404 Not Found", "204 No Content"])
def test_what_is_not_the_api_is_asked_once(status: str) -> None:
    with Server(reply(b"", status)) as api:
        results = client(api.url).fetch(MONTH)
        assert len(api.requests) == 1
    assert {type(result) for result in results.values()} == {AddressError}


def test_an_oversized_answer_is_not_read_to_its_end() -> None:
    sent: list[bytes] = []

    def endless() -> Iterator[bytes]:
        yield head()
        while len(sent) < 200:
            sent.append(b" " * 2**20)
            yield sent[-1]

    with Server(endless) as api:
        error = error_of(api.url)
        assert len(api.requests) == 1
    assert isinstance(error, MalformedAnswerError)
    assert "larger than 64 MiB" in str(error)
    assert len(sent) < 100


def test_an_answer_that_unpacks_to_too_much_is_not_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("demand_assets.redata.client.LARGEST_ANSWER", 2**20)
    bomb = gzip.compress(b" " * 2**21 + json.dumps(GOOD).encode())
    with Server(reply(bomb, Content_Encoding="gzip")) as api:
        error = error_of(api.url)
    assert isinstance(error, MalformedAnswerError)
    assert "larger than 1 MiB" in str(error)


PACKED = gzip.compress(json.dumps(GOOD).encode())


@pytest.mark.parametrize("coding", ["gzip", "GZIP"])
def test_a_packed_answer_is_unpacked(coding: str) -> None:
    with Server(reply(PACKED, Content_Encoding=coding)) as api:
        assert client(api.url).fetch([DAY]) == {DAY: GOOD}


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize(
    "lie",
    [
        reply(json.dumps(GOOD).encode(), Content_Encoding="gzip"),
        reply(PACKED),
        reply(PACKED[:-30], Content_Encoding="gzip"),
        reply(PACKED[:-6] + b"\0" * 6, Content_Encoding="gzip"),
        reply(b"", Content_Encoding="gzip"),
        reply(PACKED, Content_Encoding="br"),
    ],
    ids=["not packed", "not told", "cut", "wrong sum", "empty", "another packing"],
)
def test_a_body_that_is_not_packed_as_it_says_is_passing_trouble(lie: bytes) -> None:
    with Server(lie) as api:
        error = error_of(api.url)
    assert isinstance(error, UnavailableError)
    assert str(error).isprintable()


@pytest.mark.parametrize(
    "document",
    [
        *([], {}, "text", 7, True, {"errors": []}, {"included": None}, {"included": [7]}),
        {"included": [{"id": "1293"}]},
        {"included": [{"id": ["1293"], "attributes": {"values": []}}]},
        {"included": [{"id": "1293", "attributes": {"values": [{"value": 1}]}}]},
        {"included": [{"id": "1293", "attributes": {"values": ["sample"]}}]},
        tiny_answer("yesterday"),
        tiny_answer("2025-03-10T00:00:00"),
        tiny_answer("0001-01-01T00:00:00+14:00"),
        json.loads(json.dumps(GOOD).replace("25000", '"25000"')),
        json.loads(json.dumps(GOOD).replace("25000", "true")),
        json.loads(json.dumps(GOOD).replace("25000", "1e999")),
        json.loads(json.dumps(GOOD).replace("25000", "9" * 400)),
    ],
    ids=lambda document: json.dumps(document)[:40],
)
def test_json_of_another_shape_is_malformed(document: Any) -> None:
    body = json.dumps(document).replace("Infinity", "1e999").encode()
    with Server(reply(body)) as api:
        error = error_of(api.url)
        assert len(api.requests) == 1
    assert isinstance(error, MalformedAnswerError)
    assert str(error).startswith(f"{DAY}: the answer is JSON of another shape than REData's")
    assert str(error).isprintable()


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize(
    "body",
    [b"", b"null", b"{", b"[" * 100_000, b"\xff\xfe\x00", b'{"included": [' + b"9" * 5000],
    ids=["empty", "null", "cut", "deep", "binary", "digits"],
)
def test_a_body_that_is_no_answer_at_all_is_passing_trouble(body: bytes) -> None:
    with Server(reply(body)) as api:
        error = error_of(api.url)
    assert isinstance(error, UnavailableError)
    assert str(error).isprintable()


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize(
    ("errors", "kind"),
    [
        ([{"status": "400", "detail": "Too long."}], RefusedError),
        ({"code": 400}, RefusedError),
        ([{"code": 403}], BlockedError),
        ([{"status": "502", "detail": "There are no data for the selected filters."}], NoDataError),
        ([{"status": "200"}], UnavailableError),
        ([{"status": "none"}], UnavailableError),
        ([{"status": None}], UnavailableError),
        ([{"status": 1e999, "detail": "Line\nfeed"}], UnavailableError),
        ("busy", UnavailableError),
        ([["busy"]], UnavailableError),
    ],
)
def test_an_error_in_a_200_is_the_error_that_it_names(errors: Any, kind: type[REDataError]) -> None:
    body = json.dumps({"errors": errors}).replace("Infinity", "1e999").encode()
    with Server(reply(body)) as api:
        error = error_of(api.url)
    assert type(error) is kind
    assert str(error).isprintable()


def test_an_answer_for_another_day_is_no_data() -> None:
    with Server(as_json(tiny_answer("2025-03-09T23:55:00.000+01:00"))) as api:
        error = error_of(api.url)
        assert len(api.requests) == 1
    assert isinstance(error, NoDataError)
    assert str(error).startswith(f"{DAY}: REData's answer holds no sample of this day")


def test_a_sample_belongs_to_madrids_day_whatever_its_offset() -> None:
    of_the_day = ["2025-03-09T23:00:00Z", "2025-03-11T04:59:00+06:00"]
    others = ["2025-03-09T22:59:00Z", "2025-03-10T23:00:00+00:00", "2025-03-10T04:59:00+06:00"]
    with Server(as_json(tiny_answer(*others, *of_the_day))) as api:
        result = client(api.url).fetch([DAY])[DAY]
    assert [sample["datetime"] for sample in samples_of(result)["1293"]] == of_the_day


json_documents = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["included", "id", "attributes", "values", "datetime", "errors"])
            | st.sampled_from(["status", "code", "detail"]),
            inner,
            max_size=4,
        )
    ),
)


@pytest.mark.usefixtures("pauses")
def test_any_json_is_an_answer_or_a_typed_error() -> None:
    with Server() as api:

        @settings(max_examples=150, deadline=None, derandomize=True)
        @given(document=json_documents, status=st.sampled_from(["200 OK", "400 Bad", "502 Bad"]))
        def fetch(document: Any, status: str) -> None:
            api.replies = (reply(json.dumps(document).encode(), status),)
            result = client(api.url).fetch([DAY])[DAY]
            assert isinstance(result, REDataError) or result["included"]

        fetch()


# Spans


@pytest.mark.parametrize(
    ("days", "longest", "spans"),
    [
        (31, 31, [31]),
        (32, 31, [31, 1]),
        (62, 31, [31, 31]),
        (31, 10, [10, 10, 10, 1]),
        (3, 1, [1, 1, 1]),
    ],
)
def test_days_are_asked_for_in_spans(
    synthetic_api: Simulator, days: int, longest: int, spans: list[int]
) -> None:
    asked = [DAY + timedelta(days=n) for n in range(days)]
    results = client(synthetic_api.url, max_days_per_request=longest).fetch(asked)
    assert list(results) == asked
    assert all(len(samples_of(result)["1293"]) >= 276 for result in results.values())
    assert lengths(synthetic_api) == spans
    assert [first for first, _ in synthetic_api.requests] == [
        asked[n] for n in itertools.accumulate([0, *spans[:-1]])
    ]


def lengths(api: Simulator) -> list[int]:
    return [(last - first).days + 1 for first, last in api.requests]


def test_a_refused_span_is_halved_and_the_length_that_works_is_kept(
    synthetic_api: Simulator,
) -> None:
    synthetic_api.max_days = 7
    asked = [DAY + timedelta(days=n) for n in range(62)]
    results = client(synthetic_api.url).fetch(asked)
    assert list(results) == asked
    assert all(len(samples_of(result)["1293"]) >= 276 for result in results.values())
    halving = [31, 16, 8, 4, 4, 8, 4, 4, 15, 8, 4, 4, 7]
    assert lengths(synthetic_api) == [*halving, 7, 7, 7, 7, 3]


def test_an_api_that_refuses_everything_is_asked_seldom_and_with_rests(
    synthetic_api: Simulator, pauses: list[float]
) -> None:
    synthetic_api.faults["*"] = Fault.REFUSED
    days = [MONTH[0] + timedelta(days=n) for n in range(5 * 31)]
    results = client(synthetic_api.url).fetch(days)
    assert list(results) == days
    assert {type(result) for result in results.values()} == {RefusedError}
    # The first span down to its days; the others once each.
    assert len(synthetic_api.requests) == 61 + 4
    assert pauses == [client("").politeness_seconds] * (len(synthetic_api.requests) - 1)


def test_a_month_that_is_refused_does_not_take_the_next_one_down(synthetic_api: Simulator) -> None:
    synthetic_api.faults = {str(day): Fault.REFUSED for day in MONTH}
    days = [MONTH[0] + timedelta(days=n) for n in range(62)]
    results = client(synthetic_api.url, politeness_seconds=0).fetch(days)
    assert [day for day in days if isinstance(results[day], REDataError)] == MONTH


def test_the_length_that_works_is_kept_also_where_there_are_no_data(
    synthetic_api: Simulator,
) -> None:
    synthetic_api.max_days = 8
    synthetic_api.faults["*"] = Fault.NO_DATA
    days = [MONTH[0] + timedelta(days=n) for n in range(47)]
    results = client(synthetic_api.url, politeness_seconds=0).fetch(days)
    assert {type(result) for result in results.values()} == {NoDataError}
    assert lengths(synthetic_api) == [31, 16, 8, 8, 15, 8, 7, 8, 8]


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.NAN, Fault.MISSING_SERIES])
@pytest.mark.parametrize("bad", [MONTH[0], MONTH[12], MONTH[-1]], ids=str)
def test_a_bad_day_fails_alone(synthetic_api: Simulator, fault: Fault, bad: date) -> None:
    synthetic_api.faults[str(bad)] = fault
    results = client(synthetic_api.url).fetch(MONTH)
    assert list(results) == MONTH
    for day, result in results.items():
        if day != bad:
            assert len(samples_of(result)["1293"]) >= 276
        elif fault == Fault.MISSING_SERIES:
            assert "1293" not in samples_of(result)  # for the hourly frame to tell
        else:
            assert type(result) is FAILURES[fault][0]
            assert str(result).startswith(f"{bad}: ")
    assert len(synthetic_api.requests) <= 1 + 2 * (1 + log2(len(MONTH)))


def test_a_malformed_day_fails_alone() -> None:
    """The simulator's samples are sound, so one of them is replaced on the way."""
    with Simulator() as source, Server() as api:

        def spoiled() -> Iterator[bytes]:
            body = source.answer(api.requests[-1].split()[1]).body
            stamp = '"datetime":"2025-03-10T12:00:00.000+01:00"'
            yield reply(body.replace(stamp, '"datetime":"noon"').encode())

        api.replies = (spoiled,)
        results = client(api.url).fetch(MONTH)
    assert [d for d, r in results.items() if isinstance(r, REDataError)] == [DAY]
    assert isinstance(results[DAY], MalformedAnswerError)
    assert "noon" in str(results[DAY])


def test_a_day_without_data_fails_alone_without_another_request(synthetic_api: Simulator) -> None:
    synthetic_api.faults[str(DAY)] = Fault.NO_DATA
    results = client(synthetic_api.url).fetch(MONTH)
    assert len(synthetic_api.requests) == 1
    assert [d for d, r in results.items() if isinstance(r, REDataError)] == [DAY]
    assert isinstance(results[DAY], NoDataError)
    assert str(results[DAY]).startswith(f"{DAY}: ")


@pytest.mark.usefixtures("pauses")
def test_trouble_with_a_span_is_told_of_each_of_its_days(synthetic_api: Simulator) -> None:
    synthetic_api.faults[str(DAY)] = Fault.ERROR_503
    days = [DAY + timedelta(days=n) for n in range(-3, 4)]
    results = client(synthetic_api.url, max_days_per_request=3).fetch(days)
    assert [isinstance(result, UnavailableError) for result in results.values()] == [
        *[False] * 3,
        *[True] * 3,
        False,
    ]
    assert all(str(results[day]).startswith(f"{day}: REData answered 503") for day in days[3:6])


@pytest.mark.parametrize("api_name", ["synthetic_api", "recorded_api"])
@pytest.mark.parametrize(
    ("first", "last"),
    [
        (date(2022, 3, 25), date(2022, 3, 29)),
        (date(2022, 5, 22), date(2022, 5, 24)),
        (date(2022, 10, 28), date(2022, 11, 1)),
    ],
)
def test_a_day_cut_from_a_span_equals_the_day_asked_for_alone(
    request: pytest.FixtureRequest, api_name: str, first: date, last: date
) -> None:
    api: Simulator = request.getfixturevalue(api_name)
    days = days_between(first, last)
    together = client(api.url).fetch(days)
    alone = {day: client(api.url).fetch([day])[day] for day in days}
    assert lengths(api) == [len(days), *[1] * len(days)]
    for day in days:
        samples = samples_of(together[day])
        assert samples == samples_of(alone[day])
        assert list(samples) == ["1293", "545", "544"]
        assert {s["datetime"][:10] for values in samples.values() for s in values} == {str(day)}


def test_today_in_a_span_stops_at_the_last_sample(synthetic_api: Simulator) -> None:
    synthetic_api.clock = lambda: datetime(2025, 3, 10, 13, 7, tzinfo=UTC)  # 14:07 in Madrid
    results = client(synthetic_api.url).fetch([DAY - timedelta(days=1), DAY])
    samples = samples_of(results[DAY])
    assert samples["1293"][-1]["datetime"].startswith("2025-03-10T14:00")
    assert samples["544"][-1]["datetime"].startswith("2025-03-10T23:55")
