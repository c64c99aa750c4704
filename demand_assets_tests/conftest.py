"""What the tests share: recorded days where there are any, a simulated API, a hermetic setting."""

import gzip
import json
import os
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from dagster import DagsterInstance

from demand_assets.redata import Answer
from demand_assets.simulator import RecordedDays, Simulator, SyntheticDays

RECORDINGS = Path(
    os.environ.get("DEMAND_RECORDINGS")
    or Path(__file__).resolve().parents[2] / "shared" / "recorded"
)
LONG_AFTER = datetime(2026, 1, 15, 12, tzinfo=UTC)
"""A present at which every recorded day is past."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A test that takes the `recordings` fixture is marked `recorded`."""
    for item in items:
        if "recordings" in getattr(item, "fixturenames", ()):
            item.add_marker("recorded")


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own settings and `.env` must neither help nor hurt."""
    for name in list(os.environ):
        if name.startswith(("INFLUXDB_V2_", "REDATA_", "DEMAND_DATA", "DEMAND_START", "DAGSTER_")):
            monkeypatch.delenv(name)


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
