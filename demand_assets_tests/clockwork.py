"""The sensors and the runs that they ask for, driven through simulated time in one process."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import time_machine
from dagster import (
    AssetCheckEvaluation,
    AssetKey,
    DagsterInstance,
    RunRequest,
    SensorResult,
    build_sensor_context,
)

from demand_assets.definitions import PROJECT
from demand_assets.ledger import Ledger, State, read_ledger
from demand_assets.simulator import Simulator, SyntheticDays
from demand_assets_tests.project import Project

POINTS = AssetKey("influx_demand_points")


@dataclass
class Clockwork:
    """A project whose clock the test winds; `verdicts` and `runs` tell what happened when."""

    project: Project
    api: Simulator
    clock: time_machine.Traveller
    verdicts: list[tuple[datetime, AssetCheckEvaluation]] = field(default_factory=list)
    runs: list[tuple[datetime, str, str, bool]] = field(default_factory=list)
    """When, first day, last day, success."""

    def at(self, moment: datetime) -> "Clockwork":
        self.clock.move_to(moment)
        return self

    def run_until(self, end: datetime, step: timedelta) -> None:
        """Tick both sensors every step, as the daemon does, until the clock shows the end."""
        while datetime.now(UTC) <= end:
            self.tick()
            self.clock.shift(step)

    def tick(self, *sensors: str) -> None:
        """Evaluate the sensors, both unless told otherwise, and execute what they ask for."""
        for name in sensors or ("current_day_sensor", "missing_days_sensor"):
            with build_sensor_context(
                instance=self.project.instance, definitions=self.project.definitions
            ) as context:
                result = self.project.definitions.resolve_sensor_def(name)(context)
            assert isinstance(result, SensorResult)
            for event in result.asset_events:
                assert isinstance(event, AssetCheckEvaluation)
                self.verdicts.append((datetime.now(UTC), event))
                self.project.instance.report_runless_asset_event(event)
            for request in result.run_requests or []:
                self._execute(request)

    def _execute(self, request: RunRequest) -> None:
        now = datetime.now(UTC)
        first = request.tags.get("dagster/asset_partition_range_start", request.partition_key)
        last = request.tags.get("dagster/asset_partition_range_end", request.partition_key)
        assert first and last
        job = self.project.definitions.resolve_job_def("demand_job")
        result = job.execute_in_process(
            partition_key=request.partition_key,
            tags=dict(request.tags),
            instance=self.project.instance,
            raise_on_error=False,
        )
        self.runs.append((now, first, last, result.success))

    def ledger(self) -> Ledger:
        settle = self.project.settings.settle
        return read_ledger(self.project.instance, POINTS, datetime.now(UTC), settle)

    def state(self, day: str) -> State:
        return self.ledger().state(date.fromisoformat(day))

    def fresh(self) -> AssetCheckEvaluation:
        """The last verdict of `today_is_fresh`."""
        return self.verdicts[-1][1]


@contextmanager
def clockwork(folder: Path, start: datetime) -> Iterator[Clockwork]:
    """A real instance folder and a simulated API, both under one false clock."""
    with ExitStack() as stack:
        clock = stack.enter_context(time_machine.travel(start, tick=False))
        api = stack.enter_context(Simulator(SyntheticDays(), clock=lambda: datetime.now(UTC)))
        home = folder / "home"
        home.mkdir()
        (home / "dagster.yaml").symlink_to(PROJECT / "dagster.yaml")
        instance = stack.enter_context(DagsterInstance.from_config(str(home)))
        yield Clockwork(Project(folder / "data", api.url, instance), api, clock)
