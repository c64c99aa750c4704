// RealDemand - ForecastDemand: the mean over the hours in which both are known, MW.
from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand")
    |> filter(fn: (r) => r._field == "RealDemand" or r._field == "ForecastDemand")
    |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
    |> filter(fn: (r) => exists r.RealDemand and exists r.ForecastDemand)
    |> map(fn: (r) => ({_value: r.RealDemand - r.ForecastDemand}))
    |> mean()
