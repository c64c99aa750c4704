// The means of the graph as rows, MW; without the model's forecast.
import "date"
import "strings"
import "timezone"

fields = /^(RealDemand|ForecastDemand)$/
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
window = if hours < 24 then "${hours} h" else "${hours / 24} d"

// Madrid's clock and its offset from UTC, such as "2022-10-30 02:00 +01:00". The time itself would be
// shown in the browser's format, which may have 12 hours and no AM or PM.
ahead = (t) => (date.hour(t: t, location: madrid) - date.hour(t: t) + 24) % 24
clock = (t) => {
    text = string(v: time(v: int(v: t) + ahead(t: t) * hour))
    day = strings.substring(v: text, start: 0, end: 10)
    minute = strings.substring(v: text, start: 11, end: 16)

    return "${day} ${minute} +0${ahead(t: t)}:00"
}

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
    |> pivot(rowKey: ["_time"], columnKey: ["_field"], valueColumn: "_value")
    // A window that is not over, and of which no hour is measured yet.
    |> filter(
        fn: (r) =>
            exists r.RealDemand or r._time > now()
                or int(v: r._time) + hours * hour <= int(v: now()),
    )
    // Without this, rows that lack a field would come last.
    |> sort(columns: ["_time"])
    |> map(fn: (r) => ({r with from: clock(t: r._time), window: window}))
    // The cell sorts by _time and does not show it: by text, the hours of a clock change would be
    // in the wrong order.
    |> keep(
        fn: (column) =>
            column == "_time" or column == "from" or column == "window" or column =~ fields,
    )
