// Hours from the end of the newest measured hour of the range until now, or until the end of the
// range if that is earlier; 0 if the range ends within that hour.
import "math"

// Series of other programs have tags, which are further columns.
untagged = /^\{\s*(_(field|measurement|start|stop|time|value): [^,\n]*,?\s*)*\}$/

from(bucket: "capstone7")
    |> range(start: v.timeRangeStart, stop: v.timeRangeStop)
    |> filter(fn: (r) => r._measurement == "demand" and r._field == "RealDemand")
    |> last()
    |> filter(fn: (r) => display(v: r) =~ untagged)
    |> map(fn: (r) => ({r with _stop: if r._stop < now() then r._stop else now()}))
    |> map(fn: (r) => ({_value: float(v: int(v: r._stop) - int(v: r._time)) / float(v: int(v: 1h)) - 1.0}))
    |> map(fn: (r) => ({_value: math.mMax(x: 0.0, y: r._value)}))
