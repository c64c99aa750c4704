// Hours from the end of the newest measured hour of the range until now.
from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand" and r._field == "RealDemand")
    |> last()
    |> map(fn: (r) => ({_value: float(v: int(v: now()) - int(v: r._time)) / float(v: int(v: 1h)) - 1.0}))
