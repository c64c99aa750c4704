"""Tags of runs. Dagster documents its own ones and exports no names for them."""

PARTITION = "dagster/partition"
RANGE_START = "dagster/asset_partition_range_start"
RANGE_END = "dagster/asset_partition_range_end"
PRIORITY = "dagster/priority"

ATTEMPT = "demand/attempt"
"""How many attempts for the same days failed before this run."""
