// Measured energy, GWh: the mean MW of each hour, for one hour.
from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand" and r._field == "RealDemand")
    |> sum()
    |> map(fn: (r) => ({_value: r._value / 1000.0}))
