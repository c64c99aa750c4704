"""What a response means: an answer or a typed error, and the answer of a span cut into days."""

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from demand_assets.demand.days import days_between
from demand_assets.redata import (
    AddressError,
    Answer,
    BlockedError,
    MalformedAnswerError,
    NoDataError,
    REDataError,
    RefusedError,
    ThrottledError,
    UnavailableError,
    read_samples,
)
from demand_assets.simulator import Fault, Simulator
from demand_assets_tests.unit.redata.helpers import (
    DAY,
    GOOD,
    MONTH,
    ByteServer,
    answer_of,
    as_json,
    client,
    error_of,
    reply,
    samples_of,
    tiny_answer,
)

once, again = False, True
FAILURES = {
    Fault.NO_DATA: (NoDataError, once, "REData answered 502 'There are no data for the selected"),
    Fault.OUTAGE: (UnavailableError, again, "REData answered 502 'The upstream server cannot"),
    Fault.ERROR_500: (UnavailableError, again, "REData answered 500 'The request could not"),
    Fault.ERROR_503: (UnavailableError, again, "REData answered 503 'The service is busy.'"),
    Fault.ERROR_504: (UnavailableError, again, "REData answered 504 'The upstream server took"),
    Fault.RESET: (UnavailableError, again, "no answer from http://127.0.0.1"),
    Fault.SILENCE: (UnavailableError, again, "no answer from http://127.0.0.1"),
    Fault.THROTTLED: (ThrottledError, again, "REData answered 429 'Slow down.'"),
    Fault.BLOCKED: (BlockedError, again, "REData answered 403: the bot guard blocks this client"),
    Fault.HTML: (UnavailableError, again, "a body that is no JSON came with status 200: <html>"),
    Fault.CUT_SHORT: (UnavailableError, again, "no answer from http://127.0.0.1"),
    Fault.ERROR_IN_200: (UnavailableError, again, "REData answered 503 'The service is busy.'"),
    Fault.REFUSED: (RefusedError, once, "REData answered 400 'The parameters are refused.'"),
    Fault.NAN: (MalformedAnswerError, once, "the answer holds NaN for a value"),
}
OF_EVERY_SERIES = (Fault.ENERGY_OF_ALL, Fault.HOURLY, Fault.BAD_SCHEDULE)
UNCHANGED = (Fault.AHEAD, Fault.HALVES)
"""The measured series of a past day is complete; parts of a series are seen by ``read_series``."""
BAD_DAYS = [fault for fault in Fault if fault not in (*FAILURES, *UNCHANGED)]


@pytest.mark.parametrize(("fault", "expected"), FAILURES.items())
@pytest.mark.usefixtures("pauses")
def test_a_failure_is_a_typed_error_with_reason_and_advice(
    synthetic_api: Simulator, fault: Fault, expected: tuple[type[REDataError], bool, str]
) -> None:
    kind, retried, reason = expected
    synthetic_api.faults["*"] = fault
    timeout = 0.3 if fault == Fault.SILENCE else 30  # the test waits for the end of a silence
    error = error_of(synthetic_api.url, timeout_seconds=timeout)
    assert type(error) is kind
    assert str(error).startswith(f"{DAY}: {reason}")
    assert str(error).endswith(kind.advice)
    assert str(error).isprintable()  # in one line, too
    requested = len(synthetic_api.requests)
    assert (requested > 1) == retried
    assert (f"(requested {requested} times, retry budget 20 s)" in str(error)) == retried


@pytest.mark.parametrize("fault", BAD_DAYS)
def test_bad_samples_are_returned_as_received(synthetic_api: Simulator, fault: Fault) -> None:
    healthy = samples_of(client(synthetic_api.url).fetch([DAY])[DAY])
    synthetic_api.faults[str(DAY)] = fault
    samples = samples_of(client(synthetic_api.url).fetch([DAY])[DAY])
    assert samples != healthy or list(samples) != list(healthy)
    if fault not in OF_EVERY_SERIES:
        assert sorted(map(str, samples["545"])) == sorted(map(str, healthy["545"]))
    assert len(synthetic_api.requests) == 2


def kept(answer: Any) -> dict[str, list[Any]]:
    return {column: list(s.items()) for column, s in read_samples(answer).items() if s is not None}


def schedule_of(answer: Answer) -> dict[str, Any]:
    return next(s for s in answer["included"] if s["id"] == "545")


@pytest.mark.parametrize(
    "trouble",
    [
        lambda answer: schedule_of(answer)["attributes"].update(values=None),
        lambda answer: schedule_of(answer)["attributes"].update(values="none"),
        lambda answer: schedule_of(answer)["attributes"].update(values=[None, 7, {"value": 1}]),
        lambda answer: schedule_of(answer)["attributes"]["values"][3].update(value="n/a"),
        lambda answer: schedule_of(answer)["attributes"]["values"][3].update(datetime="soon"),
        lambda answer: schedule_of(answer)["attributes"]["values"][3].update(datetime=None),
        lambda answer: schedule_of(answer).pop("attributes"),
        lambda answer: answer["included"].append({"id": "99"}),
        lambda answer: answer["included"].append({"id": "99", "attributes": {"values": None}}),
        lambda answer: answer["included"].insert(0, {"id": 7, "attributes": None}),
    ],
)
@pytest.mark.parametrize("days", [[DAY], MONTH])
def test_trouble_in_a_series_that_is_not_kept_does_no_harm(
    synthetic_api: Simulator, trouble: Callable[[Answer], Any], days: list[date]
) -> None:
    healthy = client(synthetic_api.url).fetch(days)
    span = f"start_date={days[0]}T00:00&end_date={days[-1]}T23:59&time_trunc=hour"
    target = f"/en/datos/demanda/demanda-tiempo-real?{span}"
    answer = json.loads(synthetic_api.answer(target).body)
    trouble(answer)
    with ByteServer(as_json(answer)) as api:
        results = client(api.url, max_days_per_request=31).fetch(days)
    for day in days:
        assert kept(results[day]) == kept(healthy[day])


def test_a_series_that_comes_in_parts_is_joined(synthetic_api: Simulator) -> None:
    whole = answer_of(client(synthetic_api.url).fetch([DAY])[DAY])
    synthetic_api.faults["*"] = "halves"
    halves = answer_of(client(synthetic_api.url).fetch(MONTH)[DAY])
    assert len(halves["included"]) == 4
    assert kept(halves) == kept(whole)
    empty = {**halves["included"][0], "attributes": {"values": None}}
    assert kept({"included": [empty, *halves["included"], *whole["included"]]}) == kept(whole)


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect"])
def test_a_redirect_is_not_followed(status: str) -> None:
    with ByteServer(as_json(GOOD)) as elsewhere, ByteServer(b"") as api:
        api.replies = (reply(b"", status, Location=f"{elsewhere.url}/en/x"),)
        results = client(api.url).fetch(MONTH)
        assert len(api.requests) == 1  # no shorter span would help
        assert elsewhere.requests == []
    for day, result in results.items():
        assert isinstance(result, AddressError)
        assert str(result).startswith(f"{day}: REData answered {status[:3]}, a redirect to http")
        assert "REDATA_BASE_URL" in str(result)


@pytest.mark.parametrize("status", ["401 Unauthorized", "404 Not Found", "204 No Content"])
def test_a_server_that_is_not_the_api_gets_one_request(status: str) -> None:
    with ByteServer(reply(b"", status)) as api:
        results = client(api.url).fetch(MONTH)
        assert len(api.requests) == 1
    assert {type(result) for result in results.values()} == {AddressError}


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
    with ByteServer(reply(body)) as api:
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
def test_a_body_that_is_not_json_is_retried(body: bytes) -> None:
    with ByteServer(reply(body)) as api:
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
    with ByteServer(reply(body)) as api:
        error = error_of(api.url)
    assert type(error) is kind
    assert str(error).isprintable()


def test_an_answer_for_another_day_is_no_data() -> None:
    with ByteServer(as_json(tiny_answer("2025-03-09T23:55:00.000+01:00"))) as api:
        error = error_of(api.url)
        assert len(api.requests) == 1
    assert isinstance(error, NoDataError)
    assert str(error).startswith(f"{DAY}: REData's answer holds no sample of this day")


def test_a_sample_belongs_to_its_madrid_day_whatever_its_offset() -> None:
    of_the_day = ["2025-03-09T23:00:00Z", "2025-03-11T04:59:00+06:00"]
    others = ["2025-03-09T22:59:00Z", "2025-03-10T23:00:00+00:00", "2025-03-10T04:59:00+06:00"]
    with ByteServer(as_json(tiny_answer(*others, *of_the_day))) as api:
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
    with ByteServer() as api:

        @settings(max_examples=150, deadline=None, derandomize=True)
        @given(document=json_documents, status=st.sampled_from(["200 OK", "400 Bad", "502 Bad"]))
        def fetch(document: Any, status: str) -> None:
            api.replies = (reply(json.dumps(document).encode(), status),)
            result = client(api.url).fetch([DAY])[DAY]
            assert isinstance(result, REDataError) or result["included"]

        fetch()


@pytest.mark.parametrize("api_name", ["synthetic_api", "recorded_api"])
@pytest.mark.parametrize(
    ("first", "last"),
    [
        (date(2022, 3, 25), date(2022, 3, 29)),
        (date(2022, 5, 22), date(2022, 5, 24)),
        (date(2022, 10, 28), date(2022, 11, 1)),
    ],
)
def test_a_day_of_a_span_equals_the_day_requested_alone(
    request: pytest.FixtureRequest, api_name: str, first: date, last: date
) -> None:
    api: Simulator = request.getfixturevalue(api_name)
    days = days_between(first, last)
    together = client(api.url).fetch(days)
    alone = {day: client(api.url).fetch([day])[day] for day in days}
    assert api.requests == [(first, last), *((day, day) for day in days)]
    for day in days:
        samples = samples_of(together[day])
        assert samples == samples_of(alone[day])
        assert list(samples) == ["1293", "545", "544"]
        assert {s["datetime"][:10] for values in samples.values() for s in values} == {str(day)}


def test_today_in_a_span_ends_at_the_last_sample(synthetic_api: Simulator) -> None:
    synthetic_api.clock = lambda: datetime(2025, 3, 10, 13, 7, tzinfo=UTC)  # 14:07 in Madrid
    results = client(synthetic_api.url).fetch([DAY - timedelta(days=1), DAY])
    samples = samples_of(results[DAY])
    assert samples["1293"][-1]["datetime"].startswith("2025-03-10T14:00")
    assert samples["544"][-1]["datetime"].startswith("2025-03-10T23:55")
