"""What the project knows about Spain: time zone, series, plausible range, population and feasts.

Put facts about the country and its grid here, and nothing else. A new series is one more entry in
`SERIES`: it is then read, averaged, checked, stored, read back and drawn. How samples become hours
belongs in `demand/`, how the API is requested in `redata/`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from dateutil.easter import easter

TITLE = "Spain's electricity demand"
TIME_ZONE = ZoneInfo("Europe/Madrid")
"""The clock of the API and of the partitions: a day runs from midnight to midnight in Madrid."""


@dataclass(frozen=True)
class Series:
    """One hourly series of the store."""

    column: str
    """Column of the hourly frame, and field of measurement `demand`."""
    api_id: str | None
    """Id of the series in the answers of REData; None if the project computes the series itself."""
    name: str
    """Short name, for keys of metadata such as ``mean_real_mw``."""
    title: str
    """Name in legends and column headings."""
    color: str
    """Color of its line, as ``#rrggbb``."""
    measured: bool = False
    """Measured series are kept for hours that are over, all others for the whole day."""
    required: bool = False
    """A past day without any hour of a required series is not stored."""
    unit: str = "MW"
    lowest: float = 5_000
    highest: float = 60_000
    """Samples outside of this range cannot be right. Peninsular Spain's record is 45,450 MW
    (December 2007); in the blackout of April 2025 demand fell to about 10,000 MW."""
    usual_peak: float = 28_000
    """A usual peak of a day; on recorded days it is 23,324 to 42,052 MW."""
    most_equal: int = 5
    """Samples running that can have the same value: at most 5 on 1,266 recorded days."""
    largest_step: float = 0.12
    """Change from one sample to the next, as a share of their mean, that is not remarkable. The
    largest on 1,266 recorded days is 0.071; in the blackout of April 2025 it was 0.5."""


REAL_DEMAND = Series(
    column="RealDemand",
    api_id="1293",
    name="real",
    title="Measured",
    color="#2563eb",
    measured=True,
    required=True,
)
FORECAST_DEMAND = Series(
    column="ForecastDemand",
    api_id="544",
    name="forecast",
    title="Operator's forecast",
    color="#f59e0b",
)
SERIES = (REAL_DEMAND, FORECAST_DEMAND)
"""The series that are requested from the API and stored. docs/adding-a-series.md adds one."""
MODEL_FORECAST = Series(
    column="ForecastModel",
    api_id=None,
    name="model",
    title="Next-day forecast",
    color="#10b981",
)

REAL, FORECAST, MODEL = (s.column for s in (REAL_DEMAND, FORECAST_DEMAND, MODEL_FORECAST))
COLUMNS = [series.column for series in SERIES]
"""The columns of an hourly frame."""

LARGEST_DIFFERENCE = 0.15
"""Difference of the hourly means of measured demand and its forecast, in logarithms, that is not
remarkable. It is at most 0.078 on 1,266 recorded days, and 0.12 around clock changes."""

UNITS = {
    4: "energy of 15 minutes in MWh",
    6: "energy of 10 minutes in MWh",
    12: "energy of 5 minutes in MWh",
    1000: "GW",
}
"""Factors by which demand in other units is smaller than in MW."""

HOLIDAY_COUNTRY = "ES"
POPULATION = {
    "AN": 8.5, "AR": 1.3, "AS": 1.0, "CB": 0.6, "CL": 2.4, "CM": 2.1, "CT": 7.9, "EX": 1.1,
    "GA": 2.7, "MC": 1.5, "MD": 6.9, "NC": 0.7, "PV": 2.2, "RI": 0.3, "VC": 5.2,
}  # fmt: skip
"""Millions of people in each autonomous community of the peninsula, by code of `holidays`."""

FEASTS: Mapping[str, Callable[[int], date]] = {
    "christmas": lambda year: date(year, 12, 25),
    "easter": easter,
    "assumption": lambda year: date(year, 8, 15),
}
"""The date of each feast in a year."""

PERIODS = {
    "days_before_christmas": ("christmas", -3, -2),
    "christmas_eve": ("christmas", -1, -1),
    "christmas_day": ("christmas", 0, 0),
    "days_after_christmas": ("christmas", 1, 5),
    "new_years_eve": ("christmas", 6, 6),
    "new_years_day": ("christmas", 7, 7),
    "days_after_new_year": ("christmas", 8, 11),
    "epiphany": ("christmas", 12, 12),
    "holy_wednesday": ("easter", -4, -4),
    "maundy_thursday": ("easter", -3, -3),
    "good_friday": ("easter", -2, -2),
    "holy_saturday": ("easter", -1, -1),
    "easter_sunday": ("easter", 0, 0),
    "easter_monday": ("easter", 1, 1),
    "early_august": ("assumption", -14, -1),
    "assumption": ("assumption", 0, 0),
    "week_after_assumption": ("assumption", 1, 7),
    "late_august": ("assumption", 8, 16),
}
"""Periods with less or different work: a feast, and the first and last day relative to it."""


def start_of(day: date) -> datetime:
    """Midnight at the start of a Madrid day, in UTC."""
    return datetime.combine(day, time(), TIME_ZONE).astimezone(UTC)


def end_of(day: date) -> datetime:
    """Midnight at the end of a Madrid day, in UTC."""
    return start_of(day + timedelta(days=1))


def local_date(instant: datetime) -> date:
    """The Madrid day of an aware instant."""
    return instant.astimezone(TIME_ZONE).date()
