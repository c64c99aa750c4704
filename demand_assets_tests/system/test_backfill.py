"""A backfill on the whole system under faults: in the end the stored days are complete."""

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
"""Until one day of a week is alone; each requests up to four of its neighbours again."""


@dataclass
class System:
    """`make run` with a folder that is kept between starts."""

    folder: Path
    api: Simulator
    yesterday: date
    """The last day of the backfill, although the test may run past midnight."""

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

    def failed_days(self) -> set[date]:
        """The days that the failed runs name as the cause."""
        settings = Settings(start_date=self.yesterday - timedelta(days=100))
        with DagsterInstance.from_config(str(self.folder / "home")) as instance:
            ledger = read_ledger(instance, settings, datetime.now(UTC))
        return {day for attempt in ledger.attempts.values() for day in attempt.failed_days}

    def requested(self) -> Counter[date]:
        """How often each past day was requested in a span that the API accepts."""
        longest = self.api.max_days or 31
        return Counter(
            day
            for first, last in self.api.requests
            for day in days_between(first, last)
            if (last - first).days < longest and day <= self.yesterday
        )


def assert_as_a_clean_load(folder: Path, days: list[date]) -> None:
    """Every hour of the days equals that of a load without faults."""
    with Simulator() as api, DagsterInstance.ephemeral() as instance:
        settings = Settings(start_date=days[0])
        clean = Project(folder / "clean", api.url, instance, settings)
        assert clean.materialize(str(days[0]), str(days[-1])).success
        expected = clean.stored()
    found = stored_hours(folder / "data" / "demand.duckdb")
    # The running system may have forecast a day, which adds a column.
    pd.testing.assert_frame_equal(found.loc[expected.index, expected.columns], expected)


def test_a_backfill_survives_a_kill_a_failing_day_refused_spans_and_an_overlap(
    tmp_path: Path,
) -> None:
    yesterday = datetime.now(TIME_ZONE).date() - timedelta(days=1)
    days = days_between(yesterday - timedelta(days=59), yesterday)
    failing = days[40]
    with Simulator(latency=0.4, max_days=7, faults={str(failing): "nan"}) as api:
        system = System(tmp_path, api, yesterday)
        with system.started() as (page, process):
            page.launch_backfill(days[:50])
            wait_for(lambda: len(api.requests) > 6, 90, process)
            kill(process)
        with system.started() as (page, process):
            page.launch_backfill(days[30:])
            wait_for(lambda: system.failed_days() == {failing}, 120, process)
            # Once the API has the day, it is stored without a click.
            del api.faults[str(failing)]
            wait_for(lambda: page.green().issuperset(days), 600, process)
        requested = system.requested()
    # By the killed run as far as it came, by the one in its place, and by the second backfill,
    # which failed because of one day and was split around it.
    assert all(requested[day] <= 2 for day in days[:30])
    assert all(requested[day] <= 4 + HALVINGS for day in days[30:])
    assert_as_a_clean_load(tmp_path, days)
