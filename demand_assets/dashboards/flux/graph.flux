// Measured demand and its forecasts over time: the mean of each window, MW.
hour = int(v: 1h)

// Points are means of an hour: a window is a whole number of hours, as many as v.windowPeriod
// asks for but at least one, so that each hour lies in one window and keeps its time.
hours = (int(v: v.windowPeriod) + hour - 1) / hour

from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand")
    |> filter(
        fn: (r) =>
            r._field == "RealDemand" or r._field == "ForecastDemand" or r._field == "ForecastModel",
    )
    |> aggregateWindow(
        every: duration(v: hours * hour),
        fn: mean,
        timeSrc: "_start",
        createEmpty: false,
    )
    // Colours are given in the order of the series, and a series may be absent: the model, which
    // is the one most often, comes last (small letters sort after capitals).
    |> map(
        fn: (r) =>
            ({r with series: if r._field == "ForecastModel" then "next-day ForecastModel" else r._field}),
    )
    |> group(columns: ["series"])
