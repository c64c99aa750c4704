// The means of the graph as rows, MW; without the model's forecast.
fields = /^(RealDemand|ForecastDemand)$/
hour = int(v: 1h)
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
    |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
    // Without this, rows that lack a field would come last.
    |> sort(columns: ["_time"])
    |> keep(fn: (column) => column == "_time" or column =~ fields)
