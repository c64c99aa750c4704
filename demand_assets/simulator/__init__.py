"""A look-alike of the REData API on this machine: for demos, tests and benchmarks.

It answers `demanda-tiempo-real` with synthetic or recorded days, cuts the real series at its
clock as the operator does, and fails on request in each way that the API is known to fail.
Standard library only. `python -m demand_assets.simulator --help` tells what it can do.
"""

from demand_assets.simulator.days import RecordedDays, Sample, Source, SyntheticDays
from demand_assets.simulator.server import REAL_DELAY, Fault, Simulator

__all__ = [
    "REAL_DELAY",
    "Fault",
    "RecordedDays",
    "Sample",
    "Simulator",
    "Source",
    "SyntheticDays",
]
