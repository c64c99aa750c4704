"""How good the next-day forecast is: a year of days, each forecast at noon of the day before.

The model is trained for every month on what was known at noon of the day before the month. It is
compared with the operator's own forecast, which is revised until minutes before each hour, and with
the same hour a week before. `make backtest` prints the tables. Days come from the folder of
recorded days in DEMAND_RECORDINGS or --recordings; without one they are synthetic.
"""

import argparse
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from demand_assets.demand.days import day_hours, days_between
from demand_assets.demand.errors import NoRealDemandError
from demand_assets.demand.hourly import hourly_frame
from demand_assets.forecast import (
    HISTORY_DAYS,
    TRAINED_MODEL,
    WEEKLY_NAIVE,
    Model,
    TooLittleHistoryError,
    holiday_share,
    issue_time,
    score,
    weekly_naive,
)
from demand_assets.grid import FORECAST, REAL, TIME_ZONE
from demand_assets.redata import read_samples
from demand_assets.settings import PROJECT
from demand_assets.simulator import RecordedDays, SyntheticDays
from demand_assets.simulator.days import Source

MODEL, OPERATOR, NAIVE = TRAINED_MODEL, "operator", WEEKLY_NAIVE
COLORS = {REAL: "black", MODEL: "#1f77b4", OPERATOR: "#2ca02c", NAIVE: "#ff7f0e"}


def read_history(source: Source, first: date, last: date) -> pd.DataFrame:
    """The hourly frame of the days from first to last that have measured demand."""
    frames = []
    for day in days_between(first, last):
        if (series := source.day(day)) is not None:
            included = [
                {
                    "id": id_,
                    "attributes": {
                        "values": [
                            {"datetime": s.at.isoformat(), "value": s.value} for s in samples
                        ]
                    },
                }
                for id_, samples in series.items()
            ]
            answer = {"data": {}, "included": included}
            with suppress(NoRealDemandError):
                frames.append(hourly_frame(read_samples(answer, day), day, now=datetime.now(UTC)))
    return pd.concat(frames)


class Clock:
    """CPU seconds of this process, all threads together, by task."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = {}

    @contextmanager
    def measure(self, task: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.seconds.setdefault(task, []).append(time.process_time() - start)


def backtest(history: pd.DataFrame, first: date, last: date, clock: Clock) -> pd.DataFrame:
    """Measured demand and its three forecasts, MW over the UTC hours from first to last.

    NaN where demand was not measured, or where a forecast had too little history.
    """
    days: list[pd.DataFrame] = []
    for day in days_between(first, last):
        if day == first or day.day == 1:
            with clock.measure("training"):
                model = Model.train(history, issue_time(day))
        known = history.loc[day_hours(day - timedelta(days=HISTORY_DAYS))[0] :]
        forecasts: dict[str, pd.Series] = {}
        with suppress(TooLittleHistoryError), clock.measure("forecast of a day"):
            forecasts[MODEL] = model.forecast(known, day)
        with suppress(TooLittleHistoryError):
            forecasts[NAIVE] = weekly_naive(known, day)
        days.append(pd.DataFrame(forecasts, day_hours(day), [MODEL, NAIVE], dtype="float64"))
    result = pd.concat(days)
    result[[REAL, OPERATOR]] = history[[REAL, FORECAST]].reindex(result.index)
    return result


def table(title: str, result: pd.DataFrame, groups: Any) -> pd.DataFrame:
    """MAPE in % of each forecast in each group of hours, printed as Markdown."""
    by_group = pd.DataFrame(
        {
            name: result.groupby(groups).apply(lambda g, n=name: score(g[n], g[REAL]).mape_percent)
            for name in (MODEL, OPERATOR, NAIVE)
        }
    )
    print(f"\n| {title} | {MODEL} | {OPERATOR} | {NAIVE} | model / naive |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for group, row in by_group.iterrows():
        figures = " | ".join(f"{row[name]:.2f}" for name in (MODEL, OPERATOR, NAIVE))
        print(f"| {group} | {figures} | {row[MODEL] / row[NAIVE]:.2f} |")
    return by_group


def kind_of_day(day: date) -> str:
    """``holiday`` if more than a third of the population has one, else ``ordinary``."""
    return "holiday" if holiday_share(day) > 1 / 3 else "ordinary"


def chart(result: pd.DataFrame, by_month: pd.DataFrame, by_hour: pd.DataFrame) -> go.Figure:
    """A chart of demand and forecasts over time, and of their errors by month and by hour."""
    titles = ("Demand, MW", "MAPE by month, %", "MAPE by hour of Madrid, %")
    figure = make_subplots(
        rows=2, cols=2, specs=[[{"colspan": 2}, None], [{}, {}]], subplot_titles=titles
    )
    local = result.index.tz_convert(TIME_ZONE.key)  # type: ignore[attr-defined]
    for name, color in COLORS.items():
        line = go.Scatter(
            x=local, y=result[name].round(), name=name, line_color=color, legendgroup=name
        )
        figure.add_trace(line, row=1, col=1)
    for column, errors in enumerate((by_month, by_hour), start=1):
        for name in errors.columns:
            bar = go.Bar(
                x=errors.index,
                y=errors[name].round(2),
                name=name,
                marker_color=COLORS[name],
                legendgroup=name,
                showlegend=False,
            )
            figure.add_trace(bar, row=2, col=column)
    figure.update_layout(
        title="Demand of peninsular Spain, forecast at noon of the day before",
        template="plotly_white",
        height=900,
        hovermode="x unified",
    )
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    day: Callable[[str], date] = date.fromisoformat
    parser.add_argument("--recordings", help="folder of recorded days")
    parser.add_argument("--train-from", type=day, default=date(2021, 1, 1))
    parser.add_argument(
        "--first", type=day, default=date(2022, 7, 1), help="first day that is scored"
    )
    parser.add_argument(
        "--last", type=day, default=date(2023, 6, 30), help="last day that is scored"
    )
    parser.add_argument("--html", type=Path, default=PROJECT / "data" / "backtest.html")
    options = parser.parse_args()

    folder = os.environ.get("DEMAND_RECORDINGS") or options.recordings
    source: Source = RecordedDays(folder) if folder else SyntheticDays()
    clock = Clock()
    history = read_history(source, options.train_from, options.last)
    result = backtest(history, options.first, options.last, clock)

    local = result.index.tz_convert(TIME_ZONE.key)  # type: ignore[attr-defined]
    print(f"MAPE in % of {'recorded' if folder else 'synthetic'} days,")
    print(f"{options.first} to {options.last}, trained on days from {options.train_from} on.")
    incomplete = result.isna().groupby(local.date).any().sum()
    counts = ", ".join(f"{name} {days}" for name, days in incomplete.items())
    print(f"Days with unknown hours, which are left out: {counts}.")
    table("hours", result, lambda _: "all")
    by_month = table("month", result, local.strftime("%Y-%m"))
    table("weekday", result, local.strftime("%u %A"))
    by_hour = table("hour", result, local.hour)
    table("day", result, [kind_of_day(day) for day in local.date])
    print("\n| | bias, MW |\n| --- | ---: |")
    for name in (MODEL, OPERATOR, NAIVE):
        print(f"| {name} | {score(result[name], result[REAL]).bias_mw:.0f} |")
    print("\n| CPU seconds | times | mean | maximum |\n| --- | ---: | ---: | ---: |")
    for task, spent in clock.seconds.items():
        print(f"| {task} | {len(spent)} | {sum(spent) / len(spent):.2f} | {max(spent):.2f} |")
    options.html.parent.mkdir(parents=True, exist_ok=True)
    chart(result, by_month, by_hour).write_html(options.html, include_plotlyjs=True)
    print(f"\nThe chart is in {options.html}.")


if __name__ == "__main__":
    main()
