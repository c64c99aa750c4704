"""A backfill on the whole system, through trouble: in the end the days are as if without it."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from subprocess import Popen

import pandas as pd
from dagster import DagsterInstance

from demand_assets.demand.days import days_between
from demand_assets.grid import TIME_ZONE
from demand_assets.orchestration.ledger_reader import read_ledger
from demand_assets.settings import Settings
from demand_assets.simulator import Simulator
from demand_assets_tests.support.project import Project, stored_hours
from demand_assets_tests.support.running_system import Page, kill, running, wait_for

HALVINGS = 3
"""Until a day of a week stands alone; each asks for up to four of its neighbours again."""
YESTERDAY = datetime.now(TIME_ZONE).date() - timedelta(days=1)


@dataclass
class System:
    """`make run` over a folder, which outlives it."""

    folder: Path
    api: Simulator

    @contextmanager
    def started(self) -> Iterator[tuple[Page, Popen]]:
        page = Page()
        home = self.folder / "home"
        home.mkdir(exist_ok=True)
        with running(
            ["make", "run", f"PORT={page.port}"],
            self.folder / "log",
            DAGSTER_HOME=str(home),
            DEMAND_DATA_DIR=str(self.folder / "data"),
            DEMAND_REFRESH_MINUTES="0.2",
            REDATA_BASE_URL=self.api.url,
        ) as process:
            wait_for(page.is_up, 180, process)
            yield page, process

    def blamed(self) -> set[date]:
        """The days that a person reads of as the cause of a failed run."""
        settings = Settings(start_date=YESTERDAY - timedelta(days=100))
        with DagsterInstance.from_config(str(self.folder / "home")) as instance:
            ledger = read_ledger(instance, settings, datetime.now(UTC))
        return {day for attempt in ledger.attempts.values() for day in attempt.blamed}

    def asked(self) -> Counter[date]:
        """How often each past day was asked for in a span that the API takes."""
        longest = self.api.max_days or 31
        return Counter(
            day
            for first, last in self.api.requests
            for day in days_between(first, last)
            if (last - first).days < longest and day <= YESTERDAY
        )


def assert_as_a_clean_load(folder: Path, days: list[date]) -> None:
    """Every hour of the days equals that of a load without trouble."""
    with Simulator() as api, DagsterInstance.ephemeral() as instance:
        settings = Settings(start_date=days[0])
        clean = Project(folder / "clean", api.url, instance, settings)
        assert clean.materialize(str(days[0]), str(days[-1])).success
        expected = clean.stored()
    found = stored_hours(folder / "data" / "demand.duckdb")
    pd.testing.assert_frame_equal(found.loc[expected.index], expected)


def test_a_backfill_outlives_a_kill_a_poisoned_day_refused_spans_and_an_overlap(
    tmp_path: Path,
) -> None:
    days = days_between(YESTERDAY - timedelta(days=59), YESTERDAY)
    poisoned = days[40]
    with Simulator(latency=0.4, max_days=7, faults={str(poisoned): "nan"}) as api:
        system = System(tmp_path, api)
        with system.started() as (page, process):
            page.launch_backfill(days[:50])
            wait_for(lambda: len(api.requests) > 6, 90, process)
            kill(process)
        with system.started() as (page, process):
            page.launch_backfill(days[30:])
            wait_for(lambda: system.blamed() == {poisoned}, 120, process)
            # Mended on the API's side, the day is stored without a click.
            del api.faults[str(poisoned)]
            wait_for(lambda: page.green().issuperset(days), 240, process)
        asked = system.asked()
    # By the killed run as far as it came, by the one in its place, and by the second backfill;
    # around the poisoned day, that one failed and was taken up again.
    assert all(asked[day] <= 2 for day in days[:30])
    assert all(asked[day] <= 4 + HALVINGS for day in days[30:])
    assert_as_a_clean_load(tmp_path, days)
