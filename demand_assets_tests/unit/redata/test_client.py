"""The client's requests, retries and spans, over real sockets. What a response means is tested in
`test_responses`."""

import gzip
import itertools
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from math import log2

import pytest

from demand_assets import grid
from demand_assets.demand.days import days_between
from demand_assets.redata import (
    BlockedError,
    MalformedAnswerError,
    NoDataError,
    REDataError,
    RefusedError,
    UnansweredError,
    UnavailableError,
)
from demand_assets.redata.client import USER_AGENT
from demand_assets.simulator import Fault, Simulator
from demand_assets_tests.unit.redata.helpers import (
    DAY,
    GOOD,
    MONTH,
    ByteServer,
    answer_of,
    as_json,
    at_most,
    client,
    error_of,
    head,
    lengths,
    reply,
    samples_of,
    tiny_answer,
)

PACKED = gzip.compress(json.dumps(GOOD).encode())
TEMPORARY = [
    *(Fault.OUTAGE, Fault.ERROR_500, Fault.ERROR_503, Fault.ERROR_504, Fault.RESET, Fault.SILENCE),
    *(Fault.THROTTLED, Fault.BLOCKED, Fault.HTML, Fault.CUT_SHORT, Fault.ERROR_IN_200),
]

# Requests and bodies


def test_the_request_is_the_documented_one_with_an_honest_user_agent() -> None:
    with ByteServer(as_json(GOOD)) as api:
        answer_of(client(api.url + "/", language="es").fetch([DAY])[DAY])
        request = api.requests[0]
    assert request.startswith(
        "GET /es/datos/demanda/demanda-tiempo-real?start_date=2025-03-10T00%3A00"
        "&end_date=2025-03-10T23%3A59&time_trunc=hour HTTP/1.1"
    )
    assert f"User-Agent: {USER_AGENT}\r\n" in request
    assert "Accept-Encoding: gzip\r\n" in request  # a month is 3 MB


def test_an_oversized_answer_is_not_read_to_its_end() -> None:
    sent: list[bytes] = []

    def endless() -> Iterator[bytes]:
        yield head()
        while len(sent) < 200:
            sent.append(b" " * 2**20)
            yield sent[-1]

    with ByteServer(endless) as api:
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
    with ByteServer(reply(bomb, Content_Encoding="gzip")) as api:
        error = error_of(api.url)
    assert isinstance(error, MalformedAnswerError)
    assert "larger than 1 MiB" in str(error)


@pytest.mark.parametrize("coding", ["gzip", "GZIP"])
def test_a_packed_answer_is_unpacked(coding: str) -> None:
    with ByteServer(reply(PACKED, Content_Encoding=coding)) as api:
        assert client(api.url).fetch([DAY]) == {DAY: GOOD}


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize(
    "response",
    [
        reply(json.dumps(GOOD).encode(), Content_Encoding="gzip"),
        reply(PACKED),
        reply(PACKED[:-30], Content_Encoding="gzip"),
        reply(PACKED[:-6] + b"\0" * 6, Content_Encoding="gzip"),
        reply(b"", Content_Encoding="gzip"),
        reply(PACKED, Content_Encoding="br"),
    ],
    ids=["not packed", "not declared", "cut", "wrong checksum", "empty", "another encoding"],
)
def test_a_body_of_another_encoding_than_stated_is_retried(response: bytes) -> None:
    with ByteServer(response) as api:
        error = error_of(api.url)
    assert isinstance(error, UnavailableError)
    assert str(error).isprintable()


# Retries


@pytest.mark.parametrize("fault", TEMPORARY)
def test_a_temporary_failure_is_retried(
    synthetic_api: Simulator, fault: Fault, pauses: list[float]
) -> None:
    synthetic_api.faults["*"] = f"{fault}*1"
    timeout = 2 if fault == Fault.SILENCE else 30
    result = client(synthetic_api.url, timeout_seconds=timeout).fetch([DAY])[DAY]
    assert len(samples_of(result)["1293"]) == 288
    assert len(synthetic_api.requests) == 1 + len(pauses) == 2


def test_silence_ends_within_the_budget(synthetic_api: Simulator) -> None:
    synthetic_api.faults["*"] = Fault.SILENCE
    with at_most(0.5):
        error = error_of(synthetic_api.url, retry_seconds=0.5)
    assert isinstance(error, UnavailableError)
    assert "requested once, retry budget 0.5 s" in str(error)


@pytest.mark.parametrize("encoding", ["identity", "gzip"])
@pytest.mark.parametrize("prompt", ["headers", "nothing"])
def test_a_trickling_answer_ends_within_the_budget(encoding: str, prompt: str) -> None:
    body = json.dumps(GOOD).encode() * 100
    if encoding == "gzip":
        body = gzip.compress(body)
    headers = head(Content_Length=len(body), Content_Encoding=encoding)
    with ByteServer() as api:
        parts = (headers, body) if prompt == "headers" else (b"", headers + body)
        api.replies = (api.slowly(*parts, pause=0.2),)
        with at_most(0.5):
            error = error_of(api.url, retry_seconds=0.5)
    assert isinstance(error, UnavailableError)
    assert "not done after 0.5 s" in str(error)


def test_silence_after_the_headers_ends_within_the_budget() -> None:
    with ByteServer() as api:
        api.replies = (api.slowly(head(Content_Length=9), b" ", pause=60),)
        with at_most(0.5):
            error = error_of(api.url, retry_seconds=0.5)
    assert isinstance(error, UnavailableError)


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
    with ByteServer(throttled, as_json(GOOD)) as api:
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


def test_a_blocked_client_stops_after_three_requests(
    synthetic_api: Simulator, pauses: list[float]
) -> None:
    synthetic_api.faults["*"] = Fault.BLOCKED
    days = days_between(date(2024, 1, 1), date(2024, 12, 31))
    results = client(synthetic_api.url, retry_seconds=600).fetch(days)
    assert len(synthetic_api.requests) == 3
    assert pauses == [10, 20]
    assert list(results) == days
    assert {type(result) for result in results.values()} == {BlockedError}
    assert str(results[days[-1]]).startswith("2024-12-31: not requested, as earlier days failed: ")


def test_a_long_retry_after_ends_the_fetch() -> None:
    busy = reply(b"", "503 Service Unavailable", Retry_After=3600)
    with ByteServer(busy) as api:
        results = client(api.url, max_days_per_request=1).fetch(MONTH)
        assert len(api.requests) == 1
    assert {type(result) for result in results.values()} == {UnavailableError}


def test_the_budget_is_shared_by_all_spans(synthetic_api: Simulator) -> None:
    synthetic_api.faults["*"] = Fault.SILENCE
    with at_most(0.6):
        results = client(synthetic_api.url, retry_seconds=0.6, max_days_per_request=1).fetch(MONTH)
    assert {type(result) for result in results.values()} == {UnavailableError}
    assert len(synthetic_api.requests) == 1


@pytest.mark.usefixtures("pauses")
def test_a_refused_connection_is_retried() -> None:
    with ByteServer() as api:
        url = api.url
    error = error_of(url)
    assert isinstance(error, UnavailableError)
    assert f"{DAY}: no answer from {url}: ConnectionRefusedError" in str(error)


@pytest.mark.usefixtures("pauses")
def test_each_retry_is_one_log_line(
    synthetic_api: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    synthetic_api.faults["*"] = f"{Fault.ERROR_503}*2"
    client(synthetic_api.url).fetch([DAY])
    assert [line.partition(", at ")[0] for line in caplog.messages] == [
        f"Attempt {attempt} failed: {DAY}: REData answered 503 'The service is busy.'."
        f" The next attempt follows in {pause} s"
        for attempt, pause in ((1, 0.5), (2, 1.0))
    ]


@pytest.mark.usefixtures("pauses")
def test_the_error_counts_the_requests_of_its_own_span(synthetic_api: Simulator) -> None:
    synthetic_api.faults[str(DAY)] = Fault.BLOCKED
    days = [DAY - timedelta(days=1), DAY]
    results = client(synthetic_api.url, max_days_per_request=1, retry_seconds=60).fetch(days)
    assert "(requested 3 times, retry budget 60 s)" in str(results[DAY])


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
def test_days_are_requested_in_spans(
    synthetic_api: Simulator, days: int, longest: int, spans: list[int]
) -> None:
    requested = [DAY + timedelta(days=n) for n in range(days)]
    results = client(synthetic_api.url, max_days_per_request=longest).fetch(requested)
    assert list(results) == requested
    assert all(len(samples_of(result)["1293"]) >= 276 for result in results.values())
    assert lengths(synthetic_api) == spans
    assert [first for first, _ in synthetic_api.requests] == [
        requested[n] for n in itertools.accumulate([0, *spans[:-1]])
    ]


def test_a_refused_span_is_halved_and_the_accepted_length_is_kept(
    synthetic_api: Simulator,
) -> None:
    synthetic_api.max_days = 7
    requested = [DAY + timedelta(days=n) for n in range(62)]
    results = client(synthetic_api.url).fetch(requested)
    assert list(results) == requested
    assert all(len(samples_of(result)["1293"]) >= 276 for result in results.values())
    halving = [31, 16, 8, 4, 4, 8, 4, 4, 15, 8, 4, 4, 7]
    assert lengths(synthetic_api) == [*halving, 7, 7, 7, 7, 3]


def test_an_api_that_refuses_everything_gets_few_requests(synthetic_api: Simulator) -> None:
    synthetic_api.faults["*"] = Fault.REFUSED
    days = [MONTH[0] + timedelta(days=n) for n in range(5 * 31)]
    results = client(synthetic_api.url, politeness_seconds=0).fetch(days)
    assert list(results) == days
    assert {type(result) for result in results.values()} == {RefusedError}
    # The first span is halved down to its days; each other span is requested once.
    assert len(synthetic_api.requests) == 61 + 4


def test_a_refused_month_does_not_fail_the_next_one(synthetic_api: Simulator) -> None:
    synthetic_api.faults = {str(day): Fault.REFUSED for day in MONTH}
    days = [MONTH[0] + timedelta(days=n) for n in range(62)]
    results = client(synthetic_api.url, politeness_seconds=0).fetch(days)
    assert [day for day in days if isinstance(results[day], REDataError)] == MONTH


def test_the_accepted_length_is_kept_also_where_there_are_no_data(
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
            assert "1293" not in samples_of(result)  # the hourly frame decides about it
        else:
            assert isinstance(result, RefusedError | MalformedAnswerError)
            assert str(result).startswith(f"{bad}: ")
    assert len(synthetic_api.requests) <= 1 + 2 * (1 + log2(len(MONTH)))


def test_a_malformed_day_fails_alone() -> None:
    """One of the simulator's samples is replaced by a malformed one."""
    with Simulator() as source, ByteServer() as api:

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
@pytest.mark.parametrize("fault", [Fault.ERROR_504, Fault.CUT_SHORT])
@pytest.mark.parametrize(("first", "last"), [(0, 0), (4, 5), (0, 2), (9, 9)])
def test_days_that_are_never_answered_fail_alone(
    synthetic_api: Simulator, fault: Fault, first: int, last: int
) -> None:
    """An outage would fail the others as well."""
    days = [DAY + timedelta(days=n) for n in range(10)]
    bad = days[first : last + 1]
    synthetic_api.faults = {str(day): fault for day in bad}
    results = client(synthetic_api.url, max_days_per_request=3, politeness_seconds=0).fetch(days)
    assert [day for day, result in results.items() if isinstance(result, REDataError)] == bad
    if bad != days[-1:]:  # which is requested alone, and then looks like an outage
        assert {type(results[day]) for day in bad} == {UnansweredError}
    assert len(synthetic_api.requests) <= 4 + 10 * len(bad)


def test_halving_is_one_log_line_with_the_reason(
    synthetic_api: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    synthetic_api.max_days = 16
    client(synthetic_api.url).fetch(MONTH)
    line, *_ = caplog.messages
    assert line == (
        "2025-03-01 to 2025-03-31: REData answered 400 'The span has 31 days, at most 16 are"
        " allowed.'; requesting it in halves."
    )


@pytest.mark.parametrize("required", [grid.REAL_DEMAND, grid.FORECAST_DEMAND])
def test_a_span_without_a_required_series_is_halved(
    monkeypatch: pytest.MonkeyPatch, required: grid.Series
) -> None:
    series = [replace(one, required=one is required) for one in grid.SERIES]
    monkeypatch.setattr("demand_assets.redata.client.SERIES", series)
    days = [DAY, DAY + timedelta(days=1)]
    stamps = [f"{day}T00:00:00.000+01:00" for day in days]
    for missing in grid.SERIES:
        ids = [str(one.api_id) for one in grid.SERIES if one is not missing]
        with ByteServer(as_json(tiny_answer(*stamps, ids=ids))) as api:
            results = client(api.url).fetch(days)
            assert len(api.requests) == (3 if missing is required else 1)
        assert [list(samples_of(result)) for result in results.values()] == [ids, ids]
