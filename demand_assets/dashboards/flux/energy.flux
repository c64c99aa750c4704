// Measured energy, GWh: a mean of 1 MW over one hour is 1 MWh.
// Series of other programs have tags, which are further columns.
untagged = /^\{\s*(_(field|measurement|start|stop|time|value): [^,\n]*,?\s*)*\}$/

from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand" and r._field == "RealDemand")
    |> sum()
    |> filter(fn: (r) => display(v: r) =~ untagged)
    |> map(fn: (r) => ({_value: r._value / 1000.0}))
