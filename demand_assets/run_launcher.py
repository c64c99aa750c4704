"""The former place of `WatchedRunLauncher`, which `dagster.yaml` of older instances names.

Put nothing else here.
"""

from demand_assets.orchestration.dagster_internals.run_launcher import WatchedRunLauncher

__all__ = ["WatchedRunLauncher"]
