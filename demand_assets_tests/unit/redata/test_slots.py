"""Requests of several runs at the same time: how many are in flight, whose turn it is, and pauses.

The runs are threads or processes that share a folder, as they do in an instance.
"""

import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from pathlib import Path

import pytest
import time_machine

from demand_assets.demand.days import days_between
from demand_assets.redata import REDataError, ThrottledError
from demand_assets.simulator import Fault, Simulator
from demand_assets_tests.unit.redata.helpers import DAY, ByteServer, as_json, client, reply
from demand_assets_tests.unit.redata.helpers import tiny_answer as answer_with

DAYS = days_between(DAY, DAY + timedelta(days=11))
PROCESS = """
import sys
from datetime import date, timedelta
from pathlib import Path
from demand_assets.redata import REDataClient
url, folder, first = sys.argv[1:]
days = [date.fromisoformat(first) + timedelta(days=n) for n in range(6)]
client = REDataClient(url, shared_folder=Path(folder), max_days_per_request=1,
                      concurrent_requests=2, politeness_seconds=0)
assert all(isinstance(outcome, dict) for outcome in client.fetch(days).values())
"""


class InFlight:
    """Counts the requests that a simulator is answering."""

    def __init__(self, api: Simulator) -> None:
        self.now = self.most = 0
        self._lock, self._answer = threading.Lock(), api.answer
        api.answer = self.answer  # type: ignore[assignment, method-assign]

    def answer(self, target: str) -> object:
        with self._lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            return self._answer(target)
        finally:
            with self._lock:
                self.now -= 1


def start(api: Simulator, folder: Path, first: date) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", PROCESS, api.url, str(folder), str(first)])


def until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_all_processes_together_have_as_many_requests_in_flight_as_configured(
    synthetic_api: Simulator, tmp_path: Path
) -> None:
    synthetic_api.latency = 0.2
    in_flight = InFlight(synthetic_api)
    runs = [start(synthetic_api, tmp_path, DAY + timedelta(days=n)) for n in (0, 100, 200)]
    assert [run.wait(60) for run in runs] == [0, 0, 0]
    assert len(synthetic_api.requests) == 18
    assert in_flight.most == 2


def test_a_killed_process_frees_its_slots(synthetic_api: Simulator, tmp_path: Path) -> None:
    synthetic_api.faults["*"] = Fault.SILENCE
    run = start(synthetic_api, tmp_path, DAY)
    until(lambda: len(synthetic_api.requests) == 2)
    run.send_signal(signal.SIGKILL)
    run.wait()
    del synthetic_api.faults["*"]
    began = time.monotonic()
    client(synthetic_api.url, shared_folder=tmp_path, concurrent_requests=2).fetch([DAY])
    assert time.monotonic() - began < 5


def test_an_urgent_request_is_the_next_one(synthetic_api: Simulator, tmp_path: Path) -> None:
    synthetic_api.latency = 0.4
    options = {"shared_folder": tmp_path, "concurrent_requests": 2, "politeness_seconds": 0.0}
    with ThreadPoolExecutor() as pool:
        for first in (0, 100, 200):
            days = [day + timedelta(days=first) for day in DAYS[:4]]
            pool.submit(client(synthetic_api.url, max_days_per_request=1, **options).fetch, days)
        until(lambda: len(synthetic_api.requests) >= 4)
        today = date(2025, 12, 31)
        before = len(synthetic_api.requests)
        client(synthetic_api.url, **options).fetch([today], urgent=True)
        # A slot may have become free between the count and the request.
        assert (today, today) in synthetic_api.requests[before : before + 2]


def test_after_a_429_requests_of_all_runs_are_sent_one_at_a_time_for_a_while(
    synthetic_api: Simulator,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("demand_assets.redata.client.SLOW_PAUSE_SECONDS", 0.1)
    synthetic_api.latency = 0.2

    def fetch() -> int:
        in_flight = InFlight(synthetic_api)
        options = {"shared_folder": tmp_path, "concurrent_requests": 2, "max_days_per_request": 1}
        with ThreadPoolExecutor() as pool:
            runs = [
                pool.submit(client(synthetic_api.url, **options).fetch, days)
                for days in (DAYS[:3], DAYS[6:9])
            ]
        assert not any(isinstance(o, REDataError) for run in runs for o in run.result().values())
        return in_flight.most

    assert fetch() == 2
    synthetic_api.faults["*"] = f"{Fault.THROTTLED}*1"
    client(synthetic_api.url, shared_folder=tmp_path).fetch([DAY])
    assert "Requests are sent one at a time, with pauses, until" in caplog.text
    assert fetch() == 1
    with time_machine.travel(time.time() + 16 * 60):
        assert fetch() == 2


@pytest.mark.usefixtures("pauses")
def test_a_blocked_client_lets_other_runs_send_one_request_at_a_time(
    synthetic_api: Simulator, tmp_path: Path
) -> None:
    synthetic_api.faults["*"] = Fault.BLOCKED
    blocked = client(synthetic_api.url, shared_folder=tmp_path)
    blocked.fetch([DAY])
    assert blocked._limit() == 1
    assert blocked._pause() == 2


def test_other_runs_wait_as_long_as_the_api_asks_for(tmp_path: Path) -> None:
    throttled = reply(b"{}", "429 Too Many Requests", Retry_After=3)
    good = as_json(answer_with("2025-03-10T00:00:00.000+01:00"))
    times: list[float] = []

    def answer() -> list[bytes]:
        times.append(time.monotonic())
        return [throttled if len(times) == 1 else good]

    with ByteServer(answer) as api, ThreadPoolExecutor() as pool:
        first = pool.submit(client(api.url, shared_folder=tmp_path).fetch, [DAY])
        until(lambda: len(times) == 1)
        time.sleep(0.5)
        second = pool.submit(client(api.url, shared_folder=tmp_path).fetch, [DAY])
        assert not isinstance(first.result()[DAY], REDataError)
        assert not isinstance(second.result()[DAY], REDataError)
    assert all(moment - times[0] > 2.9 for moment in times[1:])


def test_a_run_that_the_api_asks_to_wait_too_long_makes_no_request(tmp_path: Path) -> None:
    throttled = reply(b"{}", "429 Too Many Requests", Retry_After=3600)
    with ByteServer(throttled) as api:
        for _ in range(2):
            outcome = client(api.url, shared_folder=tmp_path).fetch([DAY])[DAY]
            assert isinstance(outcome, ThrottledError)
        assert len(api.requests) == 1
    assert "asks for no request before" in str(outcome)


def test_there_is_a_pause_between_requests(synthetic_api: Simulator) -> None:
    times: list[float] = []
    answer = synthetic_api.answer

    def timed(target: str) -> object:
        times.append(time.monotonic())
        return answer(target)

    synthetic_api.answer = timed  # type: ignore[assignment, method-assign]
    client(synthetic_api.url, max_days_per_request=1, politeness_seconds=0.3).fetch(DAYS[:4])
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert min(pauses) >= 0.29


def test_a_clock_that_is_set_back_blocks_nothing(synthetic_api: Simulator, tmp_path: Path) -> None:
    api = client(synthetic_api.url, shared_folder=tmp_path)
    with time_machine.travel(time.time() + 86_400, tick=True):
        api.fetch([DAY])
    began = time.monotonic()
    api.fetch([DAY])
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("pauses")
def test_runs_meet_an_outage_together(synthetic_api: Simulator, tmp_path: Path) -> None:
    synthetic_api.faults["*"] = Fault.OUTAGE
    options = {"shared_folder": tmp_path, "concurrent_requests": 2, "politeness_seconds": 0.0}
    days = days_between(DAY, DAY + timedelta(days=309))
    with ThreadPoolExecutor() as pool:
        for _ in range(2):
            pool.submit(client(synthetic_api.url, retry_seconds=60, **options).fetch, days)
    assert len(synthetic_api.requests) <= 20
    before = len(synthetic_api.requests)
    for _ in range(3):  # within a minute, the outage is known
        outcome = client(synthetic_api.url, **options).fetch(days)[days[0]]
        assert "did not answer another run at" in str(outcome)
    assert len(synthetic_api.requests) == before
    client(synthetic_api.url, **options).fetch([DAY], urgent=True)
    assert len(synthetic_api.requests) == before + 1
    with time_machine.travel(time.time() + 90):
        client(synthetic_api.url, **options).fetch(days)
        assert len(synthetic_api.requests) == before + 2
    synthetic_api.faults.clear()
    with time_machine.travel(time.time() + 180):
        outcomes = client(synthetic_api.url, **options).fetch(days[:40])
        assert not any(isinstance(outcome, REDataError) for outcome in outcomes.values())
