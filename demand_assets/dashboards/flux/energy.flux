// Measured energy, GWh: a mean of 1 MW over one hour is 1 MWh.
from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand" and r._field == "RealDemand")
    |> sum()
    |> map(fn: (r) => ({_value: r._value / 1000.0}))
