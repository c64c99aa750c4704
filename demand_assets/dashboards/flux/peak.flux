// The hour of the greatest measured demand, the first of equals: its start, and its mean in MW.
from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand" and r._field == "RealDemand")
    |> max()
    |> keep(columns: ["_time", "_value"])
