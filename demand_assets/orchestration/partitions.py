"""Partitions definitions: days of Madrid's calendar, and months of the forecast's models."""

from datetime import date

import dagster as dg

from demand_assets.grid import TIME_ZONE


def daily_partitions(start: date) -> dg.DailyPartitionsDefinition:
    """Days from ``start`` to today, [00:00, 24:00) in Madrid, keys ``YYYY-MM-DD``."""
    return _days(start, end_offset=1)


def forecast_partitions(start: date) -> dg.DailyPartitionsDefinition:
    """Days from ``start`` to tomorrow."""
    return _days(start, end_offset=2)


def model_partitions(start: date) -> dg.MonthlyPartitionsDefinition:
    """Months from that of ``start`` to the next one, whose model is made before it begins."""
    return dg.MonthlyPartitionsDefinition(
        start_date=start.replace(day=1).isoformat(), timezone=TIME_ZONE.key, end_offset=2
    )


def _days(start: date, end_offset: int) -> dg.DailyPartitionsDefinition:
    return dg.DailyPartitionsDefinition(
        start_date=start.isoformat(), timezone=TIME_ZONE.key, end_offset=end_offset
    )
