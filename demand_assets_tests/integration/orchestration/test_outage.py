"""An outage of two hours while history is loaded: few requests, and then all goes on."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace

import pytest

from demand_assets.orchestration.planning.ledger import State
from demand_assets.simulator import Fault
from demand_assets_tests.support.clockwork import clockwork
from demand_assets_tests.support.project import Project

START = datetime(2024, 6, 28, 10, 2, tzinfo=UTC)
STEP = timedelta(minutes=2)


def test_an_outage_of_two_hours_meets_few_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with clockwork(tmp_path, START) as works:
        # A pause between two attempts takes time as well.
        clock = SimpleNamespace(monotonic=time.monotonic, sleep=works.clock.shift)
        monkeypatch.setattr("demand_assets.retry.time", clock)
        project = works.project
        monkeypatch.setattr("demand_assets.orchestration.sensors.DAYS_PER_RUN", 10)
        assert project.materialize("2024-05-08").success
        works.tick("current_day_sensor")
        works.project = Project(
            project.folder, project.api, project.instance, project.settings, retry_seconds=60
        )
        works.api.requests.clear()
        works.api.faults["*"] = Fault.ERROR_504
        while datetime.now(UTC) < START + timedelta(hours=2):
            works.tick()
            works.clock.shift(STEP)
        assert len(works.runs) > 20
        assert not any(success for *_, success in works.runs[1:])
        assert 10 < len(works.api.requests) <= 40
        works.api.faults.clear()
        today, end = START.date(), datetime.now(UTC) + timedelta(minutes=13)
        while works.state(str(today)) != State.OPEN:
            assert datetime.now(UTC) < end
            works.tick("current_day_sensor")
            works.clock.shift(STEP)
