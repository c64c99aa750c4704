// The hour with the highest measured demand, the first one if several are equal: start and mean MW.
// Series of other programs have tags, which are further columns.
untagged = /^\{\s*(_(field|measurement|start|stop|time|value): [^,\n]*,?\s*)*\}$/

from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand" and r._field == "RealDemand")
    |> max()
    |> filter(fn: (r) => display(v: r) =~ untagged)
    |> keep(columns: ["_time", "_value"])
