"""A third series, for tests that add it to `grid.SERIES`. The project itself does not have it."""

from demand_assets.grid import Series

PROGRAMMED = Series(
    column="ProgrammedDemand",
    api_id="545",
    name="programmed",
    title="Programmed",
    color="#8b5cf6",
)
