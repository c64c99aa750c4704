"""The former place of `PooledSqliteEventLogStorage`, which `dagster.yaml` of older instances names.

Put nothing else here.
"""

from demand_assets.orchestration.dagster_internals.event_log import PooledSqliteEventLogStorage

__all__ = ["PooledSqliteEventLogStorage"]
