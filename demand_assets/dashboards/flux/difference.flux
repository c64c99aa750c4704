// RealDemand - ForecastDemand: the mean over the hours in which both are known, MW.
// Series of other programs have tags, which are further columns.
untagged = /^\{\s*(_(field|measurement|start|stop|time|value): [^,\n]*,?\s*)*\}$/

from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand")
    |> filter(fn: (r) => r._field == "RealDemand" or r._field == "ForecastDemand")
    |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
    |> filter(fn: (r) => exists r.RealDemand and exists r.ForecastDemand)
    |> map(fn: (r) => ({r with _value: r.RealDemand - r.ForecastDemand}))
    |> mean()
    |> filter(fn: (r) => display(v: r) =~ untagged)
