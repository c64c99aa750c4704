"""What the tests share: recorded days where there are any, a simulated API, a hermetic setting."""

import gzip
import json
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, date, datetime
from pathlib import Path
from typing import TypeVar

import pytest
from dagster import DagsterInstance

from demand_assets.redata import Answer
from demand_assets.simulator import RecordedDays, Simulator, SyntheticDays
from demand_assets_tests.support.browser import Browser, chromium
from demand_assets_tests.support.servers import (
    FluxCompiler,
    InfluxDB1,
    InfluxDB2,
    ProgramMissing,
    flux_compiler,
    influxdb1_server,
    influxdb2_server,
)

T = TypeVar("T")

RECORDINGS = Path(
    os.environ.get("DEMAND_RECORDINGS")
    or Path(__file__).resolve().parents[2] / "shared" / "recorded"
)
LONG_AFTER = datetime(2026, 1, 15, 12, tzinfo=UTC)
"""A present at which every recorded day is past."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that takes what not every machine has is marked with it."""
    own = ("influxdb1", "influxdb2", "browser", "flux")
    markers = {"recordings": "recorded", **dict(zip(own, own, strict=True))}
    for item in items:
        for fixture in markers.keys() & set(getattr(item, "fixturenames", ())):
            item.add_marker(markers[fixture])
    # What takes longest starts first: whole systems, then simulated days.
    items.sort(
        key=lambda item: next(
            (place for place, name in enumerate(("running", "clockwork")) if name in _names(item)),
            2,
        )
    )


def _names(item: pytest.Item) -> set[str]:
    """What a test's module has imported or defined."""
    return set(vars(item.getparent(pytest.Module).module))  # type: ignore[union-attr]


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own settings and `.env` must neither help nor hurt."""
    settings = ("INFLUXDB_V2_", "REDATA_", "DEMAND_DATA", "DEMAND_START", "DEMAND_LOAD", "DAGSTER_")
    for name in list(os.environ):
        if name.startswith(settings):
            monkeypatch.delenv(name)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses between attempts: without jitter, counted and not slept."""
    slept: list[float] = []
    monkeypatch.setattr("random.uniform", lambda low, high: low)
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


@pytest.fixture(scope="session")
def recordings() -> Path:
    if not RECORDINGS.is_dir():
        pytest.skip(f"no recorded days in {RECORDINGS}; name a folder with DEMAND_RECORDINGS")
    return RECORDINGS


@pytest.fixture
def recorded_api(recordings: Path) -> Iterator[Simulator]:
    """A replay of the recorded days."""
    with Simulator(RecordedDays(recordings), clock=lambda: LONG_AFTER) as api:
        yield api


@pytest.fixture
def synthetic_api() -> Iterator[Simulator]:
    """Synthetic days, every one of them past."""
    with Simulator(SyntheticDays(), clock=lambda: LONG_AFTER) as api:
        yield api


def recorded_answer(recordings: Path, day: date) -> Answer:
    return json.loads(gzip.decompress((recordings / f"{day}.json.gz").read_bytes()))


@pytest.fixture
def instance(tmp_path: Path) -> Iterator[DagsterInstance]:
    """A Dagster instance in memory."""
    with DagsterInstance.ephemeral(tempdir=str(tmp_path)) as instance:
        yield instance


@pytest.fixture(scope="session")
def influxdb1() -> Iterator[InfluxDB1]:
    """Debian's InfluxDB 1 behind nginx, shared: a test creates its own database."""
    yield from _required_or_skipped("influxdb1", influxdb1_server())


@pytest.fixture(scope="session")
def influxdb2() -> Iterator[InfluxDB2]:
    """An InfluxDB 2, shared: a test creates its own bucket."""
    yield from _required_or_skipped("influxdb2", influxdb2_server())


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """A headless Chromium, shared: a test opens its own page."""
    yield from _required_or_skipped("browser", chromium())


@pytest.fixture(scope="session")
def flux() -> Iterator[FluxCompiler]:
    """The Flux compiler: queries in, the errors of each out."""
    yield from _required_or_skipped("flux", flux_compiler())


def _required_or_skipped(fixture: str, server: AbstractContextManager[T]) -> Iterator[T]:
    """What runs the program; a skip without it, a failure if that may not be skipped."""
    with ExitStack() as stack:
        try:
            running = stack.enter_context(server)
        except ProgramMissing as missing:
            required = os.environ.get("DEMAND_TESTS_REQUIRE", "").split(",")
            if fixture in map(str.strip, required):
                pytest.fail(f"DEMAND_TESTS_REQUIRE={fixture}: {missing}", pytrace=False)
            pytest.skip(str(missing))
        yield running
