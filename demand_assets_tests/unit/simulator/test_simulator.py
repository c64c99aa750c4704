"""The simulator answers and fails as the API does, over real sockets and with a fixed clock."""

import gzip
import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import requests

from demand_assets.grid import TIME_ZONE
from demand_assets.simulator import Fault, RecordedDays, Simulator, SyntheticDays

NOW = datetime(2025, 3, 12, 10, 2, tzinfo=UTC)  # 11:02 in Madrid
A_DAY = "2025-03-10"


def clock_at(text: str) -> Callable[[], datetime]:
    """A clock that always shows the given local time of Madrid."""
    moment = datetime.fromisoformat(text).replace(tzinfo=TIME_ZONE)
    return lambda: moment


def simulator(**options: Any) -> Simulator:
    return Simulator(**{"clock": lambda: NOW, **options})


def get(
    api: Simulator, start: str, end: str = "", *, lang: str = "en", trunc: str = "hour"
) -> requests.Response:
    """Request a day, or the span from one day (or minute) to another."""
    start, end = (
        text if "T" in text else text + clock
        for text, clock in ((start, "T00:00"), (end or start, "T23:59"))
    )
    return requests.get(
        f"{api.url}/{lang}/datos/demanda/demanda-tiempo-real",
        params={"start_date": start, "end_date": end, "time_trunc": trunc},
        timeout=60,
    )


def series(response: requests.Response) -> dict[str, list[dict[str, Any]]]:
    """Series id to its samples, in the order of the answer."""
    assert response.status_code == 200, response.text
    return {one["id"]: one["attributes"]["values"] for one in response.json()["included"]}


def real(response: requests.Response) -> list[Any]:
    return [sample["value"] for sample in series(response)["1293"]]


def times(samples: list[dict[str, Any]]) -> list[str]:
    """The local times, HH:MM, of samples."""
    return [sample["datetime"][11:16] for sample in samples]


def problem(response: requests.Response) -> dict[str, Any]:
    (only,) = response.json()["errors"]
    assert (only["code"], only["status"]) == (response.status_code, str(response.status_code))
    return only


# The answer


@pytest.mark.parametrize(
    ("day", "count"),
    [
        ("2021-06-01", 144),
        ("2022-03-27", 138),
        ("2021-10-31", 150),
        ("2022-05-22", 144),
        ("2022-05-23", 162),
        ("2022-05-24", 288),
        ("2023-03-26", 276),
        ("2022-10-30", 300),
    ],
)
def test_a_day_has_as_many_samples_as_in_the_api(day: str, count: int) -> None:
    with simulator() as api:
        got = series(get(api, day))
    assert list(got) == ["1293", "545", "544"]
    for samples in got.values():
        instants = [datetime.fromisoformat(sample["datetime"]) for sample in samples]
        assert len(instants) == count
        assert all(a.timestamp() < b.timestamp() for a, b in pairwise(instants))
        assert {at.date() for at in instants} == {date.fromisoformat(day)}
        assert all(at.utcoffset() == at.astimezone(TIME_ZONE).utcoffset() for at in instants)


@pytest.mark.parametrize(
    ("lang", "title", "titles"),
    [
        (
            "en",
            "Peninsular demand in real time",
            ["Real demand", "Programmed demand", "Forecast demand"],
        ),
        (
            "es",
            "Demanda peninsular en tiempo real",
            ["Demanda real", "Demanda programada", "Demanda prevista"],
        ),
    ],
)
def test_the_language_changes_the_titles_only(lang: str, title: str, titles: list[str]) -> None:
    with simulator() as api:
        answer = get(api, A_DAY, lang=lang).json()
        assert series(get(api, A_DAY, lang="en")) == series(get(api, A_DAY, lang="es"))
    assert answer["data"]["type"] == answer["data"]["attributes"]["title"] == title
    assert answer["data"]["id"] == "dem15"
    assert [one["type"] for one in answer["included"]] == titles
    assert [one["attributes"]["title"] for one in answer["included"]] == titles
    assert answer["data"]["attributes"]["last-update"] == "2025-03-11T00:04:00.000+01:00"


def test_a_span_is_cut_to_the_minute_with_both_ends_included() -> None:
    with simulator() as api:
        got = series(get(api, "2025-03-09T23:50", "2025-03-10T00:10"))
        assert times(got["1293"]) == ["23:50", "23:55", "00:00", "00:05", "00:10"]
        assert times(series(get(api, "2025-03-10T00:01", "2025-03-10T00:09"))["544"]) == ["00:05"]


def test_the_repeated_hour_of_october_is_returned_twice() -> None:
    with simulator() as api:
        got = series(get(api, "2024-10-27T02:00", "2024-10-27T02:59"))["1293"]
    assert [sample["datetime"][-6:] for sample in got] == ["+02:00"] * 12 + ["+01:00"] * 12


def test_a_span_has_the_samples_of_its_days() -> None:
    with simulator() as api:
        alone = [one for n in (7, 8, 9) for one in series(get(api, f"2025-03-0{n}"))["1293"]]
        assert series(get(api, "2025-03-07", "2025-03-09"))["1293"] == alone


def test_answers_are_compressed_only_for_clients_that_accept_it() -> None:
    with simulator() as api:
        first = get(api, A_DAY)
        plain = requests.get(first.url, headers={"Accept-Encoding": "identity"}, timeout=60)
    assert first.headers["Content-Encoding"] == "gzip"
    assert "Content-Encoding" not in plain.headers
    assert first.content == plain.content


# Refusals


def test_another_path_is_404() -> None:
    with simulator() as api:
        for path in ("/", "/fr/datos/demanda/demanda-tiempo-real", "/en/datos/demanda/evolucion"):
            assert problem(requests.get(api.url + path, timeout=60))["code"] == 404


def test_bad_parameters_are_400_and_the_detail_names_them() -> None:
    with simulator() as api:
        assert "time_trunc" in problem(get(api, A_DAY, trunc="day"))["detail"]
        assert "start_date" in problem(get(api, "2025-3-1", A_DAY))["detail"]
        assert "end_date" in problem(get(api, A_DAY, "2025-02-30"))["detail"]
        assert "end_date" in problem(get(api, A_DAY, "2025-03-09"))["detail"]
        missing = requests.get(get(api, A_DAY).url.split("?")[0], timeout=60)
        assert "start_date" in problem(missing)["detail"]


@pytest.mark.parametrize("day", ["2020-12-31", "2025-03-13", "2030-01-01"])
def test_no_data_is_the_502_of_the_api(day: str) -> None:
    with simulator() as api:
        response = get(api, day)
    assert response.status_code == 502
    assert response.json() == {
        "errors": [
            {
                "code": 502,
                "status": "502",
                "title": "Bad response from ESIOS",
                "detail": "There are no data for the selected filters.",
            }
        ]
    }


def test_spans_longer_than_max_days_are_refused_and_the_detail_says_so() -> None:
    with simulator(max_days=31) as api:
        assert len(real(get(api, "2024-01-01", "2024-01-31"))) == 31 * 288
        response = get(api, "2024-01-01", "2024-02-01")
        assert response.status_code == 400
        assert "32 days" in problem(response)["detail"]


def test_requested_spans_are_listed_even_if_refused() -> None:
    with simulator(max_days=2, faults={A_DAY: "outage"}) as api:
        get(api, A_DAY)
        get(api, "2025-03-01", "2025-03-09")
        assert api.requests == [
            (date(2025, 3, 10), date(2025, 3, 10)),
            (date(2025, 3, 1), date(2025, 3, 9)),
        ]


# Synthetic days


def test_a_date_always_has_the_same_values() -> None:
    script = "from demand_assets.simulator import SyntheticDays; from datetime import date; "
    script += "print([s.value for s in SyntheticDays().day(date(2025, 3, 10))['1293']])"
    fresh = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    with simulator() as api:
        get(api, "2025-02-01", "2025-02-28")
        assert real(get(api, A_DAY)) == json.loads(fresh.stdout)


def test_demand_is_plausible_all_year_round() -> None:
    days = [SyntheticDays().day(date(2024, 1, 1) + timedelta(days=n)) for n in range(0, 366, 5)]
    for day in days:
        assert day
        values = {id_: [s.value or 0 for s in samples] for id_, samples in day.items()}
        assert all(isinstance(mw, int) and 18_000 < mw < 40_000 for mw in values["1293"])
        assert all(
            0.989 < f / r < 1.011 for f, r in zip(values["544"], values["1293"], strict=True)
        )
        assert all(
            0.979 < s / r < 1.021 for s, r in zip(values["545"], values["1293"], strict=True)
        )
        night, evening = values["1293"][3 * 12 : 5 * 12], values["1293"][20 * 12 : 21 * 12]
        assert max(night) < min(evening)


def test_demand_is_continuous_at_midnight_and_at_clock_changes() -> None:
    for first in (date(2024, 3, 29), date(2024, 10, 25), date(2024, 12, 30)):
        days = [SyntheticDays().day(first + timedelta(days=n)) for n in range(4)]
        values = [s.value or 0 for day in days if day for s in day["1293"]]
        assert max(abs(a - b) for a, b in pairwise(values)) < 600


def test_sundays_are_lowest_and_winter_is_above_spring() -> None:
    def mean(day: date) -> float:
        samples = (SyntheticDays().day(day) or {})["1293"]
        return sum(s.value or 0 for s in samples) / len(samples)

    thursday, saturday, sunday = (mean(date(2025, 3, n)) for n in (6, 8, 9))
    assert sunday < saturday < thursday
    assert mean(date(2025, 1, 16)) > mean(date(2025, 4, 17))
    assert mean(date(2024, 7, 18)) > mean(date(2024, 10, 17))


# The clock


def test_today_the_real_series_ends_at_the_last_sample_published() -> None:
    with simulator(clock=clock_at("2025-03-12T11:03")) as api:
        assert times(series(get(api, "2025-03-12"))["1293"])[-1] == "10:55"
        api.clock = clock_at("2025-03-12T11:04")
        response = get(api, "2025-03-12")
        got = series(response)
    assert times(got["1293"])[-1] == "11:00"
    assert len(got["544"]) == len(got["545"]) == 288
    update = response.json()["data"]["attributes"]["last-update"]
    assert update == "2025-03-12T11:04:00.000+01:00"


def test_just_after_midnight_the_new_day_has_no_real_sample_yet() -> None:
    with simulator(clock=clock_at("2025-03-12T00:01")) as api:
        got = series(get(api, "2025-03-12"))
        assert (len(got["1293"]), len(got["544"])) == (0, 288)
        assert len(real(get(api, "2025-03-11"))) == 288
        assert get(api, "2025-03-13").status_code == 502


def test_a_span_into_the_future_ends_today() -> None:
    with simulator() as api:
        got = series(get(api, "2025-03-11", "2025-03-20"))
    assert got["544"][-1]["datetime"].startswith("2025-03-12T23:55")


# Faults


@pytest.mark.parametrize(
    ("fault", "status", "text"),
    [
        (Fault.OUTAGE, 502, "Bad Gateway"),
        (Fault.ERROR_500, 500, "Internal Server Error"),
        (Fault.ERROR_503, 503, "Service Unavailable"),
        (Fault.ERROR_504, 504, "Gateway Timeout"),
        (Fault.THROTTLED, 429, "Too Many Requests"),
        (Fault.BLOCKED, 403, "Incapsula"),
        (Fault.HTML, 200, "<html>"),
        (Fault.ERROR_IN_200, 200, '"503"'),
        (Fault.REFUSED, 400, "Bad Request"),
        (Fault.NO_DATA, 502, "There are no data for the selected filters."),
    ],
)
def test_a_fault_sends_its_own_response(fault: Fault, status: int, text: str) -> None:
    with simulator(faults={A_DAY: fault}) as api:
        response = get(api, A_DAY)
        assert response.status_code == status
        assert text in response.text
        assert ("no data" in response.text) == (fault == Fault.NO_DATA)
        assert response.headers.get("Retry-After") == ("1" if status == 429 else None)
        assert ("html" in response.headers["Content-Type"]) == response.text.startswith("<")
        assert get(api, "2025-03-09").status_code == 200


def test_a_reset_breaks_the_connection() -> None:
    with simulator(faults={"*": "reset*1"}) as api:
        with pytest.raises(requests.ConnectionError, match="reset by peer"):
            get(api, A_DAY)
        assert get(api, A_DAY).ok


def test_a_body_cut_short_ends_before_its_content_length() -> None:
    broken = (requests.ConnectionError, requests.exceptions.ChunkedEncodingError)
    with simulator(faults={A_DAY: Fault.CUT_SHORT}) as api, pytest.raises(broken):
        get(api, A_DAY)


def test_silence_lasts_until_the_simulator_closes_and_does_not_delay_it() -> None:
    seen: list[Exception] = []

    def wait_for_an_answer(api: Simulator) -> None:
        try:
            get(api, A_DAY)
        except requests.ConnectionError as error:
            seen.append(error)

    with simulator(faults={A_DAY: Fault.SILENCE}) as api:
        client = threading.Thread(target=wait_for_an_answer, args=(api,))
        client.start()
        while not api.requests:
            time.sleep(0.01)
        began = time.perf_counter()
    client.join()
    assert time.perf_counter() - began < 20
    assert len(seen) == 1


def test_no_data_removes_only_its_own_day_from_a_span() -> None:
    with simulator(faults={A_DAY: Fault.NO_DATA}) as api:
        got = series(get(api, "2025-03-09", "2025-03-11"))["544"]
    assert {sample["datetime"][:10] for sample in got} == {"2025-03-09", "2025-03-11"}


@pytest.mark.parametrize(
    ("fault", "wrong"),
    [(Fault.NULLS, None), (Fault.ZEROS, 0), (Fault.NEGATIVE, -5), (Fault.HUGE, 99_999)],
)
def test_wrong_values_replace_every_third_of_the_day(fault: Fault, wrong: int | None) -> None:
    with simulator() as api:
        right = real(get(api, "2025-03-09", A_DAY))
        api.faults[A_DAY] = fault
        got = real(get(api, "2025-03-09", A_DAY))
    assert got[:288] == right[:288]
    assert got[288 + 2 :: 3] == [wrong] * 96
    assert got[288::3] == right[288::3]


def test_nan_is_a_literal_that_json_does_not_have() -> None:
    with simulator(faults={A_DAY: Fault.NAN}) as api:
        assert get(api, A_DAY).text.count('"value":NaN') == 96


def test_a_missing_series_is_missing_from_the_whole_answer() -> None:
    with simulator(faults={A_DAY: Fault.MISSING_SERIES}) as api:
        assert list(series(get(api, "2025-03-09", A_DAY))) == ["545", "544"]


def test_an_empty_series_has_no_samples_of_its_day() -> None:
    with simulator(faults={A_DAY: Fault.EMPTY_SERIES}) as api:
        assert real(get(api, A_DAY)) == []
        assert len(real(get(api, "2025-03-09", A_DAY))) == 288


def test_duplicates_come_wrong_first_and_right_last() -> None:
    with simulator() as api:
        right = real(get(api, A_DAY))
        api.faults["*"] = Fault.DUPLICATES
        got = series(get(api, A_DAY))["1293"]
    assert [sample["value"] for sample in got[::2]] == [1] * 288
    assert [sample["value"] for sample in got[1::2]] == right
    assert times(got[::2]) == times(got[1::2])


def test_reordered_answers_hold_the_same_samples() -> None:
    with simulator() as api:
        right = series(get(api, A_DAY))
        api.faults[A_DAY] = Fault.REORDERED
        got = series(get(api, A_DAY))
    assert list(got) == ["544", "545", "1293"]
    assert {id_: samples[::-1] for id_, samples in got.items()} == right


def test_a_short_day_ends_at_14_05_and_keeps_its_forecast() -> None:
    with simulator(faults={A_DAY: Fault.SHORT}) as api:
        got = series(get(api, A_DAY))
    assert times(got["1293"])[-1] == "14:05"
    assert times(got["544"])[-1] == "23:55"


def test_every_fault_has_a_meaning() -> None:
    assert all(fault.meaning for fault in Fault)


def test_a_fault_with_a_number_heals_after_as_many_requests() -> None:
    with simulator(faults={A_DAY: "error-503*2"}) as api:
        assert get(api, "2025-03-09").ok
        assert [get(api, A_DAY).status_code for _ in range(4)] == [503, 503, 200, 200]
        assert api.faults == {}


def test_concurrent_requests_share_the_number() -> None:
    with simulator(faults={"*": "error-500*5"}) as api:
        codes: list[int] = []
        threads = [
            threading.Thread(target=lambda: codes.append(get(api, A_DAY).status_code))
            for _ in range(12)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert sorted(codes) == [200] * 7 + [500] * 5


def test_the_fault_of_a_day_replaces_that_for_all_days() -> None:
    with simulator(faults={"*": "outage", A_DAY: "short"}) as api:
        assert get(api, A_DAY).status_code == 200
        assert get(api, "2025-03-09", A_DAY).status_code == 502


@pytest.mark.parametrize("bad", ["wobble", "reset*0", "reset*many", ""])
def test_an_unknown_fault_is_refused_and_the_known_ones_are_named(bad: str) -> None:
    with pytest.raises(ValueError, match="missing-series"):
        Simulator(faults={"*": bad})


def test_a_fault_for_an_invalid_day_is_refused() -> None:
    with pytest.raises(ValueError, match="yesterday"):
        Simulator(faults={"yesterday": "reset"})


def test_latency_grows_with_the_days_of_the_span() -> None:
    with simulator(latency=0.05, latency_per_day=0.05) as api:
        began = time.perf_counter()
        get(api, "2025-03-08", A_DAY)
        assert time.perf_counter() - began >= 0.2


# Recordings


def recording(days: dict[str, int]) -> dict[str, Any]:
    """An answer with a real series of one value for each "YYYY-MM-DDTHH:MM"."""
    values = [
        {"value": mw, "percentage": 0.5, "datetime": f"{at}:00.000+01:00"}
        for at, mw in days.items()
    ]
    return {"included": [{"id": "1293", "attributes": {"values": values}}]}


def test_recordings_may_be_compressed(tmp_path: Path) -> None:
    plain, compressed = recording({"2025-03-09T00:00": 1}), recording({"2025-03-10T00:00": 2})
    (tmp_path / "2025-03-09.json").write_text(json.dumps(plain))
    (tmp_path / "2025-03-10.json.gz").write_bytes(gzip.compress(json.dumps(compressed).encode()))
    with simulator(source=RecordedDays(tmp_path)) as api:
        assert real(get(api, "2025-03-01", "2025-03-12")) == [1, 2]
        assert get(api, "2025-03-08").status_code == 502


def test_a_recording_of_today_ends_at_the_clock(tmp_path: Path) -> None:
    today = recording({"2025-03-12T10:55": 1, "2025-03-12T11:00": 2})
    (tmp_path / "2025-03-12.json").write_text(json.dumps(today))
    with simulator(source=RecordedDays(tmp_path)) as api:
        assert real(get(api, "2025-03-12")) == [1]


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no recordings"):
        RecordedDays(tmp_path)
    with pytest.raises(ValueError, match="no folder"):
        RecordedDays(tmp_path / "absent")


@pytest.mark.parametrize(
    "day", ["2021-10-31", "2022-03-27", "2022-05-23", "2022-10-30", "2023-02-19", "2024-06-16"]
)
def test_recorded_days_are_returned_as_recorded(recordings: Path, day: str) -> None:
    recorded = json.loads(gzip.decompress((recordings / f"{day}.json.gz").read_bytes()))
    with simulator(source=RecordedDays(recordings)) as api:
        assert get(api, day, lang="es").json() == recorded


def test_synthetic_answers_have_the_shape_of_recorded_ones(recordings: Path) -> None:
    def shape(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: shape(inner) for key, inner in value.items()}
        return [shape(inner) for inner in value] if isinstance(value, list) else type(value)

    recorded = json.loads(gzip.decompress((recordings / "2022-10-30.json.gz").read_bytes()))
    with simulator() as api:
        answer = get(api, "2022-10-30", lang="es").json()
    assert shape(answer) == shape(recorded)
    for one, other in zip(answer["included"], recorded["included"], strict=True):
        stamps = [
            [sample["datetime"] for sample in side["attributes"]["values"]] for side in (one, other)
        ]
        assert stamps[0] == stamps[1]


# The command line

COMMAND = [sys.executable, "-m", "demand_assets.simulator"]


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_command_prints_its_address_and_stops_cleanly(stop: signal.Signals) -> None:
    options = ["--port", "0", "--fault", "2024-01-02=error-500*1"]
    with subprocess.Popen([*COMMAND, *options], stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout and process.stderr
        line = process.stdout.readline()
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        assert found, line
        query = "start_date=2024-01-02T00:00&end_date=2024-01-02T23:59&time_trunc=hour"
        url = f"{found[0]}/en/datos/demanda/demanda-tiempo-real?{query}"
        assert [requests.get(url, timeout=60).status_code for _ in range(2)] == [500, 200]
        process.send_signal(stop)
        assert process.wait(timeout=60) == 0
        assert process.stdout.read() == process.stderr.read() == ""


def test_a_wrong_use_of_the_command_has_its_own_exit_code_and_text(tmp_path: Path) -> None:
    def run(*options: str) -> tuple[int, str]:
        done = subprocess.run([*COMMAND, *options], capture_output=True, text=True, timeout=60)
        return done.returncode, done.stderr + done.stdout

    with simulator() as api:
        port = api.url.rpartition(":")[2]
        code, output = run("--port", port)
        assert code == 1
        assert port in output
    code, output = run("--recordings", str(tmp_path))
    assert code == 2
    assert str(tmp_path) in output
    code, output = run("--fault", "*=wobble")
    assert code == 2
    assert "wobble" in output
    code, output = run("--help")
    assert code == 0
    assert all(f"  {fault} " in output and fault.meaning in output for fault in Fault)
