"""The ingest assets: the answer of the API, its hours, and their points in the store.

Each takes one day or a contiguous range in one run, and adds metadata to every day by itself.
"""

import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any, NoReturn, TypeVar

import dagster as dg
import pandas as pd

from demand_assets.dashboards.day_chart import day_markdown, sparkline
from demand_assets.demand.days import frames_by_day
from demand_assets.demand.errors import DayError, ImplausibleDemandError, NoRealDemandError
from demand_assets.demand.figures import (
    describe_frame,
    describe_samples,
    fingerprint,
    hours_fingerprints,
)
from demand_assets.demand.hourly import hourly_frame, with_earlier_hours
from demand_assets.demand.quality import (
    Finding,
    Review,
    check_forecast,
    check_hours,
    review,
    screen,
)
from demand_assets.demand.samples import missing_samples
from demand_assets.grid import COLUMNS, REAL, REAL_DEMAND, SERIES, TIME_ZONE, start_of
from demand_assets.orchestration import keys, metadata
from demand_assets.orchestration.checks import check_result, frame_check_specs, record_by_day
from demand_assets.orchestration.io_managers import ParquetFrameIOManager, expired_failure
from demand_assets.orchestration.ledger_reader import newest_materializations, read_stored
from demand_assets.orchestration.planning.ledger import Stored, answer_history, is_final
from demand_assets.orchestration.resources import REDataResource
from demand_assets.redata import (
    Answer,
    UnavailableError,
    last_update,
    read_samples,
    read_series,
)
from demand_assets.settings import DAYS_PER_RUN, Settings
from demand_assets.stores import Store
from demand_assets.stores.partition_files import EncodedJSON, encode_json

CODE_VERSION = " ".join(f"{series.column}={series.api_id}" for series in SERIES)
"""Partitions that were materialized with other series are shown as outdated in the web page."""
SHOWN_ERRORS = 10
PROGRESS_INTERVAL = timedelta(seconds=10)

T = TypeVar("T")


def build_ingest_assets(
    partitions: dg.DailyPartitionsDefinition, settings: Settings
) -> list[dg.AssetsDefinition]:
    """The ingest assets over the given days."""
    common: dict[str, Any] = {
        "partitions_def": partitions,
        "backfill_policy": dg.BackfillPolicy.multi_run(max_partitions_per_run=DAYS_PER_RUN),
        "group_name": keys.INGEST_GROUP,
        "owners": keys.OWNERS,
    }
    return [
        dg.asset(**common, io_manager_key=keys.ANSWER_FILES, kinds={"python", "json"})(
            raw_ree_json
        ),
        dg.asset(
            **common,
            io_manager_key=keys.FRAME_FILES,
            kinds={"pandas", "parquet"},
            check_specs=frame_check_specs(partitions),
            code_version=CODE_VERSION,
        )(hourly_demand_frame),
        dg.asset(
            **common,
            io_manager_key=keys.STORE_RESOURCE,
            kinds={settings.store.kind},
            pool=keys.STORE_POOL,
            # For the badge, over all partitions together; `today_is_fresh` checks today.
            freshness_policy=dg.FreshnessPolicy.time_window(
                fail_window=settings.freshness.fail_after,
                warn_window=settings.freshness.warn_after,
            ),
            metadata={metadata.FIELDS: COLUMNS},
            code_version=CODE_VERSION,
        )(influx_demand_points),
    ]


def raw_ree_json(
    context: dg.AssetExecutionContext, redata: REDataResource
) -> dict[str, EncodedJSON]:
    """REData's answer for each Madrid day, as received: measured, programmed and forecast
    demand of peninsular Spain in MW, every 5 or 10 minutes."""
    days = _days(context)
    urgent = days == [datetime.now(TIME_ZONE).date()]
    outcomes: dict[date, EncodedJSON | DayError] = {}
    progress = _log_progress(context, len(days))
    for day, outcome in redata.get_client().stream(days, progress, urgent=urgent):
        if isinstance(outcome, DayError):
            outcomes[day] = outcome
            continue
        # The next days are requested meanwhile, and what is encoded takes a tenth of the memory.
        outcomes[day] = encode_json(outcome)
        figures = describe_samples(read_series(outcome, REAL_DEMAND))
        _add_metadata(context, day.isoformat(), figures | last_update(outcome))
    return _all_or_fail({day: outcomes[day] for day in days})


def hourly_demand_frame(
    context: dg.AssetExecutionContext,
    raw_ree_json: dict[str, Answer],
    frame_files: dg.ResourceParam[ParquetFrameIOManager],
) -> Iterator[dg.Output[Any]]:
    """Hourly means in MW by UTC start of the hour: `RealDemand` for hours that are over,
    `ForecastDemand` for the whole day. Hours that only an earlier answer had are kept."""
    now = datetime.now(UTC)
    stored = read_stored(context.instance, _days(context))
    outcomes: dict[date, pd.DataFrame | DayError] = {}
    refused: dict[str, list[dg.AssetCheckResult]] = {}
    checked: dict[str, list[dg.AssetCheckResult]] = {}
    for day in _days(context):
        key = day.isoformat()
        earlier = frame_files.stored_frame(keys.HOURLY_DEMAND_FRAME, key)
        try:
            frame, results, figures = _frame_of_day(
                raw_ree_json[key], day, now, earlier, stored.get(day)
            )
        except DayError as error:
            outcomes[day] = error
            if isinstance(error, ImplausibleDemandError):
                finding = Finding(False, str(error), red=True)
                refused[key] = [check_result(keys.DEMAND_IS_PLAUSIBLE, finding)]
            continue
        outcomes[day], checked[key] = frame, results
        _add_metadata(context, key, figures)
    record_by_day(context.op_execution_context, keys.HOURLY_DEMAND_FRAME, refused)
    yield dg.Output(pd.concat(_all_or_fail(outcomes).values()))
    record_by_day(context.op_execution_context, keys.HOURLY_DEMAND_FRAME, checked)
    # Dagster expects an output for each check; the results are recorded by day above.
    for output in context.op_execution_context.selected_output_names - {"result"}:
        yield dg.Output(None, output_name=output)


def _frame_of_day(
    answer: Answer, day: date, now: datetime, earlier: pd.DataFrame | None, stored: Stored | None
) -> tuple[pd.DataFrame, list[dg.AssetCheckResult], dict[str, Any]]:
    """The hours of a day, the results of its checks, and its figures.

    Raises:
        DayError: the answer cannot be stored.
    """
    samples = read_samples(answer, day)
    screened = screen(samples, day, now)
    try:
        answered = hourly_frame(screened.samples, day, now=now)
    except NoRealDemandError:
        if earlier is None or earlier[REAL].isna().all():
            raise
        # The newest answer knows less than an earlier one.
        answered = earlier.iloc[:0].reindex(columns=COLUMNS)
    frame = with_earlier_hours(answered, earlier)
    missing = missing_samples(samples, day, now=now)
    reviewed = review(samples, screened.samples, frame, day, now)
    hours_found = check_hours(
        frame,
        missing,
        day,
        now,
        screened.left_out,
        earlier_hours=int(frame[REAL].count() - answered[REAL].count()),
        is_final=_is_final(frame, day, stored, now),
    )
    results = [
        check_result(keys.HOURS_ARE_COMPLETE, hours_found),
        check_result(keys.DEMAND_IS_PLAUSIBLE, screened.finding),
        check_result(keys.FORECAST_IS_PRESENT, check_forecast(frame, day)),
        check_result(keys.SAMPLES_ARE_PLAUSIBLE, reviewed.finding),
    ]
    figures = describe_frame(frame, day) | {"samples_missing": len(missing)}
    return frame, results, figures | _describe_review(reviewed)


def influx_demand_points(
    context: dg.AssetExecutionContext,
    hourly_demand_frame: pd.DataFrame,
    settings: dg.ResourceParam[Settings],
    demand_store: dg.ResourceParam[Store],
) -> pd.DataFrame:
    """The hours as points of measurement `demand`, one field for each series, no tags. A green
    partition means: the store has acknowledged every point of that day."""
    days, now = _days(context), datetime.now(UTC)
    # Frames of an earlier version may lack a series.
    hours = hourly_demand_frame.reindex(columns=COLUMNS)
    frames = frames_by_day(hours, context.partition_keys)
    fingerprints = hours_fingerprints(hours, days)
    previous = read_stored(context.instance, days)
    answered_at = _answer_times(context.instance, days)
    described: dict[str, dict[str, Any]] = {}
    for day in days:
        # A frame that was loaded by other means is as old as this run.
        at = answered_at.get(day, now)
        history = answer_history(previous.get(day), fingerprints[day], at, now)
        key = day.isoformat()
        described[key] = metadata.metadata_values(
            _describe_points(frames[key], day, settings) | metadata.of_history(history)
        )
    kept_from = demand_store.kept_from()
    if kept_from and start_of(days[0]) < kept_from:
        _store_kept_days(context, demand_store, hours, described, kept_from)
    for key, values in described.items():
        context.add_asset_metadata(values, partition_key=key)
    context.log.info(
        f"Writing {len(hours)} points of {len(days)} days to {settings.store.address}."
    )
    return hours


def _answer_times(instance: dg.DagsterInstance, days: list[date]) -> dict[date, datetime]:
    """When the answer was taken that each day's frame is made from, or earlier."""
    times: dict[date, datetime] = {}
    for asset in (keys.RAW_REE_JSON, keys.HOURLY_DEMAND_FRAME):
        for day, record in newest_materializations(instance, asset, days).items():
            at = datetime.fromtimestamp(record.timestamp, UTC)
            times[day] = min(at, times.get(day, at))
    return times


def _describe_points(frame: pd.DataFrame, day: date, settings: Settings) -> dict[str, Any]:
    known_at_issue = frame.index < datetime.combine(day, settings.forecast_at, TIME_ZONE)
    return {
        **{s.name: sparkline(frame[s.column], day) for s in SERIES},
        "picture": dg.MetadataValue.md(day_markdown(frame, day)),
        metadata.STORE: settings.store.address,
        "points": len(frame),
        **describe_frame(frame, day),
        metadata.FINGERPRINT: fingerprint(frame[REAL]),
        metadata.MORNING_FINGERPRINT: fingerprint(frame.loc[known_at_issue, REAL]),
    }


def _store_kept_days(
    context: dg.AssetExecutionContext,
    store: Store,
    hours: pd.DataFrame,
    described: Mapping[str, Mapping[str, Any]],
    kept_from: datetime,
) -> NoReturn:
    """Store the days that the store keeps, record each, and fail for the older ones.

    A range succeeds or fails as a whole, so the days are recorded one by one.
    """
    expired = [key for key in described if start_of(date.fromisoformat(key)) < kept_from]
    kept = [key for key in described if key not in expired]
    if kept:
        store.write(hours.loc[start_of(date.fromisoformat(kept[0])) :])
    for key in kept:
        context.log_event(
            dg.AssetMaterialization(
                keys.INFLUX_DEMAND_POINTS, partition=key, metadata=described[key]
            )
        )
    raise expired_failure(expired, kept_from)


def _is_final(frame: pd.DataFrame, day: date, stored: Stored | None, now: datetime) -> bool:
    """Whether the API has answered the same so often that no other answer is expected."""
    history = answer_history(stored, hours_fingerprints(frame, [day])[day], now, now)
    return is_final(history.same_answers, history.unchanged_since or now, now)


def _describe_review(reviewed: Review) -> dict[str, Any]:
    figures: dict[str, Any] = {}
    if len(reviewed.unusual_hours):
        figures[metadata.UNUSUAL_HOURS] = [f"{hour:%FT%H:%MZ}" for hour in reviewed.unusual_hours]
    if reviewed.frozen_since:
        figures[metadata.FROZEN_SINCE] = reviewed.frozen_since
    return figures


def _log_progress(context: dg.AssetExecutionContext, days: int) -> Callable[[int, int], None]:
    """Writes to the run's log how far it is; rarely, as each line is an event."""
    started = last_line = time.monotonic()

    def log_progress(done: int, requests: int) -> None:
        nonlocal last_line
        now = time.monotonic()
        recent = now - last_line < PROGRESS_INTERVAL.total_seconds()
        if days == 1 or (recent and done < days):
            return
        last_line = now
        text = f"{done} of {days} days fetched in {requests} requests"
        if done < days:
            end = datetime.now(TIME_ZONE) + timedelta(
                seconds=(now - started) / done * (days - done)
            )
            text += f", {days - done} left; done at about {end:%H:%M:%S} Madrid time"
        context.log.info(f"{text}.")

    return log_progress


def _days(context: dg.AssetExecutionContext) -> list[date]:
    return [date.fromisoformat(key) for key in context.partition_keys]


def _all_or_fail(outcomes: Mapping[date, T | DayError]) -> dict[str, T]:
    """The outcomes by partition key; if some are errors, a failure that names each such day."""
    good: dict[str, T] = {}
    errors: list[DayError] = []
    for day, outcome in outcomes.items():
        if isinstance(outcome, DayError):
            errors.append(outcome)
        else:
            good[day.isoformat()] = outcome
    if not errors:
        return good
    lines = [str(error) for error in errors[:SHOWN_ERRORS]]
    if len(outcomes) > 1:
        shown = "" if len(lines) == len(errors) else f" The first {len(lines)} of them:"
        lines.insert(0, f"{len(errors)} of {len(outcomes)} days failed.{shown}")
    # An outage is not the fault of the days that it hit, so then the whole range is named.
    causes = [e.day for e in errors if not isinstance(e, UnavailableError)] or list(outcomes)
    raise dg.Failure(
        description="\n".join(lines),
        metadata={metadata.FAILED_DAYS: dg.MetadataValue.json([str(day) for day in causes])},
    )


def _add_metadata(context: dg.AssetExecutionContext, key: str, figures: Mapping[str, Any]) -> None:
    context.add_asset_metadata(metadata.metadata_values(figures), partition_key=key)
