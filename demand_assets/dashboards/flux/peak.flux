// The hour with the highest measured demand, the first one if several are equal: start and mean MW.
from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand" and r._field == "RealDemand")
    |> max()
    |> keep(columns: ["_time", "_value"])
