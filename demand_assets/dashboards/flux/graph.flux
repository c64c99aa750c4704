// Measured demand and its forecasts over time: the mean of each window, in whole MW.
import "math"
import "timezone"

fields = /^(RealDemand|ForecastDemand|ForecastModel)$/
hour = int(v: 1h)
madrid = timezone.location(name: "Europe/Madrid")

// A window is as many hours as v.windowPeriod requests, but a number that divides a day, or whole
// days, on Madrid's clock. So every window starts at the same times of the day.
requested = (int(v: v.windowPeriod) + hour - 1) / hour
hours =
    if requested <= 1 then
        1
    else if requested <= 4 then
        requested
    else if requested <= 6 then
        6
    else if requested <= 8 then
        8
    else if requested <= 12 then
        12
    else
        (requested + 23) / 24 * 24

// Windows of one hour are those of UTC: on Madrid's clock, the hour that is repeated when summer
// time ends would be one window with the first one.
location = if hours == 1 then timezone.utc else madrid

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
        location: location,
    )
    |> filter(fn: (r) => display(v: r) =~ untagged)
    // The graph assigns its colors in the order of the lines. The model is the line that is absent
    // most often, so it is sorted last: lowercase letters come after capitals.
    |> map(
        fn: (r) =>
            ({r with
                _value: math.round(x: r._value),
                series: if r._field == "ForecastModel" then "next-day ForecastModel" else r._field,
            }),
    )
    |> group(columns: ["series"])
