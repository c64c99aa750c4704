"""The one partitions definition: a partition is a day of Madrid's calendar, today's included."""

from datetime import date, timedelta

from dagster import DailyPartitionsDefinition

from demand_assets.redata import MADRID


def daily_partitions(start_date: date) -> DailyPartitionsDefinition:
    """Days from ``start_date`` to today, [00:00, 24:00) Europe/Madrid, keys ``YYYY-MM-DD``."""
    return DailyPartitionsDefinition(
        start_date=start_date.isoformat(), timezone=MADRID.key, end_offset=1
    )


def days_between(first: date, last: date) -> list[date]:
    """All days from first to last, both included."""
    return [first + timedelta(days=n) for n in range((last - first).days + 1)]
