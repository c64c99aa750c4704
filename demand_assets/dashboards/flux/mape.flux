// Mean absolute percentage error of the operator's forecast, %, over the hours in which both are
// known. An hour with a demand of zero has no percentage error.
// Series of other programs have tags, which are further columns.
untagged = /^\{\s*(_(field|measurement|start|stop|time|value): [^,\n]*,?\s*)*\}$/

from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand")
    |> filter(fn: (r) => r._field == "RealDemand" or r._field == "ForecastDemand")
    |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
    |> filter(fn: (r) => exists r.RealDemand and exists r.ForecastDemand and r.RealDemand != 0.0)
    |> map(fn: (r) => ({r with _value: (r.ForecastDemand - r.RealDemand) / r.RealDemand * 100.0}))
    |> map(fn: (r) => ({r with _value: if r._value < 0.0 then -r._value else r._value}))
    |> mean()
    |> filter(fn: (r) => display(v: r) =~ untagged)
