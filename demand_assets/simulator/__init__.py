"""A look-alike of the REData API on this machine: for demos, tests and benchmarks.

It answers `demanda-tiempo-real` with synthetic or recorded days, ends the real series at its
clock as the operator does, and fails on request in each way in which the API is known to fail.
`python -m demand_assets.simulator --help` lists the options and the faults.
"""

from demand_assets.simulator.days import RecordedDays, Sample, Source, SyntheticDays
from demand_assets.simulator.faults import Fault
from demand_assets.simulator.server import REAL_DELAY, Simulator

__all__ = ["REAL_DELAY", "Fault", "RecordedDays", "Sample", "Simulator", "Source", "SyntheticDays"]
