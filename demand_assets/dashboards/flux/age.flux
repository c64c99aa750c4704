// Hours from the end of the newest measured hour of the range until now.
// Series of other programs have tags, which are further columns.
untagged = /^\{\s*(_(field|measurement|start|stop|time|value): [^,\n]*,?\s*)*\}$/

from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand" and r._field == "RealDemand")
    |> last()
    |> filter(fn: (r) => display(v: r) =~ untagged)
    |> map(fn: (r) => ({_value: float(v: int(v: now()) - int(v: r._time)) / float(v: int(v: 1h)) - 1.0}))
