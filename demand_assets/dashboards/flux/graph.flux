// Measured demand and its forecasts over time: the mean of each window, MW.
fields = /^(RealDemand|ForecastDemand|ForecastModel)$/
hour = int(v: 1h)

// Points are means of one hour. A window is a whole number of hours: as many as v.windowPeriod
// requests, and at least one. So each hour belongs to one window and keeps its time.
hours = (int(v: v.windowPeriod) + hour - 1) / hour

// Series of other programs have tags, which are further columns.
untagged = /^\{\s*(_(field|measurement|start|stop|time|value): [^,\n]*,?\s*)*\}$/

from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand" and r._field =~ fields)
    |> aggregateWindow(
        every: duration(v: hours * hour),
        fn: mean,
        timeSrc: "_start",
        createEmpty: false,
    )
    |> filter(fn: (r) => display(v: r) =~ untagged)
    // The graph assigns its colors in the order of the lines. The model is the line that is absent
    // most often, so it is sorted last: lowercase letters come after capitals.
    |> map(
        fn: (r) =>
            ({r with series: if r._field == "ForecastModel" then "next-day ForecastModel" else r._field}),
    )
    |> group(columns: ["series"])
