"""Three days of the system at speed under random faults: in the end all agree."""

import random
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from dagster import DagsterInstance

from demand_assets.demand.days import days_between
from demand_assets.grid import TIME_ZONE
from demand_assets.orchestration.planning.ledger import State
from demand_assets.simulator import Fault
from demand_assets_tests.support.clockwork import clockwork
from demand_assets_tests.support.project import Project

START = datetime(2023, 3, 24, 22, 30, tzinfo=TIME_ZONE)  # a day of 23 hours is among them
STEP = timedelta(hours=2)


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 2**20


@pytest.mark.usefixtures("pauses")
@pytest.mark.parametrize("seed", [4, 5])
def test_three_days_of_random_faults_end_as_a_clean_load(tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    harmful = [fault for fault in Fault if fault != Fault.SILENCE]  # waits in real time
    memory: dict[date, float] = {}
    with clockwork(tmp_path, START) as works:
        end = START + timedelta(days=3)
        while datetime.now(UTC) < end:
            day = datetime.now(TIME_ZONE).date()
            works.api.faults.clear()
            if chance.random() < 0.9:
                whom = chance.choice(["*", str(day), str(day - timedelta(days=1))])
                works.api.faults[whom] = f"{chance.choice(harmful)}*{chance.randint(1, 6)}"
            works.tick()
            memory[day] = resident_mib()
            works.clock.shift(STEP)
        works.api.faults.clear()
        # A day later, days that were answered short have been requested again.
        works.run_until(end + timedelta(hours=26), timedelta(hours=2))
        days = days_between(START.date(), (end + timedelta(hours=24)).date())
        ledger = works.ledger()
        assert {ledger.state(day) for day in days[:-1]} == {State.INGESTED}
        failed = sum(not success for *_, success in works.runs)
        assert failed >= 10
        data = works.project.files()
        stored = works.project.stored()
        with DagsterInstance.ephemeral() as instance:
            clean = Project(tmp_path / "clean", works.api.url, instance, works.project.settings)
            assert clean.materialize(str(days[0]), str(days[-2])).success
        pd.testing.assert_frame_equal(stored.loc[clean.stored().index], clean.stored())
    # Two files a day, the database and the page: nothing of the failed ones is left behind.
    assert len(data) == 2 * len(ledger.stored) + 2
    first, *_, last = (memory[day] for day in sorted(memory)[1:])
    assert last - first < 60
