"""What the demo loads by itself, and the lines about it in the terminal.

The sensors load the days, as `DEMAND_LOAD_HISTORY` is on. Then this trains the models, forecasts
the last two weeks and scores the forecasts, which a live system does day by day.
"""

import time
from collections.abc import Sequence
from datetime import date, datetime, timedelta

from demand_assets.dashboards.serve import PageServer, print_address_when_ready
from demand_assets.demand.days import days_between
from demand_assets.grid import TIME_ZONE, local_date
from demand_assets.launcher.dagster_web import DagsterWeb, DagsterWebError
from demand_assets.settings import Settings

A_DAY = timedelta(days=1)
LOADED_DAYS = 400
FORECAST_DAYS = 14
LOOK_SECONDS = 3.0
LINE_SECONDS = 10.0
"""Progress is printed at most this often."""
POINTS, MODEL, FORECAST, SCORE = (
    "influx_demand_points",
    "demand_forecast_model",
    "demand_forecast",
    "demand_forecast_score",
)


def settings(today: date) -> dict[str, str]:
    """The settings of the demo, unless the environment has others: about 400 days are loaded.

    The first day is that of a month, so that it is the same tomorrow.
    """
    start = (today - LOADED_DAYS * A_DAY).replace(day=1)
    return {"DEMAND_START_DATE": start.isoformat(), "DEMAND_LOAD_HISTORY": "on"}


def accompany(dagster: DagsterWeb, page: PageServer, settings: Settings) -> None:
    """Print the addresses and the progress, and launch what follows the loading."""
    started = time.monotonic()
    dagster.wait_until_up()
    say(f"\nDagster:       {dagster.address}")
    today = datetime.now(TIME_ZONE).date()
    try:
        _wait_for(dagster, [today], "today")
        print_address_when_ready(page)
        if settings.load_history:
            _load(dagster, settings)
    except DagsterWebError as error:
        say(f"The progress is not known any more: {error}")
        return
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    say(f"Ready after {minutes} min {seconds} s. Open {page.url} (the dashboard) and")
    say(f"{dagster.address} (Dagster). Today is refreshed every 10 minutes. Ctrl-C ends the demo.")


def say(text: str) -> None:
    print(text, flush=True)


def _load(dagster: DagsterWeb, settings: Settings) -> None:
    """Wait for the days; then train, forecast and score, unless an earlier demo has done it."""
    now = datetime.now(TIME_ZONE)
    today = now.date()
    issued = now >= datetime.combine(today, settings.forecast_at, TIME_ZONE)
    last = today + A_DAY if issued else today
    # Yesterday is loaded once it has settled.
    settled = local_date(now - settings.settle) - A_DAY
    _wait_for(dagster, [*days_between(settings.start_date, settled), today], "simulated days")
    first = max(today - FORECAST_DAYS * A_DAY, settings.start_date)
    months = sorted({first.replace(day=1), last.replace(day=1)})
    trained = dagster.materialized(MODEL, months)
    for month in months:
        if month not in trained:
            say(f"Training the forecast model of {month:%Y-%m} on these days.")
            _run(dagster, "forecast_model_job", month, month)
    days = days_between(first, last)
    if len(dagster.materialized(FORECAST, days)) < len(days):
        say(f"Forecasting {first} to {last}.")
        _run(dagster, "forecast_job", first, last)
    past = days_between(first, settled)
    if past and len(dagster.materialized(SCORE, past)) < len(past):
        say("Scoring the forecasts of the last two weeks.")
        _run(dagster, "forecast_score_job", first, past[-1])


def _run(dagster: DagsterWeb, job: str, first: date, last: date) -> None:
    run_id = dagster.launch(job, first, last)
    while not (outcome := dagster.outcome(run_id)):
        time.sleep(LOOK_SECONDS / 3)
    if outcome != "SUCCESS":
        say(f"That has failed; the reason is at {dagster.address}/runs/{run_id}.")


def _wait_for(dagster: DagsterWeb, days: Sequence[date], name: str) -> None:
    """Return when all days are stored; print how many are, if that changes."""
    printed, printed_at = 0, 0.0
    while True:
        done = len(dagster.materialized(POINTS, days))
        due = time.monotonic() - printed_at >= LINE_SECONDS
        if len(days) > 1 and done != printed and (due or done == len(days)):
            say(f"Loading {name}, {days[0]} to {days[-1]}: {done} of {len(days)} are stored.")
            printed, printed_at = done, time.monotonic()
        if done == len(days):
            return
        time.sleep(LOOK_SECONDS)
