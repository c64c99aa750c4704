"""The sensors and the runs that they request, driven through simulated time in one process."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import time_machine
from dagster import (
    AssetCheckEvaluation,
    AssetCheckKey,
    AssetKey,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRun,
    RunRequest,
    SensorResult,
    build_sensor_context,
)
from dagster._core.execution.backfill import PartitionBackfill
from dagster._core.remote_origin import (
    InProcessCodeLocationOrigin,
    RemoteJobOrigin,
    RemoteRepositoryOrigin,
)
from dagster._core.storage.asset_check_execution_record import AssetCheckExecutionRecordStatus
from dagster._core.test_utils import create_run_for_test
from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

from demand_assets.demand.days import days_between
from demand_assets.orchestration import keys, tags
from demand_assets.orchestration.ledger_reader import read_ledger
from demand_assets.orchestration.planning.ledger import Ledger, State
from demand_assets.settings import PROJECT
from demand_assets.simulator import Simulator, SyntheticDays
from demand_assets_tests.support.project import ASSETS, Project

POINTS = keys.INFLUX_DEMAND_POINTS


@dataclass
class Clockwork:
    """A project under a clock that the test moves."""

    project: Project
    api: Simulator
    clock: time_machine.Traveller
    results: list[tuple[datetime, AssetCheckEvaluation]] = field(default_factory=list)
    """The results that a sensor recorded, and when."""
    runs: list[tuple[datetime, str, str, bool]] = field(default_factory=list)
    """When a run was requested, its first day, its last day, and its success."""
    jobs: list[str] = field(default_factory=list)
    """The job of each of the runs."""
    cursors: dict[str, str | None] = field(default_factory=dict)

    def at(self, moment: datetime) -> "Clockwork":
        self.clock.move_to(moment)
        return self

    def run_until(self, end: datetime, step: timedelta) -> None:
        """Tick both sensors every step, as the daemon does, until the end."""
        while datetime.now(UTC) <= end:
            self.tick()
            self.clock.shift(step)

    def tick(self, *sensors: str) -> None:
        """Evaluate the sensors, both by default, and execute the runs that they request."""
        for name in sensors or ("current_day_sensor", "missing_days_sensor"):
            with build_sensor_context(
                instance=self.project.instance,
                definitions=self.project.definitions,
                cursor=self.cursors.get(name),
                resources=self.project.resources(),
            ) as context:
                result = self.project.definitions.resolve_sensor_def(name)(context)
            assert isinstance(result, SensorResult)
            self.cursors[name] = result.cursor
            for event in result.asset_events:
                assert isinstance(event, AssetCheckEvaluation)
                self.results.append((datetime.now(UTC), event))
                self.project.instance.report_runless_asset_event(event)
            for request in result.run_requests or []:
                self._execute(request)

    def _execute(self, request: RunRequest) -> None:
        now = datetime.now(UTC)
        first = request.tags.get(tags.RANGE_START, request.partition_key) or ""
        last = request.tags.get(tags.RANGE_END, request.partition_key) or ""
        assert (first and last) or request.job_name == keys.REREAD_JOB
        job = self.project.definitions.resolve_job_def(request.job_name or "")
        result = job.execute_in_process(
            partition_key=request.partition_key,
            tags=dict(request.tags),
            instance=self.project.instance,
            raise_on_error=False,
        )
        self.runs.append((now, first, last, result.success))
        self.jobs.append(request.job_name or "")

    def launch_backfill(self, first: str, last: str) -> PartitionBackfill:
        """A backfill as the web page creates it; there is no daemon that would start its runs."""
        days = days_between(date.fromisoformat(first), date.fromisoformat(last))
        backfill = PartitionBackfill.from_asset_partitions(
            backfill_id="a-backfill",
            asset_graph=self.project.definitions.resolve_asset_graph(),
            backfill_timestamp=datetime.now(UTC).timestamp(),
            tags={},
            asset_selection=[AssetKey(name) for name in ASSETS],
            partition_names=[day.isoformat() for day in days],
            dynamic_partitions_store=self.project.instance,
            all_partitions=False,
            title=None,
            description=None,
            run_config=None,
        )
        self.project.instance.add_backfill(backfill)
        return backfill

    def queue_run(self, day: str, job: str = keys.DEMAND_JOB) -> DagsterRun:
        """A queued run of a day."""
        instance = self.project.instance
        code = InProcessCodeLocationOrigin(LoadableTargetOrigin(), location_name="demand_assets")
        run = create_run_for_test(
            instance,
            job_name=job,
            tags={tags.PARTITION: day},
            remote_job_origin=RemoteJobOrigin(RemoteRepositoryOrigin(code, "a"), job),
        )
        enqueued = DagsterEvent(DagsterEventType.PIPELINE_ENQUEUED.value, job_name=run.job_name)
        instance.report_dagster_event(enqueued, run_id=run.run_id)
        return run

    def ledger(self) -> Ledger:
        project = self.project
        return read_ledger(project.instance, project.settings, datetime.now(UTC))

    def state(self, day: str) -> State:
        return self.ledger().state(date.fromisoformat(day))

    def fresh(self) -> AssetCheckEvaluation:
        """The newest result of `today_is_fresh`, of a sensor or a run."""
        (recorded,) = self.project.instance.event_log_storage.get_asset_check_execution_history(
            AssetCheckKey(POINTS, "today_is_fresh"),
            limit=1,
            status={
                AssetCheckExecutionRecordStatus.SUCCEEDED,
                AssetCheckExecutionRecordStatus.FAILED,
            },
        )
        assert recorded.evaluation
        return recorded.evaluation


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
