// The graph's means of measured demand and of the operator's forecast as rows, MW.
hour = int(v: 1h)
hours = (int(v: v.windowPeriod) + hour - 1) / hour

from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand")
    |> filter(fn: (r) => r._field == "RealDemand" or r._field == "ForecastDemand")
    |> aggregateWindow(
        every: duration(v: hours * hour),
        fn: mean,
        timeSrc: "_start",
        createEmpty: false,
    )
    |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
    // An hour that lacks one of the two would come last.
    |> sort(columns: ["_time"])
    |> keep(columns: ["_time", "RealDemand", "ForecastDemand"])
