"""Values at which the gauge changes color, on the page and in the InfluxDB dashboard.

The thresholds of the age of the newest measured hour are in `settings.Freshness`; the InfluxDB
dashboard uses their defaults. Those of the MAPE are in `electricity_demand.yml`, as the page does
not color it.
"""

GAUGE = (
    ("bad", -500),
    ("fair", -250),
    ("good", -100),
    ("fair", 100),
    ("bad", 250),
)
"""Bands of the mean of measured demand minus the operator's forecast: the level, and the value
in MW at which the band starts. The scale starts with the first band."""
GAUGE_END = 500
"""MW at which the last band and the scale end."""
